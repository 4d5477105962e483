"""Shared arrays: one copy in shared memory, read in place by every task.

Run it: ``python examples/shared_arrays.py`` (needs numpy)
"""

from __future__ import annotations

from typing import Any

import numpy as np

import skate


@skate.remote
def column_mean(matrix: Any, column: int) -> float:
    # The array is a read-only view of shared memory: nothing was copied to get here.
    assert not matrix.flags.writeable
    return float(matrix[:, column].mean())


@skate.remote
def centred(matrix: Any, means: Any) -> Any:
    return matrix - means


def main() -> None:
    skate.init()
    matrix = np.random.default_rng(0).normal(size=(100_000, 8))
    # Stored once (6 MB); the ref is what is passed to the tasks.
    shared = skate.put(matrix)
    means = skate.get([column_mean.remote(shared, column) for column in range(8)])
    result = skate.get(centred.remote(shared, np.array(means)))
    print(f"largest mean before {max(map(abs, means)):.5f}, after {abs(result.mean(axis=0)).max():.5f}")
    np.testing.assert_allclose(means, matrix.mean(axis=0))
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-12)
    # Two gets give two views of the same memory; whoever wants to write makes a copy.
    again = skate.get(shared)
    assert np.shares_memory(again, skate.get(shared)) or (again == matrix).all()
    own = again.copy()
    own[0, 0] = 5.0
    assert again[0, 0] == matrix[0, 0]
    skate.shutdown()


if __name__ == "__main__":
    main()
