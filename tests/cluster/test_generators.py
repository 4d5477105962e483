"""Generators: items as they come, in order, once, and no further ahead than their caller allows."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skate
from skate import DynamicObjectRefGenerator, ObjectRef, ObjectRefGenerator
from skate.api import RayContext as Session
from skate.exceptions import ActorDiedError, WorkerCrashedError

from .stored import stored
from .waiting import first_time, wait_for, wait_for_file


@skate.remote
def count(n: int) -> Iterator[int]:
    yield from range(n)


@skate.remote
def arrays(n: int) -> Iterator[Any]:
    for index in range(n):
        yield np.full(100_000, index)


@skate.remote
def fails_after(n: int) -> Iterator[int]:
    yield from range(n)
    raise ZeroDivisionError("on purpose")


@skate.remote
def notes(path: Path, n: int) -> Iterator[int]:
    """Write how far it came, and that it was closed."""
    try:
        for index in range(n):
            Path(path, f"made-{index}").touch()
            yield index
    finally:
        Path(path, "closed").touch()


@skate.remote
class Source:
    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    @skate.method(num_returns="streaming")
    def items_of(self, values: list[Any]) -> Any:
        return iter(values)

    def plain(self) -> str:
        return "plain"

    def pid(self) -> int:
        return os.getpid()


@skate.remote
class AsyncSource:
    def __init__(self) -> None:
        self.closed = 0

    async def count(self, n: int, fail: bool = False) -> AsyncIterator[int]:
        try:
            for index in range(n):
                await asyncio.sleep(0)
                yield index
            if fail:
                raise ZeroDivisionError("on purpose")
        finally:
            self.closed += 1

    def sync(self, n: int) -> Iterator[int]:
        yield from range(n)

    async def how_many_closed(self) -> int:
        return self.closed


def items(generator: Any) -> list[Any]:
    return [skate.get(ref) for ref in generator]


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_items_in_order(session: Session, n: int) -> None:
    assert items(count.remote(n)) == list(range(n))


def test_large_items_are_in_shared_memory(session: Session) -> None:
    for index, ref in enumerate(arrays.remote(30)):
        value = skate.get(ref)
        assert (value == index).all()
        assert not value.flags.writeable
    del ref, value
    wait_for(lambda: stored().objects == 0, "the items to be freed")


def test_the_first_is_there_before_the_last_is_made(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def slow() -> Iterator[str]:
        yield "first"
        wait_for_file(tmp_path / "go")
        yield "second"

    generator = slow.remote()
    assert isinstance(generator, ObjectRefGenerator)
    assert skate.get(next(generator)) == "first"
    assert not generator.next_ready()
    assert not generator.is_finished()
    (tmp_path / "go").touch()
    assert skate.get(next(generator)) == "second"
    with pytest.raises(StopIteration):
        next(generator)
    with pytest.raises(StopIteration):
        next(generator)
    assert generator.is_finished()
    assert skate.get(generator.completed()) is None


def test_refs_go_to_other_tasks(session: Session) -> None:
    @skate.remote
    def double(x: int) -> int:
        return 2 * x

    assert skate.get([double.remote(ref) for ref in count.remote(50)]) == [2 * i for i in range(50)]


@pytest.mark.parametrize("n", [0, 3])
def test_an_exception_is_the_last_item(session: Session, n: int) -> None:
    generator = fails_after.remote(n)
    refs = list(generator)
    assert skate.get(refs[:n]) == list(range(n))
    assert len(refs) == n + 1
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        skate.get(refs[n])
    with pytest.raises(ZeroDivisionError):
        skate.get(generator.completed())


def test_an_item_that_cannot_be_pickled(session: Session) -> None:
    @skate.remote
    def bad() -> Iterator[Any]:
        yield 1
        yield {"lock": __import__("threading").Lock()}

    first, second = list(bad.remote())
    assert skate.get(first) == 1
    with pytest.raises(TypeError, match="item 1.*lock"):
        skate.get(second)


def test_what_is_no_generator(session: Session) -> None:
    @skate.remote(num_returns="streaming")
    def listed() -> list[int]:
        return [1, 2]

    @skate.remote(num_returns="streaming")
    def number() -> int:
        return 5

    assert items(listed.remote()) == [1, 2]
    with pytest.raises(TypeError, match="not iterable"):
        items(number.remote())


def test_refs_inside_items(session: Session) -> None:
    @skate.remote
    def nested(given: list[ObjectRef[Any]]) -> Iterator[Any]:
        for index in range(5):
            yield [skate.put(np.full(50_000, index)), given[0]]

    mine = skate.put("mine")
    refs = list(nested.remote([mine]))
    del mine
    for index, ref in enumerate(refs):
        inner, given = skate.get(ref)
        assert (skate.get(inner) == index).all()
        assert skate.get(given) == "mine"


def test_backpressure(session: Session, tmp_path: Path) -> None:
    generator = notes.options(_generator_backpressure_num_objects=3).remote(tmp_path, 10)
    wait_for(lambda: (tmp_path / "made-2").exists(), "three items")
    for index in range(10):
        # It makes one more than was taken and may lie there, never two.
        assert len(os.listdir(tmp_path)) <= index + 3 + 1
        assert skate.get(next(generator)) == index
    assert list(generator) == []
    assert (tmp_path / "closed").exists()


def test_one_that_waits_lends_its_cpus() -> None:
    skate.init(num_cpus=1)

    @skate.remote
    def double(x: int) -> int:
        return 2 * x

    generator = count.options(_generator_backpressure_num_objects=1).remote(5)
    assert [skate.get(double.remote(ref)) for ref in generator] == [0, 2, 4, 6, 8]


def test_who_drops_it_stops_it(session: Session, tmp_path: Path) -> None:
    generator = notes.options(_generator_backpressure_num_objects=2).remote(tmp_path, 1000)
    assert skate.get(next(generator)) == 0
    del generator
    wait_for_file(tmp_path / "closed")
    assert len(os.listdir(tmp_path)) < 10


def test_dropped_at_once(session: Session) -> None:
    for _ in range(50):
        count.remote(100)
        arrays.remote(3)


def test_endless_ones_end_with_their_reader(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def endless(path: Path) -> Iterator[int]:
        n = 0
        try:
            while True:
                yield n
                n += 1
        finally:
            path.touch()

    for index, ref in enumerate(endless.remote(tmp_path / "closed")):
        assert skate.get(ref) == index
        if index == 1000:
            break
    del ref
    wait_for_file(tmp_path / "closed")


def test_wait_takes_generators(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def slow() -> Iterator[int]:
        wait_for_file(tmp_path / "go")
        yield 1

    generator, quick = slow.remote(), skate.put(2)
    ready, rest = skate.wait([generator, quick], num_returns=1)
    assert (ready, rest) == ([quick], [generator])
    assert skate.wait([generator], timeout=0) == ([], [generator])
    (tmp_path / "go").touch()
    assert skate.wait([generator]) == ([generator], [])
    assert items(generator) == [1]
    assert skate.wait([generator]) == ([generator], [])


def test_a_pipeline_over_wait(session: Session) -> None:
    generators = [count.remote(20) for _ in range(4)]
    found = []
    while generators:
        (ready,), _ = skate.wait(generators)
        try:
            found.append(skate.get(next(ready)))
        except StopIteration:
            generators.remove(ready)
    assert sorted(found) == sorted(list(range(20)) * 4)


def test_next_with_a_timeout(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def slow() -> Iterator[int]:
        wait_for_file(tmp_path / "go")
        yield 1

    generator = slow.remote()
    assert generator._next_sync(0.01) is None
    (tmp_path / "go").touch()
    ref = generator._next_sync(None)
    assert ref is not None
    assert skate.get(ref) == 1


def test_async_for(session: Session) -> None:
    async def main() -> list[int]:
        return [await ref async for ref in count.remote(100)]

    assert asyncio.run(main()) == list(range(100))


def test_pickling_it_is_refused(session: Session) -> None:
    generator = count.remote(3)
    with pytest.raises(TypeError, match="cannot be pickled.*Pass the refs"):
        pickle.dumps(generator)
    with pytest.raises(TypeError, match="cannot be pickled"):
        count.remote(generator)
    assert items(generator) == [0, 1, 2]


# ---------------------------------------------------------------------- actors


def test_methods(session: Session) -> None:
    source = Source.remote()
    assert items(source.count.remote(5)) == list(range(5))
    assert items(source.items_of.remote(["a", "b"])) == ["a", "b"]
    assert skate.get(source.plain.remote()) == "plain"
    assert items(source.count.options(_generator_backpressure_num_objects=1).remote(5)) == list(range(5))


def test_async_methods(session: Session) -> None:
    source = AsyncSource.remote()
    first, second = source.count.remote(50), source.count.remote(50)
    assert items(first) == items(second) == list(range(50))
    assert items(source.sync.remote(5)) == list(range(5))
    refs = list(source.count.remote(3, fail=True))
    assert skate.get(refs[:3]) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        skate.get(refs[3])
    generator = source.count.options(_generator_backpressure_num_objects=2).remote(1000)
    assert skate.get(next(generator)) == 0
    del generator
    wait_for(lambda: skate.get(source.how_many_closed.remote()) == 4, "the generator to be closed")


def test_threaded_actors(session: Session) -> None:
    source = Source.options(max_concurrency=4).remote()
    generators = [source.count.remote(100) for _ in range(4)]
    assert [items(generator) for generator in generators] == [list(range(100))] * 4


def test_the_death_of_an_actor_is_the_last_item(session: Session) -> None:
    source = Source.remote()
    generator = source.count.options(_generator_backpressure_num_objects=2).remote(1000)
    assert skate.get(next(generator)) == 0
    skate.kill(source)
    refs = list(generator)
    with pytest.raises(ActorDiedError):
        skate.get(refs[-1])
    assert skate.get(refs[:-1]) == list(range(1, len(refs)))


# ---------------------------------------------------------------------- crashes


def test_a_crash_in_the_middle_repeats_nothing(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def crashes(path: Path) -> Iterator[Any]:
        for index in range(20):
            yield index if index % 2 else np.full(50_000, index)
            if index == 9 and first_time(path):
                os.kill(os.getpid(), signal.SIGKILL)

    values = [np.max(skate.get(ref)) for ref in crashes.remote(tmp_path / "once")]
    assert values == list(range(20))


def test_a_crash_without_retries_is_the_last_item(session: Session) -> None:
    @skate.remote(max_retries=0)
    def crashes() -> Iterator[int]:
        yield 0
        os._exit(3)

    generator = crashes.remote()
    refs = list(generator)
    with pytest.raises(WorkerCrashedError, match="exit code 3|exited with code 3"):
        skate.get(refs[-1])
    assert len(refs) <= 2


# ---------------------------------------------------------------------- dynamic


def test_dynamic(session: Session) -> None:
    ref = count.options(num_returns="dynamic").remote(4)
    assert isinstance(ref, ObjectRef)
    found = skate.get(ref)
    assert isinstance(found, DynamicObjectRefGenerator)
    assert len(found) == 4
    assert items(found) == [0, 1, 2, 3]

    @skate.remote
    def total(given: DynamicObjectRefGenerator[int]) -> int:
        return sum(skate.get(list(given)))

    assert skate.get(total.remote(ref)) == 6
    # One more ref, the error; what was yielded before it stays.
    *before, last = skate.get(fails_after.options(num_returns="dynamic").remote(2))
    assert items(before) == [0, 1]
    with pytest.raises(ZeroDivisionError):
        skate.get(last)


def test_a_dynamic_generator_that_crashes_or_is_cancelled_is_an_error_itself(session: Session) -> None:
    @skate.remote(num_returns="dynamic", max_retries=0)
    def ends(how: str) -> Iterator[int]:
        yield 1
        if how == "crash":
            os._exit(3)
        raise ZeroDivisionError

    with pytest.raises(WorkerCrashedError):
        skate.get(ends.remote("crash"))
    failed = skate.remote(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        skate.get(ends.remote(failed.remote()))


def test_a_fixed_number_of_returns_frees_what_nobody_hears_of(session: Session, tmp_path: Path) -> None:
    """The first run yields a large value and raises; the second puts its own under the same id."""

    @skate.remote(num_returns=2, max_retries=1, retry_exceptions=[KeyError])
    def twice() -> Iterator[Any]:
        again = (tmp_path / "again").exists()
        yield np.full(300_000, float(again))
        if not again:
            (tmp_path / "again").touch()
            raise KeyError("once")
        yield "second"

    first, second = twice.remote()
    assert skate.get(second) == "second"
    assert skate.get(first).sum() == 300_000
    # The leak check of this test finds the store empty.


def test_refs_inside_what_was_yielded_before_an_error(session: Session) -> None:
    @skate.remote(num_returns=3, max_retries=0)
    def gives(refs: list[Any]) -> Iterator[Any]:
        yield [skate.put("own"), *refs]
        raise ValueError(skate.put("in the error"))

    first, *rest = gives.remote([skate.put("given")])
    own, given = skate.get(first)
    assert skate.get([own, given]) == ["own", "given"]
    del first
    for ref in rest:
        with pytest.raises(ValueError) as caught:
            skate.get(ref)
        assert skate.get(caught.value.args[0]) == "in the error"


@pytest.mark.parametrize("how", ["streaming", "dynamic"])
def test_refs_inside_the_error_of_a_generator_outlive_the_generator(session: Session, how: str) -> None:
    @skate.remote(max_retries=0)
    def gives() -> Iterator[Any]:
        yield 1
        raise ValueError(skate.put("in the error"))

    generator = gives.options(num_returns=how).remote()
    *_, last = generator if how == "streaming" else skate.get(generator)
    del generator, _
    gc.collect()
    with pytest.raises(ValueError) as caught:
        skate.get(last)
    assert skate.get(caught.value.args[0], timeout=10) == "in the error"


def test_more_than_was_asked_for_is_told_on_stderr(
    session: Session, capfd: pytest.CaptureFixture[str]
) -> None:
    @skate.remote(num_returns=2)
    def yields(n: int, fail: bool = False) -> Iterator[int]:
        yield from range(n)
        if fail:
            raise ValueError("after that")

    @skate.remote
    def returns() -> Any:
        return (i for i in range(3))

    assert skate.get(yields.remote(3)) == [0, 1]
    wait_for(lambda: "yields has num_returns=2 and yielded more" in capfd.readouterr().err, "the warning")
    assert skate.get(yields.remote(2, fail=True)) == [0, 1]
    wait_for(lambda: "ValueError: after that" in capfd.readouterr().err, "the traceback")
    # A function that returns somebody's generator, with one return, meant something else.
    with pytest.raises(TypeError, match="a generator, which cannot be sent"):
        skate.get(returns.remote())


@pytest.mark.parametrize("wrong", ["all", -1, 1.5])
def test_wrong_numbers(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="num_returns"):
        count.options(num_returns=wrong)
    with pytest.raises(ValueError, match="Use a value > 0"):
        count.options(_generator_backpressure_num_objects=0)


@pytest.mark.time_limit(120)
def test_memory_stays_flat(session: Session) -> None:
    import psutil

    me = psutil.Process()
    refs = iter(count.options(_generator_backpressure_num_objects=1000).remote(150_000))
    for _ in range(50_000):
        next(refs)
    before = me.memory_info().rss
    for _ in range(100_000):
        next(refs)
    assert me.memory_info().rss - before < 8_000_000
