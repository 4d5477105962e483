"""Random updates, scaling, deletions and deaths under clients of all kinds: nothing is lost, nothing leaks."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest

import skate
from skate import serve
from skate.exceptions import RayError

from .chaos import Chaos, Echo
from .conftest import Web
from .processes import controller, kill_controller, pid_of, replicas

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(240)

#: The seeds: so many, from SKATE_SERVE_CHAOS_FIRST on.
FIRST = int(os.environ.get("SKATE_SERVE_CHAOS_FIRST", "0"))
SEEDS = int(os.environ.get("SKATE_SERVE_CHAOS_RUNS", "1"))
#: Events of each.
EVENTS = 6


class Program:
    """Events in a random order.

    Args:
        web: the session's port.
        wait_until: see ``conftest``.
        seed: of all that is random.
    """

    def __init__(self, web: Web, wait_until: Wait, seed: int) -> None:
        self.web, self.wait_until = web, wait_until
        self.random = random.Random(seed)
        self.seed = seed
        self.version = self.config = 0
        self.count = 2
        self.has_inner = False
        self.trace: list[str] = []
        self.chaos: Chaos
        self._threads: list[threading.Thread] = []

    # ------------------------------------------------------------------ targets

    def target(self) -> Any:
        settings = {"num_replicas": self.count, "user_config": self.config}
        inner = (Echo.options(name="Inner").bind(self.version),) if self.has_inner else ()
        return Echo.options(**settings).bind(self.version, *inner)

    def run_other(self) -> None:
        serve.run(Echo.bind(self.random.random()), name="other", route_prefix="/other")

    # ------------------------------------------------------------------ events

    def update(self) -> None:
        self.version += 1
        self.count = self.random.randrange(1, 4)
        serve.run(self.target())

    def scale(self) -> None:
        self.count = self.random.randrange(1, 4)
        serve.run(self.target())

    def reconfigure(self) -> None:
        self.config += 1
        serve.run(self.target())

    def reshape(self) -> None:
        """The application has another deployment, or one less."""
        self.has_inner = not self.has_inner
        self.update()

    def update_twice(self) -> None:
        """The second begins before the first has ended."""
        self.version += 1
        first = self.target()

        def run() -> None:
            with contextlib.suppress(RuntimeError):  # it was deployed again meanwhile
                serve.run(first)

        thread = self.beside(run)
        self.wait_until(lambda: not thread.is_alive() or is_deploying())
        self.pause()
        self.update()

    def replace_other(self) -> None:
        self.chaos.other_may_fail = True
        serve.delete("other", _blocking=bool(self.random.randrange(2)))
        if self.random.randrange(2):
            self.pause()
        self.run_other()

    def kill(self) -> None:
        """The controller dies."""
        self.wait_until(lambda: is_free_of_requests() or self.chaos.errors)
        kill_controller()

    def kill_within(self) -> None:
        """The controller dies in the middle of something."""
        event = self.random.choice([self.update, self.scale, self.reshape, self.replace_other])
        self.trace.append(f"({event.__name__})")
        self.beside(event)
        self.pause()
        self.kill()

    def pause(self) -> None:
        """Let some client have some answers."""
        client, number = self.random.choice(self.chaos.clients), self.random.randrange(30)
        until = client.answers + number
        self.wait_until(lambda: client.answers >= until or self.chaos.errors)

    def kill_replica(self) -> None:
        """Only the requests that it has may fail."""
        victim = pid_of(self.random.choice([*replicas("Echo").values()]))
        self.chaos.kills += 1
        os.kill(victim, signal.SIGKILL)

    def beside(self, function: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=function)
        thread.start()
        self._threads.append(thread)
        return thread

    # ------------------------------------------------------------------ all

    def run(self, events: int, is_deadly: bool) -> None:
        handle = serve.run(self.target())
        self.run_other()
        choices = [
            self.update, self.scale, self.reconfigure, self.reshape, self.update_twice, self.replace_other,
            self.kill, self.kill_within, *([self.kill_replica] * 4 if is_deadly else ()),
        ]  # fmt: skip
        parts = (self.web.host, self.web.port)
        with Chaos(parts, handle, self.seed) as self.chaos:
            for _ in range(events):
                if self.chaos.errors:
                    break
                event = self.random.choice(choices)
                self.trace.append(event.__name__)
                event()
                for one in self._threads:
                    one.join()
                self._threads.clear()
                before = self.chaos.counts()
                self.wait_until(lambda: self.chaos.have_gone_on(before, 3))  # noqa: B023
        assert self.chaos.errors == [], f"{self.trace} {dict(self.chaos.statuses)}"


def is_deploying() -> bool:
    """Tell whether an update of the application at "/" has begun."""
    return serve.status().applications["default"].status == "DEPLOYING"


def is_free_of_requests() -> bool:
    """Tell whether the controller has no connections: its death would close them."""

    def facts(self: Any) -> int:
        fronts = [*self._port._leaving, *([self._port._front] if self._port._front is not None else [])]
        return sum(len(front.server.connections()) for front in fronts)

    try:
        return not skate.get(controller().__ray_call__.remote(facts))
    except RayError:
        return False


def open_connections(pid: int, port: int) -> int:
    """Return how many connections of clients a process has, also ones that clients have closed."""
    found = psutil.Process(pid).net_connections("tcp")
    return sum(
        bool(one.laddr) and one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in found
    )


def requests_of(replica: Any) -> tuple[int, int]:
    """Return how many requests a replica has, and how many its process has sent or is about to send."""

    def facts(self: Any) -> tuple[int, int]:
        routers = [one.router for one in self._client.ports()]
        return self._slots.lender.ongoing, sum(one.queued + one.ongoing for one in routers)

    found: tuple[int, int] = skate.get(replica.__ray_call__.remote(facts))
    return found


@pytest.mark.parametrize("is_deadly", [False, True])
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_random_events(web: Web, wait_until: Wait, seed: int, is_deadly: bool) -> None:
    program = Program(web, wait_until, seed)
    program.run(EVENTS, is_deadly)
    actors = [
        *replicas("Echo").values(),
        *replicas("Echo", "other").values(),
        *(replicas("Inner").values() if program.has_inner else ()),
    ]
    for pid in [pid_of(controller()), *map(pid_of, actors)]:
        wait_until(lambda: open_connections(pid, web.port) == 0)  # noqa: B023
    for one in actors:
        wait_until(lambda: requests_of(one) == (0, 0))  # noqa: B023
        found = skate.get(one.counts.remote())
        # A router that rests keeps one credit for its next request.
        assert found["lent"] <= len(found["routers"]) + 1
