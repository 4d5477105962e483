"""Remote generators: items as they come, backpressure, ends and errors."""

from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest
import ray
from ray.exceptions import RayTaskError

from compat.conformance.helpers import Gate, Record, differs, needs_processes, until

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def count(n):
    for i in range(n):
        yield i


@ray.remote
class Producer:
    def count(self, n):
        for i in range(n):
            yield i

    async def count_async(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i


@ray.remote
def gated(gate, n):
    for i in range(n):
        if i == 1:
            ray.get(gate.wait.remote())
        yield i


def values(generator) -> list:
    return [ray.get(ref) for ref in generator]


def test_items_are_refs() -> None:
    generator = count.remote(3)
    assert isinstance(generator, ray.ObjectRefGenerator)
    refs = list(generator)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2]


@differs(on="ray", reason="a task that yields from something else than a generator fails: it has no send()")
def test_yield_from_any_iterable() -> None:
    @ray.remote
    def items():
        yield from [1, 2]

    assert values(items.remote()) == [1, 2]


def test_no_items() -> None:
    assert values(count.remote(0)) == []


def test_next_raises_stop_iteration() -> None:
    generator = count.remote(1)
    assert ray.get(next(generator)) == 0
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(generator)


def test_items_come_while_the_generator_goes_on() -> None:
    gate = Gate.remote()
    generator = gated.remote(gate, 3)
    assert ray.get(next(generator)) == 0
    ray.get(gate.until_arrived.remote())
    ray.get(gate.open.remote())
    assert values(generator) == [1, 2]


def test_num_returns_streaming() -> None:
    @ray.remote(num_returns="streaming")
    def stream():
        yield "a"

    assert values(stream.remote()) == ["a"]
    assert values(count.options(num_returns="streaming").remote(2)) == [0, 1]


def test_large_items() -> None:
    @ray.remote
    def arrays(n):
        for i in range(n):
            yield np.full(500_000, i)

    assert [int(ray.get(ref)[0]) for ref in arrays.remote(3)] == [0, 1, 2]


# ---------------------------------------------------------------------- actors


def test_methods_that_yield() -> None:
    producer = Producer.remote()
    assert values(producer.count.remote(4)) == [0, 1, 2, 3]


def test_async_methods_that_yield() -> None:
    producer = Producer.remote()
    assert values(producer.count_async.remote(4)) == [0, 1, 2, 3]


def test_two_generators_of_one_async_actor_interleave() -> None:
    @ray.remote
    class Both:
        async def items(self, gate, n):
            yield "first"
            await gate.wait.remote()
            for i in range(n):
                yield i

    gate, both = Gate.remote(), Both.remote()
    one, two = both.items.remote(gate, 1), both.items.remote(gate, 2)
    assert [ray.get(next(one)), ray.get(next(two))] == ["first", "first"]
    ray.get(gate.open.remote())
    assert values(one) == [0]
    assert values(two) == [0, 1]


def test_threaded_actors_yield() -> None:
    producer = Producer.options(max_concurrency=2).remote()
    assert values(producer.count.remote(3)) == [0, 1, 2]


# ---------------------------------------------------------------------- async for


def test_async_for() -> None:
    async def main():
        return [await ref async for ref in count.remote(4)]

    assert asyncio.run(main()) == [0, 1, 2, 3]


def test_async_for_over_several_at_once() -> None:
    async def read(n):
        return [await ref async for ref in count.remote(n)]

    async def main():
        return await asyncio.gather(read(2), read(3))

    assert asyncio.run(main()) == [[0, 1], [0, 1, 2]]


def test_a_wait_that_is_given_up_loses_no_item() -> None:
    gate = Gate.remote()

    async def main():
        generator = gated.remote(gate, 3)
        found = [await (await generator.__anext__())]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(generator.__anext__(), timeout=0.1)
        await gate.open.remote()
        async for ref in generator:
            found.append(await ref)
        return found

    assert asyncio.run(main()) == [0, 1, 2]


def test_a_generator_is_read_in_an_actor() -> None:
    @ray.remote
    class Reader:
        async def read(self, n):
            return [await ref async for ref in count.remote(n)]

    assert ray.get(Reader.remote().read.remote(3)) == [0, 1, 2]


# ---------------------------------------------------------------------- what can be asked


def test_next_ready_and_is_finished() -> None:
    generator = count.remote(2)
    until(generator.next_ready, "the first item")
    assert not generator.is_finished()
    assert values(generator) == [0, 1]
    until(generator.is_finished, "the end")


def test_completed() -> None:
    generator = count.remote(3)
    assert ray.get(generator.completed()) is None
    assert values(generator) == [0, 1, 2]


def test_wait_takes_generators() -> None:
    gate = Gate.remote()
    slow, fast = gated.remote(gate, 2), count.remote(2)
    assert ray.get(next(slow)) == 0
    ready, rest = ray.wait([slow, fast], num_returns=1, timeout=60)
    assert ready == [fast]
    assert rest == [slow]
    assert ray.get(next(fast)) == 0
    ray.get(gate.open.remote())
    ready, rest = ray.wait([slow], timeout=60)
    assert ready == [slow]
    assert ray.get(next(slow)) == 1


def test_refs_are_passed_on_as_they_appear() -> None:
    @ray.remote
    def double(x):
        return 2 * x

    assert ray.get([double.remote(ref) for ref in count.remote(4)]) == [0, 2, 4, 6]


def test_the_refs_may_be_read_by_others() -> None:
    @ray.remote
    def total(refs):
        return sum(ray.get(refs))

    assert ray.get(total.remote(list(count.remote(5)))) == 10


def test_the_generator_stays_with_its_caller() -> None:
    @ray.remote
    def take(generator):
        return None

    with pytest.raises(Exception, match="(?i)generator|pickle|serializ"):
        ray.get(take.remote([count.remote(2)]))


# ---------------------------------------------------------------------- errors


def test_an_error_in_the_middle() -> None:
    @ray.remote
    def broken():
        yield 1
        yield 2
        raise ValueError("third")

    generator = broken.remote()
    assert [ray.get(next(generator)), ray.get(next(generator))] == [1, 2]
    last = next(generator)
    with pytest.raises(ValueError, match="third"):
        ray.get(last)
    with pytest.raises(StopIteration):
        next(generator)


def test_an_error_at_once() -> None:
    @ray.remote
    def broken():
        raise ValueError("first")
        yield

    generator = broken.remote()
    with pytest.raises(ValueError, match="first"):
        ray.get(next(generator))
    with pytest.raises(StopIteration):
        next(generator)


def test_an_error_of_an_async_generator() -> None:
    @ray.remote
    class Broken:
        async def items(self):
            yield 1
            raise KeyError("second")

    first, second = list(Broken.remote().items.remote())
    assert ray.get(first) == 1
    with pytest.raises(KeyError):
        ray.get(second)


@differs(on="ray", reason="completed() says nothing of exceptions, only of crashes")
def test_completed_has_the_error() -> None:
    @ray.remote
    def broken():
        yield 1
        raise ValueError("late")

    generator = broken.remote()
    with pytest.raises((ValueError, RayTaskError)):
        ray.get(generator.completed())


# ---------------------------------------------------------------------- a fixed number of returns


@ray.remote(max_retries=0, num_returns=3)
def three(n, fail=False):
    for i in range(n):
        yield i
    if fail:
        raise ValueError("after the last")


def outcomes(refs) -> list:
    """Return the value of each, or the type of its exception that a user would catch."""
    found = []
    for ref in refs:
        try:
            found.append(ray.get(ref))
        except ValueError as error:
            assert isinstance(error, RayTaskError)
            found.append(ValueError)
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((3,), [0, 1, 2]),
        ((5,), [0, 1, 2]),
        ((1,), [0, ValueError, ValueError]),
        ((0,), [ValueError] * 3),
        ((1, True), [0, ValueError, ValueError]),
        ((3, True), [0, 1, 2]),
        ((0, True), [ValueError] * 3),
        ((5, True), [0, 1, 2]),
    ],
    ids=str,
)
def test_what_is_yielded_counts_for_a_fixed_number_of_returns(arguments, expected) -> None:
    assert outcomes(three.remote(*arguments)) == expected

    @ray.remote
    class Method:
        @ray.method(num_returns=3)
        def three(self, n, fail=False):
            for i in range(n):
                yield i
            if fail:
                raise ValueError("after the last")

    assert outcomes(Method.remote().three.remote(*arguments)) == expected


def test_a_returned_generator_counts_as_well() -> None:
    @ray.remote(num_returns=2)
    def two(n):
        return (i for i in range(n))

    assert outcomes(two.remote(2)) == [0, 1]
    assert outcomes(two.remote(3)) == [0, 1]
    assert outcomes(two.remote(1)) == [0, ValueError]


def test_a_list_of_another_length_is_an_error_in_each() -> None:
    @ray.remote(num_returns=2)
    def two(n):
        return list(range(n))

    assert outcomes(two.remote(1)) == [ValueError] * 2
    assert outcomes(two.remote(3)) == [ValueError] * 2


def test_one_return_of_a_generator_is_its_first_item() -> None:
    one = three.options(num_returns=1)
    assert outcomes([one.remote(1), one.remote(2), one.remote(0), one.remote(0, True)]) == [
        0, 0, ValueError, ValueError
    ]  # fmt: skip


def test_large_values_before_an_error_are_kept() -> None:
    @ray.remote(num_returns=2, max_retries=0)
    def large():
        yield np.ones(300_000)
        raise ValueError("second")

    first, second = large.remote()
    assert ray.get(first).sum() == 300_000
    with pytest.raises(ValueError, match="second"):
        ray.get(second)


def test_what_cannot_be_pickled_is_an_error_from_there_on() -> None:
    @ray.remote(num_returns=3, max_retries=0)
    def locked():
        import threading

        yield 1
        yield threading.Lock()
        yield 3

    first, second, third = locked.remote()
    assert ray.get(first) == 1
    for ref in (second, third):
        with pytest.raises(TypeError):
            ray.get(ref)


@needs_processes
def test_a_crash_after_the_first_value_fails_all() -> None:
    import os

    @ray.remote(num_returns=2, max_retries=0)
    def dies():
        yield 1
        os._exit(1)

    for ref in dies.remote():
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(ref)


@pytest.mark.parametrize(("n", "kept"), [(0, []), (2, [0, 1])])
def test_a_dynamic_generator_that_raises_has_one_more_ref(n, kept) -> None:
    refs = list(ray.get(three.options(num_returns="dynamic").remote(n, True)))
    assert outcomes(refs) == [*kept, ValueError]

    dynamic = Producing.remote().items.options(num_returns="dynamic")
    assert outcomes(list(ray.get(dynamic.remote(n)))) == [*kept, ValueError]


@ray.remote
class Producing:
    def items(self, n):
        yield from (i for i in range(n))
        raise ValueError("after the last")


def test_get_of_a_generator_is_the_generator() -> None:
    generator = count.remote(2)
    assert ray.get(generator) is generator
    assert values(generator) == [0, 1]
    with pytest.raises((TypeError, ValueError)):
        ray.get([count.remote(1)])


def test_a_failed_argument_fails_the_first_item() -> None:
    @ray.remote
    def broken():
        raise ValueError("upstream")

    generator = count.remote(broken.remote())
    with pytest.raises(ValueError, match="upstream"):
        ray.get(next(generator))


@needs_processes
def test_a_crash_is_retried_without_repeating_items() -> None:
    record = Record.remote()

    @ray.remote(max_retries=1)
    def crash_once():
        import os

        attempt = ray.get(record.add.remote("attempt"))
        for i in range(4):
            if attempt == 1 and i == 2:
                os._exit(1)
            yield i

    assert values(crash_once.remote()) == [0, 1, 2, 3]
    assert len(ray.get(record.all.remote())) == 2


def test_retry_exceptions_of_generators() -> None:
    record = Record.remote()

    @ray.remote(max_retries=2, retry_exceptions=True)
    def fail_once():
        attempt = ray.get(record.add.remote("attempt"))
        for i in range(3):
            if attempt == 1 and i == 1:
                raise ValueError("once")
            yield i

    assert values(fail_once.remote()) == [0, 1, 2]
    assert len(ray.get(record.all.remote())) == 2


# ---------------------------------------------------------------------- backpressure, ends


def test_backpressure_stops_the_producer() -> None:
    record = Record.remote()

    @ray.remote(_generator_backpressure_num_objects=2)
    def produce():
        for i in range(6):
            ray.get(record.add.remote(i))
            yield i

    generator = produce.remote()
    until(lambda: len(ray.get(record.all.remote())) >= 2, "two items")
    assert not ray.wait([generator.completed()], timeout=0.3)[0]
    assert len(ray.get(record.all.remote())) <= 3
    assert values(generator) == list(range(6))


def test_backpressure_of_methods() -> None:
    record = Record.remote()

    @ray.remote
    class Slow:
        @ray.method(_generator_backpressure_num_objects=1)
        def produce(self):
            for i in range(4):
                ray.get(record.add.remote(i))
                yield i

    generator = Slow.remote().produce.remote()
    assert ray.get(next(generator)) == 0
    assert len(ray.get(record.all.remote())) <= 3
    assert values(generator) == [1, 2, 3]


def test_a_dropped_generator_disturbs_nobody() -> None:
    generator = count.remote(100)
    first = next(generator)
    del generator
    gc.collect()
    assert ray.get(first) == 0
    assert values(count.remote(2)) == [0, 1]


def test_break_early() -> None:
    for ref in count.remote(1000):
        if ray.get(ref) == 3:
            break
    assert values(count.remote(1)) == [0]


def test_items_outlive_their_generator() -> None:
    refs = list(count.remote(5))
    gc.collect()
    assert ray.get(refs[::-1]) == [4, 3, 2, 1, 0]


# ---------------------------------------------------------------------- num_returns


def test_dynamic() -> None:
    ref = count.options(num_returns="dynamic").remote(3)
    assert isinstance(ref, ray.ObjectRef)
    refs = ray.get(ref)
    assert isinstance(refs, ray.DynamicObjectRefGenerator)
    assert len(refs) == 3
    assert [ray.get(item) for item in refs] == [0, 1, 2]


@differs(
    on="engine", reason="A task that gets the refs of a dynamic generator as its argument gets Ray's refs."
)
def test_dynamic_refs_are_passed_on() -> None:
    @ray.remote
    def total(items):
        return sum(ray.get(list(items)))

    assert ray.get(total.remote(count.options(num_returns="dynamic").remote(4))) == 6


def test_a_fixed_number_of_returns() -> None:
    @ray.remote(num_returns=3)
    def three():
        yield "a"
        yield "b"
        yield "c"

    assert ray.get(three.remote()) == ["a", "b", "c"]
