"""Runs a load generator and reads what it found: `wrk` where it is there, else our own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.serve.meter import ServerMeter

BODY = '{"id": 17, "text": "the quick brown fox", "values": [1, 2, 3]}'
SCRIPT = Path(__file__).with_name("wrk.lua")
WRK_TIMEOUT_S = 10


@dataclass(frozen=True)
class Load:
    """What came of some seconds of load, and what the servers and the generator took."""

    requests: int
    seconds: float
    failed: int
    closed: int
    counted: int
    percentiles: tuple[tuple[float, float], ...]
    """(Percentile, milliseconds)."""
    problems: dict[str, int]
    server_cpu_s: float = 0.0
    generator_cpu_s: float = 0.0
    timeline: tuple[tuple[float, float], ...] = ()
    """(When a request was due, milliseconds)."""

    @property
    def rps(self) -> float:
        return self.requests / self.seconds

    def percentile(self, wanted: float) -> float:
        """Milliseconds.

        Raises:
            RuntimeError: no request was answered.
        """
        for percent, value in self.percentiles:
            if percent >= wanted:
                return value
        raise RuntimeError(f"no request was answered: {self.problems}")

    def facts(self) -> dict[str, Any]:
        """What goes into the results."""
        return {
            "rps": self.rps,
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
            "cpu_us": 1e6 * self.server_cpu_s / self.requests,
            "generator_cpu_us": 1e6 * self.generator_cpu_s / self.requests,
            "failed": self.failed,
            "closed": self.closed,
            "problems": {name: count for name, count in self.problems.items() if count},
        }


class Generators:
    """Starts generators against the servers of one meter.

    Args:
        meter: of the servers' CPU time, from which it leaves the generators out.
        python: runs our own generator, the same one for all systems.
        uses_wrk: whether `wrk` sends the closed loops in which only whole answers count.
    """

    def __init__(self, meter: ServerMeter, python: str, uses_wrk: bool) -> None:
        self._meter = meter
        self._python = python
        self.uses_wrk = uses_wrk

    def closed(self, url: str, connections: int, seconds: float, body: str = BODY) -> Load:
        """Send as fast as answers come."""
        if not self.uses_wrk:
            return self._finish(self._own(url, connections, seconds, body))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += [f"--timeout={WRK_TIMEOUT_S}s", "-s", str(SCRIPT), url]
        return self._finish(self._start(command, {"BODY": body}))

    def counted(self, url: str, connections: int, seconds: float, text: str) -> Load:
        """The same, counting a text in the answers."""
        return self._finish(self._own(url, connections, seconds, BODY, "--count", text))

    def open(self, url: str, connections: int, seconds: float, rate: float) -> Load:
        """Send so many requests a second, whatever comes of them."""
        return self._finish(self.begin_open(url, connections, seconds, rate))

    def begin_open(self, url: str, connections: int, seconds: float, rate: float) -> Running:
        """The same in the background, with all requests in the result."""
        return self._own(url, connections, seconds, BODY, "--rate", str(rate), "--timeline")

    def _own(self, url: str, connections: int, seconds: float, body: str, *more: str) -> Running:
        parts = urlsplit(url)
        command = [self._python, "-m", "benchmarks.serve.generator", "--port", str(parts.port)]
        command += ["--path", parts.path or "/", "--connections", str(connections)]
        return self._start([*command, "--seconds", str(seconds), "--body", body, *more], {})

    def _start(self, command: list[str], variables: dict[str, str]) -> Running:
        return Running(command, variables, self._meter)

    def _finish(self, running: Running) -> Load:
        return running.result()


class Running:
    """A generator at work."""

    def __init__(self, command: list[str], variables: dict[str, str], meter: ServerMeter) -> None:
        self._meter = meter
        self._before = meter.mark()
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
        )
        meter.leave_out(self._process.pid)

    def stop(self) -> None:
        """Have it begin no more requests."""
        self._process.send_signal(signal.SIGTERM)

    def result(self) -> Load:
        """Wait for its end.

        Raises:
            RuntimeError: it failed.
        """
        output = self._process.stdout
        assert output is not None
        text = output.read()
        server_cpu_s = self._meter.since(self._before)
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            raise RuntimeError(f"the load generator ended with {self._process.returncode}: {text[-300:]}")
        found = json.loads(text.strip().splitlines()[-1])
        return Load(
            found["requests"],
            found["seconds"],
            found["failed"],
            found["closed"],
            found["counted"],
            tuple((p, ms) for p, ms in found["percentiles"]),
            found["problems"],
            server_cpu_s,
            usage.ru_utime + usage.ru_stime,
            tuple((due, ms) for due, ms in found.get("timeline", ())),
        )


def has_wrk() -> bool:
    """Whether `wrk` can be started."""
    return shutil.which("wrk") is not None
