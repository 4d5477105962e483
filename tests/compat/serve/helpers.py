"""What the tests share. Nothing here is skate's or Ray's own: the public API alone."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import serve

from compat.markers import differs

__all__ = ["Answer", "Web", "brief", "deployment", "differs", "lines", "note", "opened", "until"]


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def kind(self) -> str | None:
        return self.headers.get("content-type")

    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """Requests to the session's port, each over a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def __call__(
        self, path: str = "/", body: bytes | None = None, method: str | None = None, **headers: str
    ) -> Answer:
        connection = self.connect()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, body, named)
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()


#: Options with which the end of a replica takes no seconds.
brief: dict[str, Any] = {"graceful_shutdown_wait_loop_s": 0.05, "graceful_shutdown_timeout_s": 5}


def deployment(**options: Any) -> Any:
    """Return the decorator of a deployment whose replicas end fast."""
    return serve.deployment(**(brief | options))


def until(condition: Callable[[], Any], seconds: float = 25) -> Any:
    """Return the first true value of a condition."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.02)
    return found


def note(folder: str, line: str) -> None:
    """Write down an event: each in a file of its own, for several processes write."""
    Path(folder, f"{time.time():.6f}-{uuid.uuid4().hex}.note").write_text(line)


def lines(folder: Any) -> list[str]:
    """Return the events, in order."""
    return [one.read_text() for one in sorted(Path(folder).glob("*.note"))]


async def opened(folder: str) -> None:
    """Note "started", and wait until the test makes the file ``open``."""
    note(folder, "started")
    while not Path(folder, "open").exists():
        await asyncio.sleep(0.01)
