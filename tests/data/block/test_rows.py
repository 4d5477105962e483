"""Rows to blocks and back: types, nulls, mixtures, missing keys."""

# ruff: noqa: DTZ001 - times without a zone are a case

import datetime as dt
import decimal
import enum
import uuid
from collections import OrderedDict, namedtuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.objects import PickledType, is_pickled
from skate.data._block.rows import from_rows, iter_rows, pickled_columns
from skate.data._block.schemas import NO_COLUMNS, public_schema


def column(*values):
    """Return type and values of a column that is made of rows."""
    block = from_rows([{"x": value} for value in values])
    return block.schema.field("x").type, [row["x"] for row in iter_rows(block)]


UTC = dt.timezone.utc


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Kind(str, enum.Enum):
    A = "a"


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("values", "type_", "read"),
    [
        ([1, 2], pa.int64(), [1, 2]),
        ([None, 1], pa.int64(), [None, 1]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([2.5, None, 1], pa.float64(), [2.5, None, 1.0]),
        ([2**60, 0.5], pa.float64(), [2.0**60, 0.5]),
        ([True, None], pa.bool_(), [True, None]),
        (["a", None], pa.string(), ["a", None]),
        ([b"a", bytearray(b"b")], pa.binary(), [b"a", b"b"]),
        ([None, None], pa.null(), [None, None]),
        ([2**63], pa.uint64(), [2**63]),
        ([[1], (2, 3), {4}, frozenset([5])], pa.list_(pa.int64()), [[1], [2, 3], [4], [5]]),
        ([{"a": 1}, OrderedDict(b="x")], None, [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        ([dt.datetime(2020, 1, 1), None], pa.timestamp("s"), [dt.datetime(2020, 1, 1), None]),
        (
            [dt.datetime(2020, 1, 1, 0, 0, 0, 5000)],
            pa.timestamp("ms"),
            [dt.datetime(2020, 1, 1, 0, 0, 0, 5000)],
        ),
        ([dt.datetime(2020, 1, 1, 0, 0, 0, 5)], pa.timestamp("us"), [dt.datetime(2020, 1, 1, 0, 0, 0, 5)]),
        (
            [dt.datetime(2020, 1, 1, tzinfo=UTC)],
            pa.timestamp("s", "UTC"),
            [dt.datetime(2020, 1, 1, tzinfo=UTC)],
        ),
        ([dt.date(2020, 1, 1)], pa.date32(), [dt.date(2020, 1, 1)]),
        ([dt.time(1, 2)], pa.time64("us"), [dt.time(1, 2)]),
        ([dt.timedelta(1)], pa.duration("us"), [dt.timedelta(1)]),
        ([decimal.Decimal("1.5"), decimal.Decimal("22.25")], pa.decimal128(4, 2), None),
        ([np.float32(1), None], pa.float32(), [1.0, None]),
        ([np.int8(1), np.int8(2)], pa.int8(), [1, 2]),
        ([np.int64(1), 2.5], pa.float64(), [1.0, 2.5]),
        ([np.bool_(True), False], pa.bool_(), [True, False]),
        ([np.str_("a"), "b"], pa.string(), ["a", "b"]),
        ([np.datetime64("2020-01-01"), None], pa.date32(), [dt.date(2020, 1, 1), None]),
        ([np.timedelta64(5, "h")], pa.duration("s"), [dt.timedelta(hours=5)]),
        ([pd.Timestamp(1), pd.NaT], pa.timestamp("ns"), [pd.Timestamp(1), None]),
        ([pd.NA, 1], pa.int64(), [None, 1]),
        ([Level.LOW], pa.int64(), [1]),
        ([Kind.A], pa.string(), ["a"]),
        ([Point(1, 2)], pa.list_(pa.int64()), [[1, 2]]),
        ([{}], pa.struct([]), [{}]),
        ([[]], pa.list_(pa.null()), [[]]),
    ],
)
def test_types_of_values(values, type_, read):
    found, out = column(*values)
    if type_ is not None:
        assert found == type_
    if read is not None:
        assert out == read
        assert list(map(type, out)) == list(map(type, read))


def test_nan_stays_nan_and_none_is_null():
    type_, out = column(float("nan"), None, 1.0)
    assert type_ == pa.float64()
    assert np.isnan(out[0])
    assert out[1:] == [None, 1.0]


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        [2**60 + 1, 0.5],
        [True, 1],
        [True, 1.5],
        [b"a", "b"],
        ["a", 1.5, None],
        [[1], 1],
        [{"a": 1}, {"a": "x"}],
        [[1, "a"]],
        [{1: 2}],
        [2**64],
        ["\ud800"],
        [Colour.RED, None],
        [complex(1, 2)],
        [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=UTC)],
        [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 5)],
        [uuid.UUID(int=5), 1],
        [int],
    ],
)
def test_other_mixtures_keep_each_value_and_are_counted(values):
    type_, out = column(*values)
    assert is_pickled(type_)
    assert out == values
    assert list(map(type, out)) == list(map(type, values))
    block = from_rows([{"x": value, "y": 1} for value in values])
    assert pickled_columns(block) == {"x": len([value for value in values if value is not None])}


def test_local_classes_and_functions_are_kept():
    class Local:
        five = 5

    _, out = column(Local, lambda: 6)
    assert out[0].five == 5
    assert out[1]() == 6


def test_what_cannot_be_pickled_names_column_and_row():
    with pytest.raises(TypeError, match=r"column 'x': row 1 holds a .*generator"):
        column(1, (number for number in range(3)))


def test_missing_keys_are_null_and_columns_come_in_order_of_appearance():
    block = from_rows([{"b": 1}, {"a": 2}, {"b": 3, "c": "x"}, {}])
    assert block.column_names == ["b", "a", "c"]
    assert block.to_pydict() == {
        "b": [1, None, 3, None],
        "a": [None, 2, None, None],
        "c": [None, None, "x", None],
    }


def test_same_number_of_keys_but_others():
    assert from_rows([{"a": 1}, {"b": 2}]).to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": 2}]


def test_rows_without_columns_keep_their_number():
    block = from_rows([{}, {}])
    assert list(iter_rows(block)) == [{}, {}]
    assert block.num_rows == 2
    assert public_schema(block.schema).names == []
    assert block.column_names == [NO_COLUMNS]


def test_no_rows():
    block = from_rows([])
    assert (block.num_rows, block.num_columns) == (0, 0)
    assert list(iter_rows(block)) == []


@pytest.mark.parametrize("row", [1, "a", [1], None])
def test_rows_that_are_no_dicts(row):
    with pytest.raises(TypeError, match="row 1 is of type"):
        from_rows([{"x": 1}, row])


def test_keys_that_are_no_strings():
    with pytest.raises(TypeError, match="key 5 of a row is of type int"):
        from_rows([{5: 1}])


def test_many_columns_and_many_rows():
    rows = [{f"c{number}": number * row for number in range(300)} for row in range(3)]
    assert list(iter_rows(from_rows(rows))) == rows
    rows = [{"x": number, "s": str(number)} for number in range(10_000)]
    assert list(iter_rows(from_rows(rows))) == rows


def test_rows_of_chunks_and_slices():
    block = pa.concat_tables([pa.table({"x": list(range(100))})] * 3).slice(50, 200)
    assert [row["x"] for row in iter_rows(block)] == [*range(50, 100), *range(100), *range(50)]


def test_pickled_type_travels():
    import pickle

    block = pickle.loads(pickle.dumps(from_rows([{"x": 1}, {"x": "a"}])))
    assert block.schema.field("x").type == PickledType()
    assert block.to_pylist() == [{"x": 1}, {"x": "a"}]
    assert str(PickledType()) == "object"


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.datetimes(),
    st.lists(st.integers(-5, 5), max_size=3),
    st.dictionaries(st.sampled_from("ab"), st.integers(-5, 5), max_size=2),
)


def holds(value, read):
    """Tell whether a value that was read is the one that was written, up to the promotions that are documented."""
    if isinstance(value, dict) and isinstance(read, dict):
        return {key: read.get(key) for key in value} == value and not any(
            read[key] for key in read if key not in value
        )
    return value == read and (type(value) is type(read) or {type(value), type(read)} == {int, float})


@settings(deadline=None, max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from("xyz"), scalars, max_size=3), max_size=8))
def test_every_value_comes_back(rows):
    out = list(iter_rows(from_rows(rows)))
    assert len(out) == len(rows)
    for row, read in zip(rows, out, strict=True):
        for key, value in row.items():
            is_float = isinstance(read[key], float) and isinstance(value, int)
            assert holds(float(value) if is_float else value, read[key])
        assert all(value is None for key, value in read.items() if key not in row)
