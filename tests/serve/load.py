"""Clients that send requests over kept connections until they are stopped, and count what came of them."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections import Counter
from types import TracebackType


class Load:
    """Some clients, each with one connection and one request under way.

    Args:
        address: such as "http://127.0.0.1:8000".
        clients: how many.
        path, body: of the requests.
    """

    def __init__(self, address: str, clients: int = 8, path: str = "/", body: bytes = b"x") -> None:
        parts = urllib.parse.urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._path, self._body = path, body
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        #: Status to how many answers had it.
        self.statuses: Counter[int] = Counter()
        #: Body of a good answer to how many had it.
        self.bodies: Counter[bytes] = Counter()
        #: What was raised instead of an answer.
        self.errors: list[str] = []
        #: How many connections were closed by the server.
        self.reconnects = 0
        self._threads = [threading.Thread(target=self._run, name=f"client-{i}") for i in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    @property
    def answers(self) -> int:
        """How many answers came."""
        return sum(self.statuses.values())

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        while not self._stopped.is_set():
            try:
                connection.request("POST", self._path, self._body)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with self._lock:
                    self.errors.append(repr(error))
                continue
            with self._lock:
                self.statuses[answer.status] += 1
                self.bodies[body] += 1
                if answer.will_close:
                    self.reconnects += 1
        connection.close()
