"""The picture: how many times better skate is than Ray, a bar a line, on a log scale."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmarks.report import Results, times

HIT, MISSED, MARK = "#2a7f62", "#c8553d", "#333333"
CAPTION = (
    "times better than Ray (faster, or smaller); "
    "green: targets hit, red: missed; black marks: targets as multiples of Ray"
)
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def draw(results: Results, path: Path) -> str:
    """Write the picture; returns why there is none, or nothing."""
    try:
        backend = importlib.import_module("matplotlib.backends.backend_agg")
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        return "no chart: matplotlib is not installed"
    ratios = [(line, ratio) for line in results.lines() if (ratio := results.ratio(line)) is not None]
    if not ratios:
        return "no chart: no line was measured for both skate and Ray"

    figure = figures.Figure(figsize=(9, 0.9 + 0.3 * len(ratios)), layout="constrained")
    backend.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    titles = [line.title for line, _ in ratios]
    values = [ratio for _, ratio in ratios]
    targets = [line.factor_over_ray() for line, _ in ratios]
    hits = [all(verdict.status == "hit" for verdict in results.verdicts(line)) for line, _ in ratios]
    colours = [HIT if hit else MISSED for hit in hits]
    places = range(len(ratios))
    axes.barh(places, [value - 1 for value in values], left=1, color=colours, height=0.7)
    for place, value, target in zip(places, values, targets, strict=True):
        axes.annotate(
            times(value),
            (max(value, 1), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
        if target is not None:
            axes.plot([target, target], [place - 0.42, place + 0.42], color=MARK, linewidth=1.2)
    axes.set_xscale("log")
    left, right = 0.8 * min(1.0, *values), 1.6 * max(2.0, *values)
    axes.set_xlim(left, right)
    ticks = [tick for tick in TICKS if left <= tick <= right]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.axvline(1, color=MARK, linewidth=0.8)
    axes.set_yticks(list(places), titles, fontsize=8)
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.set_xlabel(CAPTION, fontsize=8)
    ray = results.data["systems"]["ray"]["version"]
    axes.set_title(f"skate beside Ray {ray}, {results.data['date'][:10]}", fontsize=10)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)
    return ""
