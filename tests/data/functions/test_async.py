"""Async functions and generators: order, how many run at a time, errors, the life of the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from skate.data._operators.dead_letters import ErrorPolicy
from skate.data._operators.functions import UserFunction
from skate.data._operators.map_operators import FilterRows, FlatMap, MapBatches, MapRows
from skate.data._task.operators import Replica, TaskContext
from skate.data.exceptions import RowTimeoutError

of = UserFunction.of
KEEP = ErrorPolicy.of("map", on_error="dead_letter")


class Gate:
    """Lets calls finish in an order that the test chooses, and counts those that run at a time."""

    def __init__(self):
        self.running = self.most = 0
        self.events = {}

    async def wait_for(self, number, after):
        self.running += 1
        self.most = max(self.most, self.running)
        mine = self.events.setdefault(number, asyncio.Event())
        if after is not None:
            await self.events.setdefault(after, asyncio.Event()).wait()
        mine.set()
        self.running -= 1


def test_results_come_in_order_although_calls_end_in_another(run, make_numbers):
    gate = Gate()

    async def f(row):
        # In each group of four the first waits for the last.
        x = row["x"]
        await gate.wait_for(x, x + 3 if x % 4 == 0 else None)
        return row

    found = run(MapRows(of(f), max_concurrency=4), *make_numbers(7, 9))
    assert found.column() == list(range(16))
    assert 2 <= gate.most <= 4


def test_as_many_at_a_time_as_allowed(run, make_numbers):
    gate = Gate()

    async def f(batch):
        x = int(batch["x"][0])
        await gate.wait_for(x, x + 2 if x < 2 else None)
        return batch

    run(MapBatches(of(f), 1, max_concurrency=3), *make_numbers(6))
    assert gate.most == 3


def test_one_at_a_time(run, make_numbers):
    gate = Gate()

    async def f(row):
        await gate.wait_for(row["x"], None)
        return row

    run(MapRows(of(f), max_concurrency=1), *make_numbers(6))
    assert gate.most == 1


def test_kinds(run, make_numbers):
    async def row(row):
        return {"y": row["x"]}

    async def rows(row):
        return [row, row]

    async def gen(row):
        for i in range(row["x"]):
            yield {"x": row["x"], "i": i}

    async def odd(row):
        return row["x"] % 2

    async def batches(batch):
        for x in batch["x"]:
            yield {"x": [x]}

    tables = make_numbers(2, 2)
    assert run(MapRows(of(row)), *tables).column("y") == [0, 1, 2, 3]
    assert run(FlatMap(of(rows)), *tables).column() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert run(FlatMap(of(gen)), *tables).column() == [1, 2, 2, 3, 3, 3]
    assert run(FilterRows(of(odd)), *tables).column() == [1, 3]
    assert run(MapBatches(of(batches), 3), *tables).column() == [0, 1, 2, 3]


def test_large_async_generator_of_a_row_that_fails_late(run, make_numbers):
    async def gen(row):
        for i in range(500):
            if row["x"] == 1 and i == 499:
                raise KeyError
            yield {"x": row["x"], "b": bytes(40_000)}

    found = run(FlatMap(of(gen), KEEP), *make_numbers(3))
    assert found.column() == [0] * 500 + [2] * 500
    assert found.failed == ["0.0:1"]


def test_generators_that_wait_for_their_turn_are_paused(make_numbers):
    made = {0: 0, 1: 0}

    async def gen(row):
        for _ in range(500):
            made[row["x"]] += 1
            yield {"x": row["x"], "b": bytes(1 << 20)}

    task = TaskContext("0.0", target_max_block_bytes=4 << 20)
    output = FlatMap(of(gen)).process(iter(make_numbers(2)), task)
    first = next(output)
    assert first.num_rows > 0
    assert made[1] <= 65
    assert first.num_rows + sum(t.num_rows for t in output) == 1000


class Loops:
    def __init__(self):
        self.seen = []

    async def __call__(self, row):
        self.seen.append(asyncio.get_running_loop())
        return {"same": len(set(map(id, self.seen)))}


def test_an_instance_keeps_its_loop(run, make_numbers):
    replica = Replica()
    operator = MapRows(of(Loops))
    for _ in range(2):
        assert (
            run(operator, *make_numbers(3), task=TaskContext("0.0", replica=replica)).column("same")
            == [1] * 3
        )
    (opened,) = replica.instances.values()
    opened.close()


def test_no_thread_stays_for_a_function(run, make_numbers):
    async def f(row):
        return row

    before = set(threading.enumerate())
    run(MapRows(of(f)), *make_numbers(3))
    output = MapRows(of(f)).process(iter(make_numbers(3)), TaskContext("0.0"))
    next(output)
    output.close()
    assert set(threading.enumerate()) <= before


def test_calls_are_cancelled_if_nobody_wants_the_rest(make_numbers):
    cancelled = []
    has_begun = asyncio.Event()

    async def f(row):
        if row["x"] < 2:
            await has_begun.wait()
            return {"b": bytes(20 << 20)}
        try:
            has_begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(row["x"])
            raise

    output = MapRows(of(f), max_concurrency=3).process(iter(make_numbers(10)), TaskContext("0.0"))
    next(output)
    output.close()
    assert cancelled and set(cancelled) <= {2, 3, 4}


def test_cancelling_itself_is_an_error_of_the_row(run, make_numbers):
    async def f(row):
        if row["x"] == 1:
            raise asyncio.CancelledError
        return row

    found = run(MapRows(of(f), KEEP), *make_numbers(3))
    assert found.column() == [0, 2] and found.failed == ["0.0:1"]


def test_time_limit(run, make_numbers):
    async def f(row):
        if row["x"] == 1:
            await asyncio.Event().wait()
        return row

    policy = ErrorPolicy.of("map", on_error="dead_letter", timeout_per_row=0.05)
    found = run(MapRows(of(f), policy), *make_numbers(3))
    assert found.column() == [0, 2]
    assert isinstance(found.letters[0].error, RowTimeoutError)


def test_failed_batch_is_called_row_by_row_at_a_time(run, make_numbers):
    sizes = []

    async def f(batch):
        sizes.append(len(batch["x"]))
        if 2 in batch["x"]:
            raise KeyError
        return batch

    found = run(MapBatches(of(f), 4, errors=KEEP), *make_numbers(8))
    assert found.column() == [0, 1, 3, 4, 5, 6, 7]
    assert sorted(sizes) == [1, 1, 1, 1, 4, 4]


def test_wrong_returns(run, make_numbers):
    async def f(row):
        return 5

    with pytest.raises(ValueError, match="must return a dict"):
        run(MapRows(of(f)), *make_numbers(3))
    with pytest.raises(ValueError, match="must return a list of dicts"):
        run(FlatMap(of(f)), *make_numbers(3))
    with pytest.raises(ValueError, match=r"MapBatches\(f\)"):
        run(MapBatches(of(f)), *make_numbers(3))


def test_errors_of_the_input(make_numbers):
    def broken():
        yield from make_numbers(2)
        raise LookupError("reader")

    async def f(row):
        return row

    with pytest.raises(LookupError, match="reader"):
        list(MapRows(of(f), KEEP).process(broken(), TaskContext("0.0")))
