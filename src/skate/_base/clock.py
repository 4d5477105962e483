"""The one place that reads time; decision modules are given it."""

from __future__ import annotations

from time import monotonic, perf_counter, time

__all__ = ["monotonic", "perf_counter", "time"]
