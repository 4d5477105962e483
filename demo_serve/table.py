"""The table: how many requests failed in each phase, and how long they took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from demo_serve.clients import Outcome


@dataclass(frozen=True)
class Row:
    """A phase in numbers."""

    name: str
    seconds: float
    requests: int
    failed: int
    #: Seconds within which half of the requests were answered, and 99 of 100.
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return (self.requests - self.failed) / self.seconds


def rows(outcomes: Sequence[Outcome], seconds: Mapping[str, float]) -> list[Row]:
    """Return a row for each phase.

    Args:
        outcomes: of all requests.
        seconds: phase to how long it was, in order.
    """
    found = []
    for name, length in seconds.items():
        mine = [one for one in outcomes if one.phase == name]
        times = sorted(one.seconds for one in mine if not one.failure)
        failed = sum(bool(one.failure) for one in mine)
        found.append(Row(name, length, len(mine), failed, quantile(times, 0.5), quantile(times, 0.99)))
    return found


def quantile(times: Sequence[float], share: float) -> float:
    """Return the least time within which this share of requests was answered; not a number if there are none.

    Args:
        times: sorted.
        share: above 0 and up to 1.
    """
    if not times:
        return float("nan")
    return times[max(0, -int(-share * len(times) // 1) - 1)]


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{1000 * seconds:.0f}"


def table(found: Sequence[Row]) -> Table:
    """Return what is printed."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("", no_wrap=True)
    for heading in ("seconds", "requests", "failed", "a second", "p50 ms", "p99 ms"):
        made.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        failed = f"[red]{one.failed}[/red]" if one.failed else "0"
        made.add_row(
            one.name,
            f"{one.seconds:.1f}",
            f"{one.requests:,}",
            failed,
            f"{one.rate:.1f}",
            _ms(one.p50),
            _ms(one.p99),
        )
    return made
