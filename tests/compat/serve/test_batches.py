"""``serve.batch``."""

from __future__ import annotations

import pytest
from ray import serve
from ray.serve.exceptions import RayServeException

from .helpers import deployment, differs


@deployment(max_ongoing_requests=50)
class Batches:
    def __init__(self):
        self.sizes = []

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.3)
    async def twice(self, values):
        self.sizes.append(len(values))
        return [2 * one for one in values]

    async def __call__(self, value):
        return await self.twice(value)

    async def take_sizes(self):
        found, self.sizes = self.sizes, []
        return found

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.3)
    async def sums(self, left, right):
        assert isinstance(left, list) and isinstance(right, list)
        return [a + b for a, b in zip(left, right, strict=True)]

    async def sum(self, left, right):
        return await self.sums(left, right=right)

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.3)
    async def failing(self, values):
        raise KeyError("mine")

    async def fail(self, value):
        await self.failing(value)

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.3)
    async def short(self, values):
        return values[1:]

    async def shorten(self, value):
        return await self.short(value)

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.3)
    async def errors(self, values):
        return [ValueError(one) for one in values]

    async def error(self, value):
        return type(await self.errors(value)).__name__

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.3)
    async def counts(self, ends):
        for step in range(max(ends)):
            yield [step if step < end else StopIteration for end in ends]

    async def count(self, end):
        async for one in self.counts(end):
            yield one

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.3)
    async def models(self, values):
        return [serve.get_multiplexed_model_id()] * len(values)

    async def model(self, value):
        return await self.models(value)


@pytest.fixture(scope="module")
def handle(run_for_all):
    return run_for_all(Batches.bind(), name="batches")


def results(responses):
    return [one.result() for one in responses]


def test_calls_that_come_together_are_one_batch(handle):
    handle.take_sizes.remote().result()
    assert results([handle.remote(n) for n in range(6)]) == [0, 2, 4, 6, 8, 10]
    assert sorted(handle.take_sizes.remote().result()) == [2, 4]


def test_one_call_is_a_batch_in_the_end(handle):
    handle.take_sizes.remote().result()
    assert handle.remote(1).result() == 2
    assert handle.take_sizes.remote().result() == [1]


def test_several_arguments_become_lists(handle):
    assert results([handle.sum.remote(1, 2), handle.sum.remote(3, right=4)]) == [3, 7]


def test_an_exception_is_that_of_every_call(handle):
    for one in [handle.fail.remote(1), handle.fail.remote(2)]:
        with pytest.raises(KeyError):
            one.result()


def test_results_of_another_length_fail_every_call(handle):
    for one in [handle.shorten.remote(1), handle.shorten.remote(2)]:
        with pytest.raises(RayServeException):
            one.result()


def test_an_exception_as_a_result_is_a_value(handle):
    assert results([handle.error.remote(1), handle.error.remote(2)]) == ["ValueError", "ValueError"]


def test_streams_of_a_batch_end_one_by_one(handle):
    streams = [handle.options(stream=True).count.remote(end) for end in (1, 3)]
    assert [list(one) for one in streams] == [[0], [0, 1, 2]]


def test_batches_have_one_model_each(handle):
    calls = [handle.options(multiplexed_model_id=name).model.remote(0) for name in ("a", "b", "a", "b")]
    assert results(calls) == ["a", "b", "a", "b"]


def test_sizes_are_checked():
    with pytest.raises(ValueError):
        serve.batch(max_batch_size=0)
    with pytest.raises(ValueError):
        serve.batch(batch_wait_timeout_s=-1)


def test_other_things_than_functions():
    with pytest.raises(TypeError):
        serve.batch(42)


@differs(on="skate", reason="A `def` is taken, too, and runs in a thread.")
def test_functions_are_async():
    with pytest.raises(TypeError):

        @serve.batch
        def batched(values):
            return values


def test_setters(run):
    @deployment(max_ongoing_requests=50)
    class Sized:
        def __init__(self):
            self.sizes = []

        @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.3)
        async def batched(self, values):
            self.sizes.append(len(values))
            return values

        def reconfigure(self, config):
            self.batched.set_max_batch_size(config["size"])
            self.batched.set_batch_wait_timeout_s(config["wait_s"])

        async def __call__(self, value):
            return await self.batched(value)

        async def seen(self):
            return self.sizes

    handle = run(Sized.options(user_config={"size": 2, "wait_s": 0.2}).bind(), name="sized")
    assert results([handle.remote(n) for n in range(4)]) == [0, 1, 2, 3]
    assert max(handle.seen.remote().result()) <= 2
