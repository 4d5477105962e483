"""Tests of ``skate._node``."""
