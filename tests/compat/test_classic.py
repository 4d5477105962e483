"""The classic programs, unmodified, print on skate what they print on Ray (`make compat-ray` compares)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLASSIC = Path(__file__).resolve().parents[2] / "examples" / "classic"

#: The last line of each, as real Ray 2.60 printed it too.
LAST_LINES = {
    "actor_pipeline": "stage format worked on several items at a time: True, never above 50: True",
    "batch_prediction": "rows in all: 24000",
    "crawler": "40 pages, 117 links",
    "game_tree": "7332 positions",
    "hyperparameter_search": "best: rate 0.15, momentum 0.5",
    "monte_carlo_pi": "pi is about 3.1413",
    "parameter_server": "weights: [2.0, -3.0, 0.5, 1.0]",
    "streaming_aggregation": "sensor-4: 240 events, mean 4.167",
    "tree_reduce": "6 levels; each of 100000 sums is 2016; all equal: True",
    "word_count": "18 different words, 225 in all",
}


def test_all_programs_are_here() -> None:
    assert sorted(LAST_LINES) == sorted(file.stem for file in CLASSIC.glob("*.py"))


@pytest.mark.parametrize("name", sorted(LAST_LINES))
def test_classic(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "skate", "run", str(CLASSIC / f"{name}.py")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == LAST_LINES[name]
    assert done.stderr == ""
