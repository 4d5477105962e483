"""One session with serve for all tests of the suite: on Ray, starting one takes tens of seconds."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from .helpers import Web

HERE = Path(__file__).parent


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
def web(folder_as_ray: None) -> Iterator[Web]:
    """A session that answers HTTP. On Ray a replica holds one of its CPUs."""
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()
    ray.init(
        "local", num_cpus=16, include_dashboard=False, object_store_memory=300_000_000, log_to_driver=False
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield Web(port)
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(autouse=True)
def always_serving(web: Web) -> None:
    """Every test of the suite."""


@contextlib.contextmanager
def _applications() -> Iterator[Callable[..., Any]]:
    from ray import serve

    names = []

    def run(application: Any, name: str = "default", route_prefix: str | None = None) -> Any:
        names.append(name)
        return serve.run(application, name=name, route_prefix=route_prefix)

    try:
        yield run
    finally:
        for name in dict.fromkeys(names):
            serve.delete(name)


@pytest.fixture
def run(web: Web) -> Iterator[Callable[..., Any]]:
    """``serve.run`` of an application that is deleted after the test. Without HTTP, unless it has a prefix."""
    with _applications() as run:
        yield run


@pytest.fixture(scope="module")
def run_for_all(web: Web) -> Iterator[Callable[..., Any]]:
    """The same, for all tests of a file."""
    with _applications() as run:
        yield run
