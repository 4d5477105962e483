"""One session a module: the helpers are tested on the public API, as a user would use them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import skate


@pytest.fixture(scope="module")
def runtime() -> Iterator[None]:
    """A session with two CPUs."""
    skate.init(num_cpus=2)
    yield
    skate.shutdown()
