"""Modes, messages, what is left after a failure, and changed plans."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import play
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skate.data._io.commit_staging import HIDDEN
from skate.data._io.sink import Sink
from skate.data._io.writers.csv_files import CSVSink
from skate.data._io.writers.json_lines import JSONSink
from skate.data._io.writers.parquet import ParquetSink
from skate.data._task.operators import TaskContext
from skate.data.datasink import CommitError, FilenameProvider, PlanChanged, SaveMode

SCHEMA = pa.schema([("x", pa.int64())])


def write(sink: Sink, *tables: pa.Table, schema: pa.Schema | None = None) -> list[Any]:
    """Write each table as a task."""
    sink.start(schema)
    if not sink.is_needed():
        return []
    sent: Sink = pickle.loads(pickle.dumps(sink))
    results = [sent.write(iter([table]), TaskContext(f"0.{number}")) for number, table in enumerate(tables)]
    sink.commit(results, schema)
    return results


def names(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def numbers(*values: int) -> pa.Table:
    return pa.table({"x": list(values)}, schema=SCHEMA)


def test_append_adds_and_keeps_what_is_there(tmp_path: Path) -> None:
    write(ParquetSink(str(tmp_path)), numbers(1), numbers(2))
    write(ParquetSink(str(tmp_path), mode="append"), numbers(3))
    assert len(names(tmp_path)) == 3
    assert sorted(pq.read_table(tmp_path)["x"].to_pylist()) == [1, 2, 3]


@pytest.mark.parametrize("mode", ["error", "create", SaveMode.ERROR, SaveMode.CREATE])
def test_error_and_create(tmp_path: Path, mode: Any) -> None:
    path = tmp_path / "new"
    write(ParquetSink(str(path), mode=mode), numbers(1))
    before = names(path)
    with pytest.raises(ValueError, match=r"exists already.*mode='overwrite' to replace.*'append'.*'ignore'"):
        write(ParquetSink(str(path), mode=mode), numbers(2))
    assert names(path) == before
    # An empty folder exists too, as in Ray.
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        ParquetSink(str(tmp_path / "empty"), mode=mode).start(None)
    assert not list((tmp_path / "empty").iterdir())


def test_ignore(tmp_path: Path) -> None:
    path = tmp_path / "new"
    write(ParquetSink(str(path), mode="ignore"), numbers(1))
    sink = ParquetSink(str(path), mode="ignore")
    sink.start(None)
    assert not sink.is_needed()
    assert len(names(path)) == 1


def test_overwrite_replaces_after_the_commit(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.parquet", "sub/b.parquet", "_metadata", ".hidden"):
        (tmp_path / name).write_text("old")
    sink = ParquetSink(str(tmp_path), mode="overwrite")
    sink.start(None)
    result = sink.write(iter([numbers(1)]), TaskContext("0.0"))
    assert {"a.parquet", "sub/b.parquet"} < set(names(tmp_path)), (
        "the old files stay until the new ones are there"
    )
    sink.commit([result], None)
    assert [name for name in names(tmp_path) if not name.endswith("-0.parquet")] == [".hidden"]
    assert not (tmp_path / "sub").exists()
    assert sink.facts.deleted == 3


def test_unknown_modes() -> None:
    with pytest.raises(ValueError, match="'upsert' updates rows by key"):
        ParquetSink("out", mode="upsert")
    with pytest.raises(ValueError, match="modes of a write are create, append, overwrite, ignore, error"):
        ParquetSink("out", mode="replace")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_rows_per_file": 0}, "min_rows_per_file must be above 0"),
        ({"max_rows_per_file": -1}, "max_rows_per_file must be above 0"),
        ({"min_rows_per_file": "3"}, "min_rows_per_file must be a positive number"),
        ({"min_rows_per_file": 5, "max_rows_per_file": 4}, "above max_rows_per_file"),
        ({"resume": "yes"}, "resume must be True, False or 'force'"),
        ({"filename_provider": "name"}, "filename_provider must be a FilenameProvider"),
        ({"partition_cols": [1]}, "partition_cols must be"),
        ({"filesystem": 3}, "filesystem must be"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ParquetSink("out", **options)


def test_wrong_arguments_for_arrow_are_found_before_anything_is_made(tmp_path: Path) -> None:
    for sink in (
        ParquetSink(str(tmp_path / "a"), compresion="zstd"),
        CSVSink(str(tmp_path / "b"), delimiter=";"),
        JSONSink(str(tmp_path / "c"), orinet="records"),
        ParquetSink(str(tmp_path / "d"), partition_cols=["y"]),
    ):
        with pytest.raises((TypeError, ValueError)):
            sink.start(SCHEMA)
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_a_file_or_must_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="Give the path of a folder"):
        ParquetSink(str(tmp_path / "file")).start(None)
    with pytest.raises(FileNotFoundError, match="try_create_dir=False"):
        ParquetSink(str(tmp_path / "none"), try_create_dir=False).start(None)
    assert not (tmp_path / "none").exists()


def failing(*tables: pa.Table) -> Iterator[pa.Table]:
    yield from tables
    raise ZeroDivisionError("user's")


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er"
    sink = ParquetSink(str(path))
    sink.start(None)
    sink.write(iter([numbers(1)]), TaskContext("0.0"))
    with pytest.raises(ZeroDivisionError) as caught:
        sink.write(failing(numbers(2)), TaskContext("0.1"))
    (staged,) = (path / HIDDEN).rglob("*.parquet")
    assert staged.parent.name.startswith("000000-"), "the failed task removed what it wrote"
    sink.abort(caught.value)
    assert not (tmp_path / "deep").exists()
    # In a folder that was there, it stays.
    sink = ParquetSink(str(tmp_path))
    sink.start(None)
    sink.write(iter([numbers(1)]), TaskContext("0.0"))
    sink.abort(caught.value)
    assert tmp_path.is_dir()
    assert not list(tmp_path.iterdir())


def test_a_retried_task_gives_the_same_names_and_counts_once(tmp_path: Path) -> None:
    sink = ParquetSink(str(tmp_path))
    sink.start(None)
    lost = sink.write(iter([numbers(1, 2)]), TaskContext("0.0"))
    again = sink.write(iter([numbers(1, 2)]), TaskContext("0.0"))
    staged = {Path(path).name for path in names(tmp_path) if path.endswith(".parquet")}
    assert len(staged) == 1
    assert lost["dir"] != again["dir"]
    sink.commit([again], None)
    assert names(tmp_path) == sorted(staged)
    assert pq.read_table(tmp_path)["x"].to_pylist() == [1, 2]


def test_two_writes_to_one_folder_at_a_time(tmp_path: Path) -> None:
    sinks = [ParquetSink(str(tmp_path)) for _ in range(2)]
    for number, sink in enumerate(sinks):
        sink.start(None)
        assert sink.write(iter([numbers(number)]), TaskContext("0.0"))["rows"] == 1
    for number, sink in enumerate(sinks):
        result = sink.write(iter([numbers(number + 10)]), TaskContext("0.1"))
        first = next(
            name for name in (tmp_path / sink._staging.folder).iterdir() if name.name.startswith("000000-")
        )
        sink.commit([{**result, "dir": str(first.relative_to(tmp_path)), "task": 0}, result], None)
    assert sorted(pq.read_table(tmp_path)["x"].to_pylist()) == [0, 1, 10, 11]
    assert len(names(tmp_path)) == 4


@pytest.mark.parametrize(
    ("make", "content"),
    [(CSVSink, b'"x"\n'), (JSONSink, b""), (ParquetSink, None)],
    ids=["csv", "json", "parquet"],
)
def test_an_empty_result_is_one_empty_file(tmp_path: Path, make: Any, content: bytes | None) -> None:
    path = tmp_path / "out"
    write(make(str(path)), SCHEMA.empty_table(), schema=SCHEMA)
    (name,) = names(path)
    if content is None:
        assert pq.read_table(path).schema == SCHEMA
    else:
        assert (path / name).read_bytes() == content
    write(make(str(path)), schema=SCHEMA)
    assert names(path) == [name], "an empty result adds nothing to what is there"
    write(make(str(path), mode="overwrite"), schema=SCHEMA)
    assert len(names(path)) == 1


def test_an_empty_result_of_unknown_schema(tmp_path: Path) -> None:
    write(ParquetSink(str(tmp_path / "p")))
    assert pq.read_table(tmp_path / "p").num_columns == 0
    write(CSVSink(str(tmp_path / "c")))
    assert len(names(tmp_path / "c")) == 1


def resumable(path: Path, plan: Any, **options: Any) -> ParquetSink:
    sink = ParquetSink(str(path), **{"resume": True, **options})
    sink.identify(plan)
    return sink


def test_a_changed_plan_is_refused_with_its_differences(tmp_path: Path) -> None:
    plan = {"operators": ["map f 1"], "source": [["a.csv", 10, 1], ["b.csv", 10, 1], ["c.csv", 1, 1]]}
    first = resumable(tmp_path, plan)
    first.start(None)
    result = first.write(iter([numbers(1)]), TaskContext("0.0"))
    first.record("a.csv", [result])
    first.abort(RuntimeError())
    changed = {"operators": ["map f 2"], "source": [["b.csv", 11, 2], ["c.csv", 1, 1], ["d.csv", 1, 1]]}
    with pytest.raises(PlanChanged) as caught:
        resumable(tmp_path, changed, compression="zstd").start(None)
    message = str(caught.value)
    for part in (
        "map f 1",
        "map f 2",
        "source: 1 added: d.csv",
        "1 removed: a.csv",
        "1 changed: b.csv",
        "compression",
        "resume='force'",
    ):
        assert part in message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    forced = resumable(tmp_path, changed, resume="force")
    forced.start(None)
    assert list(forced.finished()) == ["a.csv"]
    forced.abort(RuntimeError())
    # From now on the changed plan is the plan.
    same = resumable(tmp_path, changed)
    same.start(None)
    assert list(same.finished()) == ["a.csv"]
    same.commit([same.write(iter([numbers(2)]), TaskContext("0.0"))], None)
    assert sorted(pq.read_table(tmp_path)["x"].to_pylist()) == [1, 2]


def test_a_complete_write_is_not_done_again_unless_its_files_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "out"
    first = resumable(path, {"source": 1})
    write(first, numbers(1, 2))
    again = resumable(path, {"source": 1})
    again.start(None)
    assert not again.is_needed()
    assert again.facts.rows == 2
    other = resumable(path, {"source": 2})
    write(other, numbers(3))
    assert sorted(pq.read_table(path)["x"].to_pylist()) == [1, 2, 3]
    for file in path.glob("*.parquet"):
        file.unlink()
    once_more = resumable(path, {"source": 2})
    write(once_more, numbers(4))
    assert pq.read_table(path)["x"].to_pylist() == [4]


def test_resume_with_mode_error(tmp_path: Path) -> None:
    path = tmp_path / "out"
    first = resumable(path, {}, mode="error")
    first.start(None)
    first.record("a", [first.write(iter([numbers(1)]), TaskContext("0.0"))])
    first.abort(RuntimeError())
    again = resumable(path, {}, mode="error")
    write(again, numbers(2))
    assert sorted(pq.read_table(path)["x"].to_pylist()) == [1, 2]
    again = resumable(path, {}, mode="error")
    again.start(None)
    assert not again.is_needed()
    with pytest.raises(ValueError, match="exists already"):
        resumable(path, {"other": 1}, mode="error").start(None)


def test_resume_needs_to_know_the_plan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="identify"):
        ParquetSink(str(tmp_path), resume=True).start(None)


class ByTask(FilenameProvider):
    def __init__(self, template: str) -> None:
        self.template = template

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return self.template.format(uuid=write_uuid, task=task_index, i="{i}")


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{uuid}_{task:03}", "UUID_000-0.parquet"),
        ("{uuid}_{task}.parquet", "UUID_0-0.parquet"),
        ("day/{uuid}-{i}-x.parquet", "day/UUID-0-x.parquet"),
        ("v1.2/{uuid}_{task}", "v1.2/UUID_0-0.parquet"),
    ],
)
def test_names_by_a_provider(tmp_path: Path, template: str, name: str) -> None:
    sink = ParquetSink(str(tmp_path), filename_provider=ByTask(template))
    sink.start(None)
    write_uuid = sink._staging.write_uuid
    sink.commit([sink.write(iter([numbers(1)]), TaskContext("0.0"))], None)
    assert names(tmp_path) == [name.replace("UUID", write_uuid)]


@pytest.mark.parametrize("template", ["../{uuid}", "/x/{uuid}", "a//{uuid}", "_skate/{uuid}", "./{uuid}"])
def test_names_that_lead_elsewhere(tmp_path: Path, template: str) -> None:
    sink = JSONSink(str(tmp_path), filename_provider=ByTask(template))
    sink.start(None)
    with pytest.raises(ValueError, match=r"no file name below the target|runtime's own"):
        sink.write(iter([numbers(1)]), TaskContext("0.0"))
    sink.abort(RuntimeError())
    assert not names(tmp_path)


def test_names_that_would_replace_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without write_uuid"):
        ParquetSink(str(tmp_path), filename_provider=ByTask("x_{task}")).start(None)
    write(ParquetSink(str(tmp_path), filename_provider=ByTask("x_{task}"), mode="overwrite"), numbers(1))
    sink = JSONSink(str(tmp_path / "j"), filename_provider=ByTask("{uuid}"))
    sink.start(None)
    results = [sink.write(iter([numbers(n)]), TaskContext(f"0.{n}")) for n in range(2)]
    with pytest.raises(ValueError, match="two tasks wrote a file"):
        sink.commit(results, None)
    sink.abort(RuntimeError())
    assert not (tmp_path / "j").exists()


def test_a_changed_staging_folder_is_noticed(tmp_path: Path) -> None:
    sink = ParquetSink(str(tmp_path))
    sink.start(None)
    result = sink.write(iter([numbers(1)]), TaskContext("0.0"))
    subprocess.run(["rm", "-r", str(tmp_path / result["dir"])], check=True)
    with pytest.raises(CommitError, match="somebody changed"):
        sink.commit([result], None)
    sink.abort(RuntimeError())
    assert not names(tmp_path)


def test_the_harness_mixes_parts(tmp_path: Path) -> None:
    tasks = play.tasks_of(["a", "b", "c"], 4, mixes=True)
    assert sum(table.num_rows for _, tables in tasks for table in tables) == 12
    assert any(len(parts) > 1 for parts, _ in tasks)
