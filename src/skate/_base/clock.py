"""Reads the time, and sleeps, in this one place; decision modules get the time as an argument.

The names are the functions of ``time`` themselves, so that a read costs what it costs there. Modules of the
roles take them by name or through this module. A simulator sets other functions here before it imports any
of those modules: after that, each of them lives in the simulator's time (ADR 27).
"""

from __future__ import annotations

from time import monotonic, perf_counter, sleep, time

__all__ = ["monotonic", "perf_counter", "sleep", "time"]
