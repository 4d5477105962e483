"""The names of ``ray.data.block``, ``datatype`` and ``extensions``."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from skate.data import block as block_module
from skate.data import extensions
from skate.data._block.batches import from_batch, to_batch
from skate.data._block.rows import iter_rows
from skate.data._block.sources import with_sources
from skate.data.block import BatchFormat, Block, BlockAccessor, BlockMetadata, BlockType
from skate.data.datatype import DataType, TypeCategory
from skate.data.extensions import (
    ArrowConversionError,
    ArrowPythonObjectArray,
    ArrowPythonObjectType,
    ArrowTensorArray,
    ArrowTensorType,
    ArrowVariableShapedTensorArray,
    ArrowVariableShapedTensorType,
    TensorArray,
    TensorDtype,
)

# block


@pytest.fixture
def accessor():
    return BlockAccessor.for_block(pa.table({"x": [3, 1, None, 2], "y": ["a", "b", "c", "d"]}))


def test_facts(accessor):
    assert accessor.num_rows() == 4
    assert accessor.size_bytes() == accessor.to_arrow().nbytes
    assert accessor.schema().names == ["x", "y"]
    assert accessor.column_names() == ["x", "y"]
    assert accessor.block_type() is BlockType.ARROW
    metadata = accessor.get_metadata(input_files=["a"])
    assert isinstance(metadata, BlockMetadata)
    assert (metadata.num_rows, metadata.size_bytes, metadata.input_files) == (4, accessor.size_bytes(), ["a"])
    assert Block is pa.Table
    assert BatchFormat("numpy") is BatchFormat.NUMPY


def test_formats(accessor):
    assert accessor.to_block() is accessor.to_default()
    assert accessor.to_pandas()["y"].tolist() == ["a", "b", "c", "d"]
    assert accessor.to_numpy("y").tolist() == ["a", "b", "c", "d"]
    assert list(accessor.to_numpy(["y"])) == ["y"]
    assert list(accessor.to_numpy()) == ["x", "y"]
    assert accessor.to_batch_format("numpy")["y"].tolist() == ["a", "b", "c", "d"]
    assert list(accessor.iter_rows(True))[1] == {"x": 1, "y": "b"}
    noted = BlockAccessor.for_block(with_sources(pa.table({"x": [1]}), [("a", 1)]))
    assert noted.to_arrow().schema.metadata is None
    assert noted.schema().metadata is None


@pytest.mark.parametrize(
    "value", [{"x": [1, 2]}, pd.DataFrame({"x": [1, 2]}), pa.record_batch({"x": [1, 2]})]
)
def test_blocks_of_other_kinds(value):
    assert BlockAccessor.for_block(value).num_rows() == 2
    assert BlockAccessor.batch_to_block(value).num_rows == 2
    assert BlockAccessor.batch_to_arrow_block(value).num_rows == 2
    with pytest.raises(ValueError, match="for_block returned a value of type int|of type int"):
        BlockAccessor.for_block(5)


def test_parts(accessor):
    assert accessor.slice(1, 3).column("y").to_pylist() == ["b", "c"]
    big = BlockAccessor.for_block(pa.table({"x": list(range(10_000))}))
    assert big.slice(0, 1, copy=True).get_total_buffer_size() < 100
    assert accessor.take([3, 0]).column("y").to_pylist() == ["d", "a"]
    assert accessor.take(np.array([1])).column("y").to_pylist() == ["b"]
    assert accessor.select(["y"]).column_names == ["y"]
    assert list(iter_rows(accessor.select([]))) == [{}] * 4
    assert accessor.drop(["y"]).column_names == ["x"]
    assert accessor.rename_columns({"x": "z"}).column_names == ["z", "y"]
    assert accessor.upsert_column("y", [1, 2, 3, 4]).column("y").to_pylist() == [1, 2, 3, 4]
    assert accessor.upsert_column("z", np.zeros((4, 2))).column_names == ["x", "y", "z"]
    assert accessor.random_shuffle(5).equals(accessor.random_shuffle(5))
    assert sorted(accessor.random_shuffle().column("y").to_pylist()) == ["a", "b", "c", "d"]
    assert accessor.sort("x").column("y").to_pylist() == ["b", "d", "a", "c"]
    assert accessor.sort([("x", "descending")]).column("y").to_pylist() == ["a", "d", "b", "c"]
    assert accessor.zip(pa.table({"x": [1] * 4, "z": [2] * 4})).column_names == ["x", "y", "x_1", "z"]


def test_parts_that_are_not_there(accessor):
    for call in (
        lambda: accessor.select(["q"]),
        lambda: accessor.drop(["q"]),
        lambda: accessor.rename_columns({"q": "r"}),
        lambda: accessor.sort("q"),
        lambda: accessor.to_numpy("q"),
        lambda: accessor.sum("q", True),
    ):
        with pytest.raises(ValueError, match="the block has no column 'q'; it has 'x', 'y'"):
            call()
    with pytest.raises(ValueError, match="several columns one name"):
        accessor.rename_columns({"x": "y"})
    with pytest.raises(ValueError, match="blocks of 4 and 1 rows"):
        accessor.zip(pa.table({"z": [1]}))


def test_aggregates(accessor):
    assert accessor.count("x") == 4
    assert accessor.count("x", ignore_nulls=True) == 3
    assert [getattr(accessor, name)("x", True) for name in ("sum", "min", "max", "mean")] == [6, 1, 3, 2.0]
    assert [getattr(accessor, name)("x", False) for name in ("sum", "min", "max", "mean")] == [None] * 4


def test_builder():
    builder = BlockAccessor.builder()
    builder.add({"x": 1})
    builder.add_block(pa.table({"x": [2, 3]}))
    builder.add_batch({"x": np.array([4])})
    assert (builder.num_rows(), builder.get_estimated_memory_usage()) == (4, 32)
    assert builder.build().to_pydict() == {"x": [1, 2, 3, 4]}
    assert builder.num_rows() == builder.build().num_rows == 0


def test_all_names_are_there():
    for module in (block_module, extensions):
        assert all(getattr(module, name) is not None for name in module.__all__)


# datatype


@pytest.mark.parametrize(
    ("type_", "text", "questions"),
    [
        (DataType.int64(), "arrow:int64", "integer numerical"),
        (DataType.uint64(), "arrow:uint64", "integer numerical uint64"),
        (DataType.float32(), "arrow:float", "floating numerical"),
        (DataType.string(), "arrow:string", "string"),
        (DataType.binary(), "arrow:binary", "binary"),
        (DataType.bool(), "arrow:bool", "boolean"),
        (DataType.from_numpy("float32"), "numpy:float32", "floating numerical"),
        (DataType(int), "python:int", "integer numerical"),
        (DataType(str), "python:str", "string"),
        (DataType(dict), "python:dict", ""),
        (DataType.list(DataType.int8()), "arrow:list<item: int8>", "list nested"),
        (DataType.large_list(DataType.int8()), "arrow:large_list<item: int8>", "list nested"),
        (DataType.fixed_size_list(DataType.int8(), 3), "arrow:fixed_size_list<item: int8>[3]", "list nested"),
        (DataType.struct([("a", DataType.int8())]), "arrow:struct<a: int8>", "struct nested"),
        (DataType.map(DataType.string(), DataType.int8()), "arrow:map<string, int8>", "map nested"),
        (DataType.temporal("timestamp", "ms", "UTC"), "arrow:timestamp[ms, tz=UTC]", "temporal"),
        (DataType.temporal("duration"), "arrow:duration[us]", "temporal"),
        (DataType.tensor((2, 3), DataType.float64()), None, "tensor"),
        (DataType.variable_shaped_tensor(DataType.float64(), 3), None, "tensor"),
        (DataType(pa.null()), "arrow:null", "null"),
    ],
)
def test_data_types(type_, text, questions):
    if text:
        assert repr(type_) == f"DataType({text})"
    names = (
        "integer", "numerical", "uint64", "floating", "string", "binary", "boolean", "list", "nested", "struct", "map",
        "temporal", "tensor", "null",
    )  # fmt: skip
    assert {name for name in names if getattr(type_, f"is_{name}_type")()} == set(questions.split())
    assert DataType.from_dtype(type_) is type_
    assert hash(type_) == hash(DataType(type_._physical_dtype))
    for category in TypeCategory:
        expected = (
            category.value in questions
            if category is not TypeCategory.LARGE_LIST
            else "large_list" in repr(type_)
        )
        assert type_.is_of(category) == expected
    assert isinstance(type_.to_arrow_dtype(), pa.DataType)
    assert isinstance(type_.to_numpy_dtype(), np.dtype)


def test_data_types_of_values_and_conversions():
    assert DataType.infer_dtype(5) == DataType.int64()
    assert DataType.infer_dtype([1.5]) == DataType.list(DataType.float64())
    assert DataType.infer_dtype(np.zeros((2, 2))) == DataType.tensor((2, 2), DataType.float64())
    assert DataType.infer_dtype(1j) == DataType(complex)
    assert DataType.from_dtype("int32") == DataType.from_numpy("int32")
    assert DataType.from_dtype(pd.ArrowDtype(pa.string())) == DataType.string()
    assert DataType(list).to_arrow_dtype([[1]]) == pa.list_(pa.int64())
    assert DataType(int).to_python_type() is int
    assert DataType.from_numpy("U5").to_arrow_dtype() == pa.string()
    with pytest.raises(ValueError, match="no class of Python"):
        DataType.int64().to_python_type()
    with pytest.raises(TypeError, match="not 5 of type int"):
        DataType(5)
    with pytest.raises(ValueError, match="'hours' is none of timestamp"):
        DataType.temporal("hours")
    with pytest.raises(NotImplementedError, match="cudf"):
        DataType.from_cudf(None)


# extensions


def test_arrow_types_stand_for_ours():
    type_ = ArrowTensorType((2, 3), pa.int64())
    assert type_ == pa.fixed_shape_tensor(pa.int64(), [2, 3])
    assert isinstance(type_, ArrowTensorType)
    assert not isinstance(pa.int64(), ArrowTensorType)
    array = ArrowTensorArray.from_numpy(np.zeros((4, 2, 3)))
    assert isinstance(array, ArrowTensorArray)
    assert not isinstance(array, ArrowVariableShapedTensorArray)
    ragged = ArrowVariableShapedTensorArray.from_numpy([np.zeros(2), np.zeros(2)])
    assert isinstance(ragged, ArrowVariableShapedTensorArray)
    assert isinstance(ragged.type, ArrowVariableShapedTensorType)
    assert ragged.type == ArrowVariableShapedTensorType(pa.float64(), 1)
    assert isinstance(ragged.type, extensions.get_arrow_extension_tensor_types())
    assert isinstance(ArrowTensorArray.from_numpy([np.zeros(1), np.zeros(2)]), ArrowVariableShapedTensorArray)
    with pytest.raises(ArrowConversionError, match="column 'x': the values have no fixed-width type"):
        ArrowTensorArray.from_numpy([np.array(["a"])], column_name="x")
    objects = ArrowPythonObjectArray.from_objects([1, "a", None])
    assert isinstance(objects, ArrowPythonObjectArray)
    assert isinstance(objects.type, ArrowPythonObjectType)
    assert objects.to_pylist() == [1, "a", None]


def test_tensor_arrays_in_frames():
    values = np.arange(12).reshape(3, 2, 2)
    frame = pd.DataFrame({"t": TensorArray(values), "r": TensorArray([np.zeros(1), None, np.zeros((2, 2))])})
    assert frame.dtypes["t"] == TensorDtype((2, 2), np.int64)
    assert frame.dtypes["r"].is_variable_shaped
    assert pd.api.types.pandas_dtype(frame.dtypes["t"].name) == frame.dtypes["t"]
    assert frame["r"].isna().tolist() == [False, True, False]
    assert np.array_equal(frame["t"][1], values[1])
    assert np.array_equal((frame["t"] * 2 + 1).iloc[2], values[2] * 2 + 1)
    assert (1 - frame["r"]).isna().tolist() == [False, True, False]
    assert np.array_equal((frame["t"] > 3).array.to_numpy(), values > 3)
    assert frame.equals(frame.copy())
    assert pd.concat([frame, frame]).shape == (6, 2)
    assert np.array_equal(frame[::-1]["t"].iloc[0], values[2])
    assert frame["t"].reindex([0, 9]).isna().tolist() == [False, True]
    assert frame["t"].astype("float32").dtype == TensorDtype((2, 2), np.float32)
    assert np.array_equal(frame["t"].sum(), values.sum(axis=0))
    assert np.asarray(frame["t"].array).shape == (3, 2, 2)
    assert "TensorDtype(shape=(2, 2), dtype=int64)" in str(frame["t"])
    assert extensions.column_needs_tensor_extension(pd.Series([np.zeros(1)]))
    assert not extensions.column_needs_tensor_extension(frame["t"])


def test_tensor_arrays_become_tensor_columns():
    values = np.arange(12).reshape(3, 2, 2)
    frame = pd.DataFrame({"t": TensorArray(values), "r": TensorArray([np.zeros(1), None, np.zeros((2, 2))])})
    block = from_batch(frame, "f")
    assert isinstance(block.schema.field("t").type, ArrowTensorType)
    assert isinstance(block.schema.field("r").type, ArrowVariableShapedTensorType)
    read = to_batch(block, "pandas")
    assert np.array_equal(read["t"][1], values[1])
    assert read["r"][1] is None
