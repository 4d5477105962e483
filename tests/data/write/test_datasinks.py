"""Sinks of users' own, remote storage."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from skate.data._io.sink import Sink
from skate.data._io.writers.datasinks import DatasinkSink
from skate.data._io.writers.json_lines import JSONSink
from skate.data._io.writers.parquet import ParquetSink
from skate.data._task.operators import TaskContext
from skate.data.block import BlockAccessor
from skate.data.datasink import (
    BlockBasedFileDatasink,
    CommitError,
    Datasink,
    DummyOutputDatasink,
    FilenameProvider,
    RowBasedFileDatasink,
    TargetInUse,
    WriteResult,
)


def write(sink: Sink, *tasks: list[pa.Table]) -> None:
    sink.start(None)
    if not sink.is_needed():
        return
    sent: Sink = pickle.loads(pickle.dumps(sink))
    results = [sent.write(iter(blocks), TaskContext(f"0.{number}")) for number, blocks in enumerate(tasks)]
    sink.commit(results, None)


class Recorder(Datasink[int]):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_write_start(self) -> None:  # type: ignore[override]
        self.calls.append("start")

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> int:
        return 100 * ctx.task_idx + sum(block.num_rows for block in blocks)

    def on_write_complete(self, write_result: WriteResult[int]) -> None:
        self.calls.append(write_result)

    def on_write_failed(self, error: Exception) -> None:
        self.calls.append(error)

    @property
    def min_rows_per_write(self) -> int | None:
        return 7

    @property
    def supports_distributed_writes(self) -> bool:
        return False


def test_the_protocol() -> None:
    datasink = Recorder()
    sink = DatasinkSink(datasink)
    assert (sink.name, sink.min_rows, sink.one_task) == ("WriteRecorder", 7, True)
    table = pa.table({"x": [1, 2]})
    write(sink, [table], [table, table])
    assert datasink.calls == ["start", WriteResult(num_rows=6, size_bytes=48, write_returns=[2, 104])]
    error = ValueError("x")
    sink.abort(error)
    assert datasink.calls[-1] is error
    one = WriteResult(1, 2, [3])
    assert WriteResult.combine(one, one) == WriteResult(2, 4, [3, 3])


def test_wrong_datasinks() -> None:
    with pytest.raises(TypeError, match="give an instance, not the class"):
        DatasinkSink(Recorder)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="Datasink must define write"):
        Datasink[int]().write([], None)
    dummy = DummyOutputDatasink()
    write(DatasinkSink(dummy), [pa.table({"x": [1, 2]})])
    assert (dummy.num_ok, dummy.rows_written) == (1, 2)


class Texts(RowBasedFileDatasink):
    def write_row_to_file(self, row: dict[str, Any], file: Any) -> None:
        if row["t"] == "bad":
            raise RuntimeError("bad row")
        file.write(row["t"].encode())


class Lines(BlockBasedFileDatasink):
    def write_block_to_file(self, block: BlockAccessor, file: Any) -> None:
        file.write("\n".join(block.to_arrow()["t"].to_pylist()).encode())


class ByText(FilenameProvider):
    def get_filename_for_row(
        self, row: dict[str, Any], write_uuid: str, task_index: int, block_index: int, row_index: int
    ) -> str:
        return f"{row['t']}.txt"

    def get_filename_for_block(self, block: Any, write_uuid: str, task_index: int, block_index: int) -> str:
        return f"{block.num_rows}-{task_index}-{block_index}.txt"


def contents(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): file.read_text() for file in sorted(path.rglob("*")) if file.is_file()
    }


def test_files_of_a_users_format(tmp_path: Path) -> None:
    tables = [pa.table({"t": ["a", "b"]}), pa.table({"t": ["c"]})]
    write(DatasinkSink(Texts(str(tmp_path / "rows"), file_format="txt")), tables)
    assert sorted(contents(tmp_path / "rows").values()) == ["a", "b", "c"]
    assert all(name.endswith(".txt") for name in contents(tmp_path / "rows"))
    write(DatasinkSink(Texts(str(tmp_path / "named"), filename_provider=ByText())), tables)
    assert contents(tmp_path / "named") == {"a.txt": "a", "b.txt": "b", "c.txt": "c"}
    sink = DatasinkSink(Lines(str(tmp_path / "blocks"), filename_provider=ByText(), min_rows_per_file=3))
    assert sink.min_rows == 3
    write(sink, tables, tables)
    assert contents(tmp_path / "blocks") == {"3-0-0.txt": "a\nb\nc", "3-1-0.txt": "a\nb\nc"}
    ignored = DatasinkSink(Lines(str(tmp_path / "blocks"), mode="ignore"))
    write(ignored, tables)
    assert len(contents(tmp_path / "blocks")) == 2


def test_a_failure_in_a_users_format_leaves_nothing(tmp_path: Path) -> None:
    sink = DatasinkSink(Texts(str(tmp_path / "out"), file_format="txt"))
    sink.start(None)
    sink.write(iter([pa.table({"t": ["a"]})]), TaskContext("0.0"))
    with pytest.raises(RuntimeError, match="bad row") as caught:
        sink.write(iter([pa.table({"t": ["a", "bad"]})]), TaskContext("0.1"))
    sink.abort(caught.value)
    assert not (tmp_path / "out").exists()


# -- remote storage ------------------------------------------------------------------------------------------


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


def listed(url: str) -> list[str]:
    files = fsspec.filesystem("memory")
    return sorted(name.rpartition("/")[2] for name in files.find(url.removeprefix("memory://")))


def stored(url: str) -> list[int]:
    files = fsspec.filesystem("memory")
    return sorted(
        value
        for name in files.find(url.removeprefix("memory:/"))
        if name.endswith(".parquet") and "_skate" not in name
        for value in pq.read_table(files.open(name))["x"].to_pylist()
    )


def numbers(*values: int) -> pa.Table:
    return pa.table({"x": list(values)})


def run(sink: Sink, *tables: pa.Table) -> None:
    # Not pickled: the memory of fsspec is this process's.
    sink.start(None)
    sink.commit([sink.write(iter([table]), TaskContext(f"0.{n}")) for n, table in enumerate(tables)], None)


def test_write_to_fsspec(url: str) -> None:
    run(ParquetSink(url), numbers(1), numbers(2))
    assert stored(url) == [1, 2]
    run(ParquetSink(url), numbers(3))
    assert stored(url) == [1, 2, 3]
    with pytest.raises(ValueError, match="exists already"):
        run(ParquetSink(url, mode="error"), numbers(3))
    run(ParquetSink(url, mode="overwrite", partition_cols=["p"]), pa.table({"x": [4, 5], "p": [1, 2]}))
    assert stored(url) == [4, 5]
    assert len(listed(url)) == 2
    run(JSONSink(url, filesystem=fsspec.filesystem("memory")), numbers(6))
    assert len(listed(url)) == 3


def test_abort_on_fsspec(url: str) -> None:
    sink = ParquetSink(url)
    sink.start(None)
    sink.write(iter([numbers(1)]), TaskContext("0.0"))
    assert listed(url)
    sink.abort(RuntimeError())
    assert not listed(url)


def resumable(url: str, plan: Any) -> ParquetSink:
    sink = ParquetSink(url, resume=True)
    sink.identify(plan)
    return sink


def test_resume_on_fsspec(url: str) -> None:
    first = resumable(url, 1)
    first.start(None)
    for number in range(3):
        first.record(f"part {number}", [first.write(iter([numbers(number)]), TaskContext(f"0.{number}"))])
    first.abort(RuntimeError())
    second = resumable(url, 1)
    second.start(None)
    assert second.finished() == ["part 0", "part 1", "part 2"]
    second.commit([second.write(iter([numbers(9)]), TaskContext("0.0"))], None)
    assert stored(url) == [0, 1, 2, 9]
    third = resumable(url, 1)
    third.start(None)
    assert not third.is_needed()


def test_a_newer_driver_fences_an_older_one_off(url: str) -> None:
    older, newer = resumable(url, 1), resumable(url, 1)
    older.start(None)
    result = older.write(iter([numbers(1)]), TaskContext("0.0"))
    newer.start(None)  # in the same process: nothing tells that the older lives
    with pytest.raises(TargetInUse, match="has taken over"):
        older.commit([result], None)
    newer.commit([newer.write(iter([numbers(2)]), TaskContext("0.0"))], None)
    assert stored(url) == [2]


def test_write_to_a_filesystem_of_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    filesystem = pyarrow.fs.SubTreeFileSystem(str(tmp_path / "sub"), pyarrow.fs.LocalFileSystem())
    run(ParquetSink("out", filesystem=filesystem), numbers(1))
    assert pq.read_table(tmp_path / "sub" / "out")["x"].to_pylist() == [1]
    assert not (tmp_path / "sub" / "out" / "_skate").exists()
    run(ParquetSink(str(tmp_path / "local"), filesystem=pyarrow.fs.LocalFileSystem()), numbers(1))
    assert pq.read_table(tmp_path / "local").num_rows == 1
    run(ParquetSink(f"file://{tmp_path}/url"), numbers(1))
    assert pq.read_table(tmp_path / "url").num_rows == 1


def test_errors_travel() -> None:
    for error in (CommitError("x"), TargetInUse("y")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
