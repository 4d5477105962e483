"""A number for each row of a file, the same in every run."""

from __future__ import annotations

import hashlib

import pyarrow as pa


def row_hashes(path: str, first_row: int, rows: int) -> pa.Array:
    """Return well mixed numbers of 64 bits that depend on the file's path and the rows' numbers alone."""
    import numpy as np

    seed = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        mixed = np.arange(first_row + 1, first_row + rows + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        mixed += np.uint64(seed)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return pa.array(mixed)
