"""streaming_split: disjoint parts for consumers that run at the same time, epoch by epoch."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skate
import skate.data
from skate.data._task.slices import BlockMeta, BlockSlice, total_rows
from skate.data._verbs.streaming import Dealer


def piece(rows: int) -> BlockSlice:
    table = pa.table({"x": pa.array(range(rows), pa.int64())})
    return BlockSlice.whole(table, BlockMeta(rows, 8 * rows))


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 5),
    lengths=st.lists(st.integers(0, 20), max_size=15),
    asks=st.lists(st.integers(0, 4), min_size=15, max_size=15),
)
def test_equal_parts_are_equal_and_drop_less_than_a_row_each(
    n: int, lengths: list[int], asks: list[int]
) -> None:
    dealer = Dealer(n, equal=True)
    got = [0] * n
    for length, ask in zip(lengths, asks, strict=False):
        dealer.add(piece(length), ask % n)
        index = ask % n
        while (one := dealer.take(index)) is not None:
            got[index] += one.num_rows
    for index in range(n):
        while (one := dealer.take(index)) is not None:
            got[index] += one.num_rows
    assert len(set(got)) == 1
    assert sum(lengths) - sum(got) < n


def test_unequal_parts_go_to_whoever_asks() -> None:
    dealer = Dealer(2, equal=False)
    dealer.add(piece(5), 1)
    assert dealer.take(0) is None
    one = dealer.take(1)
    assert one is not None
    assert total_rows([one]) == 5
    dealer.add(piece(0), 0)
    assert dealer.take(0) is None


def test_a_consumer_that_left_holds_nobody_up() -> None:
    dealer = Dealer(2, equal=True)
    dealer.leave(1)
    for _ in range(40):
        dealer.add(piece(4), 0)
    assert dealer.lagging() == [0]
    assert dealer.take(1) is None


# ---------------------------------------------------------------------- on a session


@skate.remote(num_cpus=0)
def consume(iterator: Any, epochs: int) -> list[list[int]]:
    return [[row["id"] for row in iterator.iter_rows()] for _ in range(epochs)]


@pytest.mark.parametrize("equal", [False, True])
def test_consumers_in_tasks(session: Any, equal: bool) -> None:
    ds = skate.data.range(101, override_num_blocks=10).map(lambda row: {"id": row["id"] + 1})
    parts = ds.streaming_split(2, equal=equal)
    found = skate.get([consume.remote(part, 2) for part in parts])
    for epoch in range(2):
        rows = [found[index][epoch] for index in range(2)]
        if equal:
            assert [len(part) for part in rows] == [50, 50]
            assert len(set(rows[0]) & set(rows[1])) == 0
        else:
            assert Counter(rows[0] + rows[1]) == Counter(range(1, 102))


def test_consumers_in_threads_and_an_early_leaver(session: Any) -> None:
    first, second = skate.data.range(1000, override_num_blocks=40).streaming_split(2)

    def all_rows() -> int:
        return sum(len(batch["id"]) for batch in second.iter_batches(batch_size=10))

    def some_rows() -> int:
        for batch in first.iter_batches(batch_size=10):
            return len(batch["id"])
        return 0

    with ThreadPoolExecutor(2) as threads:
        some, every = threads.submit(some_rows), threads.submit(all_rows)
        assert some.result() in (0, 10)
        assert every.result() <= 1000
        again = [threads.submit(lambda it=it: sum(1 for _ in it.iter_rows())) for it in (first, second)]
        assert sum(one.result() for one in again) == 1000


def test_an_error_reaches_the_consumers(session: Any) -> None:
    def f(row: dict[str, Any]) -> dict[str, Any]:
        return {"x": 1 // (row["id"] - 5)}

    (only,) = skate.data.range(10).map(f).streaming_split(1)
    with pytest.raises(ZeroDivisionError):
        list(only.iter_rows())


def test_facts_of_an_iterator(session: Any) -> None:
    (only,) = skate.data.range(10).streaming_split(1)
    schema = only.schema()
    assert schema is not None
    assert schema.names == ["id"]
    made = only.materialize()
    assert made.count() == 10
    assert "ReadRange" in only.stats()
    assert only.get_context().progress == "auto"
    assert "part 0 of 1" in repr(only)
    for wrong in (0, True):
        with pytest.raises(ValueError, match="streaming_split"):
            skate.data.range(10).streaming_split(wrong)
