"""Tests of ``skate._wire``."""
