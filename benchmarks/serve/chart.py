"""The picture: which part of the requests was answered within which time, for each system, on a log scale."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmarks.serve.report import Results
from benchmarks.serve.systems import SYSTEMS

LINE = "echo_8"
COLOURS = {
    "skate": "#2a7f62",
    "uvicorn": "#333333",
    "uvicorn_uvloop": "#999999",
    "ray": "#1f6fb4",
    "ray_haproxy": "#6fb4e8",
    "litserve": "#8e44ad",
    "bentoml": "#d4a017",
}
CAPTION = "latency of a request, JSON echo over 8 connections (ms, log scale)"
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def draw(results: Results, path: Path) -> str:
    """Write the picture; returns why there is none, or nothing."""
    try:
        backend = importlib.import_module("matplotlib.backends.backend_svg")
        figures = importlib.import_module("matplotlib.figure")
        matplotlib = importlib.import_module("matplotlib")
    except ImportError:
        return "no chart: matplotlib is not installed"
    curves = {it: results.percentiles(LINE, it) for it in COLOURS}
    curves = {system: points for system, points in curves.items() if points}
    if not curves:
        return f"no chart: the line {LINE} was not measured"
    figure = figures.Figure(figsize=(9, 3.6), layout="constrained")
    backend.FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for system, points in curves.items():
        axes.plot(
            [ms for _, ms in points],
            [percent for percent, _ in points],
            color=COLOURS[system],
            linewidth=2.5 if system == "skate" else 1.5,
            label=SYSTEMS[system].title,
        )
    values = [ms for points in curves.values() for _, ms in points if ms > 0]
    left, right = 0.8 * min(values), 1.25 * max(values)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    ticks = [tick for tick in TICKS if left <= tick <= right]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks([0, 25, 50, 75, 90, 99], ["0", "25 %", "50 %", "75 %", "90 %", "99 %"])
    axes.set_ylim(0, 101)
    axes.grid(color="#eeeeee")
    axes.set_xlabel(CAPTION, fontsize=9)
    axes.set_ylabel("requests answered within it", fontsize=9)
    axes.legend(loc="lower right", fontsize=8)
    axes.set_title(f"skate.serve beside others, {results.data['date'][:10]}", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    # Without a date and random ids, the same results give the same picture.
    with matplotlib.rc_context({"svg.hashsalt": "skate"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
    return ""
