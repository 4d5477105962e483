"""Tests of ``skate._base``."""
