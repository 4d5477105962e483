"""A picture of an execution: a lane for each process, a bar for each task, colours by stage. SVG, by hand."""

from __future__ import annotations

from dataclasses import replace
from html import escape

from skate.data._exec.statistics import Span, Statistics
from skate.data._insight.limits import Why, why

_COLOURS = ("#4878a8", "#e1812c", "#3a923a", "#c03d3e", "#9372b2", "#845b53", "#d684bd", "#7f7f7f")
_WIDTH, _LEFT, _LANE, _GAP = 960, 200, 18, 4
#: Tasks that are drawn one by one; more of them are drawn as the busy part of short intervals.
_MOST_BARS = 3000


def picture(stats: Statistics, title: str = "") -> str:
    """Return the picture as SVG text.

    Args:
        stats: of an execution that has ended, or is under way.
        title: shown above.
    """
    lanes = _lanes(stats)
    wall = max(stats.wall_s(), 1e-6)
    explained = why(stats)
    top = 54
    legend = top + len(lanes) * (_LANE + _GAP) + 34
    height = legend + 20 * len(explained.stages) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="20" font-size="14" font-weight="bold">{escape(title or "skate.data")}</text>',
        f'<text x="12" y="38" fill="#444">{escape(_first_sentence(explained))}</text>',
    ]
    scale = (_WIDTH - _LEFT - 16) / wall
    for number, (name, spans) in enumerate(lanes):
        y = top + number * (_LANE + _GAP)
        parts.append(f'<text x="12" y="{y + 13}" fill="#444">{escape(name)}</text>')
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{_WIDTH - _LEFT - 16}" height="{_LANE}" fill="#f2f2f2"/>'
        )
        parts += [_bar(span, y, scale) for span in spans]
    parts.append(_axis(wall, top + len(lanes) * (_LANE + _GAP) + 4, scale))
    for number, stage in enumerate(explained.stages):
        y = legend + 20 * number
        index = next(i for i, one in enumerate(stats.stages) if one.name == stage.name)
        parts.append(f'<rect x="12" y="{y}" width="12" height="12" fill="{_colour(index)}"/>')
        words = f"{stage.name}: {stage.rows:,} rows, {stage.seconds:.1f} s of work, {stage.shares.as_text()}"
        parts.append(f'<text x="30" y="{y + 11}">{escape(words)}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _first_sentence(explained: Why) -> str:
    return explained.text if len(explained.text) < 150 else explained.text.split(". ")[0] + "."


def _lanes(stats: Statistics) -> list[tuple[str, list[Span]]]:
    """Return names and spans of lanes: a lane for each process, pools last."""
    found: dict[tuple[int, int], list[Span]] = {}
    names: dict[tuple[int, int], str] = {}
    for span in stats.spans:
        if span.replica is not None:
            key = (1, span.replica)
            names[key] = f"{stats.stages[span.stage].name[:20]} #{span.replica}"
        else:
            key = (0, span.pid)
            names[key] = f"process {span.pid}" if span.pid else "ended"
        found.setdefault(key, []).append(span)
    return [(names[key], _thinned(_one_by_one(found[key]))) for key in sorted(found)]


def _one_by_one(spans: list[Span]) -> list[Span]:
    """Return spans of a lane without their overlaps: a task is sent while the one before it still runs."""
    apart, ended_s = [], 0.0
    for span in sorted(spans, key=lambda one: one.ended_s):
        apart.append(replace(span, started_s=max(span.started_s, ended_s)))
        ended_s = span.ended_s
    return apart


def _thinned(spans: list[Span]) -> list[Span]:
    if len(spans) <= _MOST_BARS:
        return spans
    step = -(-len(spans) // _MOST_BARS)
    return spans[::step]


def _bar(span: Span, y: int, scale: float) -> str:
    x = _LEFT + span.started_s * scale
    width = max(0.8, (span.ended_s - span.started_s) * scale - 0.3)
    fill = "#d0021b" if span.failed else _colour(span.stage)
    opacity = ' opacity="0.4"' if span.name == "load" else ""
    tip = f"{span.name}: {span.ended_s - span.started_s:.3f} s, {span.rows:,} rows"
    return (
        f'<rect x="{x:.1f}" y="{y + 1}" width="{width:.1f}" height="{_LANE - 2}" fill="{fill}"{opacity}>'
        f"<title>{escape(tip)}</title></rect>"
    )


def _axis(wall: float, y: int, scale: float) -> str:
    step = next(
        (one for one in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300) if wall / one <= 12), 600
    )
    marks = []
    number = 0
    while number * step <= wall:
        x = _LEFT + number * step * scale
        marks.append(f'<line x1="{x:.1f}" y1="{y - 6}" x2="{x:.1f}" y2="{y - 2}" stroke="#888"/>')
        marks.append(
            f'<text x="{x:.1f}" y="{y + 10}" fill="#666" text-anchor="middle">{number * step:g} s</text>'
        )
        number += 1
    return "\n".join(marks)


def _colour(stage: int) -> str:
    return _COLOURS[stage % len(_COLOURS)]
