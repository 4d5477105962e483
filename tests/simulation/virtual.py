"""Virtual time and repeatable randomness, in place of those of the machine.

``install`` comes before the first import of a role, whose modules bind the functions of ``_base.clock`` by name. This
module imports none.
"""

from __future__ import annotations

import gc
import os
import random
import sys

from skate._base import clock, ids

#: When the simulation begins, by the wall clock (seconds since 1970).
EPOCH = 1_700_000_000.0


class VirtualClock:
    """The time of all simulated processes (seconds). It stands still while any of them runs."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return EPOCH + self.now


time = VirtualClock()


class Identity:
    """The process that runs at the moment, as ``os.getpid`` shows it in texts of errors."""

    pid = os.getpid()


identity = Identity()


def _sleep(seconds: float) -> None:
    raise AssertionError("a simulated process would block all others")


def install(seed: int) -> None:
    """Replace clocks and randomness, before any role is imported; objects then end by their counts alone."""
    assert "skate._transport.reactor" not in sys.modules, "a role was imported before its clock was replaced"
    gc.disable()
    clock.monotonic = clock.perf_counter = time.monotonic
    clock.time = time.wall
    clock.sleep = _sleep
    ids.random_bytes = random.Random(seed).randbytes
    os.getpid = lambda: identity.pid
