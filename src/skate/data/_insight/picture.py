"""A picture of an execution: a lane for each process, a bar for each task, colours by stage. SVG, by hand."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from textwrap import wrap

from skate.data._exec.statistics import Span, Statistics
from skate.data._insight.lanes import lanes
from skate.data._insight.limits import why

_COLOURS = ("#4878a8", "#e1812c", "#3a923a", "#9372b2", "#845b53", "#d684bd", "#b5a642", "#17a2a2")
_FAILED, _CANCELLED = "#d0021b", "#8a8a8a"
_WIDTH, _LEFT, _LANE, _GAP, _LINE = 960, 190, 18, 4, 16
#: Characters that fit: into the title, the lines below it, the name of a lane, that of a stage.
_TITLE, _TEXT, _NAME, _STAGE = 105, 135, 26, 56
#: Pixels between two bars of a stage below which they are drawn as one.
_APART = 0.4
#: Lanes that are drawn; of a larger cluster the first.
_MOST_LANES = 64


def picture(stats: Statistics, title: str = "") -> str:
    """Return the picture as SVG text.

    Args:
        stats: of an execution that has ended, or is under way.
        title: shown above; "": the names of the stages.
    """
    wall = max(stats.wall_s(), 1e-6)
    scale = (_WIDTH - _LEFT - 16) / wall
    explained = why(stats)
    every = lanes(stats)
    drawn = every[:_MOST_LANES]
    lines = wrap(explained.text, _TEXT)
    top = 30 + _LINE * len(lines) + 8
    axis = top + len(drawn) * (_LANE + _GAP) + 4
    title = title or " > ".join(stage.name for stage in stats.stages)
    parts = [f'<text x="12" y="20" font-size="14" font-weight="bold">{_short(title, _TITLE)}</text>']
    parts += [
        f'<text x="12" y="{38 + _LINE * n}" fill="#444">{escape(line)}</text>' for n, line in enumerate(lines)
    ]
    for number, lane in enumerate(drawn):
        y = top + number * (_LANE + _GAP)
        if not lane.is_further:
            parts.append(f'<text x="12" y="{y + 13}" fill="#444">{_short(lane.name, _NAME)}</text>')
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{_WIDTH - _LEFT - 16}" height="{_LANE}" fill="#f2f2f2"/>'
        )
        for span, count in _joined(lane.spans, scale):
            parts += _bar(span, count, stats.stages[span.stage].name, y, scale)
    parts.append(_axis(wall, axis, scale))
    y = axis + 30
    started = [index for index, stage in enumerate(stats.stages) if stage.tasks_started]
    for index, one in zip(started, explained.stages, strict=True):
        words = f"{one.rows:,} rows, {one.seconds:.1f} s of work: {one.shares.as_text()}"
        parts += _key(_colour(index), f"{_short(one.name, _STAGE)}: {escape(words)}", y)
        y += 20
    spans = [span for lane in drawn for span in lane.spans]
    if any(span.failed for span in spans):
        parts += _key(_FAILED, "failed", y)
        y += 20
    if any(span.cancelled for span in spans):
        parts += _key(_CANCELLED, "cancelled: its rows were not wanted any more", y)
        y += 20
    if any(_is_light(span) for span in spans):
        parts.append(
            f'<text x="12" y="{y + 11}" fill="#666">Light: starting, loading, or handing output on.</text>'
        )
        y += 20
    if len(every) > len(drawn) or len(stats.spans) < sum(stage.tasks_done for stage in stats.stages):
        words = f"Not drawn: {len(every) - len(drawn)} lanes, and tasks after the first {len(stats.spans):,}."
        parts.append(f'<text x="12" y="{y + 11}" fill="#666">{words}</text>')
        y += 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 10}" '
        f'viewBox="0 0 {_WIDTH} {y + 10}" font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{_WIDTH}" height="{y + 10}" fill="white"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def _short(text: str, most: int) -> str:
    return escape(text if len(text) <= most else text[: most - 3] + "...")


def _joined(spans: list[Span], scale: float) -> list[tuple[Span, int]]:
    """Return spans, and of how many tasks: those that would touch each other are one."""
    made: list[tuple[Span, int]] = []
    for span in spans:
        before, count = made[-1] if made else (None, 0)
        if (
            before is not None
            and (before.stage, before.failed, before.cancelled) == (span.stage, span.failed, span.cancelled)
            and not (before.is_start or span.is_start)
            and (span.started_s - before.ended_s) * scale < _APART
            and min(before.ended_s - before.started_s, span.ended_s - span.started_s) * scale < 2
        ):
            made[-1] = (
                replace(
                    before,
                    ended_s=span.ended_s,
                    rows=before.rows + span.rows,
                    work_s=before.work_s + span.work_s,
                ),
                count + 1,
            )
        else:
            made.append((span, 1))
    return made


def _is_light(span: Span) -> bool:
    """Tell whether a span has a part in which no work was done."""
    if span.failed or span.cancelled:
        return False
    return span.is_start or span.work_s < 0.9 * (span.ended_s - span.started_s)


def _bar(span: Span, count: int, stage: str, y: int, scale: float) -> list[str]:
    x = _LEFT + span.started_s * scale
    seconds = span.ended_s - span.started_s
    width = max(0.8, seconds * scale - 0.3)
    fill = _FAILED if span.failed else _CANCELLED if span.cancelled else _colour(span.stage)
    what = span.name if span.is_start else f"task {span.name}" if count == 1 else f"{count:,} tasks"
    tip = f"{stage}, {what}: {seconds:.3f} s, {span.rows:,} rows"
    light = ' opacity="0.35"' if _is_light(span) else ""
    bars = [
        f'<rect x="{x:.1f}" y="{y + 1}" width="{width:.1f}" height="{_LANE - 2}" fill="{fill}"{light}>'
        f"<title>{escape(tip)}</title></rect>"
    ]
    if light and not span.is_start:
        done = width * min(1.0, span.work_s / max(1e-9, seconds))
        bars.append(f'<rect x="{x:.1f}" y="{y + 1}" width="{done:.1f}" height="{_LANE - 2}" fill="{fill}"/>')
    return bars


def _key(colour: str, words: str, y: int) -> list[str]:
    return [
        f'<rect x="12" y="{y}" width="12" height="12" fill="{colour}"/>',
        f'<text x="30" y="{y + 11}">{words}</text>',
    ]


def _axis(wall: float, y: int, scale: float) -> str:
    steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800)
    step = next((one for one in steps if wall / one <= 12), 3600)
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
