"""The benchmarks of serve measure skate, in a program of their own, for an instant."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from benchmarks.data.runner import variables
from benchmarks.serve import report
from benchmarks.session import ROOT, plain_environment

PROGRAM = """
import json, sys
from benchmarks.serve import runner
from benchmarks.serve.lines import LINES

def main():
    lines = tuple(line for line in LINES if line.name in sys.argv[1:])
    plan = runner.Plan(("skate", "bentoml"), lines, 1, 1, 0.2, 120.0, "own", {"own": sys.executable})
    print(json.dumps(runner.run(plan)))

main()
"""
LINES = ("memory", "echo_8", "chunks", "handle_8", "hop")


@pytest.fixture(scope="module")
def data() -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *LINES],
        cwd=ROOT,
        env={**plain_environment(), **variables()},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", LINES)
def test_lines_have_figures(data: Any, line: str) -> None:
    cell = data["lines"][line]["skate"]
    assert not cell["failures"]
    (facts,) = cell["info"]
    if line == "memory":
        assert facts["pss_mb"] > 1
        assert facts["processes"] > 1
    elif line != "hop":
        assert cell["samples"][0] > 0
        assert facts["cpu_us"] > 0
    assert not facts.get("failed")


def test_nothing_is_left_behind(data: Any) -> None:
    assert data["left_behind"] == {"skate": 0}


def test_what_is_not_installed_is_skipped_with_advice(data: Any) -> None:
    assert "pip install litserve bentoml" in data["skipped"]["bentoml"]
    assert not data["options"]["full"]


def test_the_results_can_be_shown(data: Any) -> None:
    text = report.as_text(report.Results(data))
    assert "skate.serve" in text
    assert "JSON echo" in text
    assert "BentoML was not measured" in text
