"""The actor of a replica: answers calls of handles, HTTP, and the controller."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from skate.actor import method
from skate.engine import require_engine
from skate.exceptions import RayError
from skate.serve import context as contexts
from skate.serve._answers import Answers
from skate.serve._client import client as clients
from skate.serve._client import load, watching
from skate.serve._client.call import Call, cancel_children
from skate.serve._messages import BROADCAST, Meta
from skate.serve._observing import logs, metrics, requests, tracing
from skate.serve._observing.requests import Work
from skate.serve._observing.watcher import OBSERVING, Watcher
from skate.serve._replica.asking import Asking
from skate.serve._replica.blocking import LoopWatch
from skate.serve._replica.facts import Reports
from skate.serve._replica.slots import Slots
from skate.serve._replica.user_code import UserCode, checked_result
from skate.serve._router.lender import HERE
from skate.serve._targets import DeploymentId, DeploymentTarget, HTTPTarget, Settings
from skate.serve.exceptions import RayServeException, RequestTimeoutError

logger = logging.getLogger("skate.serve")

#: A replica is idle if it was for this time: a request may lie in a socket's buffer (seconds).
_IDLE_S = 0.02
_POLL_S = 0.005

#: How long the user's ``record_autoscaling_stats`` may take (seconds); Ray's default.
_STATS_S = 10.0
#: A stream of a handle runs ahead of its consumer by so many items, and an answer of HTTP or gRPC by so many
#: parts, which are larger: see ``Running`` in ``http``.
_ITEMS_AHEAD, _PARTS_AHEAD = 256, 64


class Replica:
    """One replica.

    Args:
        replica_id: its name.
        name: the deployment, as the controller knows it: that of a canary is ``NAME#canary``.
        target: what the deployment is to be.
        folder: where processes pass sockets to each other.
        rank: among the deployment's replicas.
    """

    def __init__(
        self, replica_id: str, name: DeploymentId, target: DeploymentTarget, folder: str, rank: int
    ) -> None:
        self.id = replica_id
        self.name = name
        self.has_router = bool(target.router)
        self._target = target
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._slots = Slots(target.settings.max_ongoing_requests)
        self._code = UserCode(target)
        self._client = clients.Client(self._loop, self)
        clients.use(self._client)
        self._entrance: Any = None
        self._user_config: Any = None
        self._rank = rank
        #: One change of settings or rank at a time reaches user code.
        self._changing = asyncio.Lock()
        self._is_ready = False
        #: Set once another controller follows this replica.
        self._follower = asyncio.Event()
        self._watch: LoopWatch | None = None
        reporter = load.Reporter(self.name, f"{self._client.router_id}/replica")
        #: Messages of clients whose WebSockets other processes accepted.
        self._inboxes: dict[str, asyncio.Queue[Any]] = {}
        self._meter = load.Meter(
            self._loop, lambda: self._slots.lender.ongoing, reporter.running, sleeps=False
        )
        self._stats = Asking(
            "record_autoscaling_stats", "policies get no value of it", replica_id, self._code, self._loop,
            partial(reporter.recorded, replica_id),
        )  # fmt: skip
        self._facts = Reports(self.name, replica_id, self._code, self._loop)
        self._work = Work(self.name)
        self._watcher = Watcher(
            replica_id, partial(watching.facts, self._client), self.name, lambda: self._slots.lender.ongoing
        )
        metrics.this.metrics.add_reader(partial(watching.gauges, self._client, replica_id))
        require_engine("run a replica").on_process_gone(self._process_gone)

    def __repr__(self) -> str:
        """Return what errors call it, and what stands before its output where programs show it."""
        return f"ServeReplica:{self.name.app_name}:{self.name.name}"

    # ------------------------------------------------------------------ the controller's calls

    async def start(self) -> None:
        """Make the user's instance. Raises what user code raises."""
        context = contexts.ReplicaContext(
            contexts.ReplicaID(self.id, self._target.name, self.name.app_name),
            None,
            self._target.settings.num_replicas,
            contexts.ReplicaRank.of(self._rank),
        )
        contexts.process.replica = context
        logs.set_up(self._target.settings.logging, self._logs_folder(), self._loop)
        metrics.this.metrics.counter(
            "ray_serve_deployment_replica_starts", self.name.name, self.name.app_name
        ).value += 1
        await self._code.construct()
        context.servable_object = self._code.servable
        await self._code.reconfigure(self._target.settings.user_config, context.rank)
        self._user_config = self._target.settings.user_config
        await self._code.check_health()
        logs.cover_handlers()
        tracing.this.look()

    def _logs_folder(self) -> str:
        return os.path.join(self._folder, "logs", "serve")

    async def open(self, options: HTTPTarget, holders: list[str]) -> None:
        """Answer HTTP on the listening socket that one of the holders has.

        Args:
            options: of the port.
            holders: processes that have it.
        """
        from skate.serve._http.entrance import Entrance
        from skate.serve._http.sharing import get_listener

        if self._entrance is not None:
            return  # a controller that has died asked for it, too
        listener = None
        for holder in holders:
            listener = await asyncio.to_thread(get_listener, self._folder, holder)
            if listener is not None:
                break
        if listener is None:
            raise RuntimeError(
                f"no process gave the listening socket of port {options.port}: asked {holders}"
            )
        if self._slots.lender.draining or self._entrance is not None:
            listener.close()
            return
        self._entrance = Entrance(self.id, self._folder, options, self._client, self)
        first = asyncio.Event()

        def changed(table: Any) -> None:
            self._entrance.routes_changed(table)
            first.set()

        self._client.watch(("routes",), changed)
        await first.wait()
        if self._slots.lender.draining:
            listener.close()
        else:
            self._entrance.open(listener)

    async def ready(self) -> None:
        """Note that the controller counts on this replica from now on."""
        self._is_ready = True
        self._watch = LoopWatch(self._loop, self._blocked)
        self._follow_load(self._target.settings)
        self._facts.follow(self._target.settings.routing)

    async def change(self, settings: Settings, rank: int) -> None:
        """Take other settings, or another rank."""
        self._follow_load(settings)
        self._facts.follow(settings.routing)
        self._slots.resize(settings.max_ongoing_requests)
        self._code.resize(settings.max_ongoing_requests)
        logs.set_up(settings.logging, self._logs_folder(), self._loop)
        async with self._changing:
            context = contexts.process.replica
            assert context is not None
            context.world_size = settings.num_replicas
            context.rank = contexts.ReplicaRank.of(rank)
            is_moved = rank != self._rank and self._code.takes_rank
            self._rank = rank
            if settings.user_config != self._user_config or is_moved:
                await self._code.reconfigure(settings.user_config, context.rank)
                self._user_config = settings.user_config

    def _blocked(self, place: str) -> None:
        """The loop is blocked, or no longer. On the watch's thread."""
        try:
            clients.controller().blocked.remote(self.name, self.id, place)
        except (RayServeException, RayError):
            pass  # there is no controller at the moment: the next one asks for the health

    async def health(self) -> None:
        """Run the user's health check."""
        await self._code.check_health()

    async def drain(self, timeout_s: float) -> bool:
        """Finish the requests that are here and pass the connections on; then let the instance clean up.

        Args:
            timeout_s: how long it may take.

        Returns:
            Whether all of them were finished.
        """
        self._slots.drain()
        self._meter.stop()
        self._stats.close()
        if self._entrance is not None:
            self._entrance.drain()
        until = self._loop.time() + timeout_s
        idle_since = None
        while self._loop.time() < until:
            if self._is_busy():
                idle_since = None
            elif idle_since is None:
                idle_since = self._loop.time()
            elif self._loop.time() - idle_since >= _IDLE_S:
                if self._entrance is not None:
                    self._entrance.close_door()
                if not self._is_busy():
                    break
            await asyncio.sleep(_POLL_S)
        finished = not self._is_busy()
        if self._entrance is not None:
            self._entrance.close()
        try:
            await self._code.destroy()
        except Exception:
            logger.exception("the clean-up of replica %s failed", self.id)
        self._facts.close()
        self._client.close()
        if self._watch is not None:
            self._watch.close()
        logs.close()
        return finished

    def _follow_load(self, settings: Settings) -> None:
        """Report the load, if the number of replicas follows it."""
        period_s = settings.autoscaling.metrics_interval_s if settings.autoscaling is not None else 0.0
        self._meter.follow(period_s)
        self._stats.follow(period_s, _STATS_S)

    def _is_busy(self) -> bool:
        if self._slots.lender.ongoing:
            return True
        return self._entrance is not None and not self._entrance.has_left()

    async def until_ended(self) -> None:
        """Never return: the error of this call says how the replica ended. The next controller asks again."""
        self._follower.set()
        self._follower = asyncio.Event()
        await self._follower.wait()

    @method(concurrency_group=OBSERVING)  # type: ignore[untyped-decorator]
    async def counts(self) -> dict[str, Any]:
        """Return how many requests are here, how many credits are lent and to which routers, and what the
        controller made of it. A controller that restarts asks each replica: one that user code blocks must
        not hold it up."""
        lender = self._slots.lender
        return {
            "ongoing": lender.ongoing,
            "lent": lender.lent,
            "slots": lender.slots,
            "ready": self._is_ready,
            "draining": lender.draining,
            "rank": self._rank,
            "routers": lender.routers(),
            "accepts": self._entrance is not None,
            "process": self._client.router_id,
        }

    async def answers(self) -> Answers:
        """Return how the requests here ended."""
        return self._work.answers

    @method(concurrency_group=OBSERVING)  # type: ignore[untyped-decorator]
    async def observe(self, what: str, *args: Any) -> Any:
        """See ``Watcher.answer``. In a thread of its own, which answers while the loop is blocked."""
        return self._watcher.answer(what, *args)

    # ------------------------------------------------------------------ routers' calls

    async def credits(self, router: str, wanted: int, held: int, received: int) -> tuple[int, int]:
        """Answer a router's report: see ``skate.serve._router``."""
        return await self._slots.credits(router, wanted, held, received)

    async def call(self, meta: Meta, /, *args: Any, **kwargs: Any) -> Any:
        """Run a method of the user's object."""
        router, request_id, method, model_id, remaining, trace = meta
        context = self._context(request_id, model_id, remaining, trace)
        keeps = not router.endswith(BROADCAST)  # that used no credit
        await self._enter(router, context, method, keeps)
        is_done = False
        try:
            result = checked_result(await self._code.call(method, args, kwargs), method, self.name)
            is_done = True
            return result
        finally:
            if not is_done:
                cancel_children(context)
            self._work.end(context)
            self._slots.leave(router, keeps)

    @method(_generator_backpressure_num_objects=_ITEMS_AHEAD)  # type: ignore[untyped-decorator]
    async def stream(self, meta: Meta, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Run a generator method of the user's object."""
        router, request_id, method, model_id, remaining, trace = meta
        context = self._context(request_id, model_id, remaining, trace)
        await self._enter(router, context, method)
        try:
            async for item in self._code.items(await self._code.call(method, args, kwargs)):
                yield item
        finally:
            self._end(router, context)

    @method(_generator_backpressure_num_objects=_PARTS_AHEAD)  # type: ignore[untyped-decorator]
    async def http(self, meta: Meta, /, head: dict[str, Any], body: bytes) -> AsyncIterator[Any]:
        """Run an HTTP request that another process accepted; yield (status, headers, body, more) as they
        come."""
        from skate.serve._replica import http

        router, request_id, _, model_id, remaining, trace = meta
        context = self._context(request_id, model_id, remaining, trace)
        context.route = head.pop("route")
        await self._enter(router, context, "")
        received = [{"type": "http.request", "body": body, "more_body": False}]
        over = asyncio.Event()

        async def receive() -> Any:
            if received:
                return received.pop()
            await over.wait()
            return {"type": "http.disconnect"}

        running = http.Running(self._code, head, receive, context)
        status = 0
        try:
            headers = []
            is_first = True
            async for message in running.messages():
                if message["type"] == "http.response.start":
                    status, headers = message["status"], list(message.get("headers", ()))
                    continue
                more = message.get("more_body", False)
                yield (status if is_first else 0, headers if is_first else [], message.get("body", b""), more)
                is_first = False
        finally:
            over.set()
            running.end()
            self._end(router, context, status)

    @method(_generator_backpressure_num_objects=_PARTS_AHEAD)  # type: ignore[untyped-decorator]
    async def websocket(self, meta: Meta, /, head: dict[str, Any], key: str) -> AsyncIterator[Any]:
        """Run a WebSocket that another process accepted; yield ASGI's messages for its client as they come.

        Args:
            meta: see ``Meta``.
            head: its scope.
            key: of the client's messages, see ``websocket_received``.
        """
        from skate.serve._replica import http

        router, request_id, _, model_id, remaining, trace = meta
        # The first messages come right behind this call.
        inbox = self._inboxes[key] = asyncio.Queue(_PARTS_AHEAD)
        context = self._context(request_id, model_id, remaining, trace)
        context.route = head.pop("route")
        try:
            await self._enter(router, context, "")
            running = http.Running(self._code, head, inbox.get, context)
            try:
                async for message in running.messages():
                    yield message
            finally:
                running.end()
                self._end(router, context)
        finally:
            del self._inboxes[key]
            if inbox.full():
                inbox.get_nowait()  # for a message that waits for room

    async def websocket_received(self, key: str, message: Any) -> None:
        """Take a message of a client, once there is room for it."""
        inbox = self._inboxes.get(key)
        if inbox is not None:
            await inbox.put(message)

    async def rpc(self, meta: Meta, /, head: bytes, message: bytes) -> Any:
        """Run an RPC that the door accepted; return its message and its end."""
        running, router, context = await self._enter_rpc(meta, head, message, True)
        try:
            return await running.one()
        finally:
            self._end(router, context, running.status, running.error, keeps=True)

    @method(_generator_backpressure_num_objects=_PARTS_AHEAD)  # type: ignore[untyped-decorator]
    async def rpc_stream(self, meta: Meta, /, head: bytes, message: bytes) -> AsyncIterator[Any]:
        """Run an RPC that the door accepted; yield messages as they come, and the end."""
        running, router, context = await self._enter_rpc(meta, head, message, False)
        try:
            async for item in running.stream():
                yield item
        finally:
            self._end(router, context, running.status, running.error)

    async def _enter_rpc(self, meta: Meta, head: bytes, message: bytes, keeps: bool) -> Any:
        from skate.serve._replica.rpc import Running

        router, request_id, method, model_id, remaining, trace = meta
        context = self._context(request_id, model_id, remaining, trace)
        await self._enter(router, context, method, keeps)
        return Running(self._code, method, head, message, context), router, context

    def _context(
        self, request_id: str, model_id: str, remaining: float, trace: str
    ) -> contexts.RequestContext:
        context = contexts.RequestContext(request_id, "", self.name.app_name, model_id, trace=trace)
        if remaining:
            context.deadline = self._loop.time() + remaining
        contexts.request.set(context)
        return context

    async def _enter(
        self, router: str, context: contexts.RequestContext, method: str, keeps: bool = False
    ) -> None:
        """Begin a request of a router once it has a slot; ``keeps``: see ``Lender.ended``."""
        await self._slots.enter(router)
        try:
            self._begin(context, method)
        except RequestTimeoutError:
            self._slots.leave(router, keeps)
            raise

    def _end(
        self,
        router: str,
        context: contexts.RequestContext,
        status: int = 200,
        error: BaseException | None = None,
        keeps: bool = False,
    ) -> None:
        """End a request of a router, see ``_enter``, and what it has begun by handles and not awaited."""
        cancel_children(context)
        self._work.end(context, status, error)
        self._slots.leave(router, keeps)

    def _begin(self, context: contexts.RequestContext, method: str) -> None:
        """Begin a request that has a slot; raise if its deadline passed while it waited for that."""
        if 0 < context.deadline <= self._loop.time():
            requests.count_dropped(self.name, context, "queued")
            raise RequestTimeoutError(context.request_id)
        self._work.begin(context, method)

    # ------------------------------------------------------------------ this process's own requests

    def begin_here(self) -> bool:
        """See ``Here``."""
        return self._slots.lender.begin_here()

    def end_here(self) -> None:
        """See ``Here``."""
        self._slots.end_here()

    def report(self, wanted: int, held: int, received: int, answer: Callable[[int, int], object]) -> None:
        """See ``Host``."""
        self._slots.report(HERE, wanted, held, received, answer)

    def arrived(self, call: Call) -> None:
        """See ``Host``."""
        assert call.begin_here is not None
        self._slots.arrived_here(call.begin_here)

    def left(self) -> None:
        """See ``Host``."""
        self._slots.leave(HERE, False)

    async def run_http(self, scope: Any, receive: Any, send: Any, context: contexts.RequestContext) -> None:
        """See ``Here``."""
        from skate.serve._replica import http

        self._begin(context, "")
        status = 0
        try:
            status = await http.run(self._code, scope, receive, send, context)
        finally:
            self._work.end(context, status)

    def _process_gone(self, process: bytes) -> None:
        # On whatever thread leads the reactor, under its lock.
        self._loop.call_soon_threadsafe(self._slots.process_gone, process.hex())
