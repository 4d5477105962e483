"""Row groups that a predicate rules out by the statistics in the footer."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import dataset as pads


def matching_groups(predicate: Any, path: str, filesystem: Any, schema: pa.Schema) -> set[int] | None:
    """Return the numbers of the row groups whose rows may fulfil an expression.

    Args:
        predicate: an expression of ours. One that has no ``to_pyarrow``, cannot be said in pyarrow, or is
            about columns that the file lacks, rules out nothing.
        path: the file.
        filesystem: of pyarrow.
        schema: of the file.

    Returns:
        The numbers; None: nothing is ruled out.
    """
    if not hasattr(predicate, "to_pyarrow") or not set(predicate.columns()) <= set(schema.names):
        return None
    try:
        expression = predicate.to_pyarrow()
        fragment = pads.ParquetFileFormat().make_fragment(path, filesystem)
        return {group.id for group in fragment.subset(filter=expression, schema=schema).row_groups}
    except (NotImplementedError, TypeError, ValueError, pa.ArrowException):
        return None
