"""Which rows of a block came from which file.

Runs of ``(path, rows)`` lie in the metadata of the block's schema, so they go wherever the block goes. They
describe rows in their order: an operation that moves or drops rows must write them anew (``with_sources``) or
remove them (``without_sources``); ``slice_rows``, ``take_rows``, ``filter_rows`` and ``concat`` of ``tables``
do it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import pyarrow as pa

#: Key of the runs in a schema's metadata.
KEY = b"skate:sources"


@lru_cache(maxsize=32)
def _parse(encoded: bytes) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...]]:
    """Return the runs, and the number of the row after each run."""
    runs = tuple((str(path), int(rows)) for path, rows in json.loads(encoded))
    return runs, tuple(accumulate(rows for _, rows in runs))


def encode(runs: Sequence[tuple[str, int]]) -> bytes:
    """Return runs as bytes; neighbours of one file become one run, empty runs go."""
    merged: list[tuple[str, int]] = []
    for path, rows in runs:
        if not rows:
            continue
        if merged and merged[-1][0] == path:
            merged[-1] = (path, merged[-1][1] + rows)
        else:
            merged.append((path, rows))
    return json.dumps(merged, separators=(",", ":")).encode()


def set_runs(block: pa.Table, runs: Sequence[tuple[str, int]]) -> pa.Table:
    """Return the block with runs in its metadata, unchecked; no runs remove them."""
    metadata = dict(block.schema.metadata or {})
    had = metadata.pop(KEY, None)
    if runs:
        metadata[KEY] = encode(runs)
    elif had is None:
        return block
    return block.replace_schema_metadata(metadata or None)


def with_sources(block: pa.Table, runs: Sequence[tuple[str, int]]) -> pa.Table:
    """Return the block with a note of which rows came from which file; no value is copied.

    Args:
        block: the rows.
        runs: path and number of rows, in the order of the rows; ``""`` stands for rows that came from no
            file.

    Raises:
        ValueError: the runs have more or fewer rows than the block.

    Example:
        >>> block = with_sources(pa.table({"x": [1, 2, 3]}), [("a.csv", 2), ("b.csv", 1)])
        >>> source_of(block, 2)
        'b.csv'
    """
    rows = sum(count for _, count in runs)
    if runs and rows != block.num_rows:
        raise ValueError(f"the runs of sources have {rows} rows, the block has {block.num_rows}")
    return set_runs(block, runs)


def without_sources(block: pa.Table) -> pa.Table:
    """Return the block without a note of files: for operations that move rows."""
    return set_runs(block, ())


def has_sources(block: pa.Table) -> bool:
    """Tell whether the block says which rows came from which file."""
    metadata = block.schema.metadata
    return metadata is not None and KEY in metadata


def sources(block: pa.Table) -> list[tuple[str, int]]:
    """Return path and number of rows of each run, in the order of the rows.

    Returns:
        the runs; an empty list if the block says nothing, or if its number of rows shows that rows were
        dropped since the runs were written.
    """
    metadata = block.schema.metadata
    encoded = metadata.get(KEY) if metadata else None
    if encoded is None:
        return []
    runs, ends = _parse(encoded)
    return list(runs) if ends and ends[-1] == block.num_rows else []


def source_of(block: pa.Table, row: int) -> str:
    """Return the path of the file that a row came from, ``""`` if that is not known."""
    metadata = block.schema.metadata
    encoded = metadata.get(KEY) if metadata else None
    if encoded is None:
        return ""
    runs, ends = _parse(encoded)
    if not ends or ends[-1] != block.num_rows or not 0 <= row < block.num_rows:
        return ""
    return runs[bisect_right(ends, row)][0]


def slice_runs(block: pa.Table, start: int, stop: int) -> list[tuple[str, int]]:
    """Return the runs of a range of rows."""
    metadata = block.schema.metadata
    encoded = metadata.get(KEY) if metadata else None
    if encoded is None:
        return []
    runs, ends = _parse(encoded)
    if not ends or ends[-1] != block.num_rows or start >= stop:
        return []
    cut = []
    number = bisect_right(ends, start)
    while start < stop:
        end = min(ends[number], stop)
        cut.append((runs[number][0], end - start))
        start = end
        number += 1
    return cut
