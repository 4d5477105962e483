"""What the caller of a call that raised gets."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from skate._base import errors
from skate._serialize.exceptions import dump_task_error, load_error
from skate._wire import worker as wire
from skate._worker.execution.exits import ActorExit
from skate._worker.execution.failures import Failures, withdrawn
from skate._worker.execution.invocation import ArgumentLost, Result, Stopped, Yielded

OWNER = b"owner..."


class Invocation:
    """The parts that make replies: it notes what is discarded."""

    def __init__(self) -> None:
        self.cancelled: set[tuple[bytes, int]] = set()
        self.forgotten: list[Yielded] = []

    def discard_results(self, owner: bytes, call: wire.Call, error: BaseException) -> None:
        pass

    def forget(self, owner: bytes, call: wire.Call, before: Yielded) -> None:
        self.forgotten.append(before)

    def failure(
        self,
        owner: bytes,
        call: wire.Call,
        data: bytes,
        refs: Any,
        *,
        retriable: bool,
        before: Yielded | None,
    ) -> Result:
        more = before.encoded if before is not None else None
        return wire.RETRIABLE if retriable else wire.ERROR, data, more, None, None


class Actor:
    """An actor that notes by what it was ended."""

    repr = "Actor()"
    actor_id = b"actor"

    def __init__(self) -> None:
        self.ended_by: list[tuple[BaseException, str]] = []

    def end_by(self, error: BaseException, name: str) -> None:
        self.ended_by.append((error, name))


class Stage:
    """Failures of a process, and what they did beside replies."""

    def __init__(self) -> None:
        self.invocation = Invocation()
        self.raised: list[BaseException] = []
        self.exits: list[str] = []
        self.failures = Failures(self.invocation, dump_task_error, "this test")  # type: ignore[arg-type]
        self.failures.on_raised = self.raised.append
        self.failures.on_task_exit = self.exits.append

    def reply(self, error: BaseException, actor: Actor | None = None, retry: bytes | None = None) -> Any:
        call: Any = SimpleNamespace(seq=7, retry=retry, flags=0, num_returns=1)
        return self.failures.reply_to(OWNER, call, error, "f", actor)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_an_exception_is_looked_at_and_sent(stage: Stage) -> None:
    error = ValueError("bad")
    kind, data, *_ = stage.reply(error)
    assert kind == wire.ERROR
    assert isinstance(load_error(data), ValueError)
    assert stage.raised == [error]


@pytest.mark.parametrize(("retry", "kind"), [(pickle.dumps(ValueError), wire.RETRIABLE),
                                             (pickle.dumps(KeyError), wire.ERROR), (wire.ALL, wire.RETRIABLE)])  # fmt: skip
def test_the_owner_may_retry_it(stage: Stage, retry: bytes, kind: int) -> None:
    assert stage.reply(ValueError("bad"), retry=retry)[0] == kind


def test_a_lost_argument_is_no_exception_of_the_user(stage: Stage) -> None:
    assert stage.reply(ArgumentLost(b"where")) == (wire.LOST, b"where", None, None, None)
    assert stage.raised == []


def test_an_exit_ends_the_actor_which_is_the_reply(stage: Stage) -> None:
    actor, left = Actor(), ActorExit("left")
    assert stage.reply(left, actor) is None
    assert actor.ended_by == [(left, "f")]


def test_an_exit_ends_the_process_of_a_task(stage: Stage) -> None:
    kind, data, *_ = stage.reply(SystemExit(3))
    assert kind == wire.RETRIABLE
    assert isinstance(load_error(data), errors.WorkerCrashedError)
    assert stage.exits == ["sys.exit(3) was called in task f"]
    assert stage.raised == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("bad"), SystemExit(0)])
def test_a_cancelled_call_was_cancelled_whatever_it_raised(stage: Stage, error: BaseException) -> None:
    stage.invocation.cancelled.add((OWNER, 7))
    actor = Actor()
    kind, data, *_ = stage.reply(error, actor)
    assert kind == wire.ERROR
    found = load_error(data)
    assert isinstance(found, errors.TaskCancelledError)
    assert "f was cancelled while it ran in this test" in str(found)
    assert (stage.raised, actor.ended_by) == ([], [])


def test_items_that_were_yielded_before(stage: Stage) -> None:
    before = Yielded()
    before.encoded = [(wire.NONE, b"")]
    assert stage.reply(Stopped(ValueError("bad"), before))[2] == before.encoded
    assert stage.invocation.forgotten == []
    stage.invocation.cancelled.add((OWNER, 7))
    assert stage.reply(Stopped(ValueError("bad"), before))[2] is None
    assert stage.invocation.forgotten == [before]


def test_an_exception_that_cannot_be_dumped_still_has_a_reply() -> None:
    def broken(*_: Any) -> tuple[bytes, list[Any]]:
        raise TypeError("no bytes")

    failures = Failures(Invocation(), broken, "this test")  # type: ignore[arg-type]
    call: Any = SimpleNamespace(seq=7, retry=None, flags=0, num_returns=1)
    result = failures.reply_to(OWNER, call, ValueError("bad"), "f", None)
    assert result is not None
    found = load_error(result[1])
    assert isinstance(found, errors.RaySystemError)
    assert "reporting that failed: TypeError: no bytes" in str(found)


def test_a_call_that_had_not_begun() -> None:
    found = load_error(withdrawn(OWNER, 7, "f"))
    assert isinstance(found, errors.TaskCancelledError)
    assert "f was cancelled before it began" in str(found)
