"""Shows results: as a text table, as a page of Markdown, and with a verdict for every target."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.data.engines import NAMES
from benchmarks.data.lines import LINES, SECTIONS, AtMost, Line, TimesBest
from benchmarks.report import number, times

HEADINGS = {
    "pipelines": "Pipelines over files",
    "options": "Order, dead letters, resuming",
    "memory": "Memory",
    "overheads": "What nothing costs",
    "small data": "Small data",
    "many small files": "Many small files",
    "exchanges": "Sort, groupby, join, shuffle",
}

PREFACE = """\
# Performance of `skate.data`

`make bench-data` measures `skate.data` beside `multiprocessing`, Ray Data, Daft, DuckDB and Polars: one run,
one machine, one interpreter with the same libraries for all, the engines in turns. This page is written by
`python -m benchmarks.data --markdown` from recorded results; no figure is entered by hand.

A cell shows **CPU time / wall time**. CPU time is that of the whole process tree: driver, daemons,
workers, and processes that have ended. Machines are shared, so compare CPU time before wall time, and only
within one run. Pipelines write parquet, and a figure counts only if rows, errors and checksums equal those
of `multiprocessing`; what a model answers may differ by rounding, as it depends on which rows it sees
together.
"""


class Results:
    """Reads one results file."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def lines(self, section: str | None = None) -> list[Line]:
        return [line for line in LINES if line.name in self.data["lines"] and section in (None, line.section)]

    def engines(self, lines: list[Line]) -> list[str]:
        cells = [self.data["lines"][line.name] for line in lines]
        return [engine for engine in NAMES if any(engine in it for it in cells)]

    def failures(self, line: str, engine: str) -> list[str]:
        return list(self.data["lines"].get(line, {}).get(engine, {}).get("failures", ()))

    def cpu(self, line: str, engine: str) -> float | None:
        samples = self.data["lines"].get(line, {}).get(engine, {}).get("samples")
        return statistics.median(samples) if samples else None

    def fact(self, line: str, engine: str, name: str) -> float | None:
        """The median of something that was measured beside the CPU time."""
        info = self.data["lines"].get(line, {}).get(engine, {}).get("info") or ()
        found = [it[name] for it in info if name in it]
        return statistics.median(found) if found else None

    def value(self, line: str, engine: str, of: str) -> float | None:
        return self.cpu(line, engine) if of == "cpu" else self.fact(line, engine, "wall")

    def verdict(self, line: Line) -> tuple[str, str] | None:
        """The target in words, and `hit`, `missed` with the figure, or `unknown`."""
        target = line.target
        limit: float | None
        shown: float | None
        if target is None:
            return None
        if isinstance(target, AtMost):
            wanted = f"{target.value:g} {line.unit} {target.of}"
            mine, limit, shown = self.value(line.name, "skate", target.of), target.value, None
        elif isinstance(target, TimesBest):
            names = " and ".join(NAMES[it] for it in target.engines)
            wanted = f"{target.factor:g}x the better of {names}, {target.of}"
            if len(target.engines) == 1:
                wanted = f"{target.factor:g}x {names}, {target.of}"
            theirs = [self.value(line.name, engine, target.of) for engine in target.engines]
            best = min((it for it in theirs if it), default=None)
            mine, limit, shown = (
                self.value(line.name, "skate", target.of),
                best and best * target.factor,
                best,
            )
        else:
            title = next(it.title for it in LINES if it.name == target.line)
            wanted = f"{target.factor:g}x of: {title}"
            base = self.cpu(target.line, "skate")
            mine, limit, shown = self.cpu(line.name, "skate"), base and base * target.factor, base
        if not mine or not limit:
            return wanted, "unknown"
        actual = f"{mine / shown:.2f}x" if shown else f"{number(mine)} {line.unit}"
        return wanted, f"{'hit' if mine <= limit else 'missed'}: {actual}"


def cell(results: Results, line: Line, engine: str) -> str:
    """`CPU / wall`, or why there is none."""
    cpu, wall = results.cpu(line.name, engine), results.fact(line.name, engine, "wall")
    failures = results.failures(line.name, engine)
    if cpu is None or wall is None:
        return "failed" if failures else ""
    return f"{number(cpu)} / {number(wall)}{'*' if failures else ''}"


def _ratio(results: Results, line: Line) -> str:
    """How many times skate's CPU time the best other engine took."""
    mine = results.cpu(line.name, "skate")
    others = [results.cpu(line.name, it) for it in line.engines if it not in ("skate", "plain")]
    best = min((it for it in others if it), default=None)
    return times(best / mine) if mine and best else ""


def _table(results: Results, section: str) -> list[list[str]]:
    lines = results.lines(section)
    engines = results.engines(lines)
    rows = [["", "unit", *(NAMES[it] for it in engines), "best other : skate"]]
    for line in lines:
        cells = [cell(results, line, engine) for engine in engines]
        rows.append([line.title, line.unit, *cells, _ratio(results, line)])
    return rows if len(engines) > 1 else [row[:-1] for row in rows]


def _memory(results: Results) -> list[list[str]]:
    """The greatest memory of lines that take some."""
    lines = [
        line
        for line in results.lines()
        if line.section in ("pipelines", "memory", "exchanges", "many small files") and line.unit == "s"
    ]
    engines = results.engines(lines)
    rows = [["", *(NAMES[it] for it in engines)]]
    for line in lines:
        peaks = [results.fact(line.name, engine, "peak_mib") for engine in engines]
        budget = results.fact(line.name, "skate", "budget_mib")
        title = line.title + (f" (budget {number(budget)})" if budget else "")
        rows.append([title, *("" if it is None else number(it) for it in peaks)])
    return rows


def _targets(results: Results) -> list[list[str]]:
    rows = [["", "skate takes at most", "verdict"]]
    for line in results.lines():
        if verdict := results.verdict(line):
            rows.append([line.title, *verdict])
    return rows


def _notes(results: Results) -> list[str]:
    return [
        f"{NAMES[engine]}, {line.title}: {failure}"
        for line in results.lines()
        for engine in NAMES
        for failure in dict.fromkeys(results.failures(line.name, engine))
    ]


def provenance(results: Results) -> str:
    """Machine, versions, date and size of the run."""
    data = results.data
    machine, versions, options = data["machine"], data["versions"], data["options"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    inputs = [
        f"{info[0]['inputs']} {name}"
        for name in ("photos", "pdf", "audio", "text")
        for info in [_first_info(data, name)]
        if info
    ]
    load = statistics.median(data["load_average"])
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}; "
        f"{libraries}; {data['date'][:10]}; {options['workers']} workers, "
        f"scale {options['scale']:g} of the full size"
        + (f" ({', '.join(inputs)})" if inputs else "")
        + f", median of {options['rounds']} rounds, load average {load:.1f}."
    )


def _first_info(data: dict[str, Any], line: str) -> list[dict[str, Any]]:
    for engine in NAMES:
        info = data["lines"].get(line, {}).get(engine, {}).get("info")
        if info and "inputs" in info[0]:
            return list(info)
    return []


def _aligned(rows: list[list[str]], separator: str) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        separator.join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _tables(results: Results) -> list[tuple[str, list[list[str]]]]:
    found = [(HEADINGS[it], _table(results, it)) for it in SECTIONS if results.lines(it)]
    found.append(("Greatest memory of all processes, MiB (PSS)", _memory(results)))
    is_scaled = results.data["options"]["scale"] != 1
    found.append(("Targets" + (" (of the full size)" if is_scaled else ""), _targets(results)))
    return [(heading, rows) for heading, rows in found if len(rows) > 1]


def as_text(results: Results) -> str:
    parts = [provenance(results), "CPU time / wall time"]
    for heading, rows in _tables(results):
        parts.append("\n".join([heading, *(f"  {it}" for it in _aligned(rows, "  "))]))
    if notes := _notes(results):
        parts.append("\n".join(f"* {note}" for note in notes))
    return "\n\n".join(parts)


PICTURE = (
    "![Every line, as a multiple of skate.data's CPU time](../benchmarks/results/data-latest.png)\n\n"
    "Right of the line: skate took less."
)


def as_markdown(results: Results | None) -> str:
    """The whole page of documentation; without figures while no run is recorded."""
    if results is None:
        return f"{PREFACE}\nNo full run is recorded yet.\n"
    parts = [PREFACE, provenance(results), PICTURE]
    for heading, rows in _tables(results):
        ruled = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
        parts.append(f"## {heading}\n")
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in ruled))
    if notes := _notes(results):
        parts.append("\n".join(["## What failed\n", *(f"- {note}" for note in notes)]))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
