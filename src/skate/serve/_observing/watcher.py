"""Answers for this process what others ask of it: its series, and what it knows of a request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skate.serve._observing import frames, metrics, requests
from skate.serve._observing.metrics import Snapshot
from skate.serve._observing.why import Fact, Running
from skate.serve._targets import DeploymentId

#: The concurrency group whose thread answers what others ask about a process.
OBSERVING = "observing"


@dataclass(frozen=True)
class Found:
    """The answer of a process about a request.

    Args:
        facts: of the request.
        ongoing: requests that run here now; -1: this is no replica.
    """

    facts: list[Fact]
    ongoing: int = -1


class Watcher:
    """This process as others see it. Made on its loop; its methods run in any thread.

    Args:
        process: its name.
        calls_of: returns what the process knows of the calls of a request that it makes.
        name: the deployment of the replica; None: this is the controller.
        ongoing: returns how many requests run here.
    """

    def __init__(
        self,
        process: str,
        calls_of: Callable[[str, str], list[Fact]],
        name: DeploymentId | None = None,
        ongoing: Callable[[], int] | None = None,
    ) -> None:
        self.process = process
        self._calls_of = calls_of
        self._name = name
        self._ongoing = ongoing
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        http = ("ray_serve_num_ongoing_http_requests", (process,))
        metrics.this.metrics.add_reader(lambda: {http: requests.this.http})
        if name is not None and ongoing is not None:
            key = ("ray_serve_replica_processing_queries", (name.name, name.app_name, process))
            metrics.this.metrics.add_reader(lambda: {key: ongoing()})

    def answer(self, what: str, *args: Any) -> Any:
        """Answer a question: "metrics", or "request" with an id."""
        return self.snapshot() if what == "metrics" else self.request(*args)

    def snapshot(self) -> Snapshot:
        """Return all series."""
        return metrics.this.metrics.snapshot()

    def request(self, request_id: str) -> Found:
        """Return what is known of a request."""
        now = time.monotonic()
        facts = self._calls_of(self.process, request_id)
        if self._name is not None:
            facts += [
                Running(
                    self.process,
                    self._name.name,
                    self._name.app_name,
                    one.method or "__call__",
                    now - one.began,
                    frames.place_of(one, self._loop, self._loop_thread),
                )
                for one in requests.this.running.copy()
                if one.request_id == request_id
            ]
        facts += requests.this.find_ended(request_id)
        return Found(facts, -1 if self._ongoing is None else self._ongoing())
