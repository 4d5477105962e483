"""Calls that raise and are run again, and how many calls a handle takes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.api import RayContext as Session
from skate.exceptions import PendingCallsLimitExceeded, RayTaskError

from .waiting import attempt, wait_for_file


class Custom(ValueError):
    """An exception of the user's own."""


@skate.remote
def fail(path: Path, times: int, error: Exception) -> int:
    number = attempt(path)
    if number <= times:
        raise error
    return number


@pytest.mark.parametrize(
    ("options", "times", "attempts"),
    [
        ({"retry_exceptions": True}, 3, 4),
        ({"retry_exceptions": True, "max_retries": 1}, 1, 2),
        ({"retry_exceptions": True, "max_retries": -1}, 50, 51),
        ({"retry_exceptions": [ValueError]}, 2, 3),
        ({"retry_exceptions": [KeyError, Custom]}, 2, 3),
        ({"retry_exceptions": (Exception,)}, 2, 3),
    ],
    ids=repr,
)
def test_tasks_that_come_right(
    session: Session, tmp_path: Path, options: dict[str, Any], times: int, attempts: int
) -> None:
    assert skate.get(fail.options(**options).remote(tmp_path / "a", times, Custom("x"))) == attempts


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({}, 1),
        ({"retry_exceptions": False}, 1),
        ({"retry_exceptions": []}, 1),
        ({"retry_exceptions": [KeyError]}, 1),
        ({"retry_exceptions": True}, 4),
        ({"retry_exceptions": True, "max_retries": 0}, 1),
        ({"retry_exceptions": [Custom], "max_retries": 2}, 3),
    ],
    ids=repr,
)
def test_tasks_that_do_not(session: Session, tmp_path: Path, options: dict[str, Any], attempts: int) -> None:
    with pytest.raises(Custom, match="the story"):
        skate.get(fail.options(**options).remote(tmp_path / "a", 100, Custom("the story")))
    assert (tmp_path / "a").stat().st_size == attempts


def test_deaths_and_exceptions_share_the_retries(session: Session, tmp_path: Path) -> None:
    @skate.remote(max_retries=2, retry_exceptions=True)
    def unlucky() -> int:
        number = attempt(tmp_path / "a")
        if number == 1:
            raise Custom
        if number == 2:
            os._exit(1)
        return number

    assert skate.get(unlucky.remote()) == 3


def test_an_error_of_another_task_counts_as_what_it_is(session: Session, tmp_path: Path) -> None:
    @skate.remote(retry_exceptions=[Custom])
    def outer() -> int:
        return int(skate.get(fail.remote(tmp_path / "a", 2, Custom("inner"))))

    assert skate.get(outer.remote()) == 3


def test_refs_in_errors_and_arguments_survive(session: Session, tmp_path: Path) -> None:
    class Holding(Exception):
        def __init__(self, ref: Any) -> None:
            super().__init__(ref)

    @skate.remote(retry_exceptions=True)
    def raises(refs: list[Any]) -> Any:
        if attempt(tmp_path / "a") < 3:
            raise Holding([skate.put("made here"), refs[0]])
        return skate.get(refs[0])

    assert skate.get(raises.remote([skate.put("from outside")])) == "from outside"


def test_generators_go_on_where_they_were(session: Session, tmp_path: Path) -> None:
    @skate.remote(retry_exceptions=True)
    def count() -> Iterator[int]:
        for index in range(6):
            if index == 3 and attempt(tmp_path / "a") < 3:
                raise Custom
            yield index

    assert [skate.get(ref) for ref in count.remote()] == list(range(6))


@skate.remote
class Fallible:
    def __init__(self) -> None:
        self.calls = 0

    @skate.method(max_task_retries=3, retry_exceptions=True)
    def any(self, times: int) -> int:
        return self._fail(times)

    @skate.method(max_task_retries=3, retry_exceptions=[Custom])
    def some(self, times: int, error: Exception) -> int:
        return self._fail(times, error)

    def none(self, times: int) -> int:
        return self._fail(times)

    async def coroutine(self, times: int) -> int:
        await asyncio.sleep(0)
        return self._fail(times)

    def _fail(self, times: int, error: Exception | None = None) -> int:
        self.calls += 1
        if self.calls <= times:
            raise error or Custom("again")
        return self.calls


def test_methods(session: Session) -> None:
    assert skate.get(Fallible.remote().any.remote(3)) == 4
    assert skate.get(Fallible.remote().some.remote(2, Custom())) == 3
    with pytest.raises(KeyError):
        skate.get(Fallible.remote().some.remote(1, KeyError()))
    with pytest.raises(Custom):
        skate.get(Fallible.remote().none.remote(1))
    with pytest.raises(Custom):
        skate.get(Fallible.options(max_task_retries=5).remote().none.remote(1))
    chosen = Fallible.remote().none.options(max_task_retries=2, retry_exceptions=[Custom])
    assert skate.get(chosen.remote(2)) == 3
    coroutine = Fallible.remote().coroutine.options(max_task_retries=-1, retry_exceptions=True)
    assert skate.get(coroutine.remote(20)) == 21


def test_methods_of_handles_elsewhere(session: Session) -> None:
    @skate.remote
    def call(actor: Any) -> Any:
        return skate.get(actor.some.remote(3, Custom()))

    assert skate.get(call.remote(Fallible.remote())) == 4


@pytest.mark.parametrize("retry_exceptions", [False, True])
def test_exits_are_crashes(session: Session, tmp_path: Path, retry_exceptions: bool) -> None:
    @skate.remote(max_retries=2, retry_exceptions=retry_exceptions)
    def leave() -> None:
        attempt(tmp_path / "a")
        raise SystemExit(3)

    with pytest.raises(skate.exceptions.WorkerCrashedError, match=r"sys\.exit"):
        skate.get(leave.remote())
    assert (tmp_path / "a").stat().st_size == 3


def test_an_exception_type_that_cannot_be_sent_back(session: Session, tmp_path: Path) -> None:
    """What is named in ``retry_exceptions`` is compared where it was raised: it need not be pickled."""

    class Local(Exception):
        def __init__(self) -> None:
            self.lock = threading.Lock()

    @skate.remote(retry_exceptions=[Local])
    def raises() -> int:
        number = attempt(tmp_path / "a")
        if number < 3:
            raise Local
        return number

    assert skate.get(raises.remote()) == 3


# ---------------------------------------------------------------------- how calls queue


@skate.remote
class Gate:
    def __init__(self, path: Path) -> None:
        self.path = path

    def wait(self) -> str:
        wait_for_file(self.path)
        return "open"

    def same(self, value: Any) -> Any:
        return value


def test_no_more_calls_than_the_limit(session: Session, tmp_path: Path) -> None:
    gate = Gate.options(max_pending_calls=2).remote(tmp_path / "gate")
    refs = [gate.wait.remote(), gate.wait.remote()]
    with pytest.raises(
        PendingCallsLimitExceeded, match=r"Gate\.wait could not be submitted .* 2 calls.*max_pending_calls"
    ):
        gate.wait.remote()
    (tmp_path / "gate").touch()
    assert skate.get(refs) == ["open", "open"]
    assert skate.get(gate.wait.remote()) == "open"


def test_the_limit_counts_each_process_by_itself(session: Session, tmp_path: Path) -> None:
    gate = Gate.options(max_pending_calls=1).remote(tmp_path / "gate")
    ref = gate.wait.remote()

    @skate.remote
    def call(gate: Any) -> Any:
        other = gate.same.remote(1)
        try:
            gate.same.remote(2)
        except PendingCallsLimitExceeded:
            (tmp_path / "gate").touch()
        return skate.get(other)

    assert skate.get(call.remote(gate)) == 1
    assert skate.get(ref) == "open"


def test_calls_that_wait_for_arguments(session: Session, tmp_path: Path) -> None:
    """Those behind them wait too at a serial actor, and do not at one that runs several."""

    @skate.remote
    def late() -> str:
        wait_for_file(tmp_path / "gate")
        return "late"

    actors = {
        "serial": Gate.remote(tmp_path),
        "threaded": Gate.options(max_concurrency=2).remote(tmp_path),
        "told": Gate.options(allow_out_of_order_execution=True).remote(tmp_path),
        "forbidden": Gate.options(max_concurrency=2, allow_out_of_order_execution=False).remote(tmp_path),
    }
    slow = late.remote()
    first = {name: actor.same.remote(slow) for name, actor in actors.items()}
    second = {name: actor.same.remote(name) for name, actor in actors.items()}
    assert skate.get([second["threaded"], second["told"]]) == ["threaded", "told"]
    assert skate.wait([second["serial"], second["forbidden"]], timeout=0.05)[0] == []
    (tmp_path / "gate").touch()
    assert skate.get(list(second.values())) == list(actors)
    assert skate.get(list(first.values())) == ["late"] * 4


def test_an_error_in_an_argument_holds_up_nobody(session: Session) -> None:
    @skate.remote
    def broken() -> None:
        raise Custom("argument")

    gate = Gate.options(max_concurrency=2).remote(Path("/"))
    failing = gate.same.remote(broken.remote())
    assert skate.get(gate.same.remote("fine")) == "fine"
    with pytest.raises(RayTaskError, match="argument"):
        skate.get(failing)


def test_a_handle_by_name_does_not_keep_the_actor(session: Session) -> None:
    gate = Gate.options(name="gate").remote(Path("/"))
    by_name = skate.get_actor("gate")
    assert skate.get(by_name.same.remote(1)) == 1
    del gate
    with pytest.raises(skate.exceptions.ActorDiedError):
        while True:
            skate.get(by_name.same.remote(1))


def test_an_actor_that_holds_itself_ends(session: Session) -> None:
    @skate.remote
    class Narcissus:
        def look(self) -> str:
            self.me = skate.get_runtime_context().current_actor
            return repr(self.me)

        def pid(self) -> int:
            return os.getpid()

    actor = Narcissus.remote()
    assert skate.get(actor.look.remote()) == repr(actor)
    pid = skate.get(actor.pid.remote())
    del actor
    from .waiting import wait_until_none

    wait_until_none(lambda: os.path.exists(f"/proc/{pid}"), "the actor's process")
