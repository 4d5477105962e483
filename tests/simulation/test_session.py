"""One program, run by the real roles in one process on a virtual clock: the same to the last message in each run.

Each run has a Python of its own, with its own hash seed and addresses of objects.
"""

from __future__ import annotations

import compileall
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
HASH_SEEDS = (0, 1, 2)


@functools.cache
def run(hash_seed: int, seed: int = 1, *mutants: str) -> dict[str, Any]:
    """Simulate the program in a new process.

    All runs load byte code: a function that was compiled just now shares other strings within itself, and its pickle
    has another size.
    """
    compileall.compile_dir(TESTS / "simulation", quiet=1)
    done = subprocess.run(
        [sys.executable, "-m", "simulation", str(seed), *mutants],
        cwd=TESTS, env={**os.environ, "PYTHONHASHSEED": str(hash_seed)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def names(trace: list[str]) -> set[str]:
    """Return the types of the messages in a trace."""
    return {line.split(": ", 1)[1].partition("(")[0] for line in trace}


@pytest.mark.parametrize("hash_seed", HASH_SEEDS)
def test_the_program_comes_out_right_and_leaves_nothing(hash_seed: int) -> None:
    found = run(hash_seed)
    assert found["wrong"] == {}
    assert found["left"] == {}
    assert found["alive"] == found["open"] == []
    assert found["bugs"] == []


def test_all_parts_took_part() -> None:
    said = names(run(0)["trace"])
    assert said >= {
        "RegisterNode", "RegisterJob", "Hello", "LeaseGranted", "PeerHello", "DefineFunction", "Call", "Reply",
        "StreamItem", "CreateActor", "PlaceActor", "StartActor", "ActorUpdate", "KillActor", "StopActor", "Extent",
        "Seal", "Pin", "Free", "AddBorrower", "RemoveBorrower", "WorkerDied", "ActorEnded", "Shutdown",
        "CreateGroup", "ReserveBundles", "BundlesReserved", "FindGroup", "RemoveGroup", "ReturnBundles",
    }  # fmt: skip


def test_time_is_virtual() -> None:
    """Every process was idle for ten seconds at the end, and none of them waited."""
    assert run(0)["seconds"] > 1010


@pytest.mark.parametrize("hash_seed", HASH_SEEDS[1:])
def test_runs_are_the_same(hash_seed: int) -> None:
    assert run(hash_seed)["trace"] == run(0)["trace"]


def test_another_seed_gives_other_ids() -> None:
    assert run(0, 2)["wrong"] == {}
    assert run(0, 2)["trace"] != run(0)["trace"]


@pytest.mark.parametrize("mutant", ["set", "random"])
def test_a_role_that_is_not_repeatable_is_found(mutant: str) -> None:
    one, other = (run(hash_seed, 1, mutant) for hash_seed in HASH_SEEDS[:2])
    assert one["trace"] != other["trace"]
    assert one["wrong"] == other["wrong"] == {}
