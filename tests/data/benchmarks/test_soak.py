"""The soak test of data names tests that there are, and says what was wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.data import soak
from benchmarks.session import ROOT


@pytest.mark.parametrize("selected", [soak._KILLS, soak._DRIVERS, soak._PLANS, soak._SEEDS])
def test_selected_tests_exist_and_take_the_factor(selected: str) -> None:
    path, _, name = selected.partition("::")
    text = (ROOT / path).read_text()
    assert f"def {name}" in text
    assert 'os.environ.get("SKATE_DATA_FACTOR", "1")' in text


def test_a_part_that_fails_is_shown_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parts = {
        "good": ("all is well", lambda options: soak.Result(f"factor {options.factor}")),
        "bad": ("something", lambda options: soak.Result("3 facts", ["it grew"])),
    }
    monkeypatch.setattr(soak, "PARTS", parts)
    monkeypatch.setattr(
        sys, "argv", ["soak", "--factor", "0.5", "--cache", str(tmp_path), "--only", "good,b*"]
    )
    assert soak.main() == 1
    out = capsys.readouterr().out
    heads = [line.split()[:2] for line in out.splitlines() if not line.startswith(" ")]
    assert heads == [["ok", "good"], ["FAILED", "bad"]]
    assert "factor 0.5" in out
    assert out.splitlines()[-1].strip() == "it grew"


def test_names_of_parts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data.soak", "--list"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(soak.PARTS)
