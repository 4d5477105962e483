"""Results as text, as a page, and the comparison of what engines wrote."""

from __future__ import annotations

from typing import Any

from benchmarks.data import report, runner
from benchmarks.data.engines import NAMES
from benchmarks.data.lines import BY_NAME, LINES, SECTIONS, TimesBest, TimesLine
from benchmarks.runner import Cell


def _info(wall: float, **facts: Any) -> dict[str, Any]:
    return {"wall": wall, "peak_mib": 100.0, **facts}


def _written(checksum: int) -> dict[str, Any]:
    return {"rows": 1, "errors": 0, "checksum": checksum, "inexact": 0.0}


def _data(**lines: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": "2026-01-02T03:04:05",
        "machine": {"cpu": "a CPU", "cores": 2, "memory_gib": 8, "kernel": "Linux"},
        "versions": {"skate": "1", "python": "3"},
        "options": {"rounds": 1, "scale": 0.5, "workers": 2, "full": False},
        "load_average": [1.0, 2.0],
        "lines": lines,
    }


def _cell(cpu: float, wall: float) -> dict[str, Any]:
    return {"samples": [cpu], "info": [_info(wall, inputs=3)], "failures": []}


def test_lines_are_consistent() -> None:
    assert set(report.HEADINGS) == set(SECTIONS)
    for line in LINES:
        assert set(line.engines) <= set(NAMES)
        if isinstance(line.target, TimesBest):
            assert set(line.target.engines) <= set(line.engines)
        if isinstance(line.target, TimesLine):
            assert line.target.line in BY_NAME


def test_a_table_shows_cpu_and_wall_and_the_verdict() -> None:
    data = _data(photos={"unit": "s", "skate": _cell(4.0, 2.0), "pool": _cell(8.0, 1.0)})
    text = report.as_text(report.Results(data))
    assert "4 / 2" in text
    assert "8 / 1" in text
    assert "missed: 2.00x" in text
    page = report.as_markdown(report.Results(data))
    assert page.startswith("# Performance of `skate.data`")
    assert "scale 0.5 of the full size (3 photos)" in page


def test_what_failed_is_listed_and_has_no_figure() -> None:
    failed = {"samples": [], "info": [], "failures": ["ValueError: no"]}
    data = _data(photos={"unit": "s", "skate": _cell(4.0, 2.0), "ray": failed})
    assert "Ray Data, photos: decode, hash, classify: ValueError: no" in report.as_markdown(
        report.Results(data)
    )


def test_another_result_than_the_pools_is_a_failure() -> None:
    cells = {
        "skate": Cell([1.0, 2.0], [_info(1, written=_written(6)), _info(1, written=_written(5))]),
        "pool": Cell([1.0], [_info(1, written=_written(5))]),
    }
    runner.refuse_other_results("photos", cells)
    assert cells["skate"].samples == [2.0]
    assert "checksum" in cells["skate"].failures[0]
    assert not cells["pool"].failures
