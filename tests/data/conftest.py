"""Sessions for tests of data: two CPUs, one session a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import skate


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """A session with two CPUs."""
    skate.shutdown()  # a small plan that took long may have started one
    skate.init(num_cpus=2, object_store_memory=512 << 20)
    yield
    skate.shutdown()
