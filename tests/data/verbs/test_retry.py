"""Letters go back to the operation that failed, also where functions have the same name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import skate.data

Row = dict[str, Any]
TEN = skate.data.range(10, override_num_blocks=2)


def failing(row: Row) -> Row:
    if row["id"] % 5 == 0:
        raise ValueError("five")
    return {"id": row["id"], "second": True}


def two_lambdas(first: bool = False, second: bool = False) -> Any:
    """Return a data set of two operations with one name, of which some fail for some rows."""
    return TEN.map(
        lambda row: {**row, "first": 1 // (row["id"] % 4) if first else 0}, on_error="dead_letter"
    ).map(lambda row: {**row, "second": 1 // (row["id"] % 5) if second else 0}, on_error="dead_letter")


def letters_of(dataset: Any) -> Any:
    return dataset.materialize().dead_letters()


@pytest.mark.parametrize("kept", [False, True], ids=["in memory", "in files"])
def test_each_of_two_lambdas_gets_its_own_rows(tmp_path: Path, kept: bool) -> None:
    for number, (options, ids) in enumerate((({"first": True}, [0, 4, 8]), ({"second": True}, [0, 5]))):
        letters = letters_of(two_lambdas(**options))
        if kept:
            letters.write_parquet(str(tmp_path / str(number)))
            letters = skate.data.read_parquet(str(tmp_path / str(number)))
        assert set(letters.unique("operation")) == {number}
        rows = two_lambdas().retry(letters).take_all()
        # Letters of the second have what the first made of their rows, and it is not called again.
        assert rows == [{"id": number, "first": 0, "second": 0} for number in ids]


def test_letters_of_rows_that_were_tried_again_can_be_tried_again() -> None:
    for options, ids in (({"first": True}, [0, 4, 8]), ({"second": True}, [0, 5])):
        letters = letters_of(two_lambdas(**options))
        for _ in range(2):
            letters = letters_of(two_lambdas(**options).retry(letters))
            assert sorted(row["row"]["id"] for row in letters.take_all()) == ids
        assert len(two_lambdas().retry(letters).take_all()) == len(ids)


def test_a_lambda_at_another_place_is_refused() -> None:
    letters = letters_of(two_lambdas(first=True))
    other = TEN.map(failing, on_error="skip").map(lambda row: row)
    with pytest.raises(
        ValueError, match=r"'Map\(<lambda>\)', operation 0 .* operation 0 is 'Map\(failing\)'"
    ):
        other.retry(letters)
    second = letters_of(two_lambdas(second=True))
    with pytest.raises(ValueError, match=r"'Map\(<lambda>\)#2', which is no operation of this data set"):
        other.retry(second)


def test_a_name_of_its_own_is_found_wherever_it_stands() -> None:
    letters = letters_of(TEN.map(failing, on_error="dead_letter"))

    def repaired(row: Row) -> Row:
        return {"id": row["id"], "second": False}

    repaired.__name__ = repaired.__qualname__ = "failing"
    other = TEN.map(lambda row: row).map(repaired)
    assert other.retry(letters).take_all() == [{"id": 0, "second": False}, {"id": 5, "second": False}]
    twice = TEN.map(repaired).map(lambda row: row).map(repaired)
    assert len(twice.retry(letters).take_all()) == 2
    with pytest.raises(ValueError, match="its name does not say"):
        TEN.map(lambda row: row).map(repaired).map(repaired).retry(letters)


def test_letters_of_several_operations_are_refused() -> None:
    letters = letters_of(two_lambdas(first=True, second=True))
    with pytest.raises(ValueError, match=r"filter them by stage: \['Map\(<lambda>\)', 'Map\(<lambda>\)#2'\]"):
        two_lambdas().retry(letters)
    second = letters.filter(lambda row: row["stage"] == "Map(<lambda>)#2")
    assert [row["id"] for row in two_lambdas().retry(second).take_all()] == [5]


def test_rows_of_other_sources_do_not_come_again() -> None:
    dataset = TEN.map(failing, on_error="dead_letter")
    letters = letters_of(dataset)
    with pytest.raises(ValueError, match=r"Union puts the rows of Map\(failing\), which failed, together"):
        dataset.union(TEN).retry(letters)


def test_letters_without_places_go_by_name() -> None:
    """Files of an earlier version have no such column."""
    letters = letters_of(two_lambdas(second=True)).drop_columns(["operation"])
    assert [row["id"] for row in two_lambdas().retry(letters).take_all()] == [0, 5]


PROGRAM = """
import sys
import skate.data

bad = len(sys.argv) > 1
rows = (
    skate.data.range(10)
    .map(lambda row: {**row, "first": 1})
    .map(lambda row: {**row, "second": 1 // (row["id"] % 5) if bad else 0}, on_error="dead_letter")
)
if bad:
    rows.write_parquet("out", dead_letter="letters")
else:
    print(rows.retry(skate.data.read_parquet("letters")).take_all())
"""


def test_in_another_process(tmp_path: Path) -> None:
    for arguments in (["bad"], []):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "[{'id': 0, 'first': 1, 'second': 0}, {'id': 5, 'first': 1, 'second': 0}]\n"
