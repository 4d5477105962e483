"""Batches to blocks and back, exact sizes across blocks, and what a function may not return."""

import re
from collections import UserDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.batches import BATCH_FORMATS, from_batch, rebatch, to_batch
from skate.data._block.objects import is_pickled
from skate.data._block.rows import from_rows, iter_rows
from skate.data._block.sources import source_of, sources, with_sources
from skate.data._block.tables import no_columns


@pytest.fixture
def block():
    return from_rows(
        [
            {
                "i": number,
                "f": number / 2,
                "s": str(number),
                "b": number % 2 == 0,
                "l": [number] * number,
                "d": {"a": number},
                "t": np.full((2, 2), number),
                "r": np.arange(number),
                "o": number if number % 2 else str(number),
            }
            for number in range(5)
        ]
    )


# out


def test_numpy(block):
    batch = to_batch(block, "numpy")
    assert list(batch) == block.column_names
    assert {name: array.dtype.kind for name, array in batch.items()} == {
        "i": "i", "f": "f", "s": "O", "b": "b", "l": "O", "d": "O", "t": "i", "r": "O", "o": "O",
    }  # fmt: skip
    assert batch["t"].shape == (5, 2, 2)
    assert batch["d"][3] == {"a": 3}
    assert isinstance(batch["l"][3], np.ndarray)
    assert [len(cell) for cell in batch["r"]] == [0, 1, 2, 3, 4]
    assert batch["o"].tolist() == ["0", 1, "2", 3, "4"]
    assert list(to_batch(block, "default")) == list(batch)


def test_nulls_in_numpy():
    batch = to_batch(
        pa.table({"i": [1, None], "b": [True, None], "s": ["a", None], "n": pa.nulls(2)}), "numpy"
    )
    assert batch["i"].dtype == np.float64
    assert np.isnan(batch["i"][1])
    assert batch["b"].tolist() == [True, None]
    assert batch["s"].tolist() == ["a", None]
    assert batch["n"].tolist() == [None, None]


def test_numpy_is_read_only_without_copies_and_writable_when_asked(block):
    batch = to_batch(block, "numpy")
    assert batch["i"].__array_interface__["data"][0] == block.column("i").chunk(0).buffers()[1].address
    for name in ("i", "f", "t"):
        with pytest.raises(ValueError, match="read-only"):
            batch[name][0] = 7
    writable = to_batch(block, "numpy", writable=True)
    for name in ("i", "f", "t", "b"):
        writable[name][0] = 1
    writable["r"][1][0] = 9
    writable["l"][1][0] = 9
    writable["s"][0] = "new"
    assert next(iter_rows(block))["i"] == 0
    assert [row["r"].tolist() for row in iter_rows(block)][1] == [0]
    assert block.column("l").to_pylist()[1] == [1]
    assert to_batch(block.slice(0, 1), "numpy")["t"].tolist() == [[[0, 0], [0, 0]]]


def test_pandas(block):
    frame = to_batch(block, "pandas")
    assert frame.columns.tolist() == block.column_names
    assert str(frame.dtypes["i"]) == "int64[pyarrow]"
    assert str(frame.dtypes["s"]) == "string[pyarrow]"
    assert str(frame.dtypes["l"]) == "list<item: int64>[pyarrow]"
    assert str(frame.dtypes["t"]) == "object"
    assert frame["t"][3].tolist() == [[3, 3], [3, 3]]
    frame.loc[0, "i"] = 70
    assert next(iter_rows(block))["i"] == 0
    writable = to_batch(block, "pandas", writable=True)
    writable["t"][0][0, 0] = 9
    assert next(iter_rows(block))["t"][0, 0] == 0


@pytest.mark.parametrize("batch_format", ["pyarrow", None])
def test_tables_have_no_notes_of_ours(block, batch_format):
    noted = with_sources(block, [("a.csv", 5)])
    assert to_batch(noted, batch_format).schema.metadata is None
    assert to_batch(block, batch_format) is block


def test_rows_without_columns():
    assert to_batch(no_columns(3), "numpy") == {}
    assert to_batch(no_columns(3), "pandas").shape == (3, 0)
    assert from_batch(pd.DataFrame(index=range(3)), "f").num_rows == 3
    assert from_batch({}, "f").num_rows == 0


def test_unknown_format(block):
    with pytest.raises(
        ValueError, match=r"batch_format='torch' is not supported: choose one of 'default', 'numpy'"
    ):
        to_batch(block, "torch")


@pytest.mark.parametrize("batch_format", BATCH_FORMATS)
@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("cut", [slice(None), slice(2, 4), slice(0, 0)])
def test_identity_keeps_rows(block, batch_format, writable, cut):
    part = block.slice(cut.start or 0, None if cut.stop is None else cut.stop - (cut.start or 0))
    read = from_batch(to_batch(part, batch_format, writable), "f")
    for left, right in zip(iter_rows(part), iter_rows(read), strict=True):
        assert {name: np.asarray(value).tolist() for name, value in left.items()} == {
            name: np.asarray(value).tolist() for name, value in right.items()
        }


# in


def test_columns_of_a_dict():
    block = from_batch(
        UserDict(
            a=[1, None],
            b=np.array([1.5, np.nan]),
            c=range(2),
            d=(1, 2.5),
            e=pd.Series(["x", None]),
            f=pa.array([b"1", b"2"]),
            g=pa.chunked_array([[1], [2]]),
            h=np.zeros((2, 3)),
            i=np.array(["x", "yy"]),
            j=np.array([1, "a"], dtype=object),
            k=[np.zeros(1), np.zeros(2)],
            l=np.array(["2020-01-01", "NaT"], "M8[s]"),
            m=pd.Index([1, 2]),
            n=np.array([b"1", b"2"]),
            o=np.array([[1, "a"], [None, 2]], dtype=object),
        ),
        "f",
    )
    types = {field.name: field.type for field in block.schema}
    assert is_pickled(types.pop("j"))
    assert is_pickled(types.pop("o"))
    assert str(types.pop("k")) == "ragged_tensor[double]"
    assert types == {
        "a": pa.int64(), "b": pa.float64(), "c": pa.int64(), "d": pa.float64(), "e": pa.string(), "f": pa.binary(),
        "g": pa.int64(), "h": pa.fixed_shape_tensor(pa.float64(), [3]), "i": pa.string(), "l": pa.timestamp("s"),
        "m": pa.int64(), "n": pa.binary(),
    }  # fmt: skip
    assert np.isnan(block.column("b").to_pylist()[1])
    assert block.column("l").null_count == 1


def test_frames():
    frame = pd.DataFrame(
        {
            "i": [1, 2],
            "f": [1.0, np.nan],
            "s": ["a", None],
            "o": [1, "x"],
            "c": pd.Categorical(["a", "b"]),
            "z": pd.to_datetime(["2020-01-01", None]).tz_localize("UTC"),
            "n": pd.array([1, None], dtype="Int64"),
            "l": [[1], [2, 3]],
            "t": [np.zeros(2), np.ones(2)],
            "mixed": ["a", np.nan],
            5: [True, False],
            "arrow": pd.array(["a", None], dtype=pd.ArrowDtype(pa.string())),
        },
        index=[7, 8],
    )
    block = from_batch(frame, "f")
    assert block.schema.metadata is None
    assert {field.name: str(field.type) for field in block.schema if field.name not in "ot"} == {
        "i": "int64", "f": "double", "s": "string", "n": "int64", "l": "list<item: int64>", "mixed": "string",
        "c": "dictionary<values=string, indices=int8, ordered=0>", "z": "timestamp[us, tz=UTC]", "5": "bool",
        "arrow": "string",
    }  # fmt: skip
    rows = list(iter_rows(block))
    assert rows[1]["f"] is None
    assert rows[1]["z"] is None
    assert rows[1]["mixed"] is None
    assert [row["o"] for row in rows] == [1, "x"]
    assert rows[1]["t"].tolist() == [1, 1]
    again = to_batch(block, "pandas")
    assert from_batch(again, "f").equals(block)


def test_tables_of_others():
    polars = pytest.importorskip("polars")
    block = from_batch(polars.DataFrame({"a": ["x"], "b": [[1]]}), "f")
    assert block.schema.field("a").type in (pa.string(), pa.large_string())
    assert block.to_pylist() == [{"a": "x", "b": [1]}]
    assert from_batch(pa.record_batch({"a": [1]}), "f").to_pylist() == [{"a": 1}]


def test_tables_of_frames_lose_the_metadata_of_the_frame():
    table = pa.Table.from_pandas(pd.DataFrame({"x": [1]}))
    assert from_batch(table, "f").schema.metadata is None
    assert from_batch(table.replace_schema_metadata({"a": "b", "pandas": "{}"}), "f").schema.metadata == {
        b"a": b"b"
    }
    plain = pa.table({"x": [1]})
    assert from_batch(plain, "f") is plain


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (1, "of type int"),
        (None, "Does the function end without a return"),
        ([{"x": 1}], "use flat_map for a list of rows"),
        ("abc", "of type str"),
        ({"x": 1}, "column 'x' is a single value of type int"),
        ({"x": "abc"}, "column 'x' is a single value of type str"),
        ({"x": None}, "column 'x' is a single value of type NoneType"),
        ({"x": np.array(5)}, "column 'x' is a single value of type ndarray"),
        ({"x": {"a": 1}}, "column 'x' is a single value of type dict"),
        ({"x": {1, 2}}, "column 'x' is a single value of type set"),
        ({"x": [1], "y": [1, 2]}, "'x' has 1, 'y' has 2 rows"),
        ({1: [2]}, "name, 1, is not of type str"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column of the name 'a'"),
        (pa.table([[1], [2]], names=["a", "a"]), "more than one column of the name 'a'"),
    ],
)
def test_wrong_returns_name_the_function(batch, message):
    with pytest.raises(ValueError, match=rf"MapBatches\(f\) returned .*{re.escape(message)}"):
        from_batch(batch, "MapBatches(f)")


def test_an_array_that_is_filled_again_is_copied():
    out = np.zeros(2)
    view = np.zeros((2, 4))[:, :2]
    blocks = []
    for number in range(3):
        out[:] = number
        view[:] = number
        blocks.append(from_batch({"x": out, "y": out[:1].repeat(2), "z": view, "w": out[:2]}, "f"))
    for number, block in enumerate(blocks):
        assert block.column("x").to_pylist() == [number] * 2
        assert block.column("y").to_pylist() == [number] * 2
        assert to_batch(block, "numpy")["z"].tolist() == [[number] * 2] * 2
        assert block.column("w").to_pylist() == [number] * 2


def test_an_array_that_nobody_else_holds_is_not_copied():
    addresses = []

    def made(array):
        addresses.append(array.__array_interface__["data"][0])
        return {"x": array}

    whole = from_batch(made(np.ones(1000)), "f")
    view = from_batch(made(np.ones((10, 100)).reshape(1000)), "f")
    assert [block.column("x").chunk(0).buffers()[1].address for block in (whole, view)] == addresses


# sizes


def sizes(blocks, *args, **options):
    return [block.num_rows for block in rebatch(iter(blocks), *args, **options)]


def test_exact_sizes():
    two = pa.table({"x": [1, 2]})
    assert sizes([two] * 5, 4) == [4, 4, 2]
    assert sizes([two] * 5, 4, drop_last=True) == [4, 4]
    assert sizes([pa.table({"x": list(range(9))})], 1024) == [9]
    assert sizes([two, two.slice(0, 0), two], None) == [2, 2]
    assert sizes([two.slice(0, 0)] * 3, 4) == []
    assert sizes([], 4) == []
    with pytest.raises(ValueError, match="batch_size=0"):
        sizes([two], 0)


def test_a_block_is_taken_only_when_it_is_needed():
    taken = []

    def blocks():
        for number in range(4):
            taken.append(number)
            yield pa.table({"x": [number] * 3})

    batches = rebatch(blocks(), 2)
    next(batches)
    assert taken == [0]
    next(batches)
    assert taken == [0, 1]


def test_batches_inside_a_block_are_slices_and_others_are_one_chunk():
    block = pa.table({"x": list(range(10))})
    batches = list(rebatch(iter([block, block]), 4))
    address = block.column("x").chunk(0).buffers()[1].address
    assert batches[0].column("x").chunk(0).buffers()[1].address == address
    assert all(batch.column("x").num_chunks == 1 for batch in batches)


def test_batches_keep_notes_of_files():
    blocks = [with_sources(pa.table({"x": [1, 2, 3]}), [(path, 3)]) for path in "ab"]
    batches = list(rebatch(iter(blocks), 4))
    assert [sources(batch) for batch in batches] == [[("a", 3), ("b", 1)], [("b", 2)]]
    assert source_of(batches[0], 3) == "b"


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False)), max_size=7),
        max_size=7,
    ),
    st.integers(1, 9),
    st.booleans(),
)
def test_any_cut_gives_the_same_batches(parts, batch_size, drop_last):
    blocks = [from_rows([{"x": value} for value in part]) for part in parts]
    values = [value for part in parts for value in part]
    got = [list(batch.column("x").to_pylist()) for batch in rebatch(iter(blocks), batch_size, drop_last)]
    expected = [values[start : start + batch_size] for start in range(0, len(values), batch_size)]
    if drop_last and expected and len(expected[-1]) < batch_size:
        expected.pop()
    assert got == expected
