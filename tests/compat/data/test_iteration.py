"""Loops over rows and batches, and streaming splits."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
import ray.data

from .helpers import blocks


def lengths(batches):
    """Return the number of rows of each batch."""
    return [len(batch["id"]) for batch in batches]


def test_rows_are_dicts():
    assert list(ray.data.range(3).iter_rows()) == [{"id": 0}, {"id": 1}, {"id": 2}]


def test_batches_have_256_rows_across_blocks():
    assert lengths(ray.data.range(600, override_num_blocks=3).iter_batches()) == [256, 256, 88]


def test_batches_of_a_size():
    ds = ray.data.range(10, override_num_blocks=5)
    assert lengths(ds.iter_batches(batch_size=4)) == [4, 4, 2]
    assert lengths(ds.iter_batches(batch_size=4, drop_last=True)) == [4, 4]


def test_batches_without_a_size_are_blocks():
    assert lengths(blocks({"id": [1, 2]}, {"id": [3]}).iter_batches(batch_size=None)) == [2, 1]


def test_formats_of_batches():
    ds = ray.data.range(3)
    assert isinstance(next(iter(ds.iter_batches())), dict)
    assert isinstance(next(iter(ds.iter_batches(batch_format="pandas"))), pd.DataFrame)
    assert isinstance(next(iter(ds.iter_batches(batch_format="pyarrow"))), pa.Table)


def test_arrays_of_batches_are_read_only():
    (batch,) = ray.data.range(3, override_num_blocks=1).iter_batches(batch_size=None)
    with pytest.raises(ValueError, match="read-only"):
        batch["id"][0] = 7


def test_a_local_shuffle_with_a_seed_is_repeatable():
    ds = ray.data.range(100, override_num_blocks=1)

    def once():
        return [
            value
            for batch in ds.iter_batches(
                batch_size=10, local_shuffle_buffer_size=50, local_shuffle_seed=3, prefetch_batches=0
            )
            for value in batch["id"].tolist()
        ]

    first = once()
    assert first == once()
    assert first != list(range(100))
    assert sorted(first) == list(range(100))


def test_a_loop_can_be_run_again():
    it = ray.data.range(3).iterator()
    assert lengths(it.iter_batches()) == lengths(it.iter_batches()) == [3]


def test_batches_can_be_looped_over_again():
    batches = ray.data.range(3).iter_batches()
    assert lengths(batches) == lengths(batches) == [3]


def test_a_loop_may_end_early():
    for row in ray.data.range(1000, override_num_blocks=10).map(lambda row: row).iter_rows():
        if row["id"] == 5:
            break
    assert row == {"id": 5}


def test_an_error_comes_through_a_loop():
    def fail(row):
        raise ValueError("on purpose")

    with pytest.raises(Exception, match="on purpose"):
        list(ray.data.range(3).map(fail).iter_rows())


def test_torch_is_asked_for_by_name():
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="torch"):
            next(iter(ray.data.range(3).iter_torch_batches()))


@ray.remote(num_cpus=0)
class Consumer:
    """Reads its part of a data set."""

    def epochs(self, it, count):
        return [[row["id"] for row in it.iter_rows()] for _ in range(count)]


def consume(parts, epochs=1):
    """Have each part read by an actor, all at once; return the rows of each epoch of each."""
    actors = [Consumer.remote() for _ in parts]
    return ray.get([actor.epochs.remote(part, epochs) for actor, part in zip(actors, parts, strict=True)])


def test_a_streaming_split_gives_each_row_to_one_consumer():
    found = consume(ray.data.range(20, override_num_blocks=10).streaming_split(2))
    assert sorted(found[0][0] + found[1][0]) == list(range(20))


def test_a_streaming_split_in_equal_parts():
    found = consume(ray.data.range(21, override_num_blocks=7).streaming_split(2, equal=True))
    assert [len(one[0]) for one in found] == [10, 10]


def test_a_streaming_split_runs_again_for_each_epoch():
    found = consume(ray.data.range(20, override_num_blocks=4).streaming_split(2, equal=True), epochs=2)
    for epoch in range(2):
        assert sorted(found[0][epoch] + found[1][epoch]) == list(range(20))


def test_the_schema_of_a_streaming_split():
    parts = ray.data.range(4).streaming_split(2, equal=True)
    assert parts[0].schema().names == ["id"]
