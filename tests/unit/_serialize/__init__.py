"""Tests of ``skate._serialize``."""
