"""Cancelling tasks and calls: whatever state they are in, and nothing else with them."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate._worker.execution.executor import Executor
from skate._worker.process import current
from skate.api import RayContext as Session
from skate.exceptions import RayTaskError, TaskCancelledError, WorkerCrashedError

from .waiting import first_time, meet, wait_for, wait_for_file, wait_until_none


@skate.remote
def hang(started: Path | None = None, *waits_for: Any) -> None:
    if started is not None:
        started.touch()
    threading.Event().wait()


@skate.remote
def same(value: Any) -> Any:
    return value


def _cpus_are_free() -> None:
    wait_for(lambda: skate.available_resources().get("CPU") == 2.0, "both CPUs to be free")


@pytest.fixture(autouse=True)
def nothing_runs_on(session: Session) -> Iterator[None]:
    """What was cancelled gives its CPU back."""
    yield
    if skate.is_initialized():
        _cpus_are_free()


# ---------------------------------------------------------------------- tasks


def test_a_running_task(tmp_path: Path) -> None:
    ref = hang.remote(tmp_path / "started")
    wait_for_file(tmp_path / "started")
    skate.cancel(ref)
    with pytest.raises(
        TaskCancelledError, match=r"^hang was cancelled while it ran in worker process \d+; it was here:"
    ) as info:
        skate.get(ref)
    assert isinstance(info.value, RayTaskError)
    assert "in hang" in str(info.value)
    assert info.value.task_id == ref.task_id().hex()
    skate.cancel(ref)
    assert skate.get(same.remote(1)) == 1


@pytest.mark.parametrize("force", [False, True])
def test_a_task_in_a_system_call(tmp_path: Path, force: bool) -> None:
    @skate.remote
    def sleep() -> None:
        (tmp_path / "started").touch()
        time.sleep(1000)

    ref = sleep.remote()
    wait_for_file(tmp_path / "started")
    skate.cancel(ref, force=force)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)


def test_a_task_that_computes(tmp_path: Path) -> None:
    @skate.remote
    def spin() -> None:
        (tmp_path / "started").touch()
        while True:
            pass

    ref = spin.remote()
    wait_for_file(tmp_path / "started")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)


def test_a_task_that_waits_in_get(tmp_path: Path) -> None:
    @skate.remote
    def wait() -> None:
        inner = hang.remote(tmp_path / "started")
        skate.get(inner)

    ref = wait.remote()
    wait_for_file(tmp_path / "started")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)


def test_cleaning_up_is_the_tasks_own(tmp_path: Path) -> None:
    @skate.remote
    def careful() -> str:
        try:
            (tmp_path / "started").touch()
            threading.Event().wait()
        finally:
            (tmp_path / "cleaned").touch()
        return "unreachable"

    ref = careful.remote()
    wait_for_file(tmp_path / "started")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)
    assert (tmp_path / "cleaned").exists()


def test_a_task_that_goes_on_is_waited_for_no_longer(tmp_path: Path) -> None:
    @skate.remote
    def stubborn() -> str:
        while not (tmp_path / "enough").exists():
            try:
                (tmp_path / "started").touch()
                time.sleep(0.01)
            except KeyboardInterrupt:
                (tmp_path / "heard").touch()
        return "nobody wants this"

    ref = stubborn.remote()
    wait_for_file(tmp_path / "started")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError, match=r"stubborn was cancelled: cancel\(\) was called in driver"):
        skate.get(ref)
    wait_for_file(tmp_path / "heard")
    (tmp_path / "enough").touch()


def test_a_task_that_imports_a_module_ends_after_that(tmp_path: Path) -> None:
    """Half a module would stay in the process: its parts are there, and are not imported again."""
    package = tmp_path / "slowly"
    package.mkdir()
    (package / "part.py").write_text("value = 1\n")
    (package / "__init__.py").write_text(
        "import pathlib, time\n"
        "from skate._worker.process import signals\n"
        "from slowly.part import value\n"
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch()\n"
        "while not signals._current.has_waiting:\n"
        "    time.sleep(0.005)\n"
    )

    @skate.remote
    def use(hangs: bool) -> tuple[int, int]:
        sys.path.insert(0, str(tmp_path))
        import slowly  # type: ignore[import-not-found]

        if hangs:
            threading.Event().wait()
        return os.getpid(), slowly.part.value

    ref = use.remote(True)
    wait_for_file(tmp_path / "started")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError) as caught:
        skate.get(ref)
    pids = {}
    while not pids:  # the same process is used again
        pids = {
            pid: value
            for pid, value in [skate.get(use.remote(False))]
            if f"process {pid};" in str(caught.value)
        }
    assert set(pids.values()) == {1}


@pytest.mark.parametrize("force", [False, True])
def test_a_task_that_holds_the_interpreter(tmp_path: Path, force: bool) -> None:
    @skate.remote
    def stuck() -> None:
        (tmp_path / "started").touch()
        re.match(r"(a+)+$", "a" * 60 + "b")  # in C for longer than anybody lives

    ref = stuck.remote()
    wait_for_file(tmp_path / "started")
    skate.cancel(ref, force=force)
    with pytest.raises(TaskCancelledError) as info:
        skate.get(ref)
    assert isinstance(info.value, WorkerCrashedError) == force
    skate.cancel(ref, force=True)  # whoever thinks again can still end it


def test_queued_tasks_never_run(tmp_path: Path) -> None:
    running = [hang.remote(tmp_path / str(index)) for index in range(2)]
    for index in range(2):
        wait_for_file(tmp_path / str(index))
    queued = [hang.remote(tmp_path / f"queued {index}") for index in range(20)]
    behind = same.remote("goes on")
    for ref in queued:
        skate.cancel(ref)
    for ref in queued:
        with pytest.raises(TaskCancelledError):
            skate.get(ref)
    for ref in running:
        skate.cancel(ref)
    assert skate.get(behind) == "goes on"
    assert not list(tmp_path.glob("queued*"))


def test_a_call_that_is_about_to_begin_never_runs(tmp_path: Path) -> None:
    """The cancel comes between its leaving the queue and its first step."""

    @skate.remote
    def slow_down() -> int:
        executor = next(one for one in gc.get_objects() if type(one) is Executor)
        cancelling, withdraw = threading.Event(), executor.withdraw

        def withdrawn(*args: Any) -> Any:
            cancelling.set()
            return withdraw(*args)

        class Slow(deque[Any]):
            def popleft(self) -> Any:
                item = super().popleft()
                executor._queue = deque(self)
                (tmp_path / "popped").touch()
                assert cancelling.wait(30)
                with executor._context.locked:
                    return item  # it was looked for in the queue

        executor.withdraw, executor._queue = withdrawn, Slow(executor._queue)  # type: ignore[method-assign]
        return os.getpid()

    @skate.remote
    def touch(name: str) -> int:
        (tmp_path / name).touch()
        return os.getpid()

    pid = skate.get(slow_down.remote())
    ref = touch.remote("ran")
    wait_for_file(tmp_path / "popped")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError, match="before it began"):
        skate.get(ref)
    assert skate.get(touch.remote("later")) == pid
    assert not (tmp_path / "ran").exists()


def test_a_task_whose_arguments_are_not_there(tmp_path: Path) -> None:
    first = hang.remote(tmp_path / "first")
    second = hang.remote(tmp_path / "second", first)
    third = same.remote(second)
    skate.cancel(second)
    for ref in (second, third):
        with pytest.raises(TaskCancelledError):
            skate.get(ref)
    assert skate.wait([first], timeout=0) == ([], [first])
    skate.cancel(first)
    with pytest.raises(TaskCancelledError):
        skate.get(first)
    assert not (tmp_path / "second").exists()


def test_what_is_there_stays_there() -> None:
    ref = same.remote("value")
    assert skate.get(ref) == "value"
    skate.cancel(ref)
    skate.cancel(ref, force=True)
    assert skate.get(ref) == "value"
    put = skate.put("put")
    skate.cancel(put)
    assert skate.get(put) == "put"


def test_several_returns(tmp_path: Path) -> None:
    refs = hang.options(num_returns=3).remote(tmp_path / "started")
    wait_for_file(tmp_path / "started")
    skate.cancel(refs[1])
    for ref in refs:
        with pytest.raises(TaskCancelledError):
            skate.get(ref)


def test_no_retries_after_it(tmp_path: Path) -> None:
    @skate.remote(max_retries=-1, retry_exceptions=True)
    def once() -> None:
        assert first_time(tmp_path / "ran")
        (tmp_path / "started").touch()
        threading.Event().wait()

    for force in (False, True):
        ref = once.remote()
        wait_for_file(tmp_path / "started")
        skate.cancel(ref, force=force)
        with pytest.raises(TaskCancelledError):
            skate.get(ref)
        _cpus_are_free()
        for path in tmp_path.iterdir():
            path.unlink()


def test_force_says_so_in_rays_words(tmp_path: Path) -> None:
    ref = hang.remote(tmp_path / "started")
    wait_for_file(tmp_path / "started")
    skate.cancel(ref, force=True)
    with pytest.raises(WorkerCrashedError, match="hang was cancelled"):
        skate.get(ref)


def test_force_takes_nobody_along(tmp_path: Path) -> None:
    """Calls that were pipelined to the worker that is killed run elsewhere, and once."""

    @skate.remote(max_retries=0)
    def short(index: int) -> int:
        with (tmp_path / f"once {index}").open("x"):
            return index

    @skate.remote(max_retries=0)
    def sometimes(index: int) -> None:
        if index >= 0:
            (tmp_path / f"started {index}").touch()
            threading.Event().wait()

    for _ in range(50):
        skate.get(sometimes.remote(-1))  # known to be short: further calls are sent ahead
        skate.get(short.remote(1000 + _))
    for turn in range(5):
        victim = sometimes.remote(turn)
        others = [short.remote(20 * turn + index) for index in range(20)]
        wait_for_file(tmp_path / f"started {turn}")
        skate.cancel(victim, force=True)
        with pytest.raises(TaskCancelledError):
            skate.get(victim)
        assert skate.get(others) == list(range(20 * turn, 20 * turn + 20))


def test_recursive(tmp_path: Path) -> None:
    @skate.remote
    def tree(depth: int, name: str) -> None:
        if depth == 0:
            skate.get(hang.options(num_cpus=0).remote(tmp_path / name))
        else:
            skate.get([tree.options(num_cpus=0).remote(depth - 1, f"{name}{side}") for side in "lr"])

    ref = tree.options(num_cpus=0).remote(2, "t")
    for name in ("tll", "tlr", "trl", "trr"):
        wait_for_file(tmp_path / name)
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)
    from skate.util import state

    wait_until_none(lambda: state.list_tasks(filters=[("state", "=", "RUNNING")]), "a task that runs")


def test_not_recursive(tmp_path: Path) -> None:
    @skate.remote
    def outer() -> None:
        skate.get(inner.remote())

    @skate.remote
    def inner() -> None:
        (tmp_path / "started").touch()
        wait_for_file(tmp_path / "enough")
        (tmp_path / "finished").touch()

    ref = outer.remote()
    wait_for_file(tmp_path / "started")
    skate.cancel(ref, recursive=False)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)
    (tmp_path / "enough").touch()
    wait_for_file(tmp_path / "finished")


def test_a_borrower_cancels(tmp_path: Path) -> None:
    @skate.remote
    def cancel(refs: list[Any]) -> None:
        skate.cancel(refs[0])

    ref = hang.remote(tmp_path / "started")
    wait_for_file(tmp_path / "started")
    skate.get(cancel.remote([ref]))
    with pytest.raises(TaskCancelledError):
        skate.get(ref)


def test_a_generator(tmp_path: Path) -> None:
    @skate.remote
    def count() -> Iterator[int]:
        try:
            yield 1
            yield 2
            threading.Event().wait()
        finally:
            (tmp_path / "closed").touch()

    generator = count.remote()
    assert [skate.get(next(generator)) for _ in range(2)] == [1, 2]
    skate.cancel(generator)
    with pytest.raises(TaskCancelledError):
        skate.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)
    wait_for_file(tmp_path / "closed")


def test_signals_of_others_do_nothing(tmp_path: Path) -> None:
    @skate.remote
    def ask() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return "undisturbed"

    assert skate.get(ask.remote()) == "undisturbed"


def test_a_task_learns_of_it(tmp_path: Path) -> None:
    @skate.remote
    def ask() -> bool:
        return skate.get_runtime_context().is_canceled()

    assert skate.get(ask.remote()) is False
    with pytest.raises(RuntimeError, match="is_canceled"):
        skate.get_runtime_context().is_canceled()


@pytest.mark.parametrize("seed", range(5))
def test_the_others_go_on(tmp_path: Path, seed: int) -> None:
    """Of many short tasks some are cancelled at any moment: the rest are right, and run once."""
    chance = random.Random(seed)

    @skate.remote(max_retries=0)
    def work(index: int) -> int:
        (tmp_path / str(index)).touch(exist_ok=False)
        total = 0
        for number in range(chance_of[index]):
            total += number
        return index

    chance_of = [chance.choice([0, 10, 10_000, 200_000]) for _ in range(200)]
    refs = [work.remote(index) for index in range(200)]
    chosen = set(chance.sample(range(200), 60))
    for index in sorted(chosen, key=lambda _: chance.random()):
        skate.cancel(refs[index], force=chance.random() < 0.2)
    for index, ref in enumerate(refs):
        try:
            assert skate.get(ref) == index
        except TaskCancelledError:
            assert index in chosen


# ---------------------------------------------------------------------- actors


@skate.remote
class Serial:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def asks(self) -> str:
        (self.folder / "started").touch()
        wait_for(lambda: skate.get_runtime_context().is_canceled(), "the news")
        (self.folder / "heard").touch()
        return "nobody wants this"

    def waits(self, name: str) -> str:
        (self.folder / f"{name} started").touch()
        wait_for_file(self.folder / name)
        return name

    def same(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize("threads", [1, 2])
def test_a_method_may_ask(tmp_path: Path, threads: int) -> None:
    actor = Serial.options(max_concurrency=threads).remote(tmp_path)
    ref, behind = actor.asks.remote(), actor.same.remote("next")
    wait_for_file(tmp_path / "started")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)
    assert skate.get(behind) == "next"
    wait_for_file(tmp_path / "heard")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_method_that_does_not_ask_is_not_disturbed(tmp_path: Path, threads: int) -> None:
    actor = Serial.options(max_concurrency=threads).remote(tmp_path)
    refs = [actor.waits.remote("first"), actor.waits.remote("second"), actor.waits.remote("third")]
    wait_for_file(tmp_path / "first started")
    skate.cancel(refs[0])
    skate.cancel(refs[2])
    for ref in (refs[0], refs[2]):
        with pytest.raises(TaskCancelledError):
            skate.get(ref)
    (tmp_path / "first").touch()
    (tmp_path / "second").touch()
    assert skate.get(refs[1]) == "second"
    assert not (tmp_path / "third started").exists()


@skate.remote
class Async:
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def hang(self, name: str) -> None:
        try:
            self.seen.append(f"{name} began")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.seen.append(f"{name} cancelled")
            raise

    async def catches(self) -> str:
        self.seen.append("catches began")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "caught"
        return "unreachable"

    async def waits_for(self, refs: list[Any]) -> Any:
        self.seen.append("waits")
        return await refs[0]

    async def has_seen(self) -> list[str]:
        return self.seen

    def ask(self) -> bool:
        return skate.get_runtime_context().is_canceled()


def test_coroutines(tmp_path: Path) -> None:
    actor = Async.remote()
    refs = [actor.hang.remote(str(index)) for index in range(10)]
    wait_for(lambda: len(skate.get(actor.has_seen.remote())) == 10, "all to begin")
    skate.cancel(refs[3])
    with pytest.raises(TaskCancelledError, match=r"Async\.hang was cancelled while it ran"):
        skate.get(refs[3])
    assert skate.get(actor.has_seen.remote())[-1] == "3 cancelled"
    others = refs[:3] + refs[4:]
    assert skate.wait(others, num_returns=9, timeout=0)[0] == []
    for ref in others:
        skate.cancel(ref)
    for ref in others:
        with pytest.raises(TaskCancelledError):
            skate.get(ref)
    caught = actor.catches.remote()
    wait_for(lambda: "catches began" in skate.get(actor.has_seen.remote()), "it to begin")
    skate.cancel(caught)
    with pytest.raises(TaskCancelledError, match=r"Async\.catches was cancelled while it ran") as info:
        skate.get(caught)
    assert isinstance(info.value, RayTaskError)
    with pytest.raises(RuntimeError, match="not async"):
        skate.get(actor.ask.remote())


def test_coroutines_that_wait_for_others(tmp_path: Path) -> None:
    actor = Async.remote()
    inner = hang.remote(tmp_path / "started")
    ref = actor.waits_for.remote([inner])
    wait_for(lambda: "waits" in skate.get(actor.has_seen.remote()), "it to wait")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)
    assert skate.wait([inner], timeout=0)[0] == []
    wait_for_file(tmp_path / "started")
    skate.cancel(inner)


def test_coroutines_that_have_not_begun() -> None:
    actor = Async.options(max_concurrency=1).remote()
    refs = [actor.hang.remote(str(index)) for index in range(50)]
    for ref in refs[1:]:
        skate.cancel(ref)
    for ref in refs[1:]:
        with pytest.raises(TaskCancelledError):
            skate.get(ref)
    skate.cancel(refs[0])
    with pytest.raises(TaskCancelledError):
        skate.get(refs[0])
    assert not [seen for seen in skate.get(actor.has_seen.remote()) if not seen.startswith("0 ")]


def test_a_burst_cancelled_at_once() -> None:
    actor = Async.remote()
    refs = [actor.hang.remote(str(index)) for index in range(300)]
    for ref in refs:
        skate.cancel(ref)
    for ref in refs:
        with pytest.raises(TaskCancelledError):
            skate.get(ref)
    seen = skate.get(actor.has_seen.remote())
    assert {one.split()[0] for one in seen if "began" in one} == {
        one.split()[0] for one in seen if "cancelled" in one
    }


def test_calls_of_an_actor_that_is_not_there_yet() -> None:
    actor = Serial.options(num_cpus=3).remote(Path("/"))  # more than there are
    refs = [actor.same.remote(index) for index in range(3)]
    skate.cancel(refs[1])
    with pytest.raises(TaskCancelledError):
        skate.get(refs[1])
    assert skate.wait([refs[0], refs[2]], timeout=0)[0] == []
    skate.cancel(refs[0])
    skate.cancel(refs[2])


def test_methods_are_not_cancelled_with_force(tmp_path: Path) -> None:
    actor = Serial.remote(tmp_path)
    ref = actor.waits.remote("it")
    with pytest.raises(
        ValueError, match=r"force=True is not supported for actor tasks.*Serial\.waits.*kill\(\)"
    ):
        skate.cancel(ref, force=True)
    (tmp_path / "it").touch()
    assert skate.get(ref) == "it"


def test_children_of_methods(tmp_path: Path) -> None:
    @skate.remote
    class Parent:
        async def call(self) -> None:
            await hang.remote(tmp_path / "started")

    parent = Parent.remote()
    ref = parent.call.remote()
    wait_for_file(tmp_path / "started")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)


def test_actors_restart_without_what_was_cancelled(tmp_path: Path) -> None:
    @skate.remote(max_restarts=1, max_task_retries=1)
    class Phoenix:
        def work(self, index: int) -> int:
            meet(tmp_path / str(index), os.getpid(), 1)
            if index == 0 and first_time(tmp_path / "death"):
                wait_for_file(tmp_path / "cancelled")
                os._exit(1)
            return index

    phoenix = Phoenix.remote()
    refs = [phoenix.work.remote(index) for index in range(3)]
    wait_for_file(tmp_path / "death")
    skate.cancel(refs[1])
    with pytest.raises(TaskCancelledError):
        skate.get(refs[1])
    (tmp_path / "cancelled").touch()
    assert skate.get([refs[0], refs[2]]) == [0, 2]
    assert not (tmp_path / "1").exists()


def test_what_cannot_be_cancelled(session: Session) -> None:
    cancel: Any = skate.cancel
    for wrong in (5, "ref", None, [same.remote(1)], Serial):
        with pytest.raises(TypeError, match=r"ray\.cancel\(\) only supported for object refs"):
            cancel(wrong)


def test_an_interrupt_that_was_put_off_wakes_a_thread_that_sleeps(session: Session) -> None:
    """It came while the runtime's own code ran; by the time that it comes again, the program sleeps."""
    core = current.process.core
    assert core is not None
    core.main_thread.gate.put_off(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        threading.Event().wait(60)
