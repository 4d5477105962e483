"""Runs an actor's part of a compiled graph in the actor's process.

Three ordinary calls on the actor set it up, each made when all actors have done the one before::

    prepare   listen on a socket                        (returns its path)
    join      dial the actors of higher numbers
    start     accept the actors of lower numbers, which have dialed; begin

From then on values arrive under the reactor's lock, like calls, and steps run in the place of the actor's
calls: on the main thread of a serial actor, between its calls; as coroutines on the loop of an async
one; on a thread of the graph's own in a threaded one. The driver's connection ends it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._base.errors import RayChannelError
from skate._base.user_errors import is_a, set_traceback
from skate._graph.node import replace
from skate._serialize.exceptions import dump_task_error
from skate._serialize.values import deserialize
from skate._transport.dialing import dial, listen
from skate._wire import graph as wire
from skate._wire.codec import GARBAGE, MESSAGES, append_frame, decoder
from skate._wire.framing import MAX_HELLO, FrameError, FrameReader
from skate._wire.handshake import WRONG_PEER, Handshake, Refused
from skate._wire.services import GRAPH
from skate._wire.worker import ERROR
from skate._worker.execution import output
from skate._worker.execution.concurrency import AsyncRunner
from skate._worker.objects.object_ref import ObjectRef
from skate._worker.process import current
from skate._worker.process.current import CallInfo
from skate.dag._exchange import HERE, Encoded, Exchange, Value
from skate.dag._plan import Part, Slot, Step
from skate.dag._schedule import Schedule, Turn
from skate.engine import require_engine

if TYPE_CHECKING:
    from skate._worker.core import Core
    from skate._worker.execution.actor_host import ActorInstance
    from skate._worker.execution.executor import Executor

Made = list[tuple["Encoded | None", Value]]
"""The values of a step: for each its encoded form (None: no member gets it), and the value kept here."""

#: How long a member that has dialed may take to send its hello.
_HELLO_TIMEOUT_S = 10.0


def prepare(instance: Any, graph: bytes) -> str:
    """Listen for other members; return the socket's path. Runs on the actor, like those below."""
    host = _host()
    program = host.graphs[graph] = Program(_core(), host, graph)
    return program.path


def join(instance: Any, part: Part, paths: dict[int, str]) -> None:
    """Dial the members that this one is to dial."""
    _program(part.graph).join(part, paths)


def start(instance: Any, graph: bytes) -> None:
    """Accept the others and begin."""
    _program(graph).start()


def abandon(instance: Any, graph: bytes) -> None:
    """Drop the actor's part of a graph that could not be set up."""
    program = _host().graphs.get(graph)
    if program is not None:
        with program.core.context.lock:
            program.close()


def _program(graph: bytes) -> Program:
    program: Program | None = _host().graphs.get(graph)
    if program is None:
        raise RayChannelError("the actor was restarted while the graph was compiled: compile it again")
    return program


def _core() -> Core:
    core: Core = require_engine("be a part of a compiled graph").compiled_graphs()
    return core


def _host() -> ActorInstance:
    host = _core().local.hosted()
    assert host is not None
    return host


class _Passed(Exception):
    """An input is an error, which is also the result of the step."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class Program:
    """An actor's part of a compiled graph."""

    def __init__(self, core: Core, host: ActorInstance, graph: bytes) -> None:
        assert core.executor is not None
        self._host = host
        self._executor: Executor = core.executor
        self.core = core
        self._graph = graph
        self.path = os.path.join(self.core.context.session_dir, "s", f"g{os.urandom(6).hex()}")
        self._listener: socket.socket | None = listen(self.path)
        self._exchange: Exchange
        self._schedule: Schedule
        self._calls: list[_Call] = []
        self._part: Part
        #: The step that runs or is about to.
        self._turn: Turn | None = None
        #: The main thread runs steps or is about to: no post is needed for the next one.
        self._here = False
        self._closed = False
        #: Wakes the thread of a threaded actor.
        self._gate = threading.Semaphore(0)
        self._begin = self._pace()
        self.core.graphs[self] = None

    def snapshot(self) -> dict[str, Any] | None:
        """Return where the actor is, for ``util.state.why``; None before the start. Under the lock."""
        if not self._calls or self._closed:
            return None
        schedule = self._schedule
        return {
            "graph": self._graph.hex(),
            "member": self._part.member,
            "execution": schedule.execution,
            "step": self._calls[schedule.step].name,
            "running": self._turn is not None,
            "missing": schedule.missing,
            "makes": {str(number): call.name for call in self._calls for number in call.step.makes},
        }

    # ------------------------------------------------------------------ setting up, in calls

    def join(self, part: Part, paths: dict[int, str]) -> None:
        """Dial the members that this one is to dial."""
        self._part = part
        self._schedule = Schedule(
            [frozenset(step.needs) for step in part.steps], [step.keeps for step in part.steps]
        )
        self._calls = [_Call(self._host, self._with_values(step)) for step in part.steps]
        self._exchange = Exchange(
            self.core, self._graph, part.member, part.buffer_size, self._arrived, self._ended
        )
        for member in part.dials:
            sock = dial(paths[member])
            with self.core.context.lock:
                self._exchange.greet(member, sock)
                self.core.context.reactor.flush()

    def _with_values(self, step: Step) -> Step:
        """Return the step with the values of refs that were bound as whole arguments, as in a call."""
        get_one = self.core.values.get_one

        def value(arg: Any) -> Any:
            return get_one(arg, None) if type(arg) is ObjectRef else arg

        return step._replace(
            args=tuple(map(value, step.args)), kwargs={key: value(arg) for key, arg in step.kwargs.items()}
        )

    def start(self) -> None:
        """Accept the other members and begin."""
        assert self._listener is not None
        missing = self._part.accepts
        while missing:
            sock, _ = self._listener.accept()
            hello = _read_hello(sock, self._graph)
            if hello is None:
                continue  # it was no member of this graph, and was refused
            missing -= 1
            with self.core.context.lock:
                self._exchange.add(hello.member, sock)
        self._stop_listening()
        if self._executor.runner is not None and not isinstance(self._executor.runner, AsyncRunner):
            threading.Thread(target=self._run_thread, name="skate-graph", daemon=True).start()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            os.unlink(self.path)

    # ------------------------------------------------------------------ events (under the lock)

    def _arrived(self, execution: int, number: int, value: Value) -> None:
        self._schedule.arrived(execution, number, value)
        if self._turn is None:
            self._look()

    def _look(self) -> None:
        """Begin the next step if no step runs and all its values have arrived."""
        if self._turn is None and not self._closed:
            self._turn = self._schedule.turn()
            if self._turn is not None and not self._here:
                self._begin()

    def _ended(self, member: int, reason: str) -> None:
        if member == 0 or 0 not in self._exchange.connections:
            self.close()
            return
        self._exchange.connections[0].send(wire.GraphBroken(member, reason))

    def close(self) -> None:
        """End this part: run and send nothing more. Under the lock."""
        if self._closed:
            return
        self._closed = True
        self._host.graphs.pop(self._graph, None)
        self._stop_listening()
        if hasattr(self, "_exchange"):
            self._exchange.close()
            self._turn = None
            self._schedule.forget()  # its values may be views of other members' memory
        self._gate.release()

    # ------------------------------------------------------------------ running steps

    def _pace(self) -> Callable[[], None]:
        """Return a function that starts ``_run`` in the place of the actor's calls, under the lock."""
        runner = self._executor.runner
        if runner is None:
            return self._post
        if not isinstance(runner, AsyncRunner):
            return self._gate.release
        loop = runner.loop()
        tasks: set[Any] = set()

        def create() -> None:
            task = loop.create_task(self._run_async())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        def begin() -> None:
            loop.call_soon_threadsafe(create)

        return begin

    def _post(self) -> None:
        self._here = True
        self._executor.post(self._exchange.connections[0], self._run_here)

    def _run_thread(self) -> None:
        while True:
            self._gate.acquire()
            if self._closed:
                return
            self._run()

    def _run_here(self) -> None:
        """Run steps on the main thread as long as values follow closely and no call waits."""
        executor, exchange = self._executor, self._exchange
        while not self._closed:
            self._run()
            while self._turn is None and not executor.has_work() and exchange.read_soon():
                pass
            if self._turn is None or executor.has_work():
                with self.core.context.lock:
                    if self._turn is None or executor.has_work():
                        self._here = False
                        if self._turn is not None and not self._closed:
                            self._begin()
                        return

    def _run(self) -> None:
        """Run the step whose turn it is."""
        turn = self._turn
        if turn is None or self._closed:
            return
        call = self._calls[turn.step]
        current.call.set(call.info)
        try:
            made = self._invoke(turn, call)
        except BaseException as error:
            made = self._failed(error, call)
        self._finish(turn, call, made)

    def _invoke(self, turn: Turn, call: _Call) -> Made:
        # Arguments and results live in this frame only: values not kept are freed before others get messages.
        args, kwargs = call.arguments(turn.values)
        return self._encode(call, call.method(*args, **kwargs))

    async def _run_async(self) -> None:
        turn = self._turn
        if turn is None or self._closed:
            return
        call = self._calls[turn.step]
        current.call.set(call.info)
        try:
            made = await self._invoke_async(turn, call)
        except BaseException as error:
            made = self._failed(error, call)
        self._finish(turn, call, made)

    async def _invoke_async(self, turn: Turn, call: _Call) -> Made:
        args, kwargs = call.arguments(turn.values)
        result = call.method(*args, **kwargs)
        if hasattr(result, "__await__"):
            result = await result
        return self._encode(call, result)

    def _encode(self, call: _Call, result: Any) -> Made:
        step = call.step
        if len(step.makes) == 1:
            receivers = step.receivers[0]
            encoded = self._exchange.encode(result, receivers, call.result_name) if receivers else None
            return [(encoded, (HERE, result))]
        results = list(result)
        if len(results) != len(step.makes):
            raise ValueError(
                f"{call.name} has num_returns={len(step.makes)} and returned {len(results)} value(s)"
            )
        made: Made = []
        for one, receivers in zip(results, step.receivers, strict=True):
            encoded = self._exchange.encode(one, receivers, call.result_name) if receivers else None
            made.append((encoded, (HERE, one)))
        return made

    def _failed(self, error: BaseException, call: _Call) -> Made:
        if type(error) is _Passed:
            data = error.data
        elif is_a(error, SystemExit):
            self._executor.leave_by(error, call.name)
            return []
        else:
            host = self._host
            data, _ = dump_task_error(error, call.name, host.repr, host.actor_id.hex())
        set_traceback(error, None)  # its frames hold the arguments
        return [(Encoded(ERROR, data), (ERROR, data))] * len(call.step.makes)

    def _finish(self, turn: Turn, call: _Call, made: Made) -> None:
        """Send the values of a step, and begin the next one."""
        output.flush(False)
        with self.core.context.lock:
            if self._closed or not made:
                return
            kept: dict[int, Value] = {}
            step = call.step
            for number, receivers, (encoded, value) in zip(step.makes, step.receivers, made, strict=True):
                if encoded is not None:
                    self._exchange.send(turn.execution, number, encoded, receivers)
                if number in step.keeps:
                    kept[number] = value
            self._schedule.done(turn, kept)
            self._turn = None
            self._look()
            if self.core.context.reactor.dirty:
                self.core.context.reactor.flush()


class _Call:
    """A prepared step: its method, and the way to build its arguments."""

    def __init__(self, host: ActorInstance, step: Step) -> None:
        self.step = step
        self.name = f"{host.spec.class_name}.{step.method}"
        self.result_name = f"the result of {self.name}"
        self.method = host.method(step.method)
        self.info = CallInfo(b"", 0, self.name, 1)
        #: The most common case: the number of its only argument.
        only = step.args[0] if len(step.args) == 1 and not step.kwargs else None
        self._single = only.number if type(only) is Slot else -1
        #: The common case: values in the places of whole arguments.
        self._flat = all(type(arg) is Slot or _plain(arg) for arg in (*step.args, *step.kwargs.values()))

    def arguments(self, values: dict[int, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments; unpickle arrived values, once.

        Raises:
            _Passed: one of them is an error.
        """
        step = self.step
        if self._single >= 0:
            kind, data = value = values[self._single]
            if kind == ERROR:
                raise _Passed(bytes(data))
            if kind != HERE:
                value = values[self._single] = (HERE, deserialize(kind, data))
            return [value[1]], {}
        for number in step.needs:
            kind, data = values[number]
            if kind == ERROR:
                raise _Passed(bytes(data))
            if kind != HERE:
                values[number] = (HERE, deserialize(kind, data))
        if self._flat:
            args = [values[arg.number][1] if type(arg) is Slot else arg for arg in step.args]
            if not step.kwargs:
                return args, {}
            return args, {
                key: values[arg.number][1] if type(arg) is Slot else arg for key, arg in step.kwargs.items()
            }
        filled = replace(
            [list(step.args), step.kwargs], lambda arg: type(arg) is Slot, lambda slot: values[slot.number][1]
        )
        return filled[0], filled[1]


def _plain(arg: Any) -> bool:
    return not isinstance(arg, (list, tuple, dict))


def _read_hello(sock: socket.socket, graph: bytes) -> wire.GraphHello | None:
    """Return the hello of a connection, after which nothing follows before the graph is executed.

    None: the peer is no member of the graph; it was refused, and the socket is closed.
    """
    handshake = Handshake(GRAPH)
    refused: Refused | None
    reader = FrameReader(MAX_HELLO)
    decode = decoder(frozenset(GRAPH.hellos))
    sock.settimeout(_HELLO_TIMEOUT_S)
    try:
        while data := sock.recv(4096):
            for body in reader.feed(data):
                try:
                    hello = decode(body)
                except GARBAGE as error:
                    refused = handshake.not_understood(body, error, MESSAGES)
                else:
                    refused = handshake.hello(hello) or _stranger(hello, graph)
                if refused is None:
                    assert isinstance(hello, wire.GraphHello)
                    return hello
                frame = bytearray()
                append_frame(refused, frame)
                sock.send(frame)
                sock.close()
                return None
    except (OSError, FrameError):
        pass  # it hung up, or sends no complete hello
    sock.close()
    return None


def _stranger(hello: wire.GraphHello, graph: bytes) -> Refused | None:
    if hello.graph == graph:
        return None
    return Refused(WRONG_PEER, f"belongs to the graph {hello.graph.hex()}, this member to {graph.hex()}")
