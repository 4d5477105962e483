"""One session for all tests of the suite: on Ray, starting one and its first tasks take tens of seconds."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ON = os.environ.get("CONFORMANCE_ON", "skate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            # Old spellings are among what is tested.
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::FutureWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::UserWarning"))


@pytest.fixture(scope="package")
def folder_as_ray(named_ray: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """What is started by tests of this folder takes skate for ray."""
    with named_ray():
        yield


@pytest.fixture(scope="package")
def session(folder_as_ray: None) -> Iterator[None]:
    """Two CPUs."""
    import ray

    ray.shutdown()
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=300_000_000, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def quiet(session: None) -> Iterator[None]:
    """Exchanges by tasks, for Ray starts actors for others; rows in order, for results to be compared."""
    from ray.data import DataContext
    from ray.data.context import ShuffleStrategy

    before = DataContext.get_current()
    context = copy.deepcopy(before)
    DataContext._set_current(context)
    context.enable_progress_bars = False
    context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    context.default_hash_shuffle_parallelism = 2
    context.execution_options.preserve_order = True
    if ON == "skate":
        context.pool_linger_s = 0.0  # or a test had the instances of the one before
    yield
    DataContext._set_current(before)
