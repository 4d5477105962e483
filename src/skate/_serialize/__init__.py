"""Turns user values, code and exceptions into bytes and back."""
