"""Columns of arrays: shapes, promotion, nulls, no copies, files, and what Ray wrote."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from skate.data._block import tensors
from skate.data._block.batches import from_batch, to_batch
from skate.data._block.objects import is_pickled
from skate.data._block.rows import from_rows, iter_rows
from skate.data._block.tables import cast_to, concat, slice_rows, unify_schemas


def block_of(*values):
    return from_rows([{"x": value} for value in values])


def values_of(block):
    return [row["x"] for row in iter_rows(block)]


def same(left, right):
    if left is None or right is None:
        return left is right
    return left.shape == right.shape and np.array_equal(left, right)


def test_one_shape_is_the_canonical_type():
    block = block_of(np.zeros((2, 3)), np.ones((2, 3)))
    assert block.schema.field("x").type == pa.fixed_shape_tensor(pa.float64(), [2, 3])
    assert all(map(same, values_of(block), [np.zeros((2, 3)), np.ones((2, 3))]))


def test_several_shapes_and_dimensions_are_ragged():
    values = [np.zeros((2, 3)), np.ones(4), np.array(5.0), np.zeros((0, 2))]
    block = block_of(*values)
    assert block.schema.field("x").type == tensors.RaggedTensorType(pa.float64())
    assert all(map(same, values_of(block), values))
    assert block.column("x").to_pylist()[1].tolist() == [1, 1, 1, 1]
    assert block.column("x")[1].as_py().tolist() == [1, 1, 1, 1]


def test_types_of_values_are_promoted():
    block = block_of(np.zeros(2, np.int32), np.zeros(2, np.float64))
    assert block.schema.field("x").type == pa.fixed_shape_tensor(pa.float64(), [2])
    block = block_of(np.zeros(2, np.uint8), np.zeros(3, np.int16))
    assert block.schema.field("x").type.value_type == pa.int16()


@pytest.mark.parametrize("shapes", [[(2, 2), (2, 2)], [(2, 2), (3,)]])
def test_nulls(shapes):
    values = [None, *(np.full(shape, 7) for shape in shapes), None]
    block = block_of(*values)
    assert all(map(same, values_of(block), values))
    assert all(map(same, values_of(block.slice(1)), values[1:]))
    assert all(map(same, to_batch(block, "numpy")["x"], values))
    assert block.column("x").null_count == 2


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", "u4", "i8", "u8", "f2", "f4", "f8", ">i4", "M8[us]", "M8[D]", "m8[ns]"]
)
def test_dtypes(dtype):
    value = np.array([[0, 1], [1, 0]]).astype(dtype)
    (read,) = values_of(block_of(value))
    assert np.array_equal(read, value)
    assert read.dtype == value.dtype.newbyteorder("=")
    ragged = values_of(block_of(value, value[0]))
    assert np.array_equal(ragged[0], value)
    assert np.array_equal(ragged[1], value[0])


def test_arrays_without_a_fixed_width():
    assert block_of(np.array(["a", "b"])).schema.field("x").type == pa.list_(pa.string())
    assert block_of(np.array([["a"], ["b"]])).to_pylist() == [{"x": [["a"], ["b"]]}]
    block = block_of(np.array([1j, 2]))
    assert is_pickled(block.schema.field("x").type)
    assert values_of(block)[0].tolist() == [1j, 2]
    block = block_of(np.array([1, "a", None], dtype=object))
    assert values_of(block)[0].tolist() == [1, "a", None]


def test_arrays_and_other_values_in_one_column():
    block = block_of(np.zeros(2), 5)
    assert is_pickled(block.schema.field("x").type)
    assert values_of(block)[1] == 5


def test_no_copies():
    array = np.arange(24.0).reshape(4, 2, 3)
    array.flags.writeable = False
    block = from_batch({"x": array}, "f")
    address = array.__array_interface__["data"][0]
    assert block.column("x").chunk(0).storage.values.buffers()[1].address == address
    read = to_batch(block, "numpy")["x"]
    assert read.__array_interface__["data"][0] == address
    assert not read.flags.writeable
    part = to_batch(slice_rows(block, 1, 3), "numpy")["x"]
    assert np.array_equal(part, array[1:3])
    assert part.__array_interface__["data"][0] == address + array.strides[0]
    rows = values_of(slice_rows(block, 2, 4))
    assert rows[0].__array_interface__["data"][0] == address + 2 * array.strides[0]


def test_ragged_cells_are_views():
    block = block_of(np.arange(3), np.arange(4))
    values = block.column("x").chunk(0).storage.field("values").values
    address = values.buffers()[1].address
    assert values_of(block)[1].__array_interface__["data"][0] == address + 3 * 8


def test_arrays_that_do_not_lie_in_order():
    array = np.arange(24).reshape(4, 2, 3)
    for value in (array[::-1], array.transpose(0, 2, 1), array[:, ::2], np.asfortranarray(array)):
        assert np.array_equal(to_batch(from_batch({"x": value}, "f"), "numpy")["x"], value)


def test_permuted_tensors_of_others():
    type_ = pa.fixed_shape_tensor(pa.int64(), [2, 3], permutation=[1, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(range(6)), 6)
    block = pa.table({"x": pa.ExtensionArray.from_storage(type_, storage)})
    assert values_of(block)[0].tolist() == np.arange(6).reshape(2, 3).T.tolist()


def test_empty_shapes_and_columns():
    array = np.zeros((3, 0, 2))
    block = from_batch({"x": array}, "f")
    assert [value.shape for value in values_of(block)] == [(0, 2)] * 3
    fixed = from_batch({"x": np.zeros((0, 2, 2))}, "f")
    assert fixed.num_rows == 0
    assert to_batch(fixed, "numpy")["x"].shape == (0, 2, 2)
    none = block_of(np.zeros(1), np.zeros(2)).slice(0, 0)
    assert to_batch(none, "numpy")["x"].shape == (0,)
    schema = block_of(np.zeros(1), np.zeros(2)).schema
    assert len(to_batch(pa.table({"x": pa.chunked_array([], schema.field("x").type)}), "numpy")["x"]) == 0


def test_chunks():
    one = from_batch({"x": np.ones((2, 3))}, "f")
    two = from_batch({"x": np.zeros((1, 3))}, "f")
    assert to_batch(concat([one, two]), "numpy")["x"].tolist() == [[1] * 3] * 2 + [[0] * 3]
    ragged = concat([block_of(np.zeros(1), np.zeros(2)), block_of(np.zeros(3), np.zeros(2))])
    assert [value.shape for value in to_batch(ragged, "numpy")["x"]] == [(1,), (2,), (3,), (2,)]


def test_blocks_of_different_shapes_and_types_unite():
    parts = [
        block_of(np.ones((2, 2), np.int32), None),
        block_of(np.ones((2, 2), np.float32)),
        block_of(np.ones(3), np.ones((1, 1))),
        block_of(None),
        block_of(np.ones((3, 1, 1), bool).astype(np.uint8)),
    ]
    whole = concat(parts)
    assert whole.schema.field("x").type == tensors.RaggedTensorType(pa.float64())
    expected = [value for part in parts for value in values_of(part)]
    assert all(map(same, values_of(whole), expected))
    first = concat(parts[:2])
    assert first.schema.field("x").type == pa.fixed_shape_tensor(pa.float64(), [2, 2])
    assert all(map(same, values_of(first), expected[:3]))


def test_slices_of_tensors_change_their_type():
    whole = block_of(*(np.full((2, 2), number) for number in range(5)))
    schema = unify_schemas([whole.schema, block_of(np.zeros(1)).schema])
    part = cast_to(whole.slice(2, 2), schema)
    assert [value.tolist() for value in values_of(part)] == [[[2, 2], [2, 2]], [[3, 3], [3, 3]]]
    ragged = block_of(np.arange(1), np.arange(2), np.arange(3), None, np.arange(4))
    schema = unify_schemas([ragged.schema, block_of(np.zeros((1, 1)), np.zeros(1)).schema])
    assert [
        value if value is None else value.tolist() for value in values_of(cast_to(ragged.slice(2), schema))
    ] == [
        [0, 1, 2],
        None,
        [0, 1, 2, 3],
    ]


@pytest.mark.parametrize("values", [[np.ones((2, 3)), None], [np.ones(2), np.ones((3, 1)), None]])
def test_parquet_ipc_and_pickle_round_trips(tmp_path, values):
    block = block_of(*values)
    pq.write_table(block, tmp_path / "x.parquet")
    read = tensors.adopt(pq.read_table(tmp_path / "x.parquet"))
    assert read.schema.field("x").type == block.schema.field("x").type
    assert all(map(same, values_of(read), values))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as writer:
        writer.write_table(block.slice(1))
    assert all(map(same, values_of(pa.ipc.open_stream(sink.getvalue()).read_all()), values[1:]))
    assert all(map(same, values_of(pickle.loads(pickle.dumps(block))), values))


def ray_field(storage, name, metadata):
    described = {b"ARROW:extension:name": name, b"ARROW:extension:metadata": metadata}
    return pa.table([storage], schema=pa.schema([pa.field("x", storage.type, metadata=described)]))


@pytest.mark.parametrize(
    ("name", "kind"), [(b"ray.data.arrow_tensor", pa.list_), (b"ray.data.arrow_tensor_v2", pa.large_list)]
)
@pytest.mark.parametrize("rows", [[[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 3, 4], None, [5, 6, 7, 8]]])
def test_tensors_of_ray(tmp_path, name, kind, rows):
    table = ray_field(pa.array(rows, kind(pa.int32())), name, json.dumps([2, 2]).encode())
    pq.write_table(table, tmp_path / "x.parquet")
    read = tensors.adopt(pq.read_table(tmp_path / "x.parquet"))
    assert read.schema.field("x").type == pa.fixed_shape_tensor(pa.int32(), [2, 2])
    assert not read.schema.field("x").metadata
    expected = [None if row is None else np.array(row).reshape(2, 2) for row in rows]
    assert all(map(same, values_of(read), expected))
    assert all(map(same, values_of(tensors.adopt(table.slice(1))), expected[1:]))
    assert tensors.adopted_schema(table.schema) == read.schema


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_ragged_tensors_of_ray(kind):
    storage = pa.array(
        [{"data": [1.0, 2.0], "shape": [2, 1]}, None, {"data": [3.0], "shape": [1, 1]}],
        pa.struct([("data", kind(pa.float64())), ("shape", pa.list_(pa.int32()))]),
    )
    table = ray_field(storage, b"ray.data.arrow_variable_shaped_tensor", b"2")
    read = tensors.adopt(table)
    assert read.schema.field("x").type == tensors.RaggedTensorType(pa.float64())
    assert all(map(same, values_of(read), [np.array([[1.0], [2.0]]), None, np.array([[3.0]])]))
    assert all(map(same, values_of(tensors.adopt(table.slice(1))), [None, np.array([[3.0]])]))


def test_tensors_of_ray_without_values():
    table = ray_field(pa.array([[], []], pa.large_list(pa.int64())), b"ray.data.arrow_tensor_v2", b"[0, 3]")
    assert [value.shape for value in values_of(tensors.adopt(table))] == [(0, 3), (0, 3)]


def test_pickles_in_files_stay_bytes(tmp_path):
    block = from_rows([{"x": 1}, {"x": "a"}])
    pq.write_table(block, tmp_path / "x.parquet")
    read = tensors.adopt(pq.read_table(tmp_path / "x.parquet"))
    assert read.schema.field("x").type == pa.large_binary()


arrays = nps.arrays(
    dtype=st.sampled_from([np.int8, np.uint16, np.int64, np.float32, np.bool_]),
    shape=nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    elements={"allow_nan": False},
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(st.none(), arrays), min_size=1, max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_any_arrays_come_back(values, start, stop):
    block = block_of(*values)
    read = values_of(slice_rows(block, start, max(start, stop)))
    expected = values[start : max(start, stop)]
    assert len(read) == len(expected)
    for left, right in zip(read, expected, strict=True):
        assert (left is None) == (right is None)
        if right is not None:
            assert np.shape(left) == right.shape
            assert np.array_equal(np.asarray(left, np.float64), np.asarray(right, np.float64))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(st.one_of(st.none(), arrays), min_size=1, max_size=3), min_size=1, max_size=4))
def test_any_cut_into_blocks_unites(parts):
    whole = concat([block_of(*part) for part in parts])
    read = values_of(whole)
    for left, right in zip(read, [value for part in parts for value in part], strict=True):
        assert (left is None) == (right is None)
        if right is not None:
            assert np.shape(left) == right.shape
            assert np.array_equal(np.asarray(left, np.float64), np.asarray(right, np.float64))
