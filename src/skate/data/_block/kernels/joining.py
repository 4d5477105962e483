"""Which rows of two sides belong together: pairs of row numbers, without touching other columns."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array, counter
from skate.data._block.kernels.grouping import Column, comparable

_SORTED_PAIRS = 100_000
"""Up to so many pairs come out in the order of the left rows; more keep the order in which the kernel
finds them.
"""


def join_indices(
    left: Sequence[Column], right: Sequence[Column], kind: str
) -> tuple[pa.Array | None, pa.Array | None]:
    """Return numbers of left rows and of their partners on the right.

    Args:
        left: key columns of the left side.
        right: key columns of the right side, of the same types.
        kind: pyarrow's name: ``"inner"``, ``"left outer"``, ``"full outer"``, ``"left semi"``, ``"left
            anti"``, ...

    Returns:
        Two arrays of one length; null where a row has no partner. A semi or anti join has one side alone:
        the other is None. Nulls match nothing, NaN matches NaN.
    """
    names = [f"k{number}" for number in range(len(left))]
    left_table = pa.table([*(comparable(c) for c in left), counter(len(left[0]))], names=[*names, "l"])
    right_table = pa.table([*(comparable(c) for c in right), counter(len(right[0]))], names=[*names, "r"])
    right_table = right_table.rename_columns([*(f"r{name}" for name in names), "r"])
    joined = left_table.join(
        right_table,
        keys=names,
        right_keys=[f"r{name}" for name in names],
        join_type=kind,
        coalesce_keys=False,
        use_threads=False,
    )
    sides = [side for side in ("l", "r") if side in joined.column_names]
    if joined.num_rows <= _SORTED_PAIRS:
        joined = joined.select(sides)
        joined = joined.take(pc.sort_indices(joined, sort_keys=[(side, "ascending") for side in sides]))
    return (
        as_array(joined["l"]) if "l" in sides else None,
        as_array(joined["r"]) if "r" in sides else None,
    )
