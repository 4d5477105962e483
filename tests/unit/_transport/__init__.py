"""Tests of ``skate._transport``."""
