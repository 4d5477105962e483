"""More moves of random programs: what went wrong in programs of other people. Each has a known right answer.

``ENABLED`` lists those that are made.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import skate
from skate import ObjectRef
from skate.exceptions import ActorDiedError, TaskCancelledError, WorkerCrashedError

from . import awkward
from .arithmetic import Accumulator, Desk, combine, fail, mix, mix_delegated, unpack
from .arithmetic import delegate as delegated
from .odd import (
    AsyncThrower,
    Closed,
    Exiting,
    Thrower,
    exit_task,
    gpu_combine,
    signalled,
    throw,
    yield_and_throw,
)
from .waiting import AGES, wait_for

if TYPE_CHECKING:
    from .programs import Program


# ---------------------------------------------------------------------- chains


def long_chain_fails(program: Program) -> None:
    """Some hundred calls wait for one that fails; the last one raises its error."""
    number = program.number()
    ref: ObjectRef[Any] = fail.remote(number)
    for _ in range(program.random.randint(200, 2000)):
        ref = combine.remote(False, ref)
    program.failing.append((ref, number))


def long_chain_through_an_actor_fails(program: Program) -> None:
    """None of the calls is carried out, so that the actor's number stays."""
    number = program.number()
    ref: ObjectRef[Any] = fail.remote(number)
    actor = program.random.choice(program.actors) if program.actors and not program.deadly else None
    for index in range(program.random.randint(200, 1000)):
        if actor is not None and index % 3 == 0:
            ref = actor.handle.add.remote(False, ref)
        else:
            ref = combine.remote(False, ref)
    program.failing.append((ref, number))


def long_chain_is_cancelled(program: Program) -> None:
    """Its first call can never end by itself."""
    closed = Closed.remote()
    first = closed.passed.remote()
    ref: ObjectRef[Any] = first
    for _ in range(program.random.randint(200, 2000)):
        ref = combine.remote(False, ref)
    skate.cancel(first)
    program.promise(ref, lambda ref: raises(ref, TaskCancelledError))


def long_chain_loses_its_actor(program: Program) -> None:
    closed = Closed.remote()
    ref: ObjectRef[Any] = closed.passed.remote()
    for _ in range(program.random.randint(200, 2000)):
        ref = combine.remote(False, ref)
    skate.kill(closed)
    program.promise(ref, lambda ref: raises(ref, ActorDiedError))


def long_chain_of_refs(program: Program) -> None:
    """A ref in a ref in a ref ...; it is followed for a while, and dropped."""
    ((ref, number),) = program.choose(1)
    for _ in range(program.random.randint(200, 2000)):
        ref = skate.put([ref, number])
    for _ in range(program.random.randint(0, 50)):
        ref, found = skate.get(ref)
        assert found == number


# ---------------------------------------------------------------------- processes that exit


def task_exits(program: Program) -> None:
    """Its process is gone, which the error says with the code; nobody else suffers."""
    code, how = program.random.randint(1, 100), program.random.choice(["_exit", "exit"])
    ref = exit_task.remote(how, code)
    # Where zygotes are killed, too, nobody may know how a process ended.
    text = None if program.deadly else f"{code}"
    program.promise(ref, lambda ref: raises(ref, WorkerCrashedError, text))


def actor_exits(program: Program) -> None:
    actor = Exiting.remote()
    code = program.random.randint(1, 100)
    how = program.random.choice(["_exit", "exit_actor"])
    left, after = actor.leave.remote(how, code), actor.alive.remote()
    program.promise(left, lambda ref: raises(ref, ActorDiedError))
    program.promise(after, lambda ref: raises(ref, ActorDiedError))


def actor_exits_with_a_code(program: Program) -> None:
    """With 0 it ends for good, with another code it is restarted, and the call repeated."""
    actor = Exiting.options(max_restarts=1, max_task_retries=1).remote()
    code = program.random.choice([0, 1, 3])
    before = skate.get(actor.pid.remote(), timeout=AGES)
    ref = actor.exit_if.remote(before, code)
    if code or program.deadly:  # there it may have been restarted before
        program.promise(ref, lambda ref: expect(skate.get(ref, timeout=AGES), True))
    else:
        program.promise(ref, lambda ref: raises(ref, ActorDiedError))


# ---------------------------------------------------------------------- GPUs


def gpu_task_before_an_actor(program: Program) -> None:
    """The actor may need the CPU that the task's worker has."""
    if not skate.cluster_resources().get("GPU"):
        return
    chosen = program.choose(2)
    numbers = [number for _, number in chosen]
    ref = gpu_combine.remote(False, *[ref for ref, _ in chosen])
    ((given, number),) = program.choose(1)
    actor = Accumulator.remote(given)
    added = actor.add.remote(False, 5)
    program.learn(ref, mix(*numbers))
    program.learn(added, mix(number, 5))
    if program.random.random() < 0.5:
        assert unpack(skate.get(added, timeout=AGES)) == mix(number, 5)


# ---------------------------------------------------------------------- awkward exceptions


#: Those of ``awkward`` that end no actor.
_AWKWARD = ("frozen", "str", "repr", "reduce", "getattr", "setattr", "bool", "holds", "two arguments")


def awkward_exception(program: Program) -> None:
    """It arrives with its type, wherever it is raised, and who raised it goes on."""
    name = program.random.choice(_AWKWARD)
    where = program.random.choice(["task", "actor", "async actor", "generator", "constructor"])
    kind = awkward.type_of(name)
    if where == "constructor":
        program.promise(Thrower.remote(name).throw.remote(name), lambda ref: raises(ref, ActorDiedError))
        return
    if where == "task":
        ref: ObjectRef[Any] = throw.remote(name)
    elif where == "generator":
        ref = [*yield_and_throw.remote(name)][-1]
    else:
        actor = (Thrower if where == "actor" else AsyncThrower).remote()
        ref = actor.throw.remote(name)
        program.promise(actor.alive.remote(), lambda ref: expect(skate.get(ref, timeout=AGES), True))
    program.promise(ref, lambda ref: arrives(ref, kind))


def arrives(ref: ObjectRef[Any], kind: type[BaseException]) -> None:
    """Without a look at the error's text, which may be what raises."""
    try:
        skate.get(ref, timeout=AGES)
    except kind:
        return
    raise AssertionError(f"{kind.__name__} did not arrive")


# ---------------------------------------------------------------------- user code that runs anywhere


def handler_calls_the_runtime(program: Program) -> None:
    """Signals come while other moves are made, and their handler puts, calls and gets."""
    ((ref, number),) = program.choose(1)
    found: list[int] = []
    failed: list[BaseException] = []

    def handler(*_: object) -> None:
        try:
            again = combine.remote(False, skate.put(unpack(skate.get(ref, timeout=AGES))))
            found.append(unpack(skate.get(again, timeout=AGES)))
        except BaseException as error:
            if not program.tolerates(error):
                failed.append(error)

    with Signals(handler, program.random.randint(1, 10)):
        for _ in range(5):
            program.make(program.random.choice([program.put, program.combine, program.check, program.wait]))
    assert not failed, failed
    assert set(found) <= {mix(number)}
    assert found or program.deadly


class Signals:
    """Sends the main thread SIGUSR1 again and again; those sent are handled when it is left."""

    def __init__(self, handler: Callable[..., None], count: int) -> None:
        self._handler = handler
        self._handled = 0
        self._count = count
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _handle(self, *args: object) -> None:
        try:
            self._handler(*args)
        finally:
            self._handled += 1

    def _run(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        for number in range(1, self._count + 1):
            signal.pthread_kill(main, signal.SIGUSR1)
            # One at a time: the system keeps no count of those that are pending.
            while self._handled < number and not self._stop.wait(0.001):
                pass

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGUSR1, self._handle)
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        try:
            while self._handled < self._count and self._thread.is_alive():
                self._thread.join(0.01)
        finally:
            self._stop.set()
            self._thread.join()
            signal.signal(signal.SIGUSR1, self._before)


def worker_handler_calls_the_runtime(program: Program) -> None:
    """The same in a worker."""
    chosen = program.choose(3)
    ref = signalled.remote([ref for ref, _ in chosen], program.random.randint(1, 10))
    program.learn(ref, mix(*[number for _, number in chosen]))


class Circular:
    """Garbage that only the collector finds, and that calls the runtime then."""

    def __init__(self, ref: ObjectRef[Any], found: list[Any]) -> None:
        self.me = self
        self.ref, self.found = ref, found

    def __del__(self) -> None:
        try:
            self.found.append(unpack(skate.get(combine.remote(False, self.ref), timeout=AGES)))
        except BaseException as error:
            self.found.append(error)


def collector_calls_the_runtime(program: Program) -> None:
    ((ref, number),) = program.choose(1)
    found: list[Any] = []
    count = program.random.randint(1, 20)
    before = gc.get_threshold()
    try:
        gc.set_threshold(program.random.choice([1, 10, 50]))
        for _ in range(count):
            Circular(ref, found)
            program.make(program.random.choice([program.put, program.combine, program.hurry, program.forget]))
    finally:
        gc.set_threshold(*before)

    def all_met() -> bool:
        gc.collect()  # does nothing while another thread collects, perhaps in one of them
        return len(found) == count

    wait_for(all_met, "the collector to meet them all")
    for one in found:
        if not (isinstance(one, BaseException) and program.tolerates(one)):
            assert one == mix(number), one


# ---------------------------------------------------------------------- descriptors


def few_descriptors(program: Program) -> None:
    """Each call has its answer or an error that names the limit; and there are right ones again afterwards."""
    if program.scarce:
        return  # two that save and restore one limit leave it low
    if program.deadly:
        return  # what is made again meanwhile lacks them too, and whoever needs it is told so
    program.settle()
    actors = [Desk.remote() for _ in range(4)]
    ((ref, number),) = program.choose(1)
    with descriptors_left(program.random.randint(0, 5)):
        try:
            refs = [actor.combine.remote(False, [ref]) for actor in actors]
            ready, rest = skate.wait(refs, num_returns=len(refs), timeout=AGES)
        except OSError as error:
            assert "descriptor" in str(error)
            ready, rest = [], []
    assert not rest
    for one in ready:
        try:
            assert unpack(skate.get(one, timeout=AGES)) == mix(number)
        except program.survives as error:
            if "descriptor" not in str(error):
                raise
    for actor in actors:
        assert unpack(skate.get(actor.combine.remote(False, [ref]), timeout=AGES)) == mix(number)


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Allow this process so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---------------------------------------------------------------------- answers


def raises(ref: ObjectRef[Any], kind: type[BaseException], text: str | None = None) -> None:
    """The call fails in that way."""
    with pytest.raises(kind, match=text):
        skate.get(ref, timeout=AGES)


def expect(found: Any, expected: Any) -> None:
    assert found == expected


def delegated_chain(program: Program) -> None:
    """What workers made, through actors of theirs that end, at the end of a chain of links."""
    start = program.number()
    (ref,) = skate.get(delegated.remote(False, start))
    number = mix_delegated(start)
    for _ in range(program.random.randint(1, 100)):
        ref, number = combine.remote(False, ref), mix(number)
    program.learn(ref, number)


Move = Callable[["Program"], None]

#: Made by every random program.
ENABLED: tuple[Move, ...] = (
    long_chain_fails,
    long_chain_through_an_actor_fails,
    long_chain_is_cancelled,
    long_chain_loses_its_actor,
    long_chain_of_refs,
    delegated_chain,
    task_exits,
    actor_exits,
    actor_exits_with_a_code,
    gpu_task_before_an_actor,
    awkward_exception,
    handler_calls_the_runtime,
    worker_handler_calls_the_runtime,
    collector_calls_the_runtime,
    few_descriptors,
)
