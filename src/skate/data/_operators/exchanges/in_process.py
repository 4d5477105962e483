"""An exchange run in one process, over tables: for schemas, for small data, and for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from skate.data._block.tables import concat, size_bytes, slice_rows
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockMeta, BlockSlice


def run_exchange(
    exchange: Exchange,
    sides: Sequence[Sequence[Sequence[pa.Table]]],
    limits: ExchangeLimits | None = None,
    target_max_block_bytes: int = 128 << 20,
) -> list[list[pa.Table]]:
    """Run an exchange and return the output blocks of each of its merges.

    Args:
        exchange: what is done.
        sides: for each side its bundles, each a list of blocks; a bundle is the input of one partition
            task.
        limits: what the plan keeps to.
        target_max_block_bytes: size at which operators cut.

    Returns:
        For each bundle of the plan, in order, its blocks.

    Example:
        >>> run_exchange(Sort(sort_keys("x")), [[[pa.table({"x": [2]})], [pa.table({"x": [1]})]]])
    """
    limits = limits or ExchangeLimits(target_bytes=128 << 20, parallelism=1)
    partitioned = []
    for number, bundles in enumerate(sides):
        operator = exchange.partition(number)
        made = []
        for task, bundle in enumerate(bundles):
            context = TaskContext(f"{number}.{task}", slices=len(bundle))
            context.target_max_block_bytes = target_max_block_bytes
            made.extend(_slices(operator, bundle, context))
        partitioned.append(made)
    results = []
    merge = exchange.merge()
    for number, planned in enumerate(exchange.plan(partitioned, limits)):
        tables = [slice_rows(piece.block, piece.start, piece.stop) for piece in planned.slices]
        context = TaskContext(f"merge.{number}", params=planned.params, slices=len(tables))
        context.target_max_block_bytes = target_max_block_bytes
        results.append([piece.block for piece in _slices(merge, tables, context)])
    return results


def _slices(operator: Operator | None, blocks: Sequence[pa.Table], task: TaskContext) -> list[BlockSlice]:
    outputs: Iterable[pa.Table | Made] = blocks if operator is None else operator.process(iter(blocks), task)
    slices = []
    for output in outputs:
        block, extra = (output.block, output.extra) if isinstance(output, Made) else (output, None)
        meta = BlockMeta(block.num_rows, size_bytes(block), block.schema, extra=extra)
        slices.append(BlockSlice.whole(block, meta))
    return slices


def output_schema(exchange: Exchange, schemas: Sequence[pa.Schema]) -> pa.Schema | None:
    """Return the schema of an exchange's output, from those of its sides, without any row.

    The exchange itself runs over empty tables, so what it refuses (a missing column, types that do not go
    together) is an error here already.

    Args:
        exchange: what is done.
        schemas: of each side.

    Returns:
        The schema; None if the exchange's user function decides it.
    """
    if not getattr(exchange, "has_known_schema", True):
        return None
    blocks = run_exchange(exchange, [[[schema.empty_table()]] for schema in schemas])
    tables = [table for part in blocks for table in part]
    return concat(tables).schema if tables else None
