"""Tests of ``skate.dag``."""
