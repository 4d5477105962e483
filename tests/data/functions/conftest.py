"""What the tests of user functions share: running one operator over tables in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from skate.data._block.rows import iter_rows
from skate.data._operators.dead_letters import ErrorPolicy
from skate.data._operators.functions import UserFunction
from skate.data._task.operators import Operator, TaskContext


class Ran:
    """What became of a run."""

    def __init__(self, tables: list[pa.Table], task: TaskContext) -> None:
        self.tables = tables
        self.task = task
        self.letters = task.letters

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for table in self.tables for row in iter_rows(table)]

    def column(self, name: str = "x") -> list[Any]:
        return [row[name] for row in self.rows]

    @property
    def failed(self) -> list[str]:
        return [letter.row_id for letter in self.letters]


def run_operator(operator: Operator, *tables: pa.Table, task: TaskContext | None = None) -> Ran:
    task = task or TaskContext("0.0")
    return Ran(list(operator.process(iter(tables), task)), task)


def numbers(*lengths: int) -> list[pa.Table]:
    """Tables with a column x that counts on over all of them, and a text."""
    tables, start = [], 0
    for length in lengths:
        values = range(start, start + length)
        tables.append(
            pa.table({"x": pa.array(values, pa.int64()), "s": pa.array(map(str, values), pa.string())})
        )
        start += length
    return tables


@pytest.fixture(scope="session")
def run() -> Callable[..., Ran]:
    return run_operator


@pytest.fixture(scope="session")
def make_numbers() -> Callable[..., list[pa.Table]]:
    return numbers


@pytest.fixture(scope="session")
def keep() -> ErrorPolicy:
    return ErrorPolicy.of("map", on_error="dead_letter")


@pytest.fixture(scope="session")
def user() -> Callable[..., UserFunction]:
    return UserFunction.of
