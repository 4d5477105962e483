"""Every awkward exception (see ``awkward``) in every place where user code can raise: it arrives with its type,
nobody hangs, and no process ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import skate
from skate._base.user_errors import attributes_of
from skate.dag import InputNode
from skate.exceptions import ActorDiedError, RayTaskError, WorkerCrashedError
from skate.util import as_completed
from skate.util.executor import Executor
from skate.util.multiprocessing import Pool

from .awkward import AWKWARD, OwnExit, make, type_of
from .waiting import AGES


@pytest.fixture(params=["processes", "inline"])
def either(leak_check: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """A session of each kind."""
    skate.init(num_cpus=2, **({"mode": "inline"} if request.param == "inline" else {}))
    yield request.param


@skate.remote(max_retries=0)
def task(name: str) -> None:
    raise make(name)


@skate.remote(max_retries=0)
def stream(name: str) -> Iterator[int]:
    yield 1
    raise make(name)


@skate.remote(num_returns=2, max_retries=0)
def fixed(name: str) -> Iterator[int]:
    yield 1
    raise make(name)


@skate.remote
def pid() -> int:
    return os.getpid()


class Methods:
    """Its calls fail."""

    def fail(self, name: str) -> None:
        raise make(name)

    def stream(self, name: str) -> Iterator[int]:
        yield 1
        raise make(name)

    def pid(self) -> int:
        return os.getpid()


@skate.remote(num_cpus=0)
class Serial(Methods):
    pass


@skate.remote(num_cpus=0, concurrency_groups={"io": 2})
class Groups(Methods):
    pass


@skate.remote(num_cpus=0)
class Async:
    async def fail(self, name: str) -> None:
        await asyncio.sleep(0)
        raise make(name)

    async def stream(self, name: str) -> Any:
        yield 1
        raise make(name)

    async def pid(self) -> int:
        return os.getpid()

    async def read(self, name: str) -> bool:
        """Await one that fails elsewhere."""
        try:
            await task.remote(name)
        except BaseException as error:
            return _arrived(error, name, awaited=True)
        return False


@skate.remote(num_cpus=0)
class Broken:
    def __init__(self, name: str) -> None:
        raise make(name)

    def call(self) -> None:
        pass


def _arrived(error: BaseException, name: str, *, awaited: bool = False) -> bool:
    """Tell whether this is what must arrive."""
    if not issubclass(type(error), RayTaskError):
        return False
    kept = type(attributes_of(error)["cause"]) is type_of(name)
    # ``await`` raises no other task's KeyboardInterrupt: that would end the loop.
    return kept and (
        issubclass(type(error), type_of(name)) or (awaited and not issubclass(type_of(name), Exception))
    )


def _failures(call: Callable[[str], Any]) -> list[str]:
    """Return for which exceptions ``get`` of what this calls did not raise them."""
    missed = []
    for name in AWKWARD:
        try:
            skate.get(call(name), timeout=AGES)
            missed.append(f"{name}: nothing")
        except BaseException as error:
            if not _arrived(error, name):
                missed.append(f"{name}: {type(error)}")
    return missed


def test_tasks(either: str) -> None:
    first = skate.get(pid.remote())
    assert not _failures(task.remote)
    assert skate.get(pid.remote()) == first, "no worker ended"


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Serial, {}), (Serial, {"max_concurrency": 2}), (Groups, {}), (Async, {})],
    ids=["serial", "threaded", "groups", "async"],
)
def test_actors(either: str, kind: Any, options: dict[str, Any]) -> None:
    actor = kind.options(**options).remote()
    first = skate.get(actor.pid.remote())
    assert not _failures(actor.fail.remote)
    if kind is Groups:
        assert not _failures(actor.fail.options(concurrency_group="io").remote)
    refs = [actor.fail.remote(name) for name in AWKWARD]
    ready, rest = skate.wait(refs, num_returns=len(refs), timeout=AGES)
    assert not rest, "many at once"
    assert skate.get(actor.pid.remote()) == first


def test_generators(either: str) -> None:
    serial, threaded, loop = Serial.remote(), Serial.options(max_concurrency=2).remote(), Async.remote()
    for call in (stream.remote, serial.stream.remote, threaded.stream.remote, loop.stream.remote):
        assert not _failures(lambda name, call=call: list(call(name))[1])  # type: ignore[misc]
    for call in (stream.options, serial.stream.options):
        dynamic = call(num_returns="dynamic").remote
        assert not _failures(lambda name, dynamic=dynamic: list(skate.get(dynamic(name)))[1])  # type: ignore[misc]
    for call in (fixed.remote, serial.stream.options(num_returns=2).remote):

        def second(name: str, call: Any = call) -> Any:
            one, two = call(name)
            assert skate.get(one) == 1
            return two

        assert not _failures(second)


def test_constructors(either: str, capfd: pytest.CaptureFixture[str]) -> None:
    for name in AWKWARD:
        with pytest.raises(ActorDiedError) as caught:
            skate.get(Broken.remote(name).call.remote(), timeout=AGES)
        assert "Broken.__init__" in str(caught.value), name
        assert type(caught.value.cause.cause) is type_of(name), name


def test_awaited(either: str) -> None:
    async def read(name: str) -> bool:
        try:
            await asyncio.wait_for(task.remote(name).as_future(), AGES)
        except BaseException as error:
            return _arrived(error, name, awaited=True)
        return False

    assert [name for name in AWKWARD if not asyncio.run(read(name))] == []
    actor = Async.remote()
    found = skate.get([actor.read.remote(name) for name in AWKWARD], timeout=AGES)
    assert [name for name, good in zip(AWKWARD, found, strict=True) if not good] == []


def test_futures(either: str) -> None:
    for name in AWKWARD:
        future = task.remote(name).future()
        try:
            future.result(AGES)
            raise AssertionError(f"{name}: no error")
        except BaseException as error:
            assert _arrived(error, name), name


def test_as_completed(either: str) -> None:
    for name in AWKWARD:
        try:
            list(as_completed([pid.remote(), task.remote(name)]))
            raise AssertionError(f"{name}: no error")
        except BaseException as error:
            assert _arrived(error, name), name


def test_dependents(either: str) -> None:
    identity = skate.remote(lambda value: value)
    assert not _failures(lambda name: identity.remote(task.remote(name)))


def test_passed_on_by_another_task(either: str) -> None:
    @skate.remote(max_retries=0)
    def outer(name: str) -> None:
        skate.get(task.remote(name))

    assert not _failures(outer.remote)


def test_retry_exceptions(either: str) -> None:
    """The listed one is run again, whatever its hooks say; others are not."""

    @skate.remote(num_cpus=0)
    class Count:
        def __init__(self) -> None:
            self.calls = 0

        def add(self) -> int:
            self.calls += 1
            return self.calls

    def count(name: str, matching: Any) -> int:
        calls = Count.remote()

        @skate.remote(max_retries=1, retry_exceptions=matching)
        def fail() -> None:
            skate.get(calls.add.remote())
            raise make(name)

        try:
            skate.get(fail.remote(), timeout=AGES)
        except BaseException as error:
            assert _arrived(error, name), name
        return skate.get(calls.add.remote()) - 1

    for name in (
        "frozen",
        "str",
        "class",
        "lies",
        "bool",
        "getattribute",
        "holds",
        "reduce",
        "all_SystemExit",
    ):
        assert count(name, [type_of(name)]) == 2, name
        assert count(name, True) == 2, name
        assert count(name, [KeyError]) == 1, name
    assert count("meta", [KeyError]) == 1


def test_pools(session: object) -> None:
    for name in ("frozen", "slots", "holds", "str", "bool", "getattribute", "setattr", "reduce", "class", "lies",
                 "recursing", "wrong_types", "all_SystemExit", "base", "group"):  # fmt: skip
        if name not in AWKWARD:
            continue
        with Pool(1) as pool:
            try:
                pool.apply(_raise, (name,))
                raise AssertionError(f"{name}: no error")
            except BaseException as error:
                assert issubclass(type(error), type_of(name)), name
        with Executor(max_workers=1) as executor:
            error = executor.submit(_raise, name).exception(AGES)  # type: ignore[assignment]
            assert issubclass(type(error), type_of(name)), name


def _raise(name: str) -> None:
    raise make(name)


def test_compiled_graphs(session: object) -> None:
    for actor in (Serial.remote(), Async.remote()):
        first = skate.get(actor.pid.remote())
        with InputNode() as given:
            node = actor.fail.bind(given)
        graph = node.experimental_compile()
        assert not _failures(graph.execute)
        graph.teardown()
        assert skate.get(actor.pid.remote()) == first


@pytest.mark.parametrize("name", ["frozen", "str", "bool", "all_SystemExit", "base", "notes"])
def test_the_hook_at_an_actors_end(session: object, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    @skate.remote(num_cpus=0)
    class Leaving:
        def __ray_shutdown__(self) -> None:
            raise make(name)

        def pid(self) -> int:
            return os.getpid()

    actor = Leaving.remote()
    skate.get(actor.pid.remote())
    with pytest.raises(ActorDiedError, match="exit_actor"):
        skate.get(actor.__ray_terminate__.remote(), timeout=AGES)


def test_an_exit_that_hides_its_code_is_an_exit(either: str) -> None:
    @skate.remote(max_retries=0)
    def leave() -> None:
        raise OwnExit(3)

    @skate.remote(num_cpus=0)
    class Leaves:
        def leave(self) -> None:
            raise OwnExit(3)

    with pytest.raises(WorkerCrashedError, match="exit"):
        skate.get(leave.remote(), timeout=AGES)
    with pytest.raises(ActorDiedError):
        skate.get(Leaves.remote().leave.remote(), timeout=AGES)


def test_what_an_instance_does_to_introduce_itself(either: str) -> None:
    @skate.remote(num_cpus=0)
    class Mute:
        def __repr__(self) -> str:
            raise SystemExit("no name")

        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

        def ok(self) -> bool:
            return True

    assert skate.get(Mute.remote().ok.remote(), timeout=AGES)


def test_results_whose_hooks_exit(either: str) -> None:
    class Leaves:
        def __reduce__(self) -> Any:
            raise SystemExit("not me")

    @skate.remote(num_cpus=0)
    class Gives:
        def give(self) -> Any:
            return Leaves()

        def pid(self) -> int:
            return os.getpid()

    actor = Gives.remote()
    first = skate.get(actor.pid.remote())
    with pytest.raises(TypeError, match="the result is a"):
        skate.get(actor.give.remote(), timeout=AGES)
    assert skate.get(actor.pid.remote()) == first
