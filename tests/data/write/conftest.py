"""A server that forks runs of writes, so that killing one costs no start of Python."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # play.py, which is also a program


class Server:
    """Runs writes in processes of their own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "play.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin, self._stdout, self._stderr = (
            self._process.stdin,
            self._process.stdout,
            self._process.stderr,
        )
        os.set_blocking(self._stderr.fileno(), False)

    def run(self, kill_after_s: float | None = None, **order: Any) -> int:
        """Do one run. Return its exit status, negative for the signal that ended it."""
        self._stdin.write(json.dumps(order).encode() + b"\n")
        self._stdin.flush()
        pid = int(self._stdout.readline())
        if kill_after_s is not None and not select.select([self._stdout], [], [], kill_after_s)[0]:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)
        return int(self._stdout.readline())

    def begin(self, **order: Any) -> int:
        """Begin a run and return its process id; ``end`` waits for it."""
        self._stdin.write(json.dumps(order).encode() + b"\n")
        self._stdin.flush()
        return int(self._stdout.readline())

    def end(self) -> int:
        """Wait for the run that began."""
        return int(self._stdout.readline())

    def errors(self) -> str:
        """Return what runs wrote to stderr since the last call."""
        return (self._stderr.read() or b"").decode()

    def close(self) -> None:
        """End the server."""
        self._stdin.close()
        self._process.wait(30)
        self._stdout.close()
        self._stderr.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()
