"""This process as a caller: its loop, its ports, and what the controller tells them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from skate import api
from skate.engine import engine
from skate.engine.refs import ObjectRef
from skate.exceptions import RayError
from skate.serve._client.broadcast import Broadcast
from skate.serve._client.call import Call
from skate.serve._client.port import Host, Port
from skate.serve._messages import Table
from skate.serve._targets import CONTROLLER, NAMESPACE, DeploymentId
from skate.serve.exceptions import DeploymentUnavailableError, RayServeException

logger = logging.getLogger("skate.serve")

#: Between two looks for a controller that does not answer (seconds).
_RETRY_S = 0.1
#: Threads that are about to send requests get so long for it (seconds): one may be stopped, or wait for room.
_SEND_S = 1.0


def controller() -> Any:
    """Return the handle of the controller.

    Raises:
        RayServeException: none runs in this session.
    """
    try:
        return api.get_actor(CONTROLLER, namespace=NAMESPACE)
    except ValueError:
        raise RayServeException(
            "There is no Serve instance running in this session. Call serve.run(...) or serve.start() first"
        ) from None


class Client:
    """This process as a caller of deployments, in one session.

    Args:
        loop: where its ports live.
        host: the replica in this process, or None.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, host: Host | None = None) -> None:
        self.loop = loop
        self.host = host
        self.engine = engine()
        followed = self.engine.followed_as() if self.engine is not None else None
        #: Identifies its routers: lenders and the controller are notified when the process ends.
        self.router_id = followed[0].hex() if followed is not None else "-"
        self._ports: dict[tuple[DeploymentId, bool], Port] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self.is_closed = False

    @classmethod
    def on_a_thread(cls) -> Client:
        """Return a client with a loop on a thread of its own."""
        loop = asyncio.new_event_loop()
        self = cls(loop)
        self._thread = threading.Thread(target=self._run, name="skate-serve", daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            pending = asyncio.all_tasks(self.loop)
            for task in pending:
                task.cancel()
            if pending:
                self.loop.run_until_complete(asyncio.wait(pending))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    # ------------------------------------------------------------------ calls

    @property
    def has_thread(self) -> bool:
        """Whether its loop has a thread of its own: other threads wait for results themselves. In a replica
        the loop is that of the actor, which reads the sockets."""
        return self._thread is not None

    def is_here(self) -> bool:
        """Tell whether the caller runs on the client's loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def do(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop: now if this is it, else soon."""
        if self.is_here():
            function(*args)
            return
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            raise RayServeException(
                "serve was shut down: this handle belongs to a session that ended"
            ) from None

    def send(self, name: DeploymentId, call: Call) -> bool:
        """Send a request from the calling thread, if nothing has to be decided first; else ``submit`` it."""
        if call.entry != "call" or call.context.session_id or call.context.model_id:
            return False
        port = self._ports.get((name, False))
        return port is not None and self.has_thread and port.tickets.send(call)

    def submit(self, name: DeploymentId, call: Call) -> None:
        """Send a request. On the loop."""
        if call.finished:
            return
        if self.is_closed:
            call.finish(None, DeploymentUnavailableError(name, "serve was shut down"))
            return
        port = self.port(name)
        if call.entry == "broadcast":
            Broadcast(port, call)
            return
        other = port.canary_for(call)
        if other is not None:
            canary = self.port(DeploymentId(other, name.app_name))
            # Of the two tables, that of the canary that is no more may be the first to come.
            if canary.table is None or not canary.table.moved:
                port = canary
        port.submit(call)

    def submit_after(
        self, name: DeploymentId, call: Call, responses: list[Call], refs: list[ObjectRef[Any]]
    ) -> None:
        """Send a request once the calls and refs among its arguments have results. On the loop.

        The runtime would wait for refs, too, but then the request has a replica, which does not know of it:
        it would hold a slot there for nothing, and be lost if the replica is replaced.
        """
        left = len(responses) + len(refs)

        def one_ready(_: Call | None = None) -> None:
            nonlocal left
            left -= 1
            if left or call.finished:
                return
            failed = next((one.error for one in responses if one.error is not None), None)
            if failed is not None:
                call.finish(None, failed)
            else:
                call.args = tuple(_resolved(one) for one in call.args)
                call.kwargs = {key: _resolved(one) for key, one in call.kwargs.items()}
                self.submit(name, call)

        for one in responses:
            one.when_finished(one_ready)
        for ref in refs:
            if not ref._call_when_ready(self.loop, one_ready):
                one_ready()

    def port(self, name: DeploymentId, hosted: bool = False) -> Port:
        """Return the port to a deployment. On the loop.

        Args:
            name: the deployment.
            hosted: requests that came to the replica in this process, which may run there.
        """
        port = self._ports.get((name, hosted))
        if port is None:
            router_id = f"{self.router_id}/here" if hosted else self.router_id
            port = Port(name, router_id, self.loop, self.host if hosted else None, self.submit)
            self._ports[name, hosted] = port
            port.choosing.watch = partial(self.watch, router_id=router_id)
            self.watch(("deployment", name), port.table_changed, router_id)
        return port

    def ports(self) -> list[Port]:
        """Return all ports. Any thread."""
        return list(self._ports.values())

    def fetch(self, ref: Any) -> Any:
        """Return an item of a stream."""
        return api.get(ref)

    async def fetch_async(self, ref: Any) -> Any:
        """Return an item of a stream."""
        return await ref

    # ------------------------------------------------------------------ what the controller says

    def watch(self, what: Any, changed: Callable[[Any], object], router_id: str | None = None) -> None:
        """Have a function called with the controller's table of something, now and at each change. On the
        loop."""
        watching = self._watch(what, changed, router_id or self.router_id)
        # As a part of no request: it would be cancelled with that.
        task = contextvars.Context().run(self.loop.create_task, watching)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, what: Any, changed: Callable[[Any], object], router_id: str) -> None:
        version = -1
        while True:
            try:
                table = await controller().watch.remote(router_id, what, version)
            except RayServeException:
                if what[0] == "deployment":
                    changed(Table(-1, unavailable="serve does not run"))
                version = -1
                await asyncio.sleep(_RETRY_S)
            except (RayError, RuntimeError):
                if engine() is not self.engine:
                    self.loop.call_soon(self._session_ended)
                    return
                await asyncio.sleep(_RETRY_S)  # the controller is being restarted: traffic goes on meanwhile
            else:
                if table.version != version:
                    version = table.version
                    try:
                        ready = changed(table)
                        if isinstance(ready, asyncio.Future):
                            # The next question says that no request goes to replicas of the table before.
                            await asyncio.wait([ready], timeout=_SEND_S)
                    except Exception:
                        logger.exception("the table of %s could not be taken over", what)

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """End it. Any thread."""
        if self._thread is None:
            self._close()
            return
        try:
            self.loop.call_soon_threadsafe(self._close)
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            return
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _session_ended(self) -> None:
        self._close()
        if self._thread is not None:
            self.loop.stop()

    def _close(self) -> None:
        self.is_closed = True
        for task in list(self._tasks):
            task.cancel()
        for port in self._ports.values():
            port.close()
        self._ports.clear()


def _resolved(argument: Any) -> Any:
    """Return what a call is sent with instead of a response: the ref of its result, which is not copied."""
    call = getattr(argument, "_call", None)
    if not isinstance(call, Call):
        return argument
    return call.ref if call.ref is not None else call.value


class _Process:
    """The client of this process."""

    client: Client | None = None
    lock = threading.Lock()


def this_process() -> Client:
    """Return the client of this process in its present session."""
    found = _Process.client
    if found is not None and found.engine is engine() and not found.is_closed:
        return found
    with _Process.lock:
        found = _Process.client
        if found is not None:
            if found.engine is engine() and not found.is_closed:
                return found
            found.close()
        _Process.client = Client.on_a_thread()
        return _Process.client


def use(client: Client) -> None:
    """Make a client that of this process: a replica has one on its own loop."""
    _Process.client = client


def close() -> None:
    """End the client of this process, if it has one."""
    with _Process.lock:
        found, _Process.client = _Process.client, None
    if found is not None:
        found.close()
