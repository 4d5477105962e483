"""Tests of ``skate._worker``."""
