"""The actor in its process: constructor, methods, and which way its calls run."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from skate._serialize.exceptions import dump_task_error
from skate._serialize.tracebacks import format_error
from skate._serialize.values import deserialize
from skate._transport.connection import Connection
from skate._wire import control, node
from skate._wire import worker as wire
from skate._wire.codec import unpack
from skate._worker import current, output
from skate._worker.current import CallInfo
from skate._worker.objects import arrivals
from skate._worker.refs import ObjectEntry

if TYPE_CHECKING:
    from skate._worker.executor import Executor


#: Characters of an instance's repr that are shown.
_MOST_REPR = 200


class ActorExit(SystemExit):
    """Raised by ``exit_actor``: the actor's process ends on purpose."""


class Runner(Protocol):
    """A way to run calls other than one after the other on the main thread."""

    def submit(self, connection: Connection, call: Any) -> None:
        """A call arrived. Under the lock, or before ``serve``."""

    def serve(self, host: ActorHost) -> None:
        """Construct the actor and run its calls on and from the main thread until told to stop."""

    def cancel(self, connection: Connection, seq: int) -> bool:
        """A caller cancels a call; tell whether it runs, or is about to. Under the lock."""

    def lanes(self) -> list[dict[str, Any]]:
        """Return what runs and what is queued: see ``_base.waits``."""

    def about_to_wait(self) -> None:
        """User code calls what blocks its thread, and has to wait. Any thread."""

    def stop(self) -> None:
        """Make ``serve`` return. Any thread, under the lock."""


class ActorHost:
    """One incarnation of an actor."""

    def __init__(self, executor: Executor, message: node.StartActor) -> None:
        self.executor = executor
        self.actor_id = message.actor_id
        self.incarnation = message.incarnation
        self.spec = unpack(message.spec, type=control.ActorSpec)
        self.instance: Any = None
        current.process.resources = self.spec.running
        if message.gpus:
            current.see_gpus(",".join(message.gpus))
        executor.title.become(self.spec.class_name)
        #: The compiled graphs that it takes part in, by id (see ``skate.dag._program``).
        self.graphs: dict[bytes, Any] = {}
        #: What errors and output call it.
        self.repr = self.spec.class_name

    def make_runner(self) -> Runner | None:
        """Return what runs the calls of an async or threaded actor; None for a serial one."""
        spec = self.spec
        if not spec.is_async and spec.max_concurrency == 1 and not spec.concurrency_groups:
            return None
        from skate._worker import concurrency

        if not spec.is_async:
            return concurrency.ThreadedRunner(self.executor, spec)
        if not spec.concurrency_groups:
            return concurrency.AsyncRunner(self.executor, spec)
        from skate._worker.group_loops import GroupedRunner

        return GroupedRunner(self.executor, spec)

    def start(self) -> None:
        """Run the constructor and report."""
        spec, core = self.spec, self.executor.core
        output.names.current = spec.class_name
        current.call.set(CallInfo(b"", 0, f"{spec.class_name}.__init__", 1))
        limit_threads(-(-spec.running.get("CPU", 10_000) // 10_000))
        error = b""
        met: list[ObjectEntry] = []
        try:
            self.instance = self._construct(met)
            self._introduce()
        except BaseException as raised:
            name = f"{spec.class_name}.__init__"
            error, _ = dump_task_error(raised, name, spec.class_name, self.actor_id.hex())
            self.tell(name, raised)
            raised.__traceback__ = None
        shown = self.repr if self.repr != spec.class_name else ""
        with core.lock:
            core.drain()
            for entry in met:
                # The creator keeps the arguments as long as the actor may need them again.
                if not entry.gone:
                    core.refs.register(entry)
            core.drain()
            core.node.send(node.ActorReady(self.actor_id, self.incarnation, error, shown))
            core.reactor.flush()

    def tell(self, name: str, raised: BaseException) -> None:
        """Tell of a constructor that raised: perhaps nobody calls the actor, or asks for what it calls."""
        core = self.executor.core
        core.warn(f"{name} raised, so the actor is dead:\n{format_error(raised).rstrip()}")

    def _introduce(self) -> None:
        """Go by the instance's own repr in errors and output, if its class defines one, as Ray does."""
        if getattr(type(self.instance), "__repr__", None) is not object.__repr__:
            try:
                self.repr = repr(self.instance)[:_MOST_REPR]
            except Exception:
                return  # the user's bug, which is no reason for the actor to fail
            output.names.current = " ".join(self.repr.split())

    def _construct(self, met: list[ObjectEntry]) -> Any:
        cls = pickle.loads(self.spec.class_blob)
        args, kwargs = self._arguments(met)
        return cls(*args, **kwargs)

    def _arguments(self, met: list[ObjectEntry]) -> tuple[list[Any], dict[str, Any]]:
        spec, objects = self.spec, self.executor.core.objects
        outer, arrivals.entries = arrivals.entries, met
        try:
            data: bytes | memoryview = spec.args
            kind = spec.args_kind
            if kind == wire.SHARED:
                data, kind = self.executor.invocation.view_of_arguments(spec.args), wire.BUFFERS
            args, kwargs = deserialize(kind, data) if kind != wire.NONE else ((), {})
            args = list(args)
            dependencies = [
                (where, objects.adopt(object_id, owner)) for where, object_id, owner in spec.dependencies
            ]
        finally:
            arrivals.entries = outer
        for where, ref in dependencies:
            value = objects.get_one(ref, None)
            if isinstance(where, int):
                args[where] = value
            else:
                kwargs[where] = value
        return args, kwargs

    def farewell(self) -> None:
        """The process is about to end in peace: let the instance clean up, by Ray's hook."""
        hook = getattr(self.instance, "__ray_shutdown__", None)
        if hook is None:
            return
        current.call.set(CallInfo(b"", 0, f"{self.spec.class_name}.__ray_shutdown__", 1))
        try:
            waiting = hook()
            if hasattr(waiting, "__await__"):
                import asyncio

                asyncio.run(waiting)
        except BaseException:
            sys.excepthook(*sys.exc_info())  # there is nobody to raise it in

    def forget(self) -> None:
        """Let go of the instance: it and what it holds may have a ``__del__``, or a file to flush."""
        self.instance = None
        gc.collect()
        output.flush(False)

    def method(self, name: str) -> Callable[..., Any]:
        """Return the code behind a method's name."""
        if name == "__ray_ready__":
            return lambda: True
        if name == "__ray_call__":
            return lambda function, *args, **kwargs: function(self.instance, *args, **kwargs)
        if name == "__ray_terminate__":
            return _terminate
        return getattr(self.instance, name)  # type: ignore[no-any-return]

    def full_name(self, method: str) -> str:
        """Return a method's name with the module and the class, as Ray writes it."""
        if method == "__init__":
            cls = pickle.loads(self.spec.class_blob)
            return f"{current.module_name(cls)}.{cls.__name__}.__init__"
        cls = type(self.instance)
        return f"{current.module_name(cls)}.{cls.__qualname__}.{method}"


def _terminate() -> None:
    raise ActorExit("terminated")


def limit_threads(count: int) -> None:
    """Let numeric libraries that are not imported yet use as many threads as the task has CPUs."""
    if "OMP_NUM_THREADS" not in os.environ or os.environ.get("_SKATE_OMP"):
        os.environ["OMP_NUM_THREADS"] = str(max(1, count))
        os.environ["_SKATE_OMP"] = "1"
