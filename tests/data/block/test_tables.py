"""Concatenation, slices, casts, sizes, and notes of files."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.errors import ArrowConversionError, SchemaConflictError
from skate.data._block.objects import PickledType, is_pickled, restore
from skate.data._block.rows import from_rows, iter_rows
from skate.data._block.schemas import merge_types
from skate.data._block.sources import has_sources, source_of, sources, with_sources, without_sources
from skate.data._block.tables import (
    cast_to,
    combine,
    compact,
    concat,
    empty,
    filter_rows,
    no_columns,
    public_schema,
    size_bytes,
    slice_rows,
    take_rows,
    unify_schemas,
)

# types between blocks


@pytest.mark.parametrize(
    ("left", "right", "merged"),
    [
        (pa.null(), pa.string(), pa.string()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.int64(), pa.float32(), pa.float64()),
        (pa.int8(), pa.float32(), pa.float32()),
        (pa.float16(), pa.float32(), pa.float32()),
        (pa.int8(), pa.int32(), pa.int32()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint32(), pa.int8(), pa.int64()),
        (pa.uint64(), pa.int64(), pa.uint64()),
        (pa.uint8(), pa.uint16(), pa.uint16()),
        (pa.decimal128(5, 2), pa.decimal128(7, 1), pa.decimal128(8, 2)),
        (pa.decimal128(5, 2), pa.float64(), pa.float64()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.string_view(), pa.string(), pa.string()),
        (pa.binary(), pa.binary(4), pa.binary()),
        (pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.timestamp("s", "UTC"), pa.timestamp("ms", "CET"), pa.timestamp("ms", "UTC")),
        (pa.duration("s"), pa.duration("ns"), pa.duration("ns")),
        (pa.time32("s"), pa.time64("us"), pa.time64("us")),
        (pa.date32(), pa.date64(), pa.date64()),
        (pa.list_(pa.null()), pa.list_(pa.int64()), pa.list_(pa.int64())),
        (pa.list_(pa.int64()), pa.large_list(pa.float64()), pa.large_list(pa.float64())),
        (pa.list_(pa.int64(), 2), pa.list_(pa.int64(), 3), pa.list_(pa.int64())),
        (pa.list_(pa.int64(), 2), pa.list_(pa.float64(), 2), pa.list_(pa.float64(), 2)),
        (
            pa.struct({"a": pa.int64(), "b": pa.null()}),
            pa.struct({"b": pa.string(), "c": pa.bool_()}),
            pa.struct({"a": pa.int64(), "b": pa.string(), "c": pa.bool_()}),
        ),
        (pa.map_(pa.string(), pa.int64()), pa.map_(pa.string(), pa.float64()), pa.map_(pa.string(), pa.float64())),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.string())),
        (PickledType(), pa.int64(), PickledType()),
    ],
)  # fmt: skip
def test_merged_types(left, right, merged):
    assert merge_types(left, right, "x") == merged
    tables = [pa.table({"x": empty(pa.schema({"x": type_})).column("x")}) for type_ in (left, right)]
    assert concat(tables).schema.field("x").type == merged
    other = merge_types(right, left, "x")
    if pa.types.is_timestamp(merged):
        assert other.unit == merged.unit
    elif not pa.types.is_struct(merged):
        assert other == merged


@pytest.mark.parametrize(
    ("left", "right", "column"),
    [
        (pa.int64(), pa.string(), "x"),
        (pa.bool_(), pa.int64(), "x"),
        (pa.string(), pa.binary(), "x"),
        (pa.timestamp("s"), pa.timestamp("s", "UTC"), "x"),
        (pa.date32(), pa.timestamp("s"), "x"),
        (
            pa.struct({"a": pa.struct({"b": pa.int64()})}),
            pa.struct({"a": pa.struct({"b": pa.string()})}),
            "x.a.b",
        ),
        (pa.list_(pa.int64()), pa.list_(pa.string()), "x[]"),
        (pa.struct({"a": pa.int64()}), pa.int64(), "x"),
        (pa.list_(pa.int64()), pa.fixed_shape_tensor(pa.int64(), [2]), "x"),
    ],
)
def test_conflicts_name_the_column_and_both_types(left, right, column):
    with pytest.raises(
        SchemaConflictError, match=r"column 'x.*' is .* in one block and .* in another"
    ) as caught:
        unify_schemas([pa.schema({"x": left}), pa.schema({"x": right})])
    assert caught.value.column == column
    assert pa.types.is_struct(left) or {str(caught.value.left), str(caught.value.right)} <= {
        str(type_) for side in (left, right) for type_ in (side, getattr(side, "value_type", side))
    }
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.column == column
    assert is_pickled(
        unify_schemas([pa.schema({"x": left}), pa.schema({"x": right})], "object").field("x").type
    )


def test_other_errors_travel():
    error = pickle.loads(pickle.dumps(ArrowConversionError("text", "x", pa.int64())))
    assert str(error) == str(ArrowConversionError("text", "x", pa.int64()))


def test_columns_that_are_missing_and_their_order():
    schema = unify_schemas(
        [pa.schema({"b": pa.int64()}), pa.schema({"a": pa.string(), "b": pa.null()}), pa.schema([]), pa.schema({"c": pa.null()})]
    )  # fmt: skip
    assert schema == pa.schema({"b": pa.int64(), "a": pa.string(), "c": pa.null()})
    assert unify_schemas([]) == pa.schema([])


def test_concat_of_what_differs():
    parts = [
        pa.table({"x": [1]}),
        pa.table({"x": [2.5], "y": ["a"]}),
        pa.table({}),
        pa.table({"y": pa.nulls(1)}),
        no_columns(2),
    ]
    whole = concat(parts)
    assert whole.to_pylist() == [
        {"x": 1.0, "y": None},
        {"x": 2.5, "y": "a"},
        {"x": None, "y": None},
        {"x": None, "y": None},
        {"x": None, "y": None},
    ]
    assert concat([]).num_rows == 0
    assert concat(parts[:1]) is parts[0]
    assert list(iter_rows(concat([no_columns(2), no_columns(1)]))) == [{}, {}, {}]


def test_structs_and_lists_that_differ():
    left = pa.table({"x": [{"a": 1, "l": [{"q": 1}]}], "t": pa.array([1], pa.timestamp("s"))})
    right = pa.table(
        {"x": [{"a": 1.5, "b": "z", "l": [{"q": None, "r": 2}]}], "t": pa.array([1], pa.timestamp("ms"))}
    )
    assert concat([left, right]).column("x").to_pylist() == [
        {"a": 1.0, "l": [{"q": 1, "r": None}], "b": None},
        {"a": 1.5, "l": [{"q": None, "r": 2}], "b": "z"},
    ]


def test_mixtures_across_blocks_as_objects():
    whole = concat([from_rows([{"x": 1}]), from_rows([{"x": "a"}, {"x": None}])], on_conflict="object")
    assert whole.column("x").to_pylist() == [1, "a", None]
    assert concat([whole, from_rows([{"x": 2}])]).column("x").to_pylist() == [1, "a", None, 2]


def test_nullability_and_field_metadata():
    left = pa.schema([pa.field("x", pa.int64(), nullable=False, metadata={"unit": "m"})])
    merged = unify_schemas([left, pa.schema({"x": pa.int64()})])
    assert merged.field("x").nullable
    assert merged.field("x").metadata == {b"unit": b"m"}
    table = pa.table([[1]], schema=left)
    assert concat([table, pa.table({"y": [1]})]).to_pylist() == [{"x": 1, "y": None}, {"x": None, "y": 1}]


def test_cast_refuses_to_drop_columns_and_to_overflow():
    with pytest.raises(ValueError, match="columns that the schema lacks: y"):
        cast_to(pa.table({"x": [1], "y": [1]}), pa.schema({"x": pa.int64()}))
    with pytest.raises(SchemaConflictError, match="column 'x' is int64 in one block and uint64 in another"):
        concat([pa.table({"x": [-1]}), pa.table({"x": pa.array([2**63], pa.uint64())})])
    assert (
        cast_to(pa.table({"x": pa.nulls(2)}), pa.schema({"x": PickledType()})).to_pylist()
        == [{"x": None}] * 2
    )


def test_big_ints_do_not_become_other_numbers():
    parts = [pa.table({"x": [2**60 + 1]}), pa.table({"x": [0.5]}), pa.table({"x": [None, 3]})]
    with pytest.raises(SchemaConflictError, match="column 'x' is int64 in one block and double in another"):
        concat(parts)
    whole = concat(parts, on_conflict="object")
    assert whole.column("x").to_pylist() == [2**60 + 1, 0.5, None, 3]
    parts = [with_sources(part, [(path, part.num_rows)]) for part, path in zip(parts, "abc", strict=True)]
    assert sources(concat(parts, on_conflict="object")) == [("a", 1), ("b", 1), ("c", 2)]


def test_tensors_that_become_objects_stay_arrays():
    whole = concat([from_rows([{"x": np.zeros((2, 2))}]), from_rows([{"x": "a"}])], on_conflict="object")
    assert np.array_equal(whole.column("x").to_pylist()[0], np.zeros((2, 2)))


def test_dictionaries():
    left = pa.table({"x": pa.array(["a", "b"]).dictionary_encode()})
    right = pa.table({"x": pa.array(["c", "a"]).dictionary_encode()})
    assert combine(concat([left, right])).column("x").to_pylist() == ["a", "b", "c", "a"]
    assert concat([left, pa.table({"x": ["z"]})]).column("x").to_pylist() == ["a", "b", "z"]


# offsets


@pytest.mark.parametrize(
    ("values", "wide"),
    [
        (pa.array(["abcd"] * 100), pa.large_string()),
        (pa.array([b"abcd"] * 100), pa.large_binary()),
        (pa.array([["abcd"]] * 100), pa.large_list(pa.large_string())),
        (pa.array([{"s": "abcd", "i": 1}] * 100), pa.struct({"s": pa.large_string(), "i": pa.int64()})),
        (pa.array(["abcd"] * 100, pa.large_string()), pa.large_string()),
        (pa.array(range(100)), pa.int64()),
    ],
)
def test_columns_above_the_limit_get_wide_offsets(values, wide):
    block = pa.table({"x": values, "y": range(100)})
    whole = concat([block] * 3, large_column_bytes=1000)
    assert whole.schema.field("x").type == wide
    assert whole.column("x").to_pylist() == values.to_pylist() * 3
    assert combine(whole).column("x").num_chunks == 1
    assert concat([block] * 3, large_column_bytes=1 << 20).schema.field("x").type == values.type
    assert whole.schema.field("y").type == pa.int64()


# slices


def test_slices_do_not_copy_and_keep_within_the_block():
    block = pa.table({"x": [1, 2, 3]})
    assert slice_rows(block, 0, 99) is block
    assert slice_rows(block, -5, 2).column("x").to_pylist() == [1, 2]
    assert slice_rows(block, 2, 1).num_rows == 0
    assert slice_rows(block, 7, 9).num_rows == 0
    assert slice_rows(no_columns(5), 1, 3).num_rows == 2
    assert (
        slice_rows(block, 1, 3).column("x").chunk(0).buffers()[1].address
        == block.column("x").chunk(0).buffers()[1].address
    )


# notes of files


def test_notes_follow_slices_concatenations_takes_and_filters():
    block = with_sources(pa.table({"x": list(range(6))}), [("a", 2), ("b", 1), ("c", 3)])
    assert sources(block) == [("a", 2), ("b", 1), ("c", 3)]
    assert [source_of(block, row) for row in range(-1, 7)] == ["", "a", "a", "b", "c", "c", "c", ""]
    assert sources(slice_rows(block, 1, 4)) == [("a", 1), ("b", 1), ("c", 1)]
    assert sources(slice_rows(block, 3, 3)) == []
    whole = concat([slice_rows(block, 4, 6), pa.table({"x": [1.5]}), block])
    assert sources(whole) == [("c", 2), ("", 1), ("a", 2), ("b", 1), ("c", 3)]
    assert sources(concat([block, block.slice(0, 0)])) == sources(block)
    assert sources(take_rows(block, [5, 0, 1])) == [("c", 1), ("a", 2)]
    assert sources(filter_rows(block, [True, False, None, True, True, False])) == [("a", 1), ("c", 2)]
    assert sources(cast_to(block, pa.schema({"x": pa.float64()}))) == sources(block)
    assert sources(compact(slice_rows(block, 0, 1))) == [("a", 1)]
    assert sources(combine(whole)) == sources(whole)


def test_notes_are_refused_removed_and_hidden():
    block = pa.table({"x": [1, 2]}).replace_schema_metadata({"mine": "1"})
    with pytest.raises(ValueError, match="runs of sources have 3 rows, the block has 2"):
        with_sources(block, [("a", 3)])
    noted = with_sources(block, [("ä/\U0001f600.png", 1), ("", 0), ("ä/\U0001f600.png", 1)])
    assert sources(noted) == [("ä/\U0001f600.png", 2)]
    assert public_schema(noted.schema).metadata == {b"mine": b"1"}
    assert without_sources(noted).schema.metadata == {b"mine": b"1"}
    assert has_sources(noted)
    assert not has_sources(block)
    assert sources(block) == []
    assert with_sources(noted, []).schema.metadata == {b"mine": b"1"}
    # Rows that Arrow drops leave notes that fit no longer; they count as none.
    assert sources(noted.slice(1)) == []
    assert source_of(noted.slice(1), 0) == ""


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=6), st.data())
def test_any_slice_has_the_files_of_its_rows(runs, data):
    files = [path for path, rows in runs for _ in range(rows)]
    block = with_sources(pa.table({"x": list(range(len(files)))}), runs)
    start = data.draw(st.integers(0, len(files)))
    stop = data.draw(st.integers(start, len(files)))
    part = slice_rows(block, start, stop)
    assert [source_of(part, row) for row in range(part.num_rows)] == files[start:stop]
    whole = concat([part, block, part])
    assert [source_of(whole, row) for row in range(whole.num_rows)] == files[start:stop] + files + files[
        start:stop
    ]


# spilled blocks


def test_blocks_in_arrow_files_are_restored():
    block = from_rows([{"x": 1, "t": np.zeros(2)}, {"x": "a", "t": np.zeros(3)}])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, block.schema) as writer:
        writer.write_table(block)
    read = restore(pa.ipc.open_file(sink.getvalue()).read_all())
    assert read.schema.equals(block.schema)
    assert [row["x"] for row in iter_rows(read)] == [1, "a"]
    assert restore(pa.table({"x": [1]})).to_pylist() == [{"x": 1}]


# against pandas

cells = st.one_of(
    st.none(), st.integers(-100, 100), st.floats(allow_nan=False, allow_infinity=False, width=32)
)
columns = st.sampled_from(["a", "b", "c"])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(st.dictionaries(columns, cells, min_size=1), max_size=4), min_size=1, max_size=5))
def test_concat_is_that_of_pandas(parts):
    blocks = [from_rows(part) for part in parts]
    rows = [row for part in parts for row in part]
    whole = concat(blocks)
    assert whole.num_rows == len(rows)
    if rows:
        expected = pd.DataFrame(rows, dtype=object)
        assert sorted(whole.column_names) == sorted(expected.columns)
        for name in whole.column_names:
            values = [None if pd.isna(value) else value for value in expected[name]]
            assert whole.column(name).to_pylist() == values
    assert size_bytes(whole) >= 0
