"""A session with serve for tests of it: two CPUs, one session a module; each test leaves no application."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve._instance import http_address


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """Requests to the session's port, each over a connection of its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        parts = urllib.parse.urlsplit(address)
        self.host, self.port = parts.hostname or "", parts.port or 0

    def __call__(
        self, path: str = "/", body: bytes | None = None, method: str | None = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, body, named)
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()


@contextmanager
def session(grpc_options: dict[str, Any] | None = None, **http_options: Any) -> Iterator[str]:
    """A session that answers HTTP on a port of its own; yields its address."""
    skate.shutdown()
    skate.init(num_cpus=2, object_store_memory=256 << 20)
    try:
        serve.start(http_options={"port": 0, **http_options}, grpc_options=grpc_options)
        address = http_address()
        assert address is not None
        yield address
    finally:
        serve.shutdown()
        skate.shutdown()


@pytest.fixture(scope="module")
def serving() -> Iterator[Web]:
    """A session with the options of a newcomer."""
    with session() as address:
        yield Web(address)


@pytest.fixture
def web(serving: Web) -> Iterator[Web]:
    """The same, and no application is left afterwards."""
    yield serving
    for name in serve.status().applications:
        serve.delete(name)
    assert serve.status().applications == {}
