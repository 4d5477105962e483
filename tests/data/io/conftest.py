"""Helpers of the reading tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from skate.data._block.rows import iter_rows
from skate.data._task.operators import TaskContext


class Reads:
    """Everything that a datasource gives: rows, blocks, letters, tasks."""

    def __init__(self, source: Any, target: int = 128 << 20, **tasks: Any) -> None:
        self.tasks = source.get_read_tasks(**tasks)
        self.blocks: list[pa.Table] = []
        self.letters: list[Any] = []
        for number, task in enumerate(self.tasks):
            context = TaskContext(f"0.{number}", target_max_block_bytes=target)
            self.blocks.extend(task.read_fn.read(context))
            self.letters.extend(context.letters)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for block in self.blocks for row in iter_rows(block)]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


@pytest.fixture
def read() -> Callable[..., Reads]:
    return Reads
