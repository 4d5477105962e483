"""Reads the time, in this one place; decision modules get the time as an argument."""

from __future__ import annotations

from time import monotonic, perf_counter, time

__all__ = ["monotonic", "perf_counter", "time"]
