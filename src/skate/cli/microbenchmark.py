"""``skate microbenchmark``: how fast tasks, calls and objects are on this machine."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import skate
from skate.cli import show

#: Bytes of the large object.
_LARGE = 100 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("--seconds", type=float, default=1.0, help="for each line (default 1)")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    """Measure in a session of its own, on this machine, and print a line for each kind of work."""
    skate.init(address="local")
    try:
        found = [(name, _rate(work, count, arguments.seconds), unit) for name, unit, count, work in _work()]
    finally:
        skate.shutdown()
    if arguments.json:
        show.as_json([{"name": name, "rate": rate, "unit": unit} for name, rate, unit in found])
    else:
        print(
            show.table(["what", "rate", "unit"], [[name, f"{rate:,.6g}", unit] for name, rate, unit in found])
        )
    return 0


def _work() -> list[tuple[str, str, float, Callable[[], Any]]]:
    """Return name, unit, how much one call does of it, and the call."""

    @skate.remote
    def nothing() -> None:
        pass

    class Actor:
        def nothing(self) -> None:
            pass

    actor: Any = skate.remote(Actor).remote()
    large = bytes(_LARGE)
    small = skate.put(b"0")
    skate.get([nothing.remote() for _ in range(100)])
    skate.get(actor.nothing.remote())
    return [
        ("a task and its result", "tasks/s", 1, lambda: skate.get(nothing.remote())),
        ("1,000 tasks at once", "tasks/s", 1000, lambda: skate.get([nothing.remote() for _ in range(1000)])),
        ("a call of an actor and its result", "calls/s", 1, lambda: skate.get(actor.nothing.remote())),
        (
            "1,000 calls of an actor at once", "calls/s", 1000,
            lambda: skate.get([actor.nothing.remote() for _ in range(1000)]),
        ),
        ("put a small object", "puts/s", 1, lambda: skate.put(0)),
        ("get a small object", "gets/s", 1, lambda: skate.get(small)),
        ("put 100 MB", "GB/s", _LARGE / 1e9, lambda: skate.put(large)),
    ]  # fmt: skip


def _rate(work: Callable[[], Any], count: float, seconds: float) -> float:
    """Return how much is done in a second."""
    work()
    begun, rounds = time.perf_counter(), 0
    while (now := time.perf_counter()) - begun < seconds or not rounds:
        work()
        rounds += 1
    now = time.perf_counter()
    return rounds * count / (now - begun)
