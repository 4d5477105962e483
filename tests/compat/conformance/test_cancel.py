"""``cancel``: what waits, what runs, what it called, what is over, and actors' calls."""

from __future__ import annotations

import asyncio
import time

import pytest
import ray
from ray.exceptions import RayTaskError, TaskCancelledError, WorkerCrashedError

from compat.conformance.helpers import Gate, Record, differs, needs_processes, never, until

pytestmark = pytest.mark.usefixtures("session")

CANCELLED = (TaskCancelledError, WorkerCrashedError)


@ray.remote
def spin(gate):
    """Python code that never ends by itself."""
    ray.get(gate.wait.remote())
    while True:
        time.sleep(0.01)


@ray.remote
def echo(value):
    return value


def running():
    """Return an opened gate and a task that has gone through it."""
    gate = Gate.remote()
    ref = spin.remote(gate)
    ray.get(gate.until_arrived.remote())
    ray.get(gate.open.remote())
    return ref


def cancelled(ref) -> bool:
    """Wait for the end of a task that was cancelled."""
    with pytest.raises(CANCELLED):
        ray.get(ref, timeout=60)
    return True


# ---------------------------------------------------------------------- tasks


def test_a_task_that_waits_for_its_arguments() -> None:
    ref = echo.remote(never())
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref)


@differs(
    on="ray",
    reason="the driver crashes when an argument of a cancelled task arrives (a failed check in reference_counter.cc)",
    run=False,
)
def test_arguments_that_arrive_after_the_cancelling() -> None:
    gate, record = Gate.remote(), Record.remote()

    @ray.remote
    def note(value):
        return ray.get(record.add.remote(value))

    first = gate.wait.remote()
    ref = note.remote(first)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref)
    ray.get(gate.open.remote())
    ray.get(first)
    assert ray.get(record.all.remote()) == []


@needs_processes(reason="resources are counted, but nothing waits for them")
def test_a_task_that_waits_for_resources() -> None:
    @ray.remote(resources={"no-such-thing": 1})
    def unplaced():
        return 1

    ref = unplaced.remote()
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref)


@needs_processes
def test_a_running_task() -> None:
    ref = running()
    ray.cancel(ref)
    assert cancelled(ref)


@needs_processes
def test_a_running_task_sees_a_keyboard_interrupt() -> None:
    record, gate = Record.remote(), Gate.remote()

    @ray.remote
    def tidy():
        try:
            ray.get(gate.wait.remote())
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            ray.get(record.add.remote("tidied"))
            raise

    ref = tidy.remote()
    ray.get(gate.until_arrived.remote())
    ray.get(gate.open.remote())
    ray.cancel(ref)
    assert cancelled(ref)
    until(lambda: ray.get(record.all.remote()) == ["tidied"], "the end of the task")


@needs_processes
def test_a_task_that_waits_in_get() -> None:
    gate = Gate.remote()

    @ray.remote
    def wait():
        ray.get(gate.wait.remote())

    ref = wait.remote()
    ray.get(gate.until_arrived.remote())
    ray.cancel(ref)
    assert cancelled(ref)


@needs_processes
def test_force_ends_the_process() -> None:
    ref = running()
    ray.cancel(ref, force=True)
    assert cancelled(ref)


@needs_processes
def test_cancelled_tasks_are_not_retried() -> None:
    record, gate = Record.remote(), Gate.remote()

    @ray.remote(max_retries=5, retry_exceptions=True)
    def once():
        ray.get(record.add.remote("begun"))
        ray.get(gate.wait.remote())
        while True:
            time.sleep(0.01)

    ref = once.remote()
    ray.get(gate.until_arrived.remote())
    ray.get(gate.open.remote())
    ray.cancel(ref, force=True)
    assert cancelled(ref)
    assert ray.get(record.all.remote()) == ["begun"]


@needs_processes
def test_children_are_cancelled_too() -> None:
    gate, record = Gate.remote(), Record.remote()

    @ray.remote
    def parent():
        child = spin.remote(gate)
        ray.get(record.add.remote([child]))
        ray.get(child)

    ref = parent.remote()
    ray.get(gate.until_arrived.remote())
    ray.get(gate.open.remote())
    ((child,),) = ray.get(record.all.remote())
    ray.cancel(ref)
    assert cancelled(ref)
    with pytest.raises((*CANCELLED, RayTaskError, ray.exceptions.OwnerDiedError)):
        ray.get(child, timeout=60)


@needs_processes
def test_children_are_left_alone_if_told_so() -> None:
    gate, record = Gate.remote(), Record.remote()

    @ray.remote
    def child():
        ray.get(gate.wait.remote())
        return ray.get(record.add.remote("child ended"))

    @ray.remote
    def parent():
        ray.get(child.remote())

    ref = parent.remote()
    ray.get(gate.until_arrived.remote())
    ray.cancel(ref, recursive=False)
    assert cancelled(ref)
    ray.get(gate.open.remote())
    until(lambda: ray.get(record.all.remote()) == ["child ended"], "the end of the child")


def test_what_is_over_stays_as_it_is() -> None:
    ref = echo.remote(5)
    assert ray.get(ref) == 5
    ray.cancel(ref)
    ray.cancel(ref, force=True)
    assert ray.get(ref) == 5


@needs_processes
def test_twice() -> None:
    ref = running()
    ray.cancel(ref)
    ray.cancel(ref)
    assert cancelled(ref)
    ray.cancel(ref)


def test_what_depends_on_it_fails() -> None:
    first = echo.remote(never())
    second = echo.remote(first)
    ray.cancel(first)
    with pytest.raises((TaskCancelledError, RayTaskError)):
        ray.get(second)


@needs_processes
def test_others_are_not_disturbed() -> None:
    ref = running()
    others = [echo.remote(i) for i in range(10)]
    ray.cancel(ref)
    assert ray.get(others) == list(range(10))
    assert cancelled(ref)
    assert ray.get([echo.remote(i) for i in range(10)]) == list(range(10))


@needs_processes
def test_a_generator() -> None:
    @ray.remote
    def endless():
        i = 0
        while True:
            yield i
            i += 1
            time.sleep(0.01)

    generator = endless.remote()
    assert ray.get(next(generator)) == 0
    ray.cancel(generator)
    with pytest.raises(CANCELLED):
        for ref in generator:
            ray.get(ref)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError):
        ray.cancel("ref")
    with pytest.raises(TypeError):
        ray.cancel([echo.remote(1)])


# ---------------------------------------------------------------------- actors


@ray.remote
class Worker:
    def __init__(self):
        self.calls = 0

    def wait(self, gate):
        ray.get(gate.wait.remote())
        return "through"

    def count(self):
        self.calls += 1
        return self.calls


@differs(
    on="ray",
    before="2.60",
    reason="Ray 2.50 may run a queued call of an actor that was cancelled, and return it.",
    run=False,
)
def test_a_queued_call() -> None:
    gate, worker = Gate.remote(), Worker.remote()
    first = worker.wait.remote(gate)
    ray.get(gate.until_arrived.remote())
    second = worker.count.remote()
    ray.cancel(second)
    ray.get(gate.open.remote())
    with pytest.raises((TaskCancelledError, RayTaskError)):
        ray.get(second)
    assert ray.get(first) == "through"


@differs(on="ray", reason="a queued call of an actor that was cancelled may run all the same", run=False)
def test_a_cancelled_queued_call_does_not_run() -> None:
    gate, worker = Gate.remote(), Worker.remote()
    first = worker.wait.remote(gate)
    ray.get(gate.until_arrived.remote())
    ray.cancel(worker.count.remote())
    ray.get(gate.open.remote())
    assert ray.get(first) == "through"
    assert ray.get(worker.count.remote()) == 1


def test_an_async_call() -> None:
    record = Record.remote()

    @ray.remote
    class Async:
        async def wait(self, gate):
            try:
                await gate.wait.remote()
            except asyncio.CancelledError:
                record.add.remote("cancelled")
                raise

        async def fine(self):
            return True

    gate, actor = Gate.remote(), Async.remote()
    ref = actor.wait.remote(gate)
    ray.get(gate.until_arrived.remote())
    ray.cancel(ref)
    with pytest.raises((TaskCancelledError, RayTaskError)):
        ray.get(ref)
    until(lambda: ray.get(record.all.remote()) == ["cancelled"], "the exception in the method")
    assert ray.get(actor.fine.remote())


@ray.remote
class Coroutines:
    """What may become of a coroutine that is cancelled."""

    async def wait(self, gate):
        await gate.wait.remote()

    async def swallow(self, gate):
        try:
            await gate.wait.remote()
        except asyncio.CancelledError:
            return "swallowed"

    async def replace(self, gate):
        try:
            await gate.wait.remote()
        except asyncio.CancelledError:
            raise ValueError("instead") from None

    async def items(self, gate):
        yield 1
        await gate.wait.remote()

    async def call(self, other, gate):
        return await other.wait.remote(gate)

    async def running(self):
        """Return how many calls run, but for this one."""
        return len(asyncio.all_tasks()) - 1


@pytest.mark.parametrize("how", ["wait", "swallow", "replace"])
def test_a_running_coroutine_is_both_errors_whatever_it_does(how) -> None:
    gate, actor = Gate.remote(), Coroutines.remote()
    ref = getattr(actor, how).remote(gate)
    ray.get(gate.until_arrived.remote())
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError) as info:
        ray.get(ref, timeout=60)
    assert isinstance(info.value, RayTaskError)
    assert not isinstance(info.value, ValueError)


def test_a_running_async_generator_is_both_errors() -> None:
    gate, actor = Gate.remote(), Coroutines.remote()
    generator = actor.items.remote(gate)
    assert ray.get(next(generator)) == 1
    ray.get(gate.until_arrived.remote())
    ray.cancel(generator)
    with pytest.raises(TaskCancelledError) as info:
        for ref in generator:
            ray.get(ref, timeout=60)
    assert isinstance(info.value, RayTaskError)


@needs_processes
def test_a_running_task_is_both_errors() -> None:
    ref = running()
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError) as info:
        ray.get(ref, timeout=60)
    assert isinstance(info.value, RayTaskError)


def test_what_a_cancelled_task_called_of_an_actor_is_cancelled() -> None:
    @ray.remote
    def parent(actor, gate):
        return ray.get(actor.wait.remote(gate))

    gate, actor = Gate.remote(), Coroutines.remote()
    ref = parent.remote(actor, gate)
    ray.get(gate.until_arrived.remote())
    assert ray.get(actor.running.remote()) == 1
    ray.cancel(ref)
    with pytest.raises(CANCELLED):
        ray.get(ref, timeout=60)
    until(lambda: ray.get(actor.running.remote()) == 0, "the end of the call of the actor")


@pytest.mark.parametrize("recursive", [True, False])
def test_what_a_cancelled_coroutine_called_of_an_actor(recursive) -> None:
    gate, first, second = Gate.remote(), Coroutines.remote(), Coroutines.remote()
    ref = first.call.remote(second, gate)
    ray.get(gate.until_arrived.remote())
    ray.cancel(ref, recursive=recursive)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=60)
    if recursive:
        until(lambda: ray.get(second.running.remote()) == 0, "the end of what it called")
    else:
        assert ray.get(second.running.remote()) == 1
        ray.get(gate.open.remote())


def test_force_is_refused_for_actors() -> None:
    gate, worker = Gate.remote(), Worker.remote()
    ref = worker.wait.remote(gate)
    with pytest.raises(ValueError):
        ray.cancel(ref, force=True)
    ray.get(gate.open.remote())
    assert ray.get(ref) == "through"


@differs(on="ray", before="2.60", reason="The runtime context of Ray 2.50 has no `is_canceled()`.")
def test_what_a_call_that_runs_may_ask() -> None:
    @ray.remote(max_concurrency=2)
    class Asking:
        def work(self, gate):
            ray.get(gate.wait.remote())
            end = time.monotonic() + 60
            while not ray.get_runtime_context().is_canceled():
                if time.monotonic() > end:
                    return "never told"
                time.sleep(0.01)
            raise RuntimeError("told")

        def fine(self):
            return True

    gate, asking = Gate.remote(), Asking.remote()
    ref = asking.work.remote(gate)
    ray.get(gate.until_arrived.remote())
    ray.get(gate.open.remote())
    ray.cancel(ref)
    with pytest.raises((TaskCancelledError, RayTaskError), match="told|was cancelled"):
        ray.get(ref)
    assert ray.get(asking.fine.remote())
