"""All files of a Parquet write have one schema, on both ports; what has none is an error before anything is visible."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conftest
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

import skate.data
from skate.data import DataContext
from skate.data._io.commit_points import VARIABLE
from skate.data._io.writers import file_sink
from skate.data.datasource import Datasink
from skate.data.exceptions import SchemaMismatchError

Row = dict[str, Any]


@pytest.fixture(params=["local", "skate"])
def context(request: pytest.FixtureRequest) -> Iterator[DataContext]:
    """Settings with which everything runs on one port."""
    before = DataContext.get_current()
    made = DataContext()
    made.enable_progress_bars = False
    if request.param == "skate":
        request.getfixturevalue("session")
        made.local_limit_bytes = 0
    DataContext._set_current(made)
    yield made
    DataContext._set_current(before)


def written(path: Path) -> list[Path]:
    """Return the files that others see. Workers of a write that has failed may still rename things in ``_skate``."""
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "_skate"]
        found += [Path(folder, name) for name in names if name.endswith(".parquet")]
    return sorted(found)


def schemas(path: Path) -> list[dict[str, str]]:
    """Return the columns and types of the files in a folder."""
    return [{field.name: str(field.type) for field in pq.read_schema(file)} for file in written(path)]


def write(function: Callable[[Row], Row], path: Path, **options: Any) -> None:
    """Write four parts of five rows, each by a task of its own."""
    rows = skate.data.range(20, override_num_blocks=4).map(function)
    rows.write_parquet(str(path), resume=True, **options)  # so that the local port makes several files, too


DRIFTS: dict[str, tuple[Callable[[Row], Any], str]] = {
    "no value in some parts": (lambda row: None if row["id"] % 10 < 5 else "text", "string"),
    "whole numbers and fractions": (lambda row: row["id"] if row["id"] < 10 else row["id"] / 2, "double"),
    "structs with other fields": (
        lambda row: {"a": 1} if row["id"] < 5 else {"b": "x"},
        "struct<a: int64, b: string>",
    ),
    "lists of nothing": (lambda row: [] if row["id"] < 15 else [1.5], "list<element: double>"),
    "small and large integers": (lambda row: np.int8(1) if row["id"] < 5 else np.int64(2), "int64"),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_types_are_those_of_all_rows(context: DataContext, tmp_path: Path, name: str) -> None:
    value, type_ = DRIFTS[name]
    write(lambda row: {**row, "x": value(row)}, tmp_path / "out")
    assert schemas(tmp_path / "out") == [{"id": "int64", "x": type_}] * 4
    # Not by our own reader: it puts schemas together itself.
    table = pads.dataset(tmp_path / "out").to_table().sort_by("id")
    expected = pa.array([value({"id": number}) for number in range(20)], table.schema.field("x").type)
    assert table["x"].to_pylist() == expected.to_pylist()


def test_columns_that_parts_lack_are_null(context: DataContext, tmp_path: Path) -> None:
    write(lambda row: {**row, f"of_{row['id'] // 5}": 1}, tmp_path / "out")
    names = {"id", "of_0", "of_1", "of_2", "of_3"}
    assert [found.keys() for found in schemas(tmp_path / "out")] == [names] * 4
    table = pads.dataset(tmp_path / "out").to_table()
    assert table.num_rows == 20
    assert [table[f"of_{part}"].null_count for part in range(4)] == [15] * 4


def test_partitions(context: DataContext, tmp_path: Path) -> None:
    write(
        lambda row: {**row, "even": row["id"] % 2 == 0, "x": None if row["id"] < 5 else "text"},
        tmp_path / "out",
        partition_cols=["even"],
    )
    assert schemas(tmp_path / "out") == [{"id": "int64", "x": "string"}] * 8
    table = pads.dataset(tmp_path / "out", partitioning="hive").to_table()
    assert table.num_rows == 20 and table["x"].null_count == 5


def test_on_another_filesystem(context: DataContext) -> None:
    """Staged files are moved and replaced there, not renamed."""
    context.local_limit_bytes = 1 << 20  # its memory is that of this process
    memory = fsspec.filesystem("memory")
    path = f"/one-schema-{id(context)}"
    rows = skate.data.range(20, override_num_blocks=4).map(
        lambda row: {"id": 20 // (row["id"] % 10), "x": None if row["id"] < 5 else 1}, on_error="dead_letter"
    )
    for _ in range(2):  # the second finds that all is done
        rows.write_parquet(path, filesystem=memory, resume=True)
        assert [row["row"]["id"] for row in rows.dead_letters().take_all()] == [0, 10]
    files = [name for name in memory.find(path) if name.endswith(".parquet")]
    assert [str(pq.read_schema(memory.open(name)).field("x").type) for name in files] == ["int64"] * 4
    assert sum(pq.read_table(memory.open(name)).num_rows for name in files) == 18
    memory.rm(path, recursive=True)


def test_arguments_of_the_writer_hold_for_files_that_are_written_again(
    context: DataContext, tmp_path: Path
) -> None:
    write(
        lambda row: {**row, "x": None if row["id"] < 10 else 1},
        tmp_path / "out",
        compression="zstd",
        row_group_size=2,
    )
    for file in written(tmp_path / "out"):
        facts = pq.ParquetFile(file).metadata
        assert [facts.row_group(number).num_rows for number in range(facts.num_row_groups)] == [2, 2, 1]
        assert facts.row_group(0).column(0).compression == "ZSTD"


def test_files_that_agree_are_not_looked_at(
    context: DataContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(file_sink, "make_uniform", lambda *given: looked.append(given) or 0)
    write(lambda row: row, tmp_path / "same")
    assert not looked
    write(lambda row: {"x": None if row["id"] < 5 else 1}, tmp_path / "other")
    assert len(looked) == 1


def test_a_conflict_names_the_files_the_column_and_the_types(context: DataContext, tmp_path: Path) -> None:
    for name, value in (("a.csv", "1"), ("b.csv", "one")):
        (tmp_path / name).write_text(f"x\n{value}\n")
    rows = skate.data.read_csv([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], override_num_blocks=2)
    rows = rows.map_batches(lambda batch: batch)
    for resume in (False, True):
        with pytest.raises(SchemaMismatchError) as raised:
            rows.write_parquet(str(tmp_path / "out"), resume=resume)
        text = str(raised.value)
        assert "WriteParquet: the column 'x' is " in text and "Nothing of this write is visible" in text
        for part in (f"int64 in rows of {tmp_path}/a.csv", f"string in rows of {tmp_path}/b.csv"):
            assert part in text
        assert not written(tmp_path / "out")
        assert (tmp_path / "out").exists() == resume  # what can be resumed keeps what is staged


def test_a_conflict_ends_the_write_at_once(tmp_path: Path) -> None:
    """Not after hours, when all rows are there."""
    ran: list[int] = []

    def value(row: Row) -> Row:
        ran.append(row["id"])
        return {"x": "text" if row["id"] else 1}

    rows = skate.data.range(50, override_num_blocks=50).map(value)
    with pytest.raises(SchemaMismatchError, match="'x' is int64 in block 0 of task .* and string in block 0"):
        rows.write_parquet(str(tmp_path / "out"), resume=True)
    assert max(ran) < 5


def test_conflicts_become_objects_if_that_is_wanted(context: DataContext, tmp_path: Path) -> None:
    context.on_schema = "object"
    write(lambda row: {**row, "x": row["id"] if row["id"] % 10 else "ten"}, tmp_path / "out")
    assert schemas(tmp_path / "out") == [{"id": "int64", "x": "large_binary"}] * 4
    table = pads.dataset(tmp_path / "out").to_table().sort_by("id")
    import pickle

    # Once: a file that had such a column already is not pickled again.
    assert [pickle.loads(cell) for cell in table["x"].to_pylist()] == [
        number if number % 10 else "ten" for number in range(20)
    ]


@pytest.mark.parametrize("resume", [False, True])
def test_any_difference_is_an_error_if_that_is_wanted(
    context: DataContext, tmp_path: Path, resume: bool
) -> None:
    context.on_schema = "error"
    rows = skate.data.range(20, override_num_blocks=4)
    differ = rows.map(lambda row: {"x": None if row["id"] < 5 else 1})
    with pytest.raises(SchemaMismatchError, match="the column 'x' is (null|int64) in .* and (null|int64) in"):
        differ.write_parquet(str(tmp_path / "out"), resume=resume)
    assert not written(tmp_path / "out")
    rows.map(lambda row: {"x": 1}).write_parquet(str(tmp_path / "same"), resume=resume)
    assert pads.dataset(tmp_path / "same").count_rows() == 20


def test_rows_for_a_sink_of_ones_own_are_compared_too(context: DataContext) -> None:
    class Nowhere(Datasink[None]):
        def write(self, blocks: Any, ctx: Any) -> None:
            for _ in blocks:
                pass

    rows = skate.data.range(20, override_num_blocks=4).map(lambda row: {"x": None if row["id"] < 5 else 1})
    rows.write_datasink(Nowhere())
    context.on_schema = "error"
    rows = skate.data.range(20, override_num_blocks=4).map(lambda row: {"x": None if row["id"] < 5 else 1})
    with pytest.raises(SchemaMismatchError, match="the column 'x' is"):
        rows.write_datasink(Nowhere())


def test_parts_of_an_earlier_run_count(context: DataContext, tmp_path: Path) -> None:
    """They are staged files; only these say which columns they have."""
    path, broken = tmp_path / "out", tmp_path / "broken"

    def value(row: Row) -> Row:
        if row["id"] == 15 and os.path.exists(broken):
            while not recorded():  # parts before it, which other processes write
                threading.Event().wait(0.01)
            raise ValueError("not yet")
        return {**row, "x": None if row["id"] < 10 else 1}

    def recorded() -> list[Path]:
        return list((path / "_skate" / "resume").glob("manifest-*"))

    broken.touch()
    with pytest.raises(ValueError, match="not yet"):
        write(value, path)
    assert recorded()
    broken.unlink()
    write(value, path)
    assert schemas(path) == [{"id": "int64", "x": "int64"}] * 4


def test_a_conflict_with_parts_of_an_earlier_run_names_their_files(tmp_path: Path) -> None:
    path, later = tmp_path / "out", tmp_path / "later"

    def value(row: Row) -> Row:
        if row["id"] == 15 and not later.exists():
            raise ValueError("not yet")
        return {"x": "text" if later.exists() else 1}

    with pytest.raises(ValueError, match="not yet"):
        write(value, path)
    later.touch()
    with pytest.raises(
        SchemaMismatchError, match=r"'x' is int64 in the file \S+.parquet and string in the file"
    ):
        write(value, path)
    assert not written(path)


@pytest.mark.parametrize("times", [1, 2])
def test_killed_while_files_are_written_again(server: conftest.Server, tmp_path: Path, times: int) -> None:
    path = tmp_path / "out"
    order = {"path": str(path), "drift": True}
    for _ in range(times):
        killed = server.run(**order, environment={VARIABLE: "files_made_uniform"})
        assert killed == -signal.SIGKILL, server.errors()
        assert not written(path)
    assert server.run(**order) == 0, server.errors()
    expected = {"id": "int64", "x": "double", **{f"of_{part}": "int64" for part in range(6)}}
    assert schemas(path) == [expected] * 6
    table = pads.dataset(path).to_table().sort_by("id").to_pylist()
    assert [(row["id"], row["of_3"]) for row in table] == [
        (number, 3 if number // 10 == 3 else None) for number in range(60)
    ]
    assert [row["x"] for row in table[::10]] == [None, 1.0, 1.0, None, 4.0, 2.5]
    assert [file.name for file in (path / "_skate").rglob("*") if file.is_file()] == ["done.json"]
