"""Runs a compiled graph in the process that compiled it: connects actors, executes, ends. Effects.

::

    connect --> OPEN --shut (teardown, or no reference left)--> ENDING --every actor hung up--> ENDED
                  |                                                 ^
                  '--an actor hung up--> ASKING --its death is known'
                                         (waits for executions go on)

Ending is a half-closed connection: the actors read its end, hang up, and run on.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from skate._base import errors
from skate._base.clock import monotonic
from skate._transport.dialing import dial
from skate._transport.reactor import Waiter
from skate.dag import _program
from skate.dag._exchange import HERE, Encoded, Exchange, Value, decode
from skate.dag._executions import Executions, Mark, Room
from skate.dag._plan import Plan

if TYPE_CHECKING:
    import asyncio

    from skate._worker.core import Core
    from skate.engine.interface import Engine

#: How often the driver checks whether the control store has published the end of an actor ...
_DEATH_CHECK_PERIOD_S = 0.01
#: ... and for how long.
_DEATH_CHECK_TIMEOUT_S = 10.0
#: The most executions in a snapshot.
_MAX_ROWS = 1000
#: A thread that waits for a result reads channels itself so many times before it waits in the reactor.
_MAX_READS = 50


def _step(actor: Any) -> Any:
    """Return a method that runs a function of the runtime in the actor, hidden from the state API."""
    return actor.__ray_call__.options(enable_task_events=False)


class State(Enum):
    """The states of a graph, as in the picture above."""

    CONNECTING = "connecting"
    OPEN = "open"
    ASKING = "asking"
    ENDING = "ending"
    ENDED = "ended"


class Graph:
    """A compiled graph, as its driver runs it.

    Args:
        engine: the engine of this process.
        core: the runtime that connects processes: ``Engine.compiled_graphs``.
        plan: the work of each process.
        max_inflight, max_buffered: see ``Executions``.
    """

    def __init__(
        self, engine: Engine, core: Core, plan: Plan, graph: bytes, max_inflight: int, max_buffered: int
    ) -> None:
        self._engine = engine
        self.core = core
        self._lock = self.core.context.lock
        #: A task releases its CPUs while it waits; a driver has none to release.
        self._wait = self.core.context.reactor.wait if self.core.executor is None else self.core.waiting.block
        self.plan = plan
        self.id = graph
        self._executions = Executions(plan.outputs, max_inflight, max_buffered)
        buffer_size = plan.parts[0].buffer_size
        self._exchange = Exchange(self.core, graph, 0, buffer_size, self._arrived, self._hung_up)
        self._exchange.on_broken = self._broken
        self._state = State.CONNECTING
        #: Outputs whose refs were dropped; appended by finalizers.
        self.dropped: deque[tuple[int, int]] = deque()
        #: No reference to the graph is left: it ends when an actor hangs up. Set by a finalizer.
        self.abandoned = False
        self._ended = Waiter()
        self._clients: dict[int, Any] = {}
        self._incarnations: dict[int, int] = {}
        self._looking_until = 0.0
        #: Why an actor is suspected to be dead.
        self._suspicion = ""
        self.core.graphs[self] = None

    def snapshot(self) -> dict[str, Any]:
        """Return where the graph is, for ``util.state.why``. Under the lock."""
        executions = self._executions
        error = executions.error
        return {
            "graph": self.id.hex(),
            "member": 0,
            "begun": executions.begun,
            "missing": [] if error is not None else executions.missing[:_MAX_ROWS],
            "why": self._suspicion,
        }

    # ------------------------------------------------------------------ setting up

    def connect(self) -> None:
        """Connect all actors with each other and start their parts.

        Raises:
            ActorDiedError, ...: an actor could not; nothing is left of the graph then.
            ValueError: an actor is on another machine.
        """
        try:
            self._connect()
        except BaseException:
            for handle in self.plan.actors:
                _step(handle).remote(_program.abandon, self.id)
            self._state = State.ENDED
            with self._lock:
                self._exchange.close()
            raise

    def _connect(self) -> None:
        get, actors = self._engine.get, self.plan.actors
        answers = get([_step(one).remote(_program.prepare, self.id) for one in actors], None)
        paths = {part.member: path for part, path in zip(self.plan.parts, answers, strict=True)}
        joined = []
        for part, handle in zip(self.plan.parts, actors, strict=True):
            try:
                sock = dial(paths[part.member])
            except FileNotFoundError:
                raise ValueError(
                    f"{handle!r} runs on another machine: a compiled graph spans one. Execute the graph "
                    "without compiling it, or place its actors where they are used"
                ) from None
            with self._lock:
                self._exchange.greet(part.member, sock)
                self.core.context.reactor.flush()
            joined.append(_step(handle).remote(_program.join, part, paths))
        get(joined, None)
        get([_step(one).remote(_program.start, self.id) for one in actors], None)
        with self._lock:
            for part, handle in zip(self.plan.parts, actors, strict=True):
                client = self.core.actor_submitter.client(handle._info.actor_id, handle._info.class_name)
                self._clients[part.member] = client
                self._incarnations[part.member] = client.incarnation
            self._state = State.OPEN
            missing = set(self._clients) - set(self._exchange.connections)
            if missing:
                self._ask(f"actor {missing} hung up")

    # ------------------------------------------------------------------ executions

    def begin(self, values: Callable[[], Sequence[Any]], timeout: float) -> int:
        """Begin an execution; return its number.

        Args:
            values: makes the values of the plan's sources; called when there is room.
            timeout: seconds to wait for room that needs no act of the program.

        Raises:
            RayCgraphCapacityExceeded, RayChannelTimeoutError: there is no room.
            RayError: the graph has ended.
        """
        deadline: float | None = None
        while True:
            execution = self._try(values)
            if execution is not None:
                return execution
            waiter = Waiter()
            if self._wait_for_room(waiter):
                deadline = monotonic() + timeout if deadline is None else deadline
                if not self._wait(waiter, deadline):
                    self._no_room(timeout)

    async def begin_async(self, values: Callable[[], Sequence[Any]], timeout: float) -> int:
        """Begin an execution from a coroutine, as ``begin`` does."""
        import asyncio

        while True:
            execution = self._try(values)
            if execution is not None:
                return execution
            waiter = _AsyncWaiter()
            if self._wait_for_room(waiter):
                try:
                    await asyncio.wait_for(waiter.future, timeout)
                except asyncio.TimeoutError:
                    self._no_room(timeout)

    def _try(self, values: Callable[[], Sequence[Any]]) -> int | None:
        """Begin an execution if there is room; return its number, or None.

        Raises:
            RayError: the graph has ended.
        """
        executions, sources, exchange = self._executions, self.plan.sources, self._exchange
        if executions.in_flight >= executions.max_inflight or executions.error is not None or self.dropped:
            with self._lock:
                self._drop()
                self._check()
                if executions.room() is not Room.FREE:
                    return None
        made = values()
        encoded: list[Encoded | None] = []
        begun = False
        try:
            for source, value in zip(sources, made, strict=True):
                receivers = source.receivers
                encoded.append(
                    exchange.encode(value, receivers, "the input of the graph") if receivers else None
                )
            with self._lock:
                self._check()
                if executions.in_flight >= executions.max_inflight:
                    return None  # another thread was faster
                execution = executions.submit()
                begun = True
                for source, value, one in zip(sources, made, encoded, strict=True):
                    if one is not None:
                        exchange.send(execution, source.number, one, source.receivers)
                    if source.kept:
                        self._arrived(execution, source.number, (HERE, value))
                self.core.context.reactor.flush()
            return execution
        finally:
            if not begun:
                for one in encoded:
                    if one is not None and one.segment is not None:
                        one.segment.release()

    def _wait_for_room(self, waiter: Waiter | _AsyncWaiter) -> bool:
        """Notify the waiter when there is room, or return False if there is room already.

        Raises:
            RayCgraphCapacityExceeded: there will be no room before results are taken.
        """
        with self._lock:
            room = self._executions.room()
            if room is Room.LATER:
                self._executions.watch_room(waiter.notify)
                return True
        if room is Room.FULL:
            most = self._executions.max_inflight
            raise errors.RayCgraphCapacityExceeded(
                f"the compiled graph has {most} executions in flight whose results were not taken, the most "
                "it may have: get() some of them first, or compile it with a larger _max_inflight_executions"
            )
        return False

    def _no_room(self, timeout: float) -> None:
        raise errors.RayChannelTimeoutError(
            f"execute() waited {timeout:g} s for one of the {self._executions.max_inflight} executions in "
            "flight to end (some were dropped or asked for, so that there is something to wait for). Compile "
            "with a larger _submit_timeout, or find out what the actors do (skate stack)"
        )

    def begin_one(self, value: Any) -> int | None:
        """Begin an execution fast, in a graph of one source that is no output; None: use ``begin``."""
        executions = self._executions
        if self.dropped or executions.error is not None or executions.in_flight >= executions.max_inflight:
            return None
        source = self.plan.sources[0]
        one = self._exchange.encode(value, source.receivers, "the input of the graph")
        with self._lock:
            if executions.error is None and executions.in_flight < executions.max_inflight:
                execution = executions.submit()
                self._exchange.send(execution, source.number, one, source.receivers)
                if one.segment is not None:
                    self.core.context.reactor.flush()
                return execution
        if one.segment is not None:
            one.segment.release()
        return None

    def take(self, execution: int, place: int, timeout: float | None) -> Value:
        """Take an output of an execution, once, as it arrived. ``timeout``: in seconds; None: no limit."""
        executions, exchange = self._executions, self._exchange
        if timeout != 0:
            for _ in range(_MAX_READS):
                if executions.is_there(execution, place) or not exchange.read_soon():
                    break
        deadline = None
        while True:
            waiter = Waiter()
            value = self._take(execution, place, waiter)
            if value is not None:
                return value
            if timeout is not None and deadline is None:
                deadline = monotonic() + timeout
            if not self._wait(waiter, deadline):
                break
        with self._lock:
            self._check()
        if self.core.context.reactor.is_stopped:
            raise errors.RayChannelError("the session of the compiled graph was shut down")
        raise errors.RayChannelTimeoutError(
            f"execution {execution} of the compiled graph had no result within {timeout:g} s; it goes "
            "on, and get() may be called again. get(timeout=...) waits longer, -1 without a limit; "
            "DAGContext.get_timeout is the default"
        )

    async def take_async(self, execution: int, place: int) -> Value:
        """Take an output from a coroutine, as ``take`` does, without a timeout."""
        while True:
            waiter = _AsyncWaiter()
            value = self._take(execution, place, waiter)
            if value is not None:
                return value
            await waiter.future

    def decode(self, value: Value) -> Any:
        """Return the value in a taken output, or raise its error."""
        return decode(value)

    def _take(self, execution: int, place: int, waiter: Waiter | _AsyncWaiter) -> Value | None:
        """Take an output's value, or return None and notify the waiter when it may have arrived."""
        executions = self._executions
        with self._lock:
            if self.dropped:
                self._drop()
            if execution > executions.covered:
                try:
                    executions.ask(execution)
                except OverflowError:
                    raise errors.RayCgraphCapacityExceeded(
                        f"get() of execution {execution} would leave results of more than "
                        f"{executions.max_buffered} executions before it untaken, the most that the compiled "
                        "graph may hold: get() those first, or compile it with a larger _max_buffered_results"
                    ) from None
            value = executions.take(execution, place)
            if executions.wake:
                self._wake()
            if value is not Mark.PENDING:
                return value  # type: ignore[no-any-return]
            self._check()
            executions.watch(execution, waiter.notify)
            return None

    def _check(self) -> None:
        if self._executions.error is not None:
            raise self._executions.error.with_traceback(None)

    def _drop(self) -> None:
        while self.dropped:
            self._executions.drop(*self.dropped.popleft())
        self._wake()

    def _wake(self) -> None:
        wakes, self._executions.wake = self._executions.wake, []
        for wake in wakes:
            wake()

    # ------------------------------------------------------------------ events (under the lock)

    def _arrived(self, execution: int, number: int, value: Value) -> None:
        executions = self._executions
        if executions.error is None:
            executions.arrived(execution, number, value)
            if self.dropped:
                self._drop()
            elif executions.wake:
                self._wake()

    def _hung_up(self, member: int, reason: str) -> None:
        if self._state is State.OPEN:
            self._ask(f"the connection to actor {self._describe(member)} ended: {reason}")
        if self._state is State.ENDING and not self._exchange.connections:
            self._state = State.ENDED
            self._exchange.close()
            self._ended.notify()

    def _broken(self, member: int, reason: str) -> None:
        if self._state is State.OPEN:
            self._ask(f"an actor says that its connection to actor {self._describe(member)} ended: {reason}")

    def _describe(self, member: int) -> str:
        info = self.plan.actors[member - 1]._info
        return f"{info.class_name} ({info.actor_id.hex()})"

    def _ask(self, suspicion: str) -> None:
        """Find out how an actor ended that seems dead, and end the graph with that error."""
        self._state = State.ASKING
        self._suspicion = suspicion
        self._looking_until = monotonic() + _DEATH_CHECK_TIMEOUT_S
        self._look()

    def _look(self) -> None:
        if self._state is not State.ASKING:
            return
        if self.abandoned:
            self._shut(errors.RayChannelError("no reference to the compiled graph is left"))
            return
        error = self._death()
        if error is not None:
            self._shut(error)
        else:
            self.core.context.reactor.call_later(_DEATH_CHECK_PERIOD_S, self._look)

    def _death(self) -> Exception | None:
        """Return how an actor of the graph ended, if that is known."""
        core = self.core
        if core.context.dead_reason:
            return errors.LocalRayletDiedError(core.context.dead_reason)
        advice = "The compiled graph ended with it"
        for member, client in self._clients.items():
            who = f"actor {self._describe(member)}"
            if client.state == "DEAD":
                return errors.ActorDiedError(f"{who} is dead: {client.cause}. {advice}.", client.id.hex())
            if client.incarnation > self._incarnations[member]:
                return errors.ActorUnavailableError(
                    f"{who} was restarted: {client.cause}. {advice}: compile it again.", client.id.hex()
                )
        if core.control.gone or monotonic() > self._looking_until:
            return errors.RayChannelError(f"{self._suspicion}. {advice}: compile it again.")
        return None

    def _shut(self, error: Exception) -> None:
        """End the graph: fail all waits with the error, and close the connections to the actors."""
        if self._state in (State.ENDING, State.ENDED):
            return
        self._state = State.ENDING
        self._executions.fail(error)
        self._wake()
        self.half_close()
        if not self._exchange.connections:
            self._state = State.ENDED
            self._exchange.close()
            self._ended.notify()

    # ------------------------------------------------------------------ the end

    def half_close(self) -> None:
        """Close this side of the actors' connections. Takes no lock, as finalizers call it, too."""
        for connection in list(self._exchange.connections.values()):
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)

    def end(self, timeout: float) -> bool:
        """Tear the graph down; tell whether every actor has hung up within the timeout in seconds."""
        with self._lock:
            self._shut(errors.RayChannelError("the compiled graph was torn down. Compile it again."))
        if self._state is State.ENDED:
            return True
        return self._wait(self._ended, monotonic() + timeout) or self.core.context.reactor.is_stopped

    @property
    def has_ended(self) -> bool:
        """Tell whether the graph has ended, so that nothing can be executed any more."""
        return self._executions.error is not None


class _AsyncWaiter:
    """A wait of a coroutine, which any thread may ``notify``."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def notify(self) -> None:
        """End the wait."""
        with contextlib.suppress(RuntimeError):  # the loop was closed: no coroutine waits any more
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
