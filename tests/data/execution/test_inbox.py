"""Bundles: whole batches, small blocks together, and shares for the replicas of a pool."""

from __future__ import annotations

import pyarrow as pa
import pytest

from skate.data._exec.inbox import Inbox
from skate.data._exec.stages import Kind, Pool, Stage
from skate.data._task.slices import BlockMeta, BlockSlice


def bundles(stage: Stage, *blocks: int, row_bytes: int = 8) -> list[int]:
    """Return the rows of the bundles that are made of blocks of so many rows, which have all arrived."""
    inbox = Inbox(stage)
    for rows in blocks:
        meta = BlockMeta(rows, rows * row_bytes, pa.schema([]))
        inbox.put(0, "", BlockSlice.whole(None, meta))
    inbox.close(0)
    found = []
    while inbox.has_bundle():
        found.append(inbox.take()[1].num_rows)
    assert sum(found) == sum(blocks)
    assert inbox.bytes == 0
    return found


def stage(pool: Pool | None = None, batch_rows: int | None = None, is_repeatable: bool = False) -> Stage:
    """Return a stage that takes the rows of another one."""
    return Stage(1, "Map", Kind.CHAIN, (0,), pool=pool, batch_rows=batch_rows, is_repeatable=is_repeatable)


TWO = Pool(2, 2, 2)


def test_small_blocks_are_put_together() -> None:
    assert bundles(stage(), 10, 10, 10) == [30]
    assert bundles(stage(), 10, 10, 10, row_bytes=100_000) == [10, 10, 10]


def test_replicas_share_rows_in_whole_batches() -> None:
    assert bundles(stage(TWO, 50), *[250] * 8) == [500, 400, 300, 200, 150, 150, 100, 50, 50, 50, 50]
    assert bundles(stage(TWO, 50), 2010)[-1] == 10
    assert all(rows % 50 == 0 for rows in bundles(stage(TWO, 50), *[20] * 100))


def test_replicas_share_whole_blocks_without_batches() -> None:
    assert bundles(stage(TWO), *[10] * 8) == [20, 20, 10, 10, 10, 10]
    assert bundles(stage(TWO), 100) == [100], "a block that is given as it is stays whole"


@pytest.mark.parametrize("blocks", [[250] * 8, [7] * 100, [1, 999]])
def test_one_call_at_a_time_takes_what_is_there(blocks: list[int]) -> None:
    total = sum(blocks)
    found = bundles(stage(Pool(1, 1, 1, in_flight=1), 50), *blocks)
    assert found == [total - total % 50, total % 50][: len(found)]


def test_repeatable_stages_share_nothing() -> None:
    assert bundles(stage(TWO, 50, is_repeatable=True), 2000) == bundles(
        stage(None, 50, is_repeatable=True), 2000
    )
