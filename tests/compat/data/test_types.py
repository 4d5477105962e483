"""Values in columns: types, nulls, tensors, objects, and blocks that differ."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray.data
from ray.data.extensions import ArrowTensorTypeV2

from .helpers import blocks, differs


class Thing:
    """No column type holds it."""

    def __init__(self, value):
        self.value = value


def made(value, count=1):
    """Return a data set with one block of a column ``x``, as a function makes it."""
    return ray.data.range(count, override_num_blocks=1).map(lambda row: {"x": value})


def kind(ds):
    """Return the type of the column ``x``."""
    return ds.schema().base_schema.field("x").type


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, pa.bool_()),
        (1, pa.int64()),
        (1.5, pa.float64()),
        (np.float32(1.5), pa.float32()),
        ("a", pa.string()),
        (b"a", pa.binary()),
        ([1, 2], pa.list_(pa.int64())),
        ({"a": 1}, pa.struct([("a", pa.int64())])),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), pa.timestamp("s")),  # noqa: DTZ001 - as programs have them
    ],
    ids=lambda value: str(value).replace("datetime.datetime", ""),
)
def test_types_of_values(value, expected):
    ds = made(value)
    assert kind(ds.materialize()) == expected
    assert ds.take_all() == [{"x": value}]


def test_a_set_becomes_a_list():
    assert made({1}).take_all() == [{"x": [1]}]


def test_arrays_are_tensors():
    ds = made(np.ones((2, 3))).materialize()
    assert kind(ds) == ArrowTensorTypeV2((2, 3), pa.float64())
    (row,) = ds.take_all()
    assert isinstance(row["x"], np.ndarray)
    assert row["x"].shape == (2, 3)


def test_arrays_of_several_shapes():
    ds = ray.data.range(2, override_num_blocks=1).map(lambda row: {"x": np.ones((row["id"] + 1, 2))})
    assert [row["x"].shape for row in ds.take_all()] == [(1, 2), (2, 2)]


def test_arrays_of_several_dimensions():
    ds = ray.data.range(2, override_num_blocks=1).map(
        lambda row: {"x": np.ones((2, 2)) if row["id"] else np.ones(3)}
    )
    assert [row["x"].shape for row in ds.take_all()] == [(3,), (2, 2)]


def test_a_batch_of_tensors_is_one_array():
    ds = ray.data.range_tensor(4, shape=(2, 2))
    assert ds.take_batch(3)["data"].shape == (3, 2, 2)


def test_other_objects_are_kept():
    (row,) = made(Thing(3)).take_all()
    assert row["x"].value == 3


def test_whole_numbers_among_floats_become_floats():
    ds = ray.data.range(2, override_num_blocks=1).map(lambda row: {"x": 1 if row["id"] else 0.5})
    assert ds.take_all() == [{"x": 0.5}, {"x": 1.0}]


def test_numbers_among_strings_are_kept_as_objects():
    ds = ray.data.range(2, override_num_blocks=1).map(lambda row: {"x": 1 if row["id"] else "a"})
    assert ds.take_all() == [{"x": "a"}, {"x": 1}]


def test_none_among_numbers_is_null():
    ds = ray.data.range(2, override_num_blocks=1).map(lambda row: {"x": 1 if row["id"] else None})
    assert ds.take_all() == [{"x": None}, {"x": 1}]
    assert kind(ds.materialize()) == pa.int64()


def test_keys_that_differ_within_a_block_are_filled_with_none():
    ds = ray.data.range(2, override_num_blocks=1).map(lambda row: {"a": 1} if row["id"] else {"b": 2})
    assert ds.take_all() == [{"b": 2, "a": None}, {"b": None, "a": 1}]


def test_rows_have_the_keys_of_their_block():
    ds = ray.data.range(2, override_num_blocks=2).map(lambda row: {"a": 1} if row["id"] else {"b": 2})
    assert ds.take_all() == [{"b": 2}, {"a": 1}]


def test_blocks_of_whole_numbers_and_of_floats_are_sorted():
    ds = ray.data.range(2, override_num_blocks=2).map(lambda row: {"x": 1 if row["id"] else 0.5})
    assert ds.sort("x").take_all() == [{"x": 0.5}, {"x": 1.0}]


@differs(
    on="ray", reason="The keys have type null in that block, and the join fails. Here they match nothing."
)
def test_a_join_with_a_block_of_nulls():
    left = ray.data.from_arrow(pa.table({"k": [None, None], "a": [1, 2]}))
    right = blocks({"k": [1], "b": [3]})
    assert left.join(right, join_type="inner", num_partitions=1, on=("k",)).take_all() == []


def test_data_frames_come_back_with_types_of_arrow():
    df = blocks({"a": [1], "b": ["x"], "c": [[1, 2]]}).to_pandas()
    assert str(df["a"].dtype) == "int64[pyarrow]"
    assert str(df["c"].dtype) == "list<item: int64>[pyarrow]"


@differs(
    on="skate",
    reason="Blocks are of Arrow from the beginning: frames have types of Arrow at once. Ray keeps frames of pandas as "
    "they are until a function has changed them.",
)
def test_a_data_frame_keeps_its_types_until_it_is_changed():
    ds = ray.data.from_pandas(pd.DataFrame({"a": [1]}))
    assert str(ds.to_pandas()["a"].dtype) == "int64"


def test_categories_of_a_data_frame_are_kept():
    ds = ray.data.from_pandas(pd.DataFrame({"c": pd.Categorical(["x", "y", "x"])}))
    ds = ds.map_batches(lambda df: df, batch_format="pandas")
    assert isinstance(ds.to_pandas()["c"].dtype, pd.CategoricalDtype)
    assert [row["c"] for row in ds.take_all()] == ["x", "y", "x"]


def test_nan_of_a_data_frame_is_null():
    ds = ray.data.from_pandas(pd.DataFrame({"x": [1.5, float("nan")]}))
    assert ds.take_all() == [{"x": 1.5}, {"x": None}]


def test_the_index_of_a_data_frame_is_dropped():
    assert ray.data.from_pandas(pd.DataFrame({"x": [1, 2]}, index=["a", "b"])).columns() == ["x"]


def test_several_data_frames_are_several_blocks():
    frames = [pd.DataFrame({"x": [1]}), pd.DataFrame({"x": [2]})]
    assert ray.data.from_pandas(frames).num_blocks() == 2


def test_tables_of_arrow():
    assert ray.data.from_arrow([pa.table({"x": [1]}), pa.table({"x": [2]})]).take_all() == [
        {"x": 1},
        {"x": 2},
    ]


def test_items_that_are_no_dicts_are_a_column():
    assert ray.data.from_items([1, 2]).take_all() == [{"item": 1}, {"item": 2}]
    assert ray.data.from_items([{"a": 1}, {"a": 2}]).take_all() == [{"a": 1}, {"a": 2}]


def test_each_item_is_a_block():
    assert ray.data.from_items(list(range(10))).num_blocks() == 10
    assert ray.data.from_items(list(range(10)), override_num_blocks=2).num_blocks() == 2


def test_arrays_become_rows():
    ds = ray.data.from_numpy(np.arange(4).reshape(2, 2))
    assert [row["data"].tolist() for row in ds.take_all()] == [[0, 1], [2, 3]]
    assert ray.data.from_numpy([np.arange(2), np.arange(3)]).count() == 5


def test_tensors_survive_parquet(tmp_path):
    ray.data.range_tensor(3, shape=(2, 2), override_num_blocks=1).write_parquet(str(tmp_path))
    back = ray.data.read_parquet(str(tmp_path))
    assert [row["data"].tolist() for row in back.take_all()] == [[[n, n], [n, n]] for n in range(3)]


def test_ragged_tensors_survive_parquet(tmp_path):
    ds = ray.data.range(2, override_num_blocks=1).map(lambda row: {"x": np.ones((row["id"] + 1, 2))})
    ds.write_parquet(str(tmp_path))
    assert [row["x"].shape for row in ray.data.read_parquet(str(tmp_path)).take_all()] == [(1, 2), (2, 2)]


def test_references_to_blocks():
    (ref,) = blocks({"x": [1, 2]}).to_arrow_refs()
    assert ray.get(ref).to_pydict() == {"x": [1, 2]}
    (ref,) = blocks({"x": [1, 2]}).to_pandas_refs()
    assert ray.get(ref)["x"].tolist() == [1, 2]
    (ref,) = blocks({"x": [1, 2]}).to_numpy_refs()
    assert ray.get(ref)["x"].tolist() == [1, 2]
