"""The picture: for each line, how many times skate's CPU time every other engine took, on a log scale."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmarks.data.engines import NAMES
from benchmarks.data.report import Results

COLOURS = {
    "pool": "#6b6b6b",
    "ray": "#1f6fb4",
    "daft": "#8e44ad",
    "duckdb": "#d4a017",
    "polars": "#c8553d",
    "plain": "#aaaaaa",
}
CAPTION = (
    "CPU time of the whole process tree as a multiple of skate.data's; right of the line: skate took less"
)
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def draw(results: Results, path: Path) -> str:
    """Write the picture; returns why there is none, or nothing."""
    try:
        backend = importlib.import_module("matplotlib.backends.backend_agg")
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        return "no chart: matplotlib is not installed"
    rows = []
    for line in results.lines():
        mine = results.cpu(line.name, "skate")
        others = {engine: results.cpu(line.name, engine) for engine in COLOURS if engine in line.engines}
        ratios = {engine: value / mine for engine, value in others.items() if value and mine}
        if ratios:
            rows.append((line, ratios))
    if not rows:
        return "no chart: no line was measured for skate and another engine"
    figure = figures.Figure(figsize=(9, 1.2 + 0.27 * len(rows)), layout="constrained")
    backend.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for engine, colour in COLOURS.items():
        points = [(ratios[engine], place) for place, (_, ratios) in enumerate(rows) if engine in ratios]
        if points:
            across, down = zip(*points, strict=True)
            axes.scatter(across, down, s=28, color=colour, label=NAMES[engine], zorder=3)
    values = [ratio for _, ratios in rows for ratio in ratios.values()]
    left, right = 0.7 * min(1.0, *values), 1.4 * max(2.0, *values)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    ticks = [tick for tick in TICKS if left <= tick <= right]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.axvline(1, color="#2a7f62", linewidth=1.5)
    axes.set_yticks(range(len(rows)), [line.title for line, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", color="#eeeeee", zorder=0)
    axes.set_xlabel(CAPTION, fontsize=8)
    axes.legend(loc="upper right", fontsize=8, frameon=True)
    scale = results.data["options"]["scale"]
    size = "" if scale == 1 else f", scale {scale:g}"
    axes.set_title(f"skate.data beside other engines, {results.data['date'][:10]}{size}", fontsize=10)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)
    return ""
