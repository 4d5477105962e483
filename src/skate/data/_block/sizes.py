"""How many bytes a block takes."""

from __future__ import annotations

import pyarrow as pa


def size_bytes(block: pa.Table) -> int:
    """Return the bytes of the buffers that the rows of a block refer to.

    Slices count by their own range, not by the buffers of their parent.

    Example:
        >>> size_bytes(pa.table({"x": [1, 2, 3]}))
        24
    """
    if block.num_columns and block.column(0).num_chunks > 1:  # chunks may share a dictionary
        return sum(column_bytes(column) for column in block.columns)
    return int(block.nbytes)


def column_bytes(column: pa.ChunkedArray) -> int:
    """Return the bytes that a column refers to; a dictionary that chunks share counts once."""
    if not isinstance(column.type, pa.DictionaryType):
        return int(column.nbytes)
    size = 0
    seen = set()
    for chunk in column.chunks:
        size += chunk.indices.nbytes
        dictionary = chunk.dictionary
        identity = tuple(0 if buffer is None else buffer.address for buffer in dictionary.buffers())
        if identity not in seen:
            seen.add(identity)
            size += dictionary.nbytes
    return size
