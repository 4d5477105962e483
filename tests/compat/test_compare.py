"""The comparison counts each test in the right column, and fails for what no marker names."""

from __future__ import annotations

import pytest

from . import compare


@pytest.mark.parametrize(
    ("ours", "theirs", "column"),
    [
        ("passed", "passed", "both"),
        ("passed", "xfailed", "only skate"),
        ("xfailed", "passed", "only Ray"),
        ("xfailed", "xfailed", "neither"),
        ("passed", "skipped", "skipped"),
        ("failed", "passed", "unexpected"),
        ("passed", "failed", "unexpected"),
        ("passed", None, "unexpected"),
        (None, "passed", "unexpected"),
    ],
)
def test_verdicts(ours, theirs, column) -> None:
    assert compare.verdict(ours, theirs) == column


def test_the_table_counts_by_file() -> None:
    ours = {"test_a.py::x": "passed", "test_a.py::y": "passed", "test_b.py::z": "failed"}
    theirs = {"test_a.py::x": "passed", "test_a.py::y": "xfailed", "test_b.py::z": "passed"}
    text, unexpected = compare.table(ours, theirs)
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
    }
    assert rows["a"] == ["1", "1", "0", "0", "0", "0"]
    assert rows["b"] == ["0", "0", "0", "0", "0", "1"]
    assert rows["in all"] == ["1", "1", "0", "0", "0", "1"]
    assert unexpected == ["test_b.py::z: failed on skate, passed on Ray"]
