"""The classic programs, unmodified, print on skate what they print on Ray (`make compat-ray` compares).

So do those of ray.data.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

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

#: The last lines of those in ``data_classic``, as real Ray 2.60 printed them too.
DATA_LAST_LINES = {
    "batch_inference": "rows of each label: [1517, 483, 0]",
    "csv_report": "all in all: 1713.0",
    "failing_rows": "the first batch of nothing: ValueError",
    "image_features": "sunset-3.png sunset (20, 30, 3) 136.7 True",
    "linear_regression": "largest error below 0.01: True",
    "log_analysis": "statuses: [200, 404, 500]",
    "orders_and_customers": "a sample: True",
    "own_formats": "4181",
    "settings_and_pools": "{'id': 1}",
    "two_trainers": "epoch 1: rows of each [200, 200], sum of all 159600",
    "word_frequencies": "different words: 13",
}
PROGRAMS = {
    EXAMPLES / folder / f"{name}.py": line
    for folder, lines in (("classic", LAST_LINES), ("data_classic", DATA_LAST_LINES))
    for name, line in lines.items()
}


def test_all_programs_are_here() -> None:
    assert sorted(PROGRAMS) == sorted([*EXAMPLES.glob("classic/*.py"), *EXAMPLES.glob("data_classic/*.py")])


@pytest.mark.parametrize("program", sorted(PROGRAMS), ids=lambda program: program.stem)
def test_classic(program: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "skate", "run", str(program)],
        # Old spellings warn: they are a part of programs as people write them.
        env={**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == PROGRAMS[program]
    assert done.stderr == ""
