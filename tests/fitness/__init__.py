"""Fitness tests: promises about the code itself, turned into counts."""
