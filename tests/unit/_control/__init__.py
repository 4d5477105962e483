"""Tests of ``skate._control``."""
