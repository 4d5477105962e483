"""Sessions for tests of data: two CPUs, one session a module."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import skate

#: Seconds after which what is waited for will not come any more; and between two looks at it.
_LONGEST_S, _INTERVAL_S = 60.0, 0.01


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """A session with two CPUs."""
    skate.shutdown()  # a small plan that took long may have started one
    skate.init(num_cpus=2, object_store_memory=512 << 20)
    yield
    skate.shutdown()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], None]:
    """A function that waits until a condition holds."""

    def wait(condition: Callable[[], object]) -> None:
        until = time.monotonic() + _LONGEST_S
        while not condition():
            assert time.monotonic() < until, "the condition did not hold in time"
            time.sleep(_INTERVAL_S)

    return wait
