"""Shows results: as a text table, as a Markdown table, and with a verdict for every target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.lines import APART, LINES, SYSTEMS, AtMost, Flat, Fraction, Line, Target, TimesRay

Status = Literal["hit", "missed", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """One target of one line. `unknown` when what it needs was not measured."""

    line: Line
    wanted: str
    actual: str
    status: Status


class Results:
    """Reads one results file: medians, ratios and verdicts."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def lines(self) -> list[Line]:
        return [line for line in LINES if line.name in self.data["lines"]]

    def systems(self) -> list[str]:
        """Those that have a cell in some line; the others need no column."""
        return [system for system in SYSTEMS if any(system in cells for cells in self.data["lines"].values())]

    def median(self, line: str, system: str) -> float | None:
        samples = self.data["lines"].get(line, {}).get(system, {}).get("samples")
        return statistics.median(samples) if samples else None

    def bytes(self, line: str, system: str) -> float | None:
        """The memory that an item took, where that was measured."""
        info = self.data["lines"].get(line, {}).get(system, {}).get("info") or ()
        found = [it["bytes"] for it in info if "bytes" in it]
        return statistics.median(found) if found else None

    def failures(self, line: str, system: str) -> list[str]:
        return list(self.data["lines"].get(line, {}).get(system, {}).get("failures", ()))

    def ratio(self, line: Line) -> float | None:
        """How many times better skate is than Ray."""
        mine, theirs = self.median(line.name, "skate"), self.median(line.name, "ray")
        if not line.compared or not mine or not theirs:
            return None
        return line.times_better(mine, theirs)

    def verdicts(self, line: Line) -> list[Verdict]:
        return [self._verdict(line, target) for target in line.targets]

    def _verdict(self, line: Line, target: Target) -> Verdict:
        mine = self.median(line.name, "skate")
        hit, actual = None, "not measured"
        if isinstance(target, TimesRay):
            wanted = f"{target.factor:g}x Ray"
            ratio = self.ratio(line)
            if ratio is not None:
                hit, actual = ratio >= target.factor, times(ratio)
        elif isinstance(target, Flat):
            wanted = f"{target.factor:g}x that of {target.called}"
            little = self.median(target.line, "skate")
            if mine is not None and little:
                hit, actual = mine / little <= target.factor, times(mine / little)
        elif isinstance(target, Fraction):
            wanted = f"{target.part:.0%} of {target.called}"
            whole = self.median(target.line, target.system)
            if mine is not None and whole:
                hit, actual = mine / whole >= target.part, f"{mine / whole:.0%}"
        else:
            wanted = f"{'at most' if isinstance(target, AtMost) else 'at least'} {target.value:g} {line.unit}"
            if mine is not None:
                hit = mine <= target.value if isinstance(target, AtMost) else mine >= target.value
                actual = f"{number(mine)} {line.unit}"
        if failures := self.failures(line.name, "skate"):
            hit, actual = False, f"failed: {failures[0]}"
        status: Status = "unknown" if hit is None else "hit" if hit else "missed"
        return Verdict(line, wanted, actual, status)


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value >= 100:
        return f"{round(value, -max(0, len(str(int(value))) - 3)):,.0f}"
    return f"{value:.3g}"


def times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.2g}x"


def _cell(results: Results, line: Line, system: str, notes: list[str]) -> str:
    """A figure; a star and a note if some rounds failed; `failed` and a note if all did."""
    failures, value = results.failures(line.name, system), results.median(line.name, system)
    if failures:
        runs = len(failures) + len(results.data["lines"][line.name][system]["samples"])
        notes.append(
            f"{SYSTEMS[system]}, {line.title}: failed in {len(failures)} of {runs} runs: {failures[0]}"
        )
        if value is None:
            return f"failed: {failures[0]:.24}"
    if value is None:
        return ""
    size = results.bytes(line.name, system)
    return number(value) + ("" if size is None else f", {number(size)}") + ("*" if failures else "")


def _rows(results: Results, lines: list[Line]) -> tuple[list[list[str]], list[str]]:
    """Header and rows, and the notes below them."""
    notes: list[str] = []
    systems = results.systems()
    compared = {"skate", "ray"} <= set(systems)
    rows = [["", "unit", *(SYSTEMS[system] for system in systems)]]
    rows[0] += ["skate : Ray", "target"] if compared else []
    for line in lines:
        row = [line.title, line.unit, *(_cell(results, line, system, notes) for system in systems)]
        if compared:
            ratio = results.ratio(line)
            verdicts = results.verdicts(line)
            row.append("" if ratio is None else times(ratio))
            row.append(", ".join(f"{it.wanted}: {it.status}" for it in verdicts))
        rows.append(row)
    return rows, notes


def _aligned(rows: Sequence[Sequence[str]], separator: str) -> list[str]:
    """The first two columns and the targets left-aligned, figures right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    targets = len(widths) - 1 if rows[0][-1] == "target" else None
    return [
        separator.join(
            text.ljust(width) if column in (0, 1, targets) else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _provenance(results: Results) -> str:
    data = results.data
    machine, systems = data["machine"], data["systems"]
    measured = [
        f"{SYSTEMS[name]} {it['version']} on Python {it['python']}".replace("  ", " ")
        for name, it in systems.items()
        if it["python"] and name in ("skate", "ray")
    ]
    quick = (
        ""
        if data["options"]["scale"] == 1
        else f", batches of {data['options']['scale']:.0%} of the full size"
    )
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}; "
        f"{'; '.join(measured) or 'baselines only'}; {data['date'][:10]}; "
        f"median of {data['options']['rounds']} interleaved rounds{quick}"
    )


def as_text(results: Results) -> str:
    rows, notes = _rows(results, results.lines())
    lines = [line.rstrip() for line in _aligned(rows, "  ")]
    lines[1:1] = ["-" * max(map(len, lines))]
    return "\n".join(
        [_provenance(results), "", *lines, *(["", *(f"* {note}" for note in notes)] if notes else [])]
    )


def as_markdown(results: Results) -> str:
    """Return a Markdown table of the figures, without the targets and the lines of many sizes."""
    rows, notes = _rows(results, [line for line in results.lines() if line.group not in APART])
    if rows[0][-1] == "target":
        rows = [row[:-1] for row in rows]
    rows[1:1] = [["---", "---", *["---:"] * (len(rows[0]) - 2)]]
    lines = [f"| {line} |" for line in _aligned(rows, " | ")]
    return "\n".join([*lines, "", _provenance(results) + ".", *(f"\\* {note}" for note in notes)])


def as_check(results: Results) -> tuple[str, bool]:
    """Every target with its verdict, and whether all were hit."""
    verdicts = [verdict for line in results.lines() for verdict in results.verdicts(line)]
    rows = [[it.status, it.line.title, it.wanted, it.actual] for it in verdicts]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    hits = sum(it.status == "hit" for it in verdicts)
    return "\n".join([*text, f"{hits} of {len(verdicts)} targets hit"]), hits == len(verdicts)
