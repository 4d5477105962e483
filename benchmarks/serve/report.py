"""Shows results: as text tables, as a page of Markdown, as the README's table, with verdicts."""

from __future__ import annotations

import re
import statistics
from typing import Any

from benchmarks.report import number
from benchmarks.serve.lines import BASELINE, LINES, TARGETS, Line, Target
from benchmarks.serve.systems import SYSTEMS

Rows = list[list[str]]

PREFACE = """\
# Performance of `skate.serve`

`make bench-serve` measures `skate.serve` beside uvicorn with Starlette, Ray Serve (with its defaults and with
HAProxy), LitServe and BentoML: one run, one machine, one system at a time, in turns. This page and its
picture are written by the benchmark from a recorded run; no figure is entered by hand.

uvicorn is the floor: it does nothing but HTTP. It runs under the interpreter of skate, with the same
libraries; a second one has uvloop. All answer over kept connections on the loopback interface, POST of 62
bytes of JSON. **CPU a request** is that of all server processes beyond what they take while idle, without the
load generator; with calls from a driver, the driver's too. It hardly depends on other programs of the
machine; rates and latencies do. Replicas take 200 requests at a time unless a line says otherwise.
"""
PICTURE = (
    "![Latencies of all systems](../benchmarks/results/serve-latest.svg)\n\n"
    "Left: faster. The height says which part of the requests was answered within that time."
)
UNITS = {"cpu_us": "us", "rps": "/s", "chunks_per_s": "/s"}
"""Of facts that targets compare by their ratio."""
README_SYSTEMS = ("skate", "uvicorn", "ray", "ray_haproxy")
README_TARGETS = (
    ("echo_64", "cpu_us"),
    ("echo_1", "p50_ms"),
    ("hop", "added_p50_ms"),
    ("handle_stream", "per_s"),
    ("batch_fast", "share"),
    ("cold_start", "seconds"),
    ("redeploy", "seconds"),
    ("memory", "pss_mb"),
    ("update", "closed"),
)
MARK = re.compile(r"(<!-- serve: measured -->\n).*?(<!-- end of serve: measured -->)", re.DOTALL)


class Results:
    """Reads one results file."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def systems(self) -> list[str]:
        cells = self.data["lines"].values()
        return [it for it in SYSTEMS if any(it in one for one in cells)]

    def lines(self) -> list[Line]:
        return [line for line in LINES if line.name in self.data["lines"]]

    def failures(self, line: str, system: str) -> list[str]:
        return list(self.data["lines"].get(line, {}).get(system, {}).get("failures", ()))

    def facts(self, line: str, system: str, fact: str) -> list[float]:
        """One figure for each round in which the line worked."""
        info = self.data["lines"].get(line, {}).get(system, {}).get("info", ())
        return [it[fact] for it in info if fact in it]

    def median(self, line: str, system: str, fact: str) -> float | None:
        found = self.facts(line, system, fact)
        return statistics.median(found) if found else None

    def percentiles(self, line: str, system: str) -> list[tuple[float, float]]:
        """(Percentile, median over the rounds in ms)."""
        info = self.data["lines"].get(line, {}).get(system, {}).get("info", ())
        curves = [it["percentiles"] for it in info if it.get("percentiles")]
        return [
            (points[0][0], statistics.median(ms for _, ms in points)) for points in zip(*curves, strict=True)
        ]

    def value(self, target: Target, system: str) -> float | None:
        """What a system reached of a target; against the baseline's figures of the same rounds, where both
        have the same number of them."""
        mine = self.facts(target.line, system, target.fact)
        if target.against == "itself":
            return statistics.median(mine) if mine else None
        base = self.facts(target.line, BASELINE, target.fact)
        if not mine or not base:
            return None
        if len(mine) != len(base):
            mine, base = [statistics.median(mine)], [statistics.median(base)]
        pairs = zip(mine, base, strict=True)
        if target.against == "ratio":
            return statistics.median(one / other for one, other in pairs)
        return statistics.median(one - other for one, other in pairs)

    def verdict(self, target: Target) -> str:
        """`goal hit`, `bar hit` or `missed` for skate, or why it is not known."""
        if self.failures(target.line, "skate"):
            return "missed: a round failed"
        value = self.value(target, "skate")
        if value is None:
            return "not measured"
        if target.goal is not None and target.is_met(value, target.goal):
            return "goal hit"
        return "bar hit" if target.is_met(value, target.bar) else "**missed**"


def _reached(results: Results, target: Target, system: str) -> str:
    """What a system reached; of the baseline, what the others are compared with."""
    if system == BASELINE and target.against != "itself":
        return _absolute(results, target, system)
    return _shown(target, results.value(target, system))


def _absolute(results: Results, target: Target, system: str) -> str:
    value = results.median(target.line, system, target.fact)
    unit = UNITS.get(target.fact, target.unit)
    return "" if value is None else f"{figure(value)} {unit}".rstrip()


def _shown(target: Target, value: float | None) -> str:
    if value is None:
        return ""
    if target.against == "ratio":
        return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"
    if target.against == "added":
        return f"{value:+.2f} {target.unit}"
    return f"{figure(value)} {target.unit}".rstrip()


def figure(value: float) -> str:
    """Three digits; zero as a digit."""
    return "0" if value == 0 else number(value)


def targets(results: Results) -> Rows:
    """Every bar and goal, what each system reached, and the verdict."""
    systems = results.systems()
    rows = [["", "bar", "goal", *(SYSTEMS[it].title for it in systems), "verdict"]]
    for target in TARGETS:
        if target.line not in results.data["lines"]:
            continue
        goal = "" if target.goal is None else target.words(target.goal)
        cells = [_reached(results, target, it) for it in systems]
        rows.append([target.title, target.words(target.bar), goal, *cells, results.verdict(target)])
    return rows


def echo(results: Results) -> Rows:
    """CPU, rates and latencies of the JSON echo: a row for each system."""
    rows = [["", "CPU us/request: 1", "8", "64 connections"]]
    rows[0] += [f"{count}: requests/s, p50, p99 ms" for count in (1, 8, 64)]
    for system in results.systems():
        lines = [f"echo_{count}" for count in (1, 8, 64)]
        if not any(results.facts(line, system, "rps") for line in lines):
            continue
        row = [SYSTEMS[system].title]
        row += [_median(results, line, system, "cpu_us") for line in lines]
        row += [
            ", ".join(_median(results, line, system, fact) for fact in ("rps", "p50_ms", "p99_ms"))
            for line in lines
        ]
        rows.append(row)
    return rows


def _median(results: Results, line: str, system: str, fact: str) -> str:
    value = results.median(line, system, fact)
    return "" if value is None else figure(value)


def everything(results: Results) -> Rows:
    """The figure that stands for each line, and the CPU time beside it: a column for each system."""
    systems = results.systems()
    rows = [["", "unit", *(SYSTEMS[it].title for it in systems)]]
    for line in results.lines():
        cells = []
        for system in systems:
            text = _median(results, line.name, system, line.fact)
            if text and line.cpu_fact:
                text = f"{text}, {_median(results, line.name, system, line.cpu_fact)}"
            if results.failures(line.name, system):
                text = f"{text}*" if text else "failed"
            cells.append(text)
        unit = f"{line.unit}, us" if line.cpu_fact else line.unit
        rows.append([f"{line.title}: {_meaning(line)}", unit, *cells])
    return rows


def _meaning(line: Line) -> str:
    names = {
        "seconds": "time",
        "pss_mb": "PSS",
        "p50_ms": "p50",
        "p99_ms": "p99",
        "cpu_us": "CPU a request",
        "chunks_per_s": "chunks",
        "times": "ratio of the rates",
        "added_p50_ms": "added p50",
        "per_s": "rate",
        "share": "share of the ideal rate",
        "failed": "failed requests",
    }
    return names[line.fact] + (", CPU" if line.cpu_fact else "")


def updates(results: Results) -> Rows:
    """What clients saw of a rolling update."""
    names = {
        "requests": "requests",
        "failed": "failed",
        "closed": "connections closed",
        "p99_before_ms": "p99 before, ms",
        "p99_during_ms": "p99 during, ms",
        "seconds": "update took, s",
    }
    rows = [["", *names.values()]]
    for system in results.systems():
        if results.facts("update", system, "failed"):
            rows.append([SYSTEMS[system].title, *(_median(results, "update", system, it) for it in names)])
    return rows


def notes(results: Results) -> list[str]:
    """Failures, failed requests under load, and systems that were left out."""
    failed: dict[tuple[str, str], list[str]] = {}
    for line in results.lines():
        for system in results.systems():
            for failure in dict.fromkeys(results.failures(line.name, system)):
                failed.setdefault((system, failure), []).append(line.title)
            lost = sum(results.facts(line.name, system, "failed"))
            if lost and line.name != "update":
                failed.setdefault((system, f"{lost:g} requests failed"), []).append(line.title)
    found = [f"{SYSTEMS[it].title}, {'; '.join(titles)}: {why}" for (it, why), titles in failed.items()]
    skipped = results.data["skipped"].items()
    return found + [f"{SYSTEMS[it].title} was not measured: {why}" for it, why in skipped]


def provenance(results: Results) -> str:
    """Machine, versions, date and size of the run."""
    data = results.data
    machine, options = data["machine"], data["options"]
    parts = []
    for system, found in data["versions"].items():
        libraries = ", ".join(f"{name} {version}" for name, version in found.items() if name != "python")
        parts.append(f"{SYSTEMS[system].title} (Python {found['python']}): {libraries}")
    low, high = min(data["load_average"]), max(data["load_average"])
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}; "
        f"{data['date'][:10]}; {options['seconds']:g} s of load a line, median of {options['rounds']} rounds "
        f"(others than skate and uvicorn: {min(options['rounds'], options['peer_rounds'])}); load average "
        f"{low:.1f} to {high:.1f}; load from {'wrk' if options['generator'] == 'wrk' else 'our generator'}. "
        + "; ".join(parts)
        + "."
    )


def _tables(results: Results) -> list[tuple[str, Rows]]:
    found = [
        ("Targets", targets(results)),
        ("JSON echo", echo(results)),
        ("Every line", everything(results)),
        ("A rolling update at half load", updates(results)),
    ]
    return [(heading, rows) for heading, rows in found if len(rows) > 1]


def _aligned(rows: Rows) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _markdown(rows: Rows) -> str:
    ruled = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def as_text(results: Results) -> str:
    parts = [provenance(results)]
    for heading, rows in _tables(results):
        parts.append("\n".join([heading, *(f"  {it}" for it in _aligned(rows))]))
    if found := notes(results):
        parts.append("\n".join(f"* {note}" for note in found))
    return "\n\n".join(parts)


def as_markdown(results: Results | None) -> str:
    """The whole page of documentation; without figures while no run is recorded."""
    if results is None:
        return f"{PREFACE}\nNo full run is recorded yet.\n"
    parts = [PREFACE, provenance(results), PICTURE]
    for heading, rows in _tables(results):
        parts += [f"## {heading}", _markdown(rows)]
        if heading == "Targets":
            parts.append("`x uvicorn` and added times are against uvicorn in the same round.")
    if found := notes(results):
        parts += ["## What failed or is missing", "\n".join(f"- {note}" for note in found)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def readme_table(results: Results | None) -> str:
    """A few lines, for the README."""
    if results is None:
        return ""
    systems = [it for it in README_SYSTEMS if it in results.systems()]
    rows = [["", *(SYSTEMS[it].title for it in systems)]]
    for target in TARGETS:
        if (target.line, target.fact) not in README_TARGETS:
            continue
        title = target.title.replace("added p50", "p50") if target.against == "added" else target.title
        rows.append([title, *(_absolute(results, target, it) for it in systems)])
    return _markdown(rows) + "\n"


def with_table(text: str, results: Results | None) -> str:
    """A document whose part between `<!-- serve: measured -->` and its end, if there is one, is the table."""
    return MARK.sub(lambda found: found[1] + readme_table(results) + found[2], text)
