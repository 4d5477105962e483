"""The disk is full: an error says where, nothing that is half is visible, and a write goes on later."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skate.data
from skate.data._exec.work import Input, TaskSpec, run_task
from skate.data._operators.exchanges.shuffle import Shuffle
from skate.data._task.operators import Replica


@contextmanager
def small_files(limit_bytes: int) -> Iterator[None]:
    """Let no file grow above some bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "text": os.urandom(20_000).hex()}


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_a_write_is_not_visible(form: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    rows = skate.data.range(10).map(large)
    with (
        small_files(50_000),
        pytest.raises(OSError, match=f"while Write.* wrote to {target}.*make room") as raised,
    ):
        getattr(rows, f"write_{form}")(str(target))
    assert raised.value.errno == errno.EFBIG
    assert not target.exists()


def test_a_resumable_write_goes_on(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for number in range(4):
        skate.data.range(1).map(lambda row, number=number: {"id": number}).write_parquet(str(source))

    def growing(row: dict[str, Any]) -> dict[str, Any]:
        return {"id": row["id"], "text": os.urandom(20_000 if row["id"] == 3 else 10).hex()}

    rows = skate.data.read_parquet(str(source), override_num_blocks=4).map(growing)
    with small_files(20_000), pytest.raises(OSError, match="it goes on where it was"):
        rows.write_parquet(str(target), resume=True)
    rows.write_parquet(str(target), resume=True)
    found = [pq.ParquetFile(file).read()["id"].to_pylist() for file in target.glob("*.parquet")]
    assert sorted(found) == [[0], [1], [2], [3]]


def test_files_of_an_exchange_say_what_to_do(tmp_path: Path) -> None:
    operator = Shuffle(1).partition(0)
    assert operator is not None
    block = pa.table({"x": [os.urandom(1000) for _ in range(100)]})
    spec = TaskSpec("0.0", (Input(block, 0, 100),), folder=str(tmp_path), number=0)
    with small_files(20_000), pytest.raises(OSError, match=f"in {tmp_path}.*TMPDIR.*memory_limit_bytes"):
        list(run_task([operator], spec, (), Replica()))


def test_bytes_in_csv_name_their_column(tmp_path: Path) -> None:
    rows = skate.data.from_items([{"id": 1, "photo": b"\xff\xfe"}])
    with pytest.raises(ValueError, match=r"columns \['photo'\] have bytes that are no text"):
        rows.write_csv(str(tmp_path / "out"))


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_a_write_of_a_worker_is_not_visible(form: str, far: Any, tmp_path: Path) -> None:
    target = tmp_path / "target"

    def larger(row: dict[str, Any]) -> dict[str, Any]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))  # of the worker
        return large(row)

    rows = skate.data.range(10, override_num_blocks=1).map(larger)
    with pytest.raises(OSError, match=f"while Write.* wrote to {target}.*make room") as raised:
        getattr(rows, f"write_{form}")(str(target))
    assert raised.value.errno == errno.EFBIG
    assert not target.exists()
