"""`python -m demo_serve` as a user runs it, and the arithmetic of its table."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("rapidocr", "onnxruntime", "rich", "PIL", "uvicorn"):
    pytest.importorskip(package, reason=f"the demo needs {package}: pip install -e '.[demo-serve]'")

from demo_serve.clients import Outcome  # noqa: E402
from demo_serve.table import quantile, rows  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.time_limit(300)
def test_an_update_and_a_kill_fail_no_request() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo_serve", "--readers", "2", "--clients", "2", "--seconds", "1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(
        r"^ *(\w[\w ]*\w) +([\d.]+) +([\d,]+) +(\d+) +([\d.]+) +(?:\d+|-) +(?:\d+|-) *$",
        done.stdout,
        re.M,
    )
    assert [name for name, *_ in found] == [
        "before", "during the update", "after it", "a reader is killed", "after that",
    ]  # fmt: skip
    assert {failed for _, _, _, failed, _ in found} == {"0"}, done.stdout
    assert int(found[0][2]) > 0
    assert re.search(r"^Killed    process \d+", done.stdout, re.M)
    assert re.search(r"^Answers   all \d+ have the word of their picture$", done.stdout, re.M), done.stdout
    megabytes, processes = re.search(r"^Memory    ([\d,]+) MB in (\d+) processes", done.stdout, re.M).groups()  # type: ignore[union-attr]
    assert int(processes) >= 7
    assert int(megabytes.replace(",", "")) > 50


def test_rows_count_each_request_in_its_phase() -> None:
    outcomes = [Outcome("a", float(number), "", True) for number in range(1, 101)]
    outcomes += [Outcome("b", 7.0, "status 502", False), Outcome("b", 2.0, "", True)]
    first, second, third = rows(outcomes, {"a": 10.0, "b": 1.0, "c": 1.0})
    assert (first.requests, first.failed, first.rate, first.p50, first.p99) == (100, 0, 10.0, 50.0, 99.0)
    assert (second.requests, second.failed, second.rate, second.p50) == (2, 1, 1.0, 2.0)
    assert third.requests == 0
    assert math.isnan(third.p50)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.01, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_quantile_is_a_time_that_occurred(share: float, expected: float) -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == expected
