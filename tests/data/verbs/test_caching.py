"""``cache``: rows are made once, and made anew when anything changes that makes other rows."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from cluster.waiting import attempt

import skate
import skate.data
from skate.data.aggregate import AggregateFn
from skate.data.datasource import Datasource
from skate.data.expressions import col, udf


def noting(log: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that leaves a line in a file for each call, in whatever process it runs."""

    def square(row: dict[str, Any]) -> dict[str, Any]:
        with log.open("a") as file:
            file.write(f"{row['id']}\n")
        return {"id": row["id"], "square": row["id"] ** 2}

    return square


def called(log: Path) -> list[int]:
    return sorted(map(int, log.read_text().split())) if log.exists() else []


def folders(path: Path) -> int:
    return len(list(path.iterdir()))


def test_rows_are_made_once_and_keep_their_order(tmp_path: Path) -> None:
    log, kept = tmp_path / "log", tmp_path / "kept"
    ds = skate.data.range(100, override_num_blocks=7).map(noting(log))
    expected = [{"id": number, "square": number**2} for number in range(100)]
    assert ds.cache(str(kept)).take_all() == expected
    again = skate.data.range(100, override_num_blocks=3).map(noting(log)).cache(kept)
    assert again.map(lambda row: row).take_all() == expected
    assert called(log) == list(range(100))
    assert folders(kept) == 1


def scaled(factor: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {"id": row["id"] * factor}


def summed(merge: Callable[[Any, Any], Any]) -> AggregateFn:
    return AggregateFn(lambda key: 0, merge, lambda total, row: total + 1, name="n")


ITEMS = [{"id": 1, "x": 2.5}, {"id": 3, "x": None}]
DIFFERENT: dict[str, list[Callable[[], Any]]] = {
    "a value that is closed over": [
        lambda: skate.data.range(9).map(scaled(2)),
        lambda: skate.data.range(9).map(scaled(3)),
    ],
    "rows in memory": [
        lambda: skate.data.from_items(ITEMS),
        lambda: skate.data.from_items(ITEMS[::-1]),
        lambda: skate.data.from_pandas(pd.DataFrame({"id": [1]})),
        lambda: skate.data.from_numpy(np.arange(3)),
    ],
    "where an operation stands": [
        lambda: skate.data.range(9).map(scaled(2)).union(skate.data.range(8)),
        lambda: skate.data.range(9).union(skate.data.range(8).map(scaled(2))),
        lambda: skate.data.range(9).union(skate.data.range(8)).map(scaled(2)),
    ],
    "functions of an aggregate": [
        lambda: skate.data.range(9).groupby("id").aggregate(summed(lambda a, b: a + b)),
        lambda: skate.data.range(9).groupby("id").aggregate(summed(lambda a, b: a - b)),
    ],
    "functions of groups": [
        lambda: skate.data.range(9).groupby("id").map_groups(lambda group: group.head(1)),
        lambda: skate.data.range(9).groupby("id").map_groups(lambda group: group.head(2)),
    ],
    "exchanges": [
        lambda: skate.data.range(9).sort("id"),
        lambda: skate.data.range(9).sort("id", descending=True),
        lambda: skate.data.range(9).random_shuffle(seed=1),
        lambda: skate.data.range(9).random_shuffle(seed=2),
        lambda: skate.data.range(9).limit(3),
        lambda: skate.data.range(9).limit(4),
    ],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_other_rows_have_other_names(tmp_path: Path, what: str) -> None:
    for number, make in enumerate(DIFFERENT[what]):
        expected = make().take_all()
        for _ in range(2):  # the second time from the files
            assert make().cache(tmp_path).take_all() == expected
        assert folders(tmp_path) == number + 1


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    source, log = tmp_path / "a.csv", tmp_path / "log"
    source.write_text("id\n1\n")

    def cached() -> Any:
        return skate.data.read_csv(str(source)).map(noting(log)).cache(tmp_path / "kept")

    assert cached().sum("square") == 1
    source.write_text("id\n1\n20\n")
    assert cached().sum("square") == 401
    assert cached().count() == 2
    assert called(log) == [1, 1, 20]


def test_no_rows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    empty = skate.data.range(9).map(noting(log)).filter(lambda row: False)
    for _ in range(2):
        assert empty.cache(tmp_path / "kept").take_all() == []
    assert len(called(log)) == 9


def test_tensors_and_nulls(tmp_path: Path) -> None:
    rows = [{"x": np.full((2, 3), number), "y": None if number else 1.5} for number in range(3)]
    found = skate.data.from_items(rows).cache(tmp_path).take_all()
    assert [row["y"] for row in found] == [1.5, None, None]
    assert all((row["x"] == number).all() for number, row in enumerate(found))


@pytest.mark.parametrize("is_sorted", [False, True], ids=["can be resumed", "cannot"])
def test_a_failed_run_leaves_nothing_that_counts(tmp_path: Path, is_sorted: bool) -> None:
    log = tmp_path / "log"

    def fail(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == 5 and attempt(log) == 1:
            raise OSError("once")
        return row

    ds = skate.data.range(9)
    ds = (ds.sort("id") if is_sorted else ds).map(fail)
    with pytest.raises(OSError, match="once"):
        ds.cache(tmp_path / "kept")
    for _ in range(2):
        assert ds.cache(tmp_path / "kept").take_all() == [{"id": number} for number in range(9)]
    assert attempt(log) == 3


class Numbers(Datasource):
    def get_read_tasks(self, *args: Any, **kwargs: Any) -> list[Any]:
        return []


@pytest.mark.parametrize(
    "make",
    [
        lambda ds, lock: ds.map(lambda row: row if lock else {}),
        lambda ds, lock: ds.map_batches(lambda batch, lock: batch, fn_args=[lock]),
        lambda ds, lock: ds.with_column("x", udf()(lambda ids: ids if lock else None)(col("id"))),
        lambda ds, lock: ds.groupby("id").map_groups(lambda group: group if lock else None),
    ],
)
def test_functions_whose_changes_cannot_be_seen_are_refused(tmp_path: Path, make: Any) -> None:
    with pytest.raises(ValueError, match="uses what cannot be pickled, so its changes would not be seen"):
        make(skate.data.range(3), threading.Lock()).cache(tmp_path)
    assert not folders(tmp_path)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: skate.data.read_datasource(Numbers()), r"Define fingerprint\(\) in its class"),
        (
            lambda: skate.data.from_arrow_refs([skate.put(pa.table({"x": [1]}))]),
            "are in shared memory already",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    session: Any, tmp_path: Path, make: Callable[[], Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        make().cache(tmp_path)
    with pytest.raises(TypeError, match=r"cache\(folder\) must be a path or a URL, got an int: 3"):
        make().cache(3)


PROGRAM = """
import sys, skate.data

LOG = sys.argv[1] + "/log"

def note():
    with open(LOG, "a") as file:
        file.write("x")

def f(row):
    note()
    return row

class Group:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, group):
        note()
        return group

made = skate.data.range(2).map(f).groupby("id").map_groups(Group, fn_constructor_args=[sys.argv[2]])
print(made.cache(sys.argv[1] + "/kept").count())
"""


def test_another_program_finds_the_rows(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    for argument, calls in (("2", 4), ("2", 4), ("3", 8)):
        command = [sys.executable, str(program), str(tmp_path), argument]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        assert done.stdout == "2\n"
        assert len((tmp_path / "log").read_text()) == calls
