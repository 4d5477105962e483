"""Tasks and actors that call ``sys.exit()`` or ``exit_actor()``."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, WorkerCrashedError

from compat.conformance.helpers import Record, differs, needs_processes, until

pytestmark = pytest.mark.usefixtures("session")

#: Codes that stand for a failure.
FAILURES = (1, -1, 256, True, None, "text")


@ray.remote(num_cpus=0, max_restarts=5, max_task_retries=5)
class Fragile:
    def __init__(self, record):
        self.record = record

    def leave(self, code):
        """Exit the first time."""
        if ray.get(self.record.add.remote(1)) == 1:
            sys.exit(code)
        return "came back"

    def leave_by_name(self):
        ray.get(self.record.add.remote(1))
        ray.actor.exit_actor()

    def here(self):
        return True


@pytest.mark.parametrize("code", FAILURES)
def test_an_actor_that_exits_with_a_failure_is_restarted_and_its_call_retried(code: Any) -> None:
    record = Record.remote()
    fragile = Fragile.remote(record)
    assert ray.get(fragile.leave.remote(code)) == "came back"
    assert ray.get(fragile.here.remote())
    assert ray.get(record.all.remote()) == [1, 1]


@pytest.mark.parametrize("code", [0, False])
def test_an_actor_that_exits_in_peace_ends(code: Any) -> None:
    record = Record.remote()
    fragile = Fragile.remote(record)
    for ref in (fragile.leave.remote(code), fragile.here.remote()):
        with pytest.raises(ActorDiedError):
            ray.get(ref)
    assert ray.get(record.all.remote()) == [1]


def test_an_actor_that_exits_by_name_ends() -> None:
    record = Record.remote()
    fragile = Fragile.remote(record)
    for ref in (fragile.leave_by_name.remote(), fragile.here.remote()):
        with pytest.raises(ActorDiedError, match=r"exit_actor\(\)"):
            ray.get(ref)
    assert ray.get(record.all.remote()) == [1]


def test_exits_spend_restarts() -> None:
    record = Record.remote()

    @ray.remote(num_cpus=0, max_restarts=2, max_task_retries=-1)
    class Leaver:
        def leave(self):
            ray.get(record.add.remote(1))
            sys.exit(1)

    with pytest.raises(ActorDiedError):
        ray.get(Leaver.remote().leave.remote())
    assert ray.get(record.all.remote()) == [1, 1, 1]


def test_a_threaded_actor_that_exits() -> None:
    record = Record.remote()
    fragile = Fragile.options(max_concurrency=3).remote(record)
    assert ray.get(fragile.leave.remote(3)) == "came back"


@differs(on="ray", reason="An async actor whose coroutine exits answers no more.", run=False)
@pytest.mark.parametrize("code", [0, 1])
def test_an_async_actor_that_exits(code: int) -> None:
    record = Record.remote()

    @ray.remote(num_cpus=0, max_restarts=5, max_task_retries=5)
    class Async:
        async def leave(self):
            if await record.add.remote(1) == 1:
                sys.exit(code)
            return "came back"

    ref = Async.remote().leave.remote()
    if code:
        assert ray.get(ref) == "came back"
    else:
        with pytest.raises(ActorDiedError):
            ray.get(ref)


# ---------------------------------------------------------------------- constructors


def _leave_at_once(how: Any, record: Any) -> Any:
    @ray.remote(num_cpus=0, max_restarts=2)
    class Leaver:
        def __init__(self):
            ray.get(record.add.remote(1))
            if how == "exit_actor":
                ray.actor.exit_actor()
            sys.exit(how)

        def here(self):
            return True

    return Leaver.remote()


def _is_dead(actor: Any) -> bool:
    try:
        ray.get(actor.here.remote())
    except ActorUnavailableError:
        return False
    except ActorDiedError:
        return True
    raise AssertionError("it lives")


@pytest.mark.parametrize(("how", "times"), [("exit_actor", 1), (0, 1), (1, 3)])
def test_a_constructor_that_exits(how: Any, times: int) -> None:
    record = Record.remote()
    leaver = _leave_at_once(how, record)
    until(lambda: _is_dead(leaver), "the end of the actor")
    assert ray.get(record.all.remote()) == [1] * times


def test_a_constructor_that_is_a_coroutine_and_exits() -> None:
    @ray.remote(num_cpus=0, max_restarts=2)
    class Leaver:
        async def __init__(self):
            ray.actor.exit_actor()

        async def here(self):
            return True

    with pytest.raises(ActorDiedError):
        ray.get(Leaver.remote().here.remote())


# ---------------------------------------------------------------------- tasks


@pytest.mark.parametrize("code", [0, 1, None])
def test_a_task_that_exits_is_retried(code: Any) -> None:
    record = Record.remote()

    @ray.remote(max_retries=1)
    def leave():
        ray.get(record.add.remote(1))
        sys.exit(code)

    with pytest.raises(WorkerCrashedError):
        ray.get(leave.remote())
    assert ray.get(record.all.remote()) == [1, 1]


def test_a_task_that_exits_once() -> None:
    record = Record.remote()

    @ray.remote
    def leave_once():
        if ray.get(record.add.remote(1)) == 1:
            sys.exit(1)
        return "came back"

    assert ray.get(leave_once.remote()) == "came back"


def test_a_generator_that_exits() -> None:
    record = Record.remote()

    @ray.remote(max_retries=1)
    def items():
        ray.get(record.add.remote(1))
        yield 1
        sys.exit(1)

    *_, last = items.remote()
    with pytest.raises(WorkerCrashedError):
        ray.get(last)
    assert ray.get(record.all.remote()) == [1, 1]


@needs_processes
def test_a_task_that_exits_ends_its_process() -> None:
    @ray.remote
    def pid():
        return os.getpid()

    @ray.remote(max_retries=0)
    def leave(record):
        ray.get(record.add.remote(os.getpid()))
        sys.exit(0)

    record = Record.remote()
    with pytest.raises(WorkerCrashedError):
        ray.get(leave.remote(record))
    (gone,) = ray.get(record.all.remote())
    assert gone not in ray.get([pid.remote() for _ in range(4)])


def test_exit_actor_outside_of_an_actor() -> None:
    @ray.remote
    def leave():
        ray.actor.exit_actor()

    with pytest.raises(TypeError, match="exit_actor API is called on a non-actor worker"):
        ray.actor.exit_actor()
    with pytest.raises(TypeError, match="exit_actor API is called on a non-actor worker"):
        ray.get(leave.remote())


def test_what_is_said_of_kill() -> None:
    fragile = Fragile.options(max_restarts=0).remote(Record.remote())
    ray.get(fragile.here.remote())
    ray.kill(fragile)
    with pytest.raises(ActorDiedError, match="it was killed by `ray.kill`"):
        ray.get(fragile.here.remote())


def test_what_is_said_of_names() -> None:
    with pytest.raises(ValueError, match="Failed to look up actor with name 'nobody'"):
        ray.get_actor("nobody")
    kept = Record.options(name="taken").remote()
    with pytest.raises(ValueError, match="The name taken .* is already taken"):
        Record.options(name="taken").remote()
    del kept
