"""Tests of ``skate._scheduling``."""
