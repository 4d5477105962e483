"""Events in a random order while clients send; what must be true at the end. See ``chaos`` for the clients."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
from cluster.processes import roles

import skate
from skate import serve
from skate._worker.process import current
from skate.exceptions import RayError
from skate.serve._grpc.calls import DOOR
from skate.serve._targets import NAMESPACE

from .chaos import Chaos, Client, Echo
from .chaos_live import APPLICATION, any_version
from .conftest import Web
from .processes import controller, kill_controller, pid_of, replicas

Wait = Callable[[Callable[[], object]], None]

#: The seeds: so many, from SKATE_SERVE_CHAOS_FIRST on; SKATE_SERVE_CHAOS_ONLY has some events only.
FIRST = int(os.environ.get("SKATE_SERVE_CHAOS_FIRST", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("SKATE_SERVE_CHAOS_RUNS", "1")))
ONLY = os.environ.get("SKATE_SERVE_CHAOS_ONLY", "").split()
#: Events of each.
EVENTS = 6


class Program:
    """Events in a random order.

    Args:
        web: the session's port.
        wait_until: see ``conftest``.
        seed: of all that is random.
        clients: see ``Chaos``.
        tls: for HTTPS.
    """

    def __init__(
        self,
        web: Web,
        wait_until: Wait,
        seed: int,
        clients: dict[type[Client], Sequence[str]],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.web, self.wait_until = web, wait_until
        self.random = random.Random(seed)
        self.seed, self.clients, self.tls = seed, clients, tls
        #: How long a health check may take (seconds).
        self.patience_s = 30.0
        self.version = self.config = 0
        self.count = 2
        self.has_inner = False
        self.trace: list[str] = []
        self.chaos: Chaos
        self._threads: list[threading.Thread] = []

    # ------------------------------------------------------------------ targets

    def target(self) -> Any:
        settings = {
            "num_replicas": self.count,
            "user_config": self.config,
            "health_check_timeout_s": self.patience_s,
        }
        inner = (Echo.options(name="Inner").bind(self.version),) if self.has_inner else ()
        return Echo.options(**settings).bind(self.version, *inner)

    def run_other(self) -> None:
        serve.run(Echo.bind(self.random.random()), name="other", route_prefix="/other")

    def run_live(self) -> None:
        serve.run(any_version(), name=APPLICATION, route_prefix="/live")

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

    def canary(self) -> None:
        """A version beside the present one comes, and takes its place, or goes; the controller may die meanwhile."""
        self.version += 1
        serve.run(self.target(), canary=self.random.choice([20, 50, 100]))
        self.pause()
        end = self.random.choice([serve.promote, serve.rollback])
        self.trace.append(f"({end.__name__})")
        thread = self.beside(end)
        if self.random.randrange(2):
            self.pause()
            self.kill()
        thread.join()

    def kill_in_canary(self) -> None:
        """The controller dies while a canary starts, or while it runs."""
        self.version += 1
        target = self.target()
        thread = self.beside(lambda: serve.run(target, canary=50))
        self.pause()
        self.kill()
        thread.join()
        self.pause()
        serve.rollback()

    def kill_zygote(self) -> None:
        """What starts replicas dies while some start."""
        event = self.random.choice([self.update, self.scale, self.reshape, self.run_live])
        self.trace.append(f"({event.__name__})")
        self.beside(event)
        if self.random.randrange(2):
            self.pause()
        os.kill(roles(current.require_core("kill its zygote").context.session_dir).zygote, signal.SIGKILL)

    def freeze(self) -> None:
        """Some process stands still while something happens, for less time than would make it unhealthy."""
        victim = self.anything()
        event = self.random.choice([self.update, self.scale, self.reshape, self.run_live, self.replace_other])
        self.trace.append(f"({victim} {event.__name__})")
        with frozen(victim):
            self.beside(event)
            time.sleep(self.random.choice([0.05, 0.3, 1.0]))  # no wait for anything: all may stand still

    def freeze_long(self) -> None:
        """A replica stands still until it counts as unhealthy, or is replaced."""
        self.patience_s = 0.3
        serve.run(self.target())
        name, victim = self.random.choice([*replicas("Echo").items()])
        pid = pid_of(victim)

        def run() -> None:
            with contextlib.suppress(RuntimeError):  # a replica is unhealthy: the version before comes back
                self.update()

        is_updated = self.random.randrange(2)
        with frozen(pid):
            if is_updated:
                self.beside(run)
            self.wait_until(lambda: name not in replicas("Echo"))
            time.sleep(
                self.random.choice([0, 1, 11])
            )  # longer than the controller waits for its acknowledgements
        for one in self._threads:
            one.join()
        self.patience_s = 30.0
        with contextlib.suppress(RuntimeError):
            self.update()

    def anything(self) -> int:
        """Return the process of a replica, of the controller, or of what answers gRPC."""
        found = [*replicas("Echo").values(), *replicas("Live", APPLICATION).values(), controller()]
        if self.chaos.has_rpc:
            found.append(skate.get_actor(DOOR, namespace=NAMESPACE))
        return pid_of(self.random.choice(found))

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
        found = [*replicas("Echo").values(), *replicas("Live", APPLICATION).values()]
        if self.chaos.has_rpc:
            found.append(skate.get_actor(DOOR, namespace=NAMESPACE))
        victim = pid_of(self.random.choice(found))
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
        self.run_live()
        choices = [
            self.update, self.scale, self.reconfigure, self.reshape, self.update_twice, self.replace_other,
            self.run_live, self.kill, self.kill_within, self.canary, self.kill_in_canary, self.kill_zygote, self.freeze,
            self.freeze_long, *([self.kill_replica] * 5 if is_deadly else ()),
        ]  # fmt: skip
        if ONLY:
            choices = [one for one in choices if one.__name__ in ONLY]
        parts = (self.web.host, self.web.port)
        with Chaos(parts, handle, self.seed, self.clients, self.tls) as self.chaos:
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
        assert not self.chaos.errors, f"{self.chaos.errors} {self.trace} {dict(self.chaos.statuses)}"


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


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


def check(program: Program) -> None:
    """Wait until nothing is left of the clients: no connection, no request, no credit."""
    wait_until, port = program.wait_until, program.web.port
    actors = [
        *replicas("Echo").values(),
        *replicas("Echo", "other").values(),
        *replicas("Live", APPLICATION).values(),
        *(replicas("Inner").values() if program.has_inner else ()),
    ]
    for pid in [pid_of(controller()), *map(pid_of, actors)]:
        wait_until(lambda: open_connections(pid, port) == 0)  # noqa: B023
    for one in actors:
        wait_until(lambda: requests_of(one) == (0, 0))  # noqa: B023
        found = skate.get(one.counts.remote())
        # A router that rests keeps one credit for its next request.
        assert found["lent"] <= len(found["routers"]) + 1
