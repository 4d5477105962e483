"""Programs for multiprocessing, concurrent.futures and joblib print on skate what they print there."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "drop_in"

#: Python's own, and what has its interface here.
PROGRAMS = {"pool_cases.py": "standard", "executor_cases.py": "standard", "joblib_cases.py": "loky"}

#: What the in-process mode cannot do: end a process, and interrupt or replace one; and classes of the program are
#: those of its workers too, so that what an initializer sets in one, all see.
NOT_INLINE = {
    "case_a_worker_that_dies",
    "case_cancel",
    "case_globals_stay_between_calls",
    "case_initializer_without_arguments",
    "case_not_ready",
    "case_timeouts",
    "case_workers_that_are_replaced",
}


#: Where this Python's own pools differ from those of the versions around it.
NOT_HERE = set()
if sys.version_info < (3, 11):
    NOT_HERE |= {"case_workers_that_are_replaced", "case_arguments"}  # max_tasks_per_child came later
if sys.version_info >= (3, 14):
    NOT_HERE |= {
        "case_frozen_arrays",
        "case_arrays_are_writable",
    }  # multiprocessing keeps frozen arrays frozen


def cases(program: str) -> list[str]:
    tree = ast.parse((FOLDER / program).read_text())
    return [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("case_")
    ]


ALL = [(program, case) for program in PROGRAMS for case in cases(program) if case not in NOT_HERE]


@functools.cache
def printed(program: str, which: str) -> dict[str, str]:
    """Run a program with all its cases; return what each printed."""
    if program == "joblib_cases.py":
        pytest.importorskip("joblib", reason="joblib is not installed")
    names = [name for name in cases(program) if which != "inline" or name not in NOT_INLINE]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(
        [sys.executable, str(FOLDER / program), which, *names],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(line.split(": ", 1) for line in ended.stdout.splitlines())


@pytest.mark.time_limit(100)  # the first test of a program runs all of its cases
@pytest.mark.parametrize(("program", "case"), ALL)
def test_on_skate(program: str, case: str) -> None:
    assert printed(program, "skate")[case] == printed(program, PROGRAMS[program])[case]


@pytest.mark.parametrize(("program", "case"), [one for one in ALL if one[1] not in NOT_INLINE])
def test_in_process(program: str, case: str) -> None:
    assert printed(program, "inline")[case] == printed(program, PROGRAMS[program])[case]
