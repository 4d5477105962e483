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
    return int(block.nbytes)
