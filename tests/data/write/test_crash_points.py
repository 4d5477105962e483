"""A write is killed anywhere, resumed, and has every row once; nothing is left behind."""

from __future__ import annotations

import ast
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import conftest
import play
import pyarrow.parquet as pq
import pytest

from skate.data._io import commit
from skate.data._io.commit_points import POINTS, VARIABLE
from skate.data._io.commit_staging import HIDDEN
from skate.data._io.writers.parquet import ParquetSink
from skate.data._task.operators import TaskContext

#: ``make soak-data`` kills so many times as often.
FACTOR = int(os.environ.get("SKATE_DATA_FACTOR", "1"))
PARTS = [f"part-{number}" for number in range(6)]
ROWS = 40
EXPECTED = Counter((part, row) for part in PARTS for row in range(ROWS))
SOURCE = Path(commit.__file__).parent
#: Points that a write passes if all its rows have the same columns.
PASSED = [point for point in POINTS if point != "files_made_uniform"]


def found(path: Path) -> Counter[tuple[str, int]]:
    """Return the rows that are visible."""
    rows: Counter[tuple[str, int]] = Counter()
    for file in sorted(path.rglob("*.parquet")):
        if HIDDEN not in file.parts:
            table = pq.ParquetFile(file).read()
            rows.update(zip(table["part"].to_pylist(), table["row"].to_pylist(), strict=True))
    return rows


def files_below(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def check_complete(path: Path, resumable: bool = True) -> None:
    assert found(path) == EXPECTED
    hidden = [name for name in files_below(path) if not name.endswith(".parquet") or name.startswith("_")]
    assert hidden == ([f"{HIDDEN}/resume/done.json"] if resumable else [])
    if not resumable:
        assert not (path / HIDDEN).exists()


def order(path: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "parts": PARTS, "rows": ROWS, **more}


def at(point: str, times: int = 1) -> dict[str, str]:
    return {VARIABLE: f"{point}:{times}"}


def test_points_are_named_once_in_the_code() -> None:
    named = [
        call.args[0].value
        for file in SOURCE.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "crash_point"
        and isinstance(call.args[0], ast.Constant)
    ]
    assert {name for name in named if name not in ("before_plan", "after_plan")} == POINTS.keys() - {
        "before_plan",
        "after_plan",
    }
    assert {name for name, count in Counter(named).items() if count > 1} == {"before_plan", "after_plan"}


@pytest.mark.parametrize("point", [point for point in PASSED if point != "deleting"])
@pytest.mark.parametrize("mixes", [False, True], ids=["parts apart", "parts mixed"])
def test_killed_at_a_point_and_resumed(
    server: conftest.Server, tmp_path: Path, point: str, mixes: bool
) -> None:
    path = tmp_path / "out"
    assert server.run(**order(path, mixes=mixes, environment=at(point))) == -signal.SIGKILL
    happened = point in ("after_list", "half_placed", "before_marker", "after_marker", "cleaning")
    if not happened:
        assert not found(path), "nothing is visible before the commit"
    assert server.run(**order(path, mixes=mixes)) == 0, server.errors()
    check_complete(path)
    assert server.run(**order(path, mixes=mixes)) == 0
    check_complete(path)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(
    ["inside_staged_write", "after_record", "half_placed"],
    ["staged_before_rename", "half_manifest_line", "before_list", "before_marker"],
)))  # fmt: skip
def test_killed_twice(server: conftest.Server, tmp_path: Path, first: str, second: str) -> None:
    path = tmp_path / "out"
    assert (
        server.run(**order(path, environment=at(first, 3 if first != "half_placed" else 1)))
        == -signal.SIGKILL
    )
    server.run(**order(path, environment=at(second)))
    assert server.run(**order(path)) == 0, server.errors()
    check_complete(path)


@pytest.mark.parametrize(
    "point", ["after_list", "half_placed", "before_marker", "after_marker", "deleting", "cleaning"]
)
def test_killed_while_it_replaces_old_files(server: conftest.Server, tmp_path: Path, point: str) -> None:
    path = tmp_path / "out"
    (path / "old").mkdir(parents=True)
    for name in ("a.parquet", "b.txt", "old/c.parquet"):
        (path / name).write_text("old")
    options = {"mode": "overwrite"}
    assert server.run(**order(path, options=options, environment=at(point))) == -signal.SIGKILL
    assert server.run(**order(path, options=options)) == 0, server.errors()
    check_complete(path)
    assert not (path / "old").exists()


@pytest.mark.parametrize("point", [point for point in PASSED if point != "half_manifest_line"])
def test_a_write_without_resume_leaves_all_or_nothing(
    server: conftest.Server, tmp_path: Path, point: str
) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old.txt").write_text("old")
    run = order(path, resume=False, options={"mode": "overwrite"})
    status = server.run(**run, environment=at(point))
    if point in ("after_record",):
        assert status == 0  # nothing is recorded without resume
        return
    assert status == -signal.SIGKILL
    happened = point in ("after_list", "half_placed", "before_marker", "after_marker", "deleting", "cleaning")
    if not happened:
        assert [name for name in files_below(path) if not name.startswith("_")] == ["old.txt"]
    # The next write to the folder finishes it, or removes what it left.
    assert server.run(**{**run, "options": {"mode": "append"}, "parts": PARTS[:0]}) == 0, server.errors()
    if happened:
        check_complete(path, resumable=False)
    else:
        assert files_below(path) == ["old.txt"]


@pytest.mark.time_limit(240 * FACTOR)  # the disk syncs, many times
def test_killed_at_random_moments(server: conftest.Server, tmp_path: Path) -> None:
    """Thirty kills, spread over a write; each run goes on where the last one was killed."""
    path = tmp_path / "out"
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    began = time.monotonic()
    assert server.run(**order(path, threads=3)) == 0, server.errors()
    lasts_s = time.monotonic() - began
    check_complete(path)
    kills = rounds = 0
    while kills < 30 * FACTOR:
        path = tmp_path / f"out-{rounds}"
        rounds += 1
        for _ in range(200):
            status = server.run(
                **order(path, threads=3, mixes=rounds % 2 == 0), kill_after_s=chance.uniform(0, 0.9 * lasts_s)
            )
            if status == 0:
                break
            assert status == -signal.SIGKILL, server.errors()
            kills += 1
        else:
            assert server.run(**order(path, mixes=rounds % 2 == 0)) == 0, server.errors()
        check_complete(path)


def test_a_second_driver_is_refused_while_the_first_lives(server: conftest.Server, tmp_path: Path) -> None:
    path = tmp_path / "out"
    first = ParquetSink(str(path), resume=True)
    first.identify({"source": [[part, 1] for part in PARTS], "operators": ["read"]})
    first.start(None)
    assert server.run(**order(path)) == 1
    message = server.errors()
    assert "TargetInUse" in message
    assert "Another driver writes to" in message
    second = ParquetSink(str(path), resume=True)
    second.identify({})
    with pytest.raises(commit.TargetInUse, match="one driver at a time"):
        second.start(None)
    first.abort(RuntimeError())
    assert server.run(**order(path)) == 0, server.errors()
    check_complete(path)


def test_a_worker_of_a_dead_driver_changes_nothing(server: conftest.Server, tmp_path: Path) -> None:
    path = tmp_path / "out"
    plan = {"operators": ["read"], "source": [[part, 1] for part in PARTS]}
    dead = ParquetSink(str(path), resume=True)
    dead.identify(plan)
    dead.start(None)
    worker: ParquetSink = pickle.loads(pickle.dumps(dead))
    with worker.stage(TaskContext("1.0")) as files:
        with files.file("late.parquet") as stream:
            stream.write(b"half")
        dead.abort(RuntimeError("as good as dead"))
        alive = ParquetSink(str(path), resume=True)
        alive.identify(plan)
        play_one = play.rows_of(PARTS[0], ROWS)
        alive.start(None)
        # Its own rename, and a further task, while the next driver writes ...
        with pytest.raises(FileNotFoundError):
            files.finish()
    worker.write(iter([play_one]), TaskContext("1.1"))
    results = [
        alive.write(iter([play.rows_of(part, ROWS)]), TaskContext(f"1.{n}")) for n, part in enumerate(PARTS)
    ]
    alive.commit(results, None)
    check_complete(path)
    # ... and when all is over.
    with pytest.raises(FileNotFoundError, match="has ended"):
        worker.write(iter([play_one]), TaskContext("1.2"))
    check_complete(path)


def test_an_interrupted_run_is_resumed_without_reading_again(tmp_path: Path) -> None:
    path = tmp_path / "out"
    plan = {"source": PARTS}
    first = ParquetSink(str(path), resume=True)
    first.identify(plan)
    first.start(None)
    for number, part in enumerate(PARTS[:3]):
        result = first.write(iter([play.rows_of(part, ROWS)]), TaskContext(f"1.{number}"))
        first.record(part, [result])
    unrecorded = first.write(iter([play.rows_of(PARTS[3], ROWS)]), TaskContext("1.3"))
    assert unrecorded["files"] == 1
    first.abort(KeyboardInterrupt())
    second = ParquetSink(str(path), resume=True)
    second.identify(plan)
    second.start(None)
    assert list(second.finished()) == PARTS[:3]
    results = [
        second.write(iter([play.rows_of(part, ROWS)]), TaskContext(f"1.{number}"))
        for number, part in enumerate(PARTS[3:])
    ]
    second.commit(results, None)
    check_complete(path)
    assert second.facts.rows == len(PARTS) * ROWS
    assert second.facts.files == len(PARTS)
    assert second.facts.resumed_parts == 3
    names = [name for name in files_below(path) if name.endswith(".parquet")]
    assert len({name.partition("_")[0] for name in names}) == 1, "the write keeps its name"


def test_half_a_line_at_the_end_of_a_manifest_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for cut in (1, 10, 40):
        sink = ParquetSink(str(path), resume=True)
        sink.identify({})
        sink.start(None)
        assert len(sink.finished()) == 0
        for number, part in enumerate(PARTS[:2]):
            result = sink.write(iter([play.rows_of(part, ROWS)]), TaskContext(f"1.{number}"))
            sink.record(part, [result])
        sink.abort(RuntimeError())
        (manifest,) = (path / HIDDEN / "resume").glob("manifest-*.jsonl")
        manifest.write_bytes(manifest.read_bytes()[:-cut])
        again = ParquetSink(str(path), resume=True)
        again.identify({})
        again.start(None)
        assert list(again.finished()) == ([PARTS[0]] if cut > 1 else PARTS[:2])
        again.commit([], None)
        assert again.facts.rows == (ROWS if cut > 1 else 2 * ROWS)
        subprocess.run(["rm", "-r", str(path)], check=True)


def test_a_recorded_part_whose_files_are_gone_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "out"
    sink = ParquetSink(str(path), resume=True)
    sink.identify({})
    sink.start(None)
    results = [
        sink.write(iter([play.rows_of(part, ROWS)]), TaskContext(f"1.{number}"))
        for number, part in enumerate(PARTS[:2])
    ]
    for part, result in zip(PARTS, results, strict=False):
        sink.record(part, [result])
    sink.abort(RuntimeError())
    subprocess.run(["rm", "-r", str(path / results[0]["dir"])], check=True)
    again = ParquetSink(str(path), resume=True)
    again.identify({})
    with pytest.warns(UserWarning, match="read again"):
        again.start(None)
    assert list(again.finished()) == [PARTS[1]]
    again.abort(RuntimeError())


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_killed_driver_leaves_no_lock(server: conftest.Server, tmp_path: Path) -> None:
    path = tmp_path / "out"
    for fence in (1, 2, 3):
        assert server.run(**order(path, environment=at("inside_staged_write"))) == -signal.SIGKILL
        assert (path / HIDDEN / "resume" / "staged" / str(fence)).is_dir(), (
            "each driver has a number of its own"
        )
    assert server.run(**order(path)) == 0, server.errors()
    check_complete(path)
