"""``skate serve status --watch`` and ``skate serve why``: serve while it runs."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from skate.cli import show

_HEADER = ("application", "deployment", "replica", "rate", "p50", "p99", "ongoing", "queued", "batch")


def add_commands(commands: Any) -> None:
    """Define ``why``, and the option of ``status``, beside the other commands of ``skate serve``.

    Args:
        commands: their parsers.
    """
    why = commands.add_parser("why", help="say where a request is and what it waits for, or how it ended")
    why.add_argument("id", help="of the request, as in the header x-request-id and in logs")
    show.add_common(why)
    commands.choices["status"].add_argument(
        "--watch", nargs="?", type=float, const=1.0, metavar="SECONDS",
        help="show rates, latencies, queues and batches, again after each pause (default: 1), until Ctrl-C",
    )  # fmt: skip


def is_ours(arguments: argparse.Namespace) -> bool:
    """Tell whether ``run`` has what these arguments ask for."""
    return arguments.what == "why" or getattr(arguments, "watch", None) is not None


def run(arguments: argparse.Namespace) -> int:
    """Do it, in a session."""
    return _why(arguments.id, arguments.json) if arguments.what == "why" else _watch(arguments.watch)


def _why(request_id: str, as_json: bool) -> int:
    from skate import serve

    lines = serve.why(request_id)
    if as_json:
        show.as_json(lines)
    else:
        print("\n".join(lines))
    return 0


def _watch(pause_s: float) -> int:
    """Print what happens, until Ctrl-C.

    Raises:
        ValueError: the pause is no time.
    """
    from skate.serve import _instance
    from skate.serve._observing import rates

    if not pause_s > 0:
        raise ValueError(f"--watch takes the seconds between two looks, got {pause_s:g}")
    try:
        before, since = _instance.series(), time.monotonic()
        while True:
            time.sleep(pause_s)
            series, now = _instance.series(), time.monotonic()
            text = table(rates.rows(before, series, now - since))
            if sys.stdout.isatty():
                text = f"\x1b[H\x1b[2J{text}"
            print(text, flush=True)
            before, since = series, now
    except KeyboardInterrupt:
        return 0


def table(rows: list[Any]) -> str:
    """Return the live view as text; a deployment's replicas stand below it."""
    if not rows:
        return "no deployments"
    cells = [
        (
            one.application,
            one.deployment,
            one.replica or "all",
            f"{one.rate:.1f}/s",
            _time(one.p50_ms),
            _time(one.p99_ms),
            one.ongoing,
            one.queued,
            None if one.batch is None else f"{one.batch:.1f}",
        )
        for one in rows
    ]
    return show.table(_HEADER, cells)


def _time(milliseconds: float | None) -> str | None:
    if milliseconds is None or milliseconds >= 1000:
        return None if milliseconds is None else f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds:.1f} ms"
