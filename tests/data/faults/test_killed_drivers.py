"""A driver is killed: no process, no file of an exchange is left, and a write goes on where it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cluster import processes
from cluster.waiting import wait_for, wait_until_none

import skate.data
from skate.data import DataContext
from skate.data._exec import spill_folder
from skate.data._exec.spill_folder import SpillFolder


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts programs that use data; those that still run are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str) -> subprocess.Popen[str]:
        script = tmp_path / f"driver{len(started)}.py"
        script.write_text(
            "import skate, skate.data\ncontext = skate.data.DataContext.get_current()\n"
            "context.local_limit_bytes = 0\n" + textwrap.dedent(source)
        )
        made = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(made)
        return made

    yield start
    for one in started:
        one.kill()
        one.communicate()


def kill(driver: subprocess.Popen[str]) -> None:
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_until_none(lambda: processes.of_driver(driver.pid), "processes of a killed driver")


def test_files_of_a_killed_driver_are_swept(drivers: Any, far: DataContext) -> None:
    """Many blocks of an exchange are in files when the driver is killed; the next execution removes them."""
    driver = drivers("""
        context.memory_limit_bytes = 4 << 20
        skate.init(num_cpus=2)
        rows = skate.data.range(200, override_num_blocks=40).map(lambda row: {**row, "x": b"x" * 100_000})
        for row in rows.random_shuffle(seed=1).iter_rows():
            print("row", flush=True)
            input()
    """)
    assert driver.stdout.readline() == "row\n"
    (folder,) = (path for path in Path(spill_folder.root()).glob(f"{driver.pid}-*") if path.is_dir())
    assert any(folder.iterdir())
    assert spill_folder.sweep() == [], "its owner lives"
    kill(driver)
    assert skate.data.range(3).take_all() == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert not Path(spill_folder.root()).exists()


def test_nothing_is_written_into_a_folder_that_was_removed() -> None:
    folder = SpillFolder()
    folder.make()
    kept = open(Path(folder.path, "a"), "w")  # a task that still writes
    folder.remove()
    kept.close()
    with pytest.raises(FileNotFoundError):
        open(Path(folder.path, "b"), "w")
    assert not Path(spill_folder.root()).exists()
    folder.remove()  # twice


def test_a_folder_is_made_once_and_only_when_needed() -> None:
    first, second = SpillFolder(), SpillFolder()
    assert not Path(spill_folder.root()).exists()
    first.make()
    first.make()
    second.make()
    assert spill_folder.sweep() == []
    first.remove()
    assert Path(second.path).is_dir()
    second.remove()
    assert not Path(spill_folder.root()).exists()


RESUMED = """
    import os, sys
    from pathlib import Path

    class Model:
        def __call__(self, row):
            row["square"] = row["id"] ** 2
            Path({steps!r}, f"{{row['id']}}-{{os.getpid()}}").touch()
            return row

    context.pool_linger_s = 0
    skate.init(num_cpus=2, log_to_driver=False)
    rows = skate.data.read_parquet({source!r}, override_num_blocks=8)
    rows.map(Model, compute=skate.data.ActorPoolStrategy(size=2)).write_parquet({target!r}, resume=True)
    print("done")
"""
ROWS = 64
#: ``make soak-data`` kills so many times as often.
FACTOR = int(os.environ.get("SKATE_DATA_FACTOR", "1"))


def make_source(path: Path) -> None:
    context = DataContext.get_current()
    context.local_limit_bytes = 1 << 30
    skate.data.range(ROWS, override_num_blocks=16).write_parquet(str(path), min_rows_per_file=4)


def rows_of(path: Path) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for file in path.glob("*.parquet"):
        table = pq.ParquetFile(file).read()
        found.update(zip(table["id"].to_pylist(), table["square"].to_pylist(), strict=True))
    return found


@pytest.mark.time_limit(120)  # several sessions
@pytest.mark.parametrize("seed", range(FACTOR))
def test_a_write_goes_on_after_its_drivers_were_killed(drivers: Any, tmp_path: Path, seed: int) -> None:
    """Killed after some steps of the program, several times: every row is written once."""
    chance = random.Random(seed)
    kills = (1, 9, 30) if seed == 0 else [chance.randint(1, 20) for _ in range(3)]
    source, target, steps = tmp_path / "source", tmp_path / "target", tmp_path / "steps"
    make_source(source)
    steps.mkdir()
    text = RESUMED.format(source=str(source), target=str(target), steps=str(steps))
    for further in kills:
        before = len(os.listdir(steps))
        driver = drivers(text)
        wait_for(
            lambda before=before, further=further: len(os.listdir(steps)) >= before + further,  # type: ignore[misc]
            "steps of the program",
        )
        kill(driver)
        assert not rows_of(target), "nothing is visible before the commit"
    driver = drivers(text)
    out, _ = driver.communicate()
    assert out == "done\n"
    assert rows_of(target) == Counter((number, number**2) for number in range(ROWS))
    assert {str(file.relative_to(target)) for file in target.rglob("*") if not_data(file)} == {
        "_skate/resume/done.json"
    }


def not_data(file: Path) -> bool:
    return file.is_file() and file.suffix != ".parquet"


def test_a_changed_function_is_refused(far: DataContext, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make_source(source)

    def first(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == ROWS - 1:
            raise ValueError("stop")
        return {**row, "square": row["id"] ** 2}

    def second(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "square": row["id"] ** 3}

    rows = skate.data.read_parquet(str(source))
    with pytest.raises(ValueError, match="stop"):
        rows.map(first).write_parquet(str(target), resume=True)
    with pytest.raises(RuntimeError, match=r"not the same(.|\n)*Map\(first\)"):
        rows.map(second).write_parquet(str(target), resume=True)
