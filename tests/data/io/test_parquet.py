"""Parquet against pyarrow on the same files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.rows import from_rows
from skate.data._block.sources import sources
from skate.data._io.datasource import SourceHints
from skate.data._io.files.bundles import BundleLimits
from skate.data._io.readers.parquet import ParquetDatasource
from skate.data.datasource import Partitioning

Read = Callable[..., Any]
HIVE = Partitioning("hive")


class Above:
    """An expression ``column > value``, as ours are seen by a reader."""

    def __init__(self, column: str, value: Any, arrow: bool = True) -> None:
        self._column, self._value = column, value
        if arrow:
            self.to_pyarrow = lambda: pc.field(column) > value

    def columns(self) -> tuple[str, ...]:
        return (self._column,)

    def evaluate(self, block: pa.Table) -> Any:
        return pc.greater(block[self._column], self._value)


def table(rows: int = 1000) -> pa.Table:
    return pa.table(
        {
            "n": pa.array(range(rows), pa.int64()),
            "s": [None if number % 7 == 0 else f"text {number}" for number in range(rows)],
            "l": [[number] * (number % 3) for number in range(rows)],
        }
    )


def test_rows_schema_and_count(tmp_path: Path, read: Read) -> None:
    pq.write_table(table(), tmp_path / "a.parquet", row_group_size=300)
    pq.write_table(table(10), tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_text("not read")
    source = ParquetDatasource(tmp_path)
    result = read(source)
    assert result.rows == table().to_pylist() + table(10).to_pylist()
    assert source.schema() == table().schema
    assert source.num_rows() == 1010
    assert [run for block in result.blocks for run in sources(block)] == [
        (str(tmp_path / "a.parquet"), 1000),
        (str(tmp_path / "b.parquet"), 10),
    ]


def test_a_file_that_is_named_may_be_called_anything(tmp_path: Path, read: Read) -> None:
    pq.write_table(table(5), tmp_path / "data")
    assert read(ParquetDatasource(tmp_path / "data")).rows == table(5).to_pylist()


@pytest.mark.parametrize("columns", [["n"], ["l", "n"], ["s", "x"], ["x"], [], ["path", "n"]])
def test_columns(tmp_path: Path, read: Read, columns: list[str]) -> None:
    (tmp_path / "x=1").mkdir()
    pq.write_table(table(100), tmp_path / "x=1" / "a.parquet", row_group_size=30)
    options = {"include_paths": True, "partitioning": HIVE}
    full = read(ParquetDatasource(tmp_path, **options)).rows
    by_hint = ParquetDatasource(tmp_path, **options).with_hints(SourceHints(columns=tuple(columns)))
    assert read(by_hint).rows == [{name: row[name] for name in columns} for row in full]
    assert by_hint.schema().names == columns
    given_columns = ParquetDatasource(tmp_path, columns=columns, **options)
    wanted = columns if "path" in columns else [*columns, "path"]
    assert read(given_columns).rows == [{name: row[name] for name in wanted} for row in full]
    assert given_columns.schema().names == wanted
    assert [block.column_names for block in read(given_columns).blocks] == [wanted]


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    pq.write_table(table(5), tmp_path / "a.parquet")
    with pytest.raises(
        ValueError, match=r"columns: \['z'\] are not in .*a.parquet; it has \['n', 's', 'l'\]"
    ):
        ParquetDatasource(tmp_path, columns=["n", "z"])
    with pytest.raises(ValueError, match="twice"):
        ParquetDatasource(tmp_path, columns=["n", "n"])
    with pytest.raises(TypeError, match="columns must be"):
        ParquetDatasource(tmp_path, columns="n")
    with pytest.raises(TypeError, match="read_parquet has no option 'nonsense'"):
        ParquetDatasource(tmp_path, arrow_parquet_args={"nonsense": 1})
    with pytest.raises(ValueError, match="batch_size"):
        ParquetDatasource(tmp_path, arrow_parquet_args={"batch_size": 0})


@pytest.mark.parametrize("arrow", [True, False])
def test_predicates(tmp_path: Path, read: Read, arrow: bool) -> None:
    pq.write_table(table(), tmp_path / "a.parquet", row_group_size=100)
    source = ParquetDatasource(tmp_path).with_hints(
        SourceHints(columns=("s",), predicate=Above("n", 750, arrow))
    )
    assert read(source).rows == [{"s": row["s"]} for row in table().to_pylist() if row["n"] > 750]
    assert source.num_rows() is None


def test_predicates_skip_row_groups(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table(), tmp_path / "a.parquet", row_group_size=100)
    seen = []
    original = ParquetDatasource._batches

    def spy(self: Any, parquet: Any, group: int, columns: list[str]) -> Any:
        seen.append(group)
        return original(self, parquet, group, columns)

    monkeypatch.setattr(ParquetDatasource, "_batches", spy)
    read(ParquetDatasource(tmp_path).with_hints(SourceHints(predicate=Above("n", 750))))
    assert seen == [7, 8, 9]


def test_predicates_on_partitions_skip_files(tmp_path: Path, read: Read) -> None:
    for value in (1, 2, 3):
        (tmp_path / f"x={value}").mkdir()
        pq.write_table(table(3), tmp_path / f"x={value}" / "a.parquet")
    partitioning = Partitioning("hive", field_types={"x": int})
    source = ParquetDatasource(tmp_path, partitioning=partitioning).with_hints(
        SourceHints(columns=("n",), predicate=Above("x", 2))
    )
    result = read(source)
    assert len(result.tasks[0].metadata.input_files) == 1
    assert result.rows == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_predicate_and_limit(tmp_path: Path, read: Read) -> None:
    pq.write_table(table(), tmp_path / "a.parquet", row_group_size=100)
    source = ParquetDatasource(tmp_path).with_hints(SourceHints(predicate=Above("n", 500), limit=3))
    assert read(source).column("n") == [501, 502, 503]


def test_pyarrow_filter(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x=1").mkdir()
    pq.write_table(table(20), tmp_path / "x=1" / "a.parquet")
    args = {"filter": (pc.field("n") > 5) & (pc.field("x") == "1"), "batch_size": 4}
    source = ParquetDatasource(tmp_path, columns=["s"], partitioning=HIVE, arrow_parquet_args=args)
    assert read(source).rows == [{"s": row["s"]} for row in table(20).to_pylist() if row["n"] > 5]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 20))
def test_parts_give_every_row_once(rows: int, group: int, parts: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table(rows), Path(folder) / "a.parquet", row_group_size=group)
        tasks = ParquetDatasource(folder).get_read_tasks(parts)
        assert len(tasks) == parts
        found = [number for task in tasks for block in task() for number in block["n"].to_pylist()]
    assert found == list(range(rows))


def test_large_files_are_several_tasks(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ParquetDatasource, "limits", BundleLimits(most_bytes=4000, most_files=10, least_bytes=1)
    )
    pq.write_table(table(), tmp_path / "a.parquet", row_group_size=100)
    result = read(ParquetDatasource(tmp_path))
    assert len(result.tasks) > 2
    assert result.rows == table().to_pylist()


def test_files_whose_schemas_differ(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1.5]}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"a": pa.nulls(1), "c": [True]}), tmp_path / "3.parquet")
    assert read(ParquetDatasource(tmp_path)).rows == [
        {"a": 1.0, "b": "x", "c": None},
        {"a": 1.5, "b": None, "c": None},
        {"a": None, "b": None, "c": True},
    ]
    assert read(ParquetDatasource(tmp_path, columns=["b"])).column("b") == ["x", None, None]
    schema = pa.schema([("a", pa.float32()), ("d", pa.string())])
    result = read(ParquetDatasource(tmp_path, arrow_parquet_args={"schema": schema}))
    assert result.rows == [{"a": 1.0, "d": None}, {"a": 1.5, "d": None}, {"a": None, "d": None}]
    assert result.blocks[0].schema == schema


def test_metadata_of_pandas_and_of_fields_is_left_out(tmp_path: Path, read: Read) -> None:
    import pandas as pd

    pd.DataFrame({"a": [1, 2]}, index=["x", "y"]).to_parquet(tmp_path / "a.parquet")
    block = read(ParquetDatasource(tmp_path)).blocks[0]
    assert b"pandas" not in (block.schema.metadata or {})
    assert all(not field.metadata for field in block.schema)
    assert not ParquetDatasource(tmp_path).schema().metadata


def test_tensors(tmp_path: Path, read: Read) -> None:
    rows = [{"t": np.full((2, 3), number), "r": np.arange(number + 1)} for number in range(5)]
    pq.write_table(from_rows(rows), tmp_path / "a.parquet")
    for made, row in zip(read(ParquetDatasource(tmp_path)).rows, rows, strict=True):
        np.testing.assert_array_equal(made["t"], row["t"])
        np.testing.assert_array_equal(made["r"], row["r"])


def test_tensor_column_schema(tmp_path: Path, read: Read) -> None:
    arrays = [np.arange(6, dtype=np.int32).reshape(2, 3) + number for number in range(4)]
    pq.write_table(pa.table({"t": [array.tobytes() for array in arrays]}), tmp_path / "a.parquet")
    source = ParquetDatasource(tmp_path, tensor_column_schema={"t": (np.int32, (2, 3))})
    for made, array in zip(read(source).column("t"), arrays, strict=True):
        np.testing.assert_array_equal(made, array)
    assert source.schema().field("t").type == pa.fixed_shape_tensor(pa.int32(), [2, 3])
    wrong = ParquetDatasource(tmp_path, tensor_column_schema={"t": (np.int64, (2, 3))})
    with pytest.raises(ValueError, match="row 0 of column 't' has 24 bytes, .* has 48"):
        read(wrong)


def test_row_hashes(tmp_path: Path, read: Read) -> None:
    pq.write_table(table(), tmp_path / "a.parquet", row_group_size=300)
    first = read(ParquetDatasource(tmp_path, include_row_hash=True))
    assert len(set(first.column("row_hash"))) == 1000
    by_parts = read(ParquetDatasource(tmp_path, include_row_hash=True), parallelism=3)
    assert by_parts.column("row_hash") == first.column("row_hash")
    assert read(ParquetDatasource(tmp_path, columns=["n"], include_row_hash=True)).rows[3].keys() == {
        "n",
        "row_hash",
    }


def test_empty_files_keep_their_schema(tmp_path: Path, read: Read) -> None:
    pq.write_table(table(0), tmp_path / "a.parquet")
    result = read(ParquetDatasource(tmp_path))
    assert result.rows == []
    assert [block.schema.names for block in result.blocks] == [["n", "s", "l"]]
    assert ParquetDatasource(tmp_path).num_rows() == 0


def test_batches_are_cut_by_bytes_though_the_footer_says_little(tmp_path: Path, read: Read) -> None:
    # One value 200,000 times takes nearly no bytes in a file, and 200 MB in memory.
    pq.write_table(pa.table({"s": pa.repeat(pa.scalar("x" * 1000), 200_000)}), tmp_path / "a.parquet")
    [task] = ParquetDatasource(tmp_path).get_read_tasks()
    seen = 0
    for block in task():
        assert block.nbytes < 200e6
        seen += block.num_rows
    assert seen == 200_000
    with ParquetDatasource(tmp_path)._opened_path(str(tmp_path / "a.parquet")) as parquet:
        batch = next(ParquetDatasource(tmp_path)._batches(parquet, 0, ["s"]))
    assert batch.nbytes < 32 << 20


@pytest.mark.parametrize("kind", ["empty", "garbage", "cut", "other", "cut_inside"])
def test_broken_files(tmp_path: Path, read: Read, kind: str) -> None:
    good, bad = tmp_path / "b.parquet", tmp_path / "a.parquet"
    pq.write_table(table(), good)
    data = good.read_bytes()
    noise = random.Random(1).randbytes
    bad.write_bytes(
        {
            "empty": b"",
            "garbage": noise(5000),
            "cut": data[: len(data) // 2],
            "other": b"\x89PNG\r\n\x1a\n" + noise(500),
            "cut_inside": data[:100] + noise(3000) + data[3100:],
        }[kind]
    )
    with pytest.raises((ValueError, OSError), match=r"a\.parquet"):
        read(ParquetDatasource(tmp_path))
    result = read(ParquetDatasource(tmp_path, on_error="dead_letter"))
    assert result.rows[-1000:] == table().to_pylist()
    assert [letter.path for letter in result.letters] == [str(bad)]


def test_memory_filesystem(read: Read) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    with memory.open("/tables/a.parquet", "wb") as stream:
        pq.write_table(table(100), stream, row_group_size=10)
    source = ParquetDatasource("memory://tables").with_hints(SourceHints(predicate=Above("n", 90)))
    assert read(source).column("n") == list(range(91, 100))
    assert ParquetDatasource("memory://tables").num_rows() == 100
