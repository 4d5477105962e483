"""Order, blocks, sorting, shuffling, sampling, splitting, unions and zips."""

from __future__ import annotations

import pytest
import ray.data
from ray.data.context import ShuffleStrategy

from compat.conformance.helpers import Gate

from .helpers import blocks, differs, ids, settings, sizes


def column(ds, name):
    """Return the values of a column."""
    return [row[name] for row in ds.take_all()]


@differs(
    on="ray",
    reason="Any order, unless `preserve_order` is set. Here the order of the input: it costs little.",
)
def test_order_is_kept_by_default():
    gate = Gate.remote()

    def wait_for_the_last(row):
        if row["id"] in (0, 7):
            ray.get(gate.wait.remote() if row["id"] == 0 else gate.open.remote())
        return row

    # Tasks: small data would stay in this process, where one row comes after the other.
    local = {"local_limit_bytes": 0} if hasattr(ray.data.DataContext(), "local_limit_bytes") else {}
    with settings(execution_options=ray.data.ExecutionOptions(), **local):
        assert ids(ray.data.range(8, override_num_blocks=8).map(wait_for_the_last)) == list(range(8))


def test_order_is_kept_if_it_is_asked_for():
    assert ids(ray.data.range(40, override_num_blocks=8).map(lambda row: row)) == list(range(40))


@pytest.mark.parametrize(("rows", "wanted", "expected"), [(10, 4, [2] * 5), (3, 7, [1, 1, 1]), (10, 1, [10])])
def test_blocks_of_a_range(rows, wanted, expected):
    assert sizes(ray.data.range(rows, override_num_blocks=wanted)) == expected


def test_repartition_cuts_evenly_and_keeps_the_order():
    ds = ray.data.range(10).repartition(3)
    assert sorted(sizes(ds)) == [3, 3, 4]
    assert ids(ds) == list(range(10))


def test_repartition_with_a_shuffle_keeps_the_rows():
    ds = ray.data.range(10).repartition(3, shuffle=True)
    assert len(sizes(ds)) == 3
    assert sorted(ids(ds)) == list(range(10))


def test_repartition_into_more_blocks_than_rows():
    assert sorted(sizes(ray.data.range(2).repartition(4))) == [0, 0, 1, 1]


def test_repartition_by_rows():
    ds = blocks({"id": [0, 1, 2]}, {"id": [3, 4, 5]}, {"id": [6, 7, 8]}, {"id": [9]})
    assert sizes(ds.repartition(target_num_rows_per_block=4)) == [3, 3, 3, 1]
    assert sizes(ds.repartition(target_num_rows_per_block=4, strict=True)) == [4, 4, 2]


def test_repartition_needs_one_of_its_numbers():
    with pytest.raises(ValueError):
        ray.data.range(3).repartition()
    with pytest.raises(ValueError):
        ray.data.range(3).repartition(2, target_num_rows_per_block=2)


def test_repartition_by_keys_brings_equal_keys_together():
    with settings(shuffle_strategy=ShuffleStrategy.HASH_SHUFFLE):
        ds = blocks({"k": [1, 2]}, {"k": [2, 1]}).repartition(2, keys=["k"])
        seen = [set(ray.get(ref)["k"].to_pylist()) for ref in ds.to_arrow_refs()]
    assert sum(len(keys) for keys in seen) == 2


def test_random_shuffle_with_a_seed_is_repeatable():
    ds = ray.data.range(50, override_num_blocks=1)
    first = ids(ds.random_shuffle(seed=7))
    assert first == ids(ds.random_shuffle(seed=7))
    assert first != list(range(50))
    assert sorted(first) == list(range(50))


def test_random_shuffle_without_a_seed_gives_another_order_in_each_execution():
    ds = ray.data.range(50, override_num_blocks=1).random_shuffle()
    assert ids(ds) != ids(ds)


def test_random_shuffle_has_no_number_of_blocks():
    with pytest.raises(DeprecationWarning):
        ray.data.range(3).random_shuffle(num_blocks=2)


def test_random_sample():
    ds = ray.data.range(1000, override_num_blocks=1)
    first = ids(ds.random_sample(0.1, seed=3))
    assert 50 < len(first) < 150
    assert first == ids(ds.random_sample(0.1, seed=3))


def test_random_sample_takes_fractions():
    with pytest.raises(ValueError):
        ray.data.range(3).random_sample(1.5)


def test_randomize_block_order_keeps_blocks_whole():
    ds = ray.data.range(10, override_num_blocks=5).randomize_block_order(seed=1)
    found = ids(ds)
    assert sorted(found) == list(range(10))
    assert all(found[n + 1] == found[n] + 1 for n in range(0, 10, 2))


def test_sort_puts_nulls_last():
    ds = blocks({"x": [2.0, None, 1.0]})
    assert column(ds.sort("x"), "x") == [1.0, 2.0, None]
    assert column(ds.sort("x", descending=True), "x") == [2.0, 1.0, None]


def test_sort_by_several_keys_and_directions():
    ds = blocks({"a": [1, 2, 1], "b": [1, 2, 3]})
    found = [tuple(row.values()) for row in ds.sort(["a", "b"], descending=[False, True]).take_all()]
    assert found == [(1, 3), (1, 1), (2, 2)]


def test_sort_of_several_blocks():
    ds = blocks({"id": [5, 1]}, {"id": [4, 2]}, {"id": [3, 0]})
    assert ids(ds.sort("id")) == [0, 1, 2, 3, 4, 5]
    assert ids(ds.sort("id", descending=True)) == [5, 4, 3, 2, 1, 0]


def test_sort_by_a_column_that_is_not_there():
    with pytest.raises(ValueError, match="missing"):
        ray.data.range(3).sort("missing").take_all()


def test_sort_needs_a_key():
    with pytest.raises(ValueError):
        ray.data.range(3).sort(None).take_all()


def test_split_gives_whole_blocks():
    parts = ray.data.range(10, override_num_blocks=5).split(3)
    assert sorted(part.count() for part in parts) == [2, 4, 4]


def test_split_evenly_leaves_rows_out():
    parts = ray.data.range(10, override_num_blocks=5).split(3, equal=True)
    assert [part.count() for part in parts] == [3, 3, 3]


@differs(on="ray", reason="Parts beyond the number of blocks are empty. Here blocks are cut.")
def test_split_into_more_parts_than_blocks():
    parts = ray.data.range(10, override_num_blocks=1).split(2)
    assert [part.count() for part in parts] == [5, 5]


def test_split_at_indices():
    parts = ray.data.range(10).split_at_indices([2, 5])
    assert [ids(part) for part in parts] == [[0, 1], [2, 3, 4], [5, 6, 7, 8, 9]]


def test_split_proportionately():
    parts = ray.data.range(10).split_proportionately([0.2, 0.5])
    assert [part.count() for part in parts] == [2, 5, 3]


def test_train_test_split():
    ds = ray.data.range(10)
    assert [ids(part) for part in ds.train_test_split(0.3)] == [list(range(7)), [7, 8, 9]]
    assert [part.count() for part in ds.train_test_split(4)] == [6, 4]


def test_train_test_split_with_a_shuffle():
    train, test = ray.data.range(10, override_num_blocks=1).train_test_split(0.3, shuffle=True, seed=1)
    assert sorted(ids(train) + ids(test)) == list(range(10))
    assert ids(test) != [7, 8, 9]


def test_train_test_split_by_strata():
    ds = blocks({"id": list(range(10)), "k": [0] * 5 + [1] * 5})
    train, test = ds.train_test_split(0.4, stratify="k")
    assert sorted(column(test, "k")) == [0, 0, 1, 1]
    assert sorted(column(train, "k")) == [0, 0, 0, 1, 1, 1]


def test_union_of_data_sets():
    assert sorted(ids(ray.data.range(2).union(ray.data.range(3), ray.data.range(1)))) == [0, 0, 0, 1, 1, 2]


def test_the_schema_of_a_union_has_all_columns():
    ds = blocks({"a": [1]}).union(blocks({"b": [2]}))
    assert sorted(ds.columns()) == ["a", "b"]


@differs(
    on="skate",
    reason="Missing columns are null, where all columns are known. In Ray each row has its own keys.",
)
def test_rows_of_a_union_have_their_own_keys():
    ds = blocks({"a": [1]}).union(blocks({"b": [2]}))
    assert ds.take_all() == [{"a": 1}, {"b": 2}]


def test_zip_renames_columns_that_clash():
    ds = ray.data.range(2).zip(ray.data.range(2).map(lambda row: {"id": row["id"] * 10}))
    assert ds.take_all() == [{"id": 0, "id_1": 0}, {"id": 1, "id_1": 10}]


def test_zip_of_different_lengths_is_an_error():
    with pytest.raises(ValueError):
        ray.data.range(2).zip(ray.data.range(3)).take_all()


def test_limit():
    assert ids(ray.data.range(10, override_num_blocks=5).limit(3)) == [0, 1, 2]
    assert ray.data.range(10).limit(3).count() == 3
