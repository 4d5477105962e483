"""A write that is killed anywhere and resumed tells of all rows that failed, each once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import conftest
import numpy as np
import pyarrow.parquet as pq
import pytest

import skate.data
from skate.data._io.commit_letters import Failures
from skate.data._io.commit_points import POINTS, VARIABLE
from skate.data._io.commit_staging import HIDDEN
from skate.data._operators.dead_letters import letters_to_table
from skate.data._task.operators import Letter
from skate.data.exceptions import TooManyErrorsError, wrap

EXPECTED = [
    [number, "ValueError", f"ValueError: row {number} is bad", "Map(parse)"] for number in range(3, 60, 10)
]
#: Neither replaces old files, nor has rows with different columns.
PASSED = [point for point in POINTS if point not in ("deleting", "files_made_uniform")]
#: The points of a commit: there, the letters' own write comes first.
COMMIT = PASSED[PASSED.index("before_list") :]


def rows_in(path: Path) -> list[int]:
    """Return the ids that are visible in a folder."""
    files = [file for file in path.rglob("*.parquet") if HIDDEN not in file.parts]
    return sorted(number for file in files for number in pq.ParquetFile(file).read()["id"].to_pylist())


def check(path: Path, noted: Path) -> None:
    assert sorted(json.loads(noted.read_text())) == EXPECTED
    assert rows_in(path) == [number for number in range(60) if number % 10 != 3]


@pytest.mark.parametrize("point", PASSED)
def test_killed_at_a_point_and_resumed(server: conftest.Server, tmp_path: Path, point: str) -> None:
    path, noted = tmp_path / "out", tmp_path / "noted"
    order = {"path": str(path), "noted": str(noted)}
    late = {"half_manifest_line": 4, "after_record": 3, "staged_after_rename": 2}.get(point, 1)
    assert server.run(**order, environment={VARIABLE: f"{point}:{late}"}) == -signal.SIGKILL
    assert not noted.exists()
    assert server.run(**order) == 0, server.errors()
    check(path, noted)
    noted.unlink()
    assert server.run(**order) == 0, server.errors()  # nothing is to be done, and the letters are still there
    check(path, noted)
    left = {file.name for file in (path / HIDDEN).rglob("*") if file.is_file()}
    assert left == {"done.json", "letters.json"}


def test_killed_twice_after_different_parts(server: conftest.Server, tmp_path: Path) -> None:
    path, noted = tmp_path / "out", tmp_path / "noted"
    order = {"path": str(path), "noted": str(noted)}
    for point in ("after_record:2", "half_manifest_line:3", "before_list:1"):
        assert server.run(**order, environment={VARIABLE: point}) == -signal.SIGKILL
    assert server.run(**order) == 0, server.errors()
    check(path, noted)


@pytest.mark.parametrize("times", [1, 2], ids=["of the letters", "of the rows"])
@pytest.mark.parametrize("point", COMMIT)
def test_letters_are_written_once(server: conftest.Server, tmp_path: Path, point: str, times: int) -> None:
    path, noted, letters = tmp_path / "out", tmp_path / "noted", tmp_path / "letters"
    order = {"path": str(path), "noted": str(noted), "dead_letter": str(letters)}
    assert server.run(**order, environment={VARIABLE: f"{point}:{times}"}) == -signal.SIGKILL
    for _ in range(2):
        assert server.run(**order) == 0, server.errors()
        check(path, noted)
        table = skate.data.read_parquet(str(letters)).to_pandas()
        assert sorted(row["id"] for row in table["row"]) == [row[0] for row in EXPECTED]


DRIVER = """
import json, sys
sys.path.insert(0, {folder!r})
import play, skate
skate.init(num_cpus=2, log_to_driver=False)
play.run(json.loads(sys.argv[1]))
"""


@pytest.mark.time_limit(120)  # several sessions
def test_on_a_session(tmp_path: Path) -> None:
    path, noted = tmp_path / "out", tmp_path / "noted"
    source = DRIVER.format(folder=str(Path(__file__).parent))
    for point in ("after_record:3", "before_list:1", "half_placed:1", ""):
        order = {"path": str(path), "noted": str(noted), "local_limit_bytes": 0}
        if point:
            order["environment"] = {VARIABLE: point}
        done = subprocess.run([sys.executable, "-c", source, json.dumps(order)])
        assert done.returncode == (-signal.SIGKILL if point else 0)
    check(path, noted)


def test_a_limit_of_errors_is_one_of_the_whole_write(tmp_path: Path) -> None:
    """A run that is begun again after too many errors must not pass because most of them are behind it."""

    def parse(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] % 10 == 3:
            raise ValueError("bad")
        return row

    path = str(tmp_path / "out")
    source = skate.data.range(60, override_num_blocks=6)
    for on_error in ("dead_letter", "skip"):
        for _ in range(3):
            with pytest.raises(TooManyErrorsError, match="4 of .* rows failed"):
                source.map(parse, on_error=on_error, max_errors=3).write_parquet(path, resume=True)
        rows = source.map(parse, on_error=on_error, max_errors=0.1)
        rows.write_parquet(path, resume=True)
        assert rows.dead_letters().count() == (6 if on_error == "dead_letter" else 0)
        path += "-2"


def test_other_writes_leave_the_letters_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "out")

    def parse(row: dict[str, Any]) -> dict[str, Any]:
        return {"id": 10 // row["id"]}

    def write() -> Any:
        rows = skate.data.range(5, override_num_blocks=2).map(parse, on_error="dead_letter")
        rows.write_parquet(path, resume=True)
        return rows

    first = write()
    skate.data.range(3).write_parquet(path)
    again = write()
    assert again.stats() == "" and again.get_stats_summary() == {}
    with pytest.raises(RuntimeError, match="why"):
        again.why()
    assert again.dead_letters().take_all() == first.dead_letters().take_all()
    assert len(again.dead_letters().take_all()) == 1
    assert skate.data.read_parquet(path).count() == 7


def test_letters_as_plain_data() -> None:
    """Rows with anything in them, letters without a row, skipped rows; an error keeps its texts."""

    class Own(Exception):
        pass

    rows = [
        {"x": np.arange(3), "text": "\ud800", "bytes": b"\x00\xff", "nested": [{"a": None}]},
        None,
        {"lock": threading.Lock(), "n": 1},
    ]
    letters = [
        Letter(
            row, wrap(Own("why"), "Map(f)", row), f"trace {number}", "Map(f)", "a.csv", f"0.a.0:{number}", 2
        )
        for number, row in enumerate(rows)
    ]
    found = Failures()
    found.take(
        [*letters, Letter(None, KeyError(1), "", "Map(g)", "", "0.a.0:9", is_kept=False)],
        {"rows_seen:Map(f)": 7},
    )
    back = Failures.from_data(json.loads(json.dumps(found.as_data())))
    assert (back.skipped, back.counts) == ({"Map(g)": 1}, {"rows_seen:Map(f)": 7})
    first, second, third = (letter.row for letter in back.letters)
    assert first is not None and third is not None
    np.testing.assert_array_equal(first.pop("x"), np.arange(3))
    assert first == {"text": "\ud800", "bytes": b"\x00\xff", "nested": [{"a": None}]}
    assert second is None
    assert third["n"] == 1 and "lock" in third["lock"]
    names = ["error_type", "error", "traceback", "stage", "path", "row_id", "attempts"]
    assert letters_to_table(back.letters[:2]).select(names) == letters_to_table(letters[:2]).select(names)
    assert back and not Failures()
