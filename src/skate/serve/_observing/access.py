"""The access log: the loop appends tuples, a thread formats and writes them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from typing import Any

#: Lines are written so long after the first of them (seconds).
_PAUSE_S = 0.1
#: More requests than this in one pause are not logged, but counted.
_MOST = 100_000
#: A file that is longer is renamed, and replaces the one before (bytes).
LONGEST_FILE = 64 << 20


class AccessLog:
    """One line for each request, in a file of this process.

    Args:
        path: of the file. Its folder is made.
        as_json: an object a line, rather than text.
        loop: where ``add`` is called.
    """

    def __init__(self, path: str, as_json: bool, loop: Any) -> None:
        self.path = path
        self._format = _json if as_json else _text
        self._loop = loop
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._is_woken = False
        self._lost = 0
        self._wake = threading.Event()
        self._is_closed = False
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="skate-serve-access-log", daemon=True)
        self._thread.start()

    def add(self, ended: tuple[Any, ...]) -> None:
        """Log a request: the fields of ``Ended``. On the loop."""
        if len(self._waiting) >= _MOST:
            self._lost += 1
            return
        self._waiting.append(ended)
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_later(_PAUSE_S, self._wake.set)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._is_closed = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait()
            self._wake.clear()
            self._is_woken = False
            self._write()

    def _write(self) -> None:
        lines = []
        clocks = time.time() - time.monotonic()
        if self._lost:
            lost, self._lost = self._lost, 0
            lines.append(f"# {lost} requests were not logged: more came than the log could take\n")
        while self._waiting:
            lines.append(self._format(self._waiting.popleft(), clocks))
        if not lines:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("".join(lines))
                size = file.tell()
            if size > LONGEST_FILE:
                os.replace(self.path, f"{self.path}.1")
        except OSError:
            self._lost += len(lines)  # the disk is full, or the folder is gone: the next line says so


def _text(ended: tuple[Any, ...], clocks: float) -> str:
    request_id, deployment, application, method, path, status, milliseconds, at = ended
    # No request can forge a line: it has neither line ends nor other control characters.
    shown = path if path.isprintable() else ascii(path)[1:-1]
    name = request_id if request_id.isprintable() else ascii(request_id)[1:-1]
    start = f"{stamp(at + clocks)} {application}/{deployment} {name}"
    return f"{start} {method} {shown} {status} {milliseconds:.1f}ms\n"


def _json(ended: tuple[Any, ...], clocks: float) -> str:
    request_id, deployment, application, method, path, status, milliseconds, at = ended
    return (
        json.dumps(
            {
                "time": stamp(at + clocks),
                "application": application,
                "deployment": deployment,
                "request_id": request_id,
                "method": method,
                "path": path,
                "status": status,
                "latency_ms": round(milliseconds, 3),
            }
        )
        + "\n"
    )


def stamp(at: float) -> str:
    """Return a time of the wall clock as text, in this machine's zone."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))},{int(at % 1 * 1000):03d}"
