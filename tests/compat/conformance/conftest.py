"""Sessions of the suite. What it has in common with the suite of data is in the folder above."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

#: CPUs of the sessions: more than a small machine has, for tasks that wait need none.
CPUS = 4


@pytest.fixture(scope="module", autouse=True)
def always_as_ray(as_ray: None) -> None:
    """Every test of the suite, also one that needs no session."""


def _init(**options: Any) -> None:
    import ray

    ray.init(num_cpus=CPUS, include_dashboard=options.pop("include_dashboard", False), **options)


@pytest.fixture(scope="module")
def session(as_ray: None) -> Iterator[None]:
    """A session for all tests of a file: starting Ray takes seconds."""
    import ray

    _init(resources={"token": 2}, object_store_memory=400_000_000)
    yield
    ray.shutdown()


@pytest.fixture
def no_session(as_ray: None) -> Iterator[None]:
    """The test starts its own."""
    import ray

    ray.shutdown()
    yield
    ray.shutdown()
