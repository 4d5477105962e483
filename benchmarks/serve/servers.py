"""How each system is started, asked for an application, and stopped. Standard library alone."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

from benchmarks.serve.applications import APPLICATIONS, BY_HANDLE, echo
from benchmarks.serve.generator import parse, request_of
from benchmarks.serve.load import BODY

START_TIMEOUT_S = 90.0
POLL_S = 0.002
STOP_TIMEOUT_S = 15.0
STORE_BYTES = 256 << 20
BENTO_CLASSES = {"echo": "Echo", "batch_fast": "BatchFast"}
"""`bento` itself can be imported only where BentoML is."""


class Server(Protocol):
    """One system, in this process or started by it."""

    def urls(self, names: Sequence[str]) -> list[str]:
        """Run applications; return where each answers."""

    def replicas(self, count: int) -> str:
        """Have the echo answered by so many processes; return where."""

    def stop(self) -> None:
        """End it with all that it started."""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def command(system: str, name: str, port: int, workers: int = 1) -> list[str]:
    """What a user types to have an application answered on a port."""
    arguments = ["--app", name, "--port", str(port), "--workers", str(workers)]
    if system in ("uvicorn", "uvicorn_uvloop"):
        return [sys.executable, "-m", "benchmarks.serve.plain", *arguments]
    if system == "litserve":
        return [sys.executable, "-m", "benchmarks.serve.lit", *arguments]
    if system == "bentoml":
        target = f"benchmarks.serve.bento:{BENTO_CLASSES[name]}"
        return [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    module = "skate" if system == "skate" else "ray"
    return [sys.executable, "-m", "benchmarks.serve.alone", "--module", module, "--port", str(port)]


def body_of(system: str, name: str) -> str:
    """What an application takes: BentoML's batches are lists in a named parameter."""
    return '{"values": [17]}' if (system, name) == ("bentoml", "batch_fast") else BODY


def asked(port: int, path: str, body: str) -> str:
    """The status of an answer to one request, or why there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as one:
            one.sendall(request_of(path, body.encode()))
            data = b""
            while (found := parse(data)) is None:
                more = one.recv(1 << 16)
                if not more:
                    return "the connection was closed"
                data += more
            return str(found.status)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def wait_for_200(port: int, path: str, body: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Ask until it is answered with 200.

    Raises:
        RuntimeError: the process has ended, or time is up.
    """
    end = time.monotonic() + START_TIMEOUT_S
    while (found := asked(port, path, body)) != "200":
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it answered")
        if time.monotonic() > end:
            raise RuntimeError(f"no 200 at {path} in {START_TIMEOUT_S:.0f} s, but {found}")
        time.sleep(POLL_S)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end; kill it if it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class ProcessServer:
    """A process for each application."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._running: dict[tuple[str, int], tuple[subprocess.Popen[bytes], int]] = {}

    def urls(self, names: Sequence[str]) -> list[str]:
        return [self._url(name, 1) for name in names]

    def replicas(self, count: int) -> str:
        return self._url("echo", count)

    def _url(self, name: str, workers: int) -> str:
        if (name, workers) not in self._running:
            self.stop()  # one at a time: idle neighbours would count
            port = free_port()
            process = subprocess.Popen(command(self._system, name, port, workers))
            self._running[name, workers] = process, port
            wait_for_200(port, "/", body_of(self._system, name), process)
        return f"http://127.0.0.1:{self._running[name, workers][1]}/"

    def stop(self) -> None:
        for process, _ in self._running.values():
            end(process)
        self._running.clear()


class ApiServer:
    """skate or Ray, whose driver is this process. Each application has a prefix; a sole one has `/`."""

    def __init__(self, system: str) -> None:
        name = "skate" if system == "skate" else "ray"
        self.module: Any = importlib.import_module(name)
        self.serve: Any = importlib.import_module(f"{name}.serve")
        self.is_ray = name == "ray"
        self._port = free_port()
        self._deployed: dict[str, str | None] = {}
        """Application to its prefix."""
        cores = os.cpu_count() or 1
        more = {"include_dashboard": False} if self.is_ray else {}
        self.module.init(num_cpus=cores, object_store_memory=STORE_BYTES, **more)
        self.serve.start(http_options={"host": "127.0.0.1", "port": self._port})

    def urls(self, names: Sequence[str]) -> list[str]:
        targets = {it: APPLICATIONS[it](self.serve) for it in names if it not in self._deployed}
        for name in targets:
            sole = len(names) == 1 and not self._deployed
            self._deployed[name] = None if name in BY_HANDLE else "/" if sole else f"/{name}"
        if self.is_ray and len(targets) > 1:
            many = [self.serve.RunTarget(it, name, self._deployed[name]) for name, it in targets.items()]
            self.serve.run_many(many)
        else:
            for name, target in targets.items():
                self.serve.run(target, name=name, route_prefix=self._deployed[name])
        for name in targets:
            if (prefix := self._deployed[name]) is not None:
                wait_for_200(self._port, prefix, BODY)
        return [f"http://127.0.0.1:{self._port}{self._deployed[name]}" for name in names]

    def replicas(self, count: int) -> str:
        self.echo(replicas=count)
        return self.urls(["echo"])[0]

    def echo(self, **options: Any) -> None:
        """Run the echo with other options, in place of the one that runs."""
        self._deployed.setdefault("echo", "/")
        self.serve.run(echo(self.serve, **options), name="echo", route_prefix=self._deployed["echo"])

    def stop(self) -> None:
        with contextlib.suppress(Exception):
            self.serve.shutdown()
        self.module.shutdown()


def server(system: str) -> Server:
    """The server of a system; those of skate and Ray start at once."""
    return ApiServer(system) if system in ("skate", "ray", "ray_haproxy") else ProcessServer(system)
