"""What an exit means, by its code."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from skate._base.errors import WorkerCrashedError
from skate._wire import worker as wire
from skate._worker.execution.exits import ActorExit, Exit


class _Odd:
    def __repr__(self) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("code", "intended", "status", "what"),
    [
        (0, True, 0, "sys.exit(0)"),
        (False, True, 0, "sys.exit(False)"),
        (1, False, 1, "sys.exit(1)"),
        (-1, False, 255, "sys.exit(-1)"),
        (256, False, 0, "sys.exit(256)"),
        (True, False, 1, "sys.exit(True)"),
        (None, False, 0, "sys.exit(None)"),
        ("text", False, 1, "sys.exit('text')"),
        (_Odd(), False, 1, "sys.exit(<_Odd>)"),
    ],
    ids=["0", "False", "1", "-1", "256", "True", "None", "text", "odd"],
)
def test_codes(code: Any, intended: bool, status: int, what: str) -> None:
    found = Exit(SystemExit(code))
    assert (found.intended, found.status, found.what) == (intended, status, f"{what} was called")


def test_exit_actor() -> None:
    found = Exit(ActorExit())
    assert (found.intended, found.status, found.what) == (True, 0, "exit_actor() was called")


def test_an_exit_of_a_task_is_a_crash_that_may_be_retried() -> None:
    reason, (kind, data, *rest) = Exit(SystemExit(3)).of_task("leave")
    assert reason == "sys.exit(3) was called in task leave"
    error = pickle.loads(data)
    assert kind == wire.RETRIABLE and rest == [None, None, None]
    assert isinstance(error, WorkerCrashedError) and "sys.exit(3) was called in task leave" in str(error)
