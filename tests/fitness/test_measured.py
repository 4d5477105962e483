"""Figures in README.md and docs/performance.md are those of the recorded runs of the benchmarks.

``SKATE_UPDATE_GOLDEN=1 pytest tests/fitness/test_measured.py`` writes both tables anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

import pytest
from benchmarks.lines import LINES, Line
from benchmarks.report import Results, number, times

from .sources import ROOT

#: Every run that is kept, the oldest first.
RUNS = [Results(json.loads(path.read_text())) for path in sorted(ROOT.glob("benchmarks/results/20*.json"))]
NEWEST = RUNS[-1]
#: Lines of the table in README.md; docs/performance.md has all of them.
IN_README = (
    "import_time", "init_first_task", "idle_memory", "tasks_sync", "tasks_pipelined", "nested_tasks",
    "actor_sync", "actor_pipelined", "async_pipelined", "actor_lifecycle", "generator", "wait_ready",
    "put_1mib", "get_1mib", "put_100mib_warm", "compiled_chain",
)  # fmt: skip
MARK = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.DOTALL)


def _range(line: Line) -> str:
    """Return the lowest and the highest ratio of skate to Ray in the recorded runs."""
    ratios = [ratio for run in RUNS if (ratio := run.ratio(line)) is not None]
    if not ratios:
        return ""
    low, high = times(min(ratios)), times(max(ratios))
    return low if low == high else f"{low} to {high}"


def _figure(line: Line, system: str) -> str:
    value = NEWEST.median(line.name, system)
    return "" if value is None else f"{number(value)} {line.unit}"


def _table(lines: Iterable[Line], systems: dict[str, str]) -> str:
    """Return a table of the newest run's figures and of the ratios of all runs."""
    rows = [["", *systems.values(), "skate : Ray"]]
    rows += [[line.title, *(_figure(line, name) for name in systems), _range(line)] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows[1:1] = [["---", *["---:"] * (len(widths) - 1)]]
    aligned = (
        [text.ljust(width) if column == 0 else text.rjust(width)
         for column, (text, width) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    )  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in aligned)


def _tables() -> dict[str, str]:
    measured = [line for line in LINES if line.name in NEWEST.data["lines"]]
    all_systems = {"skate": "skate", "ray": "Ray", "pool": "process pool", "bare": "bare calls"}
    return {
        "README.md": _table(
            [line for line in measured if line.name in IN_README], {"skate": "skate", "ray": "Ray"}
        ),
        "docs/performance.md": _table(measured, all_systems),
    }


@pytest.mark.parametrize("document", ["README.md", "docs/performance.md"])
def test_tables_show_the_recorded_runs(document: str) -> None:
    path = ROOT / document
    text, table = path.read_text(), _tables()[document]
    assert MARK.search(text), "the table stands between two comments"
    wanted = MARK.sub(lambda found: found[1] + table + found[2], text)
    if os.environ.get("SKATE_UPDATE_GOLDEN"):
        path.write_text(text := wanted)
    assert text == wanted


@pytest.mark.parametrize("document", ["README.md", "docs/performance.md"])
def test_documents_say_how_many_runs_there_are(document: str) -> None:
    count = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[len(RUNS)]
    days = sorted({run.data["date"][:10] for run in RUNS})
    machines = sorted({run.data["machine"]["cpu"].replace("(R)", "") for run in RUNS})
    text = " ".join((ROOT / document).read_text().split())
    assert f"{count} recorded runs" in text
    assert [day for day in days if day not in text] == []
    assert [cpu for cpu in machines if " ".join(cpu.split()[:2]) not in text] == []


def test_the_range_takes_in_every_run() -> None:
    line = next(line for line in LINES if line.name == "actor_sync")
    assert _range(line) == "5.9x to 33x"
