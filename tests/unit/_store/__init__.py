"""Tests of ``skate._store``."""
