"""The actor in its process: its instance, constructor and methods."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from typing import Any

from skate._base.code_flags import is_coroutine
from skate._base.user_errors import is_a, report, set_traceback
from skate._scheduling.requirements import group_of
from skate._serialize.exceptions import dump_task_error
from skate._serialize.tracebacks import format_error
from skate._serialize.values import deserialize
from skate._wire import control, node
from skate._wire import worker as wire
from skate._wire.codec import unpack
from skate._worker.execution import output
from skate._worker.execution.exits import ActorExit
from skate._worker.execution.function import limit_threads
from skate._worker.execution.invocation import Invocation
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.refs import ObjectEntry, RefTable
from skate._worker.objects.values import Values, deserialized_refs
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.current import CallInfo
from skate._worker.process.daemon_link import DaemonLink

#: Errors and output show at most this many characters of an instance's repr.
_MAX_REPR_CHARS = 200


class ActorInstance:
    """One incarnation of an actor: its instance, and its name in errors and reports."""

    def __init__(
        self,
        context: ProcessContext,
        values: Values,
        invocation: Invocation,
        actor_id: bytes,
        incarnation: int,
        spec: control.ActorSpec,
    ) -> None:
        self._context = context
        self._values = values
        self._invocation = invocation
        self.actor_id = actor_id
        self.incarnation = incarnation
        self.spec = spec
        group, _, captures = group_of(spec.requirement)
        #: Its placement group, and whether that captures the tasks that it starts.
        self.group = group, captures
        context.captures |= captures
        self.instance: Any = None
        #: Its methods, bound, by their names.
        self._bound: dict[str, Callable[..., Any]] = {}
        #: The compiled graphs that it takes part in, by id (see ``skate.dag._program``).
        self.graphs: dict[bytes, Any] = {}
        #: Its name in errors and output.
        self.repr = spec.class_name

    def end_by(self, error: BaseException, name: str) -> None:
        """End the actor, as this exception of its method or constructor of that name asks."""
        raise NotImplementedError

    def _constructor_failed(self, raised: BaseException) -> bytes:
        """Return the error of a constructor for the actor's callers; empty if it ended the actor itself.

        It is printed, too, as perhaps no code calls the actor or retrieves the results.
        """
        name = f"{self.spec.class_name}.__init__"
        if is_a(raised, SystemExit):
            self.end_by(raised, name)
            return b""
        error, _ = dump_task_error(raised, name, self.spec.class_name, self.actor_id.hex())
        self._context.warn(f"{name} raised, so the actor is dead:\n{format_error(raised).rstrip()}")
        set_traceback(raised, None)
        return error

    def _introduce(self) -> None:
        """Use the instance's own repr in errors and output, if its class defines one, as Ray does."""
        if getattr(type(self.instance), "__repr__", None) is not object.__repr__:
            try:
                # Of a subclass of str, the characters: it is pickled.
                self.repr = str.__str__(repr(self.instance))[:_MAX_REPR_CHARS]
            except BaseException:
                return  # the user's bug, which is no reason for the actor to fail
            output.names.current = " ".join(self.repr.split())

    def _construct(self, received: list[ObjectEntry]) -> Any:
        cls = pickle.loads(self.spec.class_blob)
        args, kwargs = self._arguments(received)
        return cls(*args, **kwargs)

    async def _construct_on_loop(self, received: list[ObjectEntry]) -> Any:
        made = pickle.loads(self.spec.class_blob)
        args, kwargs = self._arguments(received)
        cls = getattr(made, "__origin__", made)
        if not is_coroutine(cls.__init__):
            return made(*args, **kwargs)
        # Python itself would refuse the coroutine that such an ``__init__`` returns.
        instance = cls.__new__(cls, *args, **kwargs)
        waiting = cls.__init__(instance, *args, **kwargs)
        if hasattr(waiting, "__await__"):
            await waiting
        return instance

    def _arguments(self, received: list[ObjectEntry]) -> tuple[list[Any], dict[str, Any]]:
        spec, values = self.spec, self._values
        outer, deserialized_refs.entries = deserialized_refs.entries, received
        try:
            data: bytes | memoryview = spec.args
            kind = spec.args_kind
            if kind == wire.SHARED:
                data, kind = self._invocation.view_of_arguments(spec.args), wire.BUFFERS
            args, kwargs = deserialize(kind, data) if kind != wire.NONE else ((), {})
            args = list(args)
            dependencies = [
                (where, values.adopt(object_id, owner)) for where, object_id, owner in spec.dependencies
            ]
        finally:
            deserialized_refs.entries = outer
        for where, ref in dependencies:
            value = values.get_one(ref, None)
            if isinstance(where, int):
                args[where] = value
            else:
                kwargs[where] = value
        return args, kwargs

    def farewell(self) -> None:
        """Let the instance clean up by Ray's hook, before the process ends on purpose."""
        current.call.set(CallInfo(b"", 0, f"{self.spec.class_name}.__ray_shutdown__", 1))
        try:
            hook = getattr(self.instance, "__ray_shutdown__", None)
            waiting: Any = hook() if hook is not None else None
            if hasattr(waiting, "__await__"):
                import asyncio

                asyncio.run(waiting)
        except BaseException as error:
            report(error)  # no user code is there to raise it in

    def forget(self) -> None:
        """Release the instance: it and its attributes may have a ``__del__``, or a file to flush."""
        self.let_go()
        gc.collect()
        output.flush(False)

    def let_go(self) -> None:
        """Release the instance and its bound methods."""
        self.instance = None
        self._bound.clear()

    def method(self, name: str) -> Callable[..., Any]:
        """Return the code behind a method's name."""
        found = self._bound.get(name)
        if found is None:
            found = self._bound[name] = self._find(name)
        return found

    def _find(self, name: str) -> Callable[..., Any]:
        if name == "__ray_ready__":
            return lambda: True
        if name == "__ray_call__":
            return lambda function, *args, **kwargs: function(self.instance, *args, **kwargs)
        if name == "__ray_terminate__":
            return _terminate
        return _of_class(self.instance, name)  # type: ignore[no-any-return]

    def full_name(self, method: str) -> str:
        """Return a method's name with the module and the class, as Ray writes it."""
        if method == "__init__":
            cls = pickle.loads(self.spec.class_blob)
            return f"{current.module_name(cls)}.{cls.__name__}.__init__"
        cls = type(self.instance)
        return f"{current.module_name(cls)}.{cls.__qualname__}.{method}"


class ActorHost(ActorInstance):
    """An actor that is a process of its own.

    Args:
        leave_by: begins to end the process, for an exception that ends the actor and the name of the method
            that raised it.
    """

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        refs: RefTable,
        garbage: Garbage,
        values: Values,
        invocation: Invocation,
        message: node.StartActor,
        leave_by: Callable[[BaseException, str], None],
    ) -> None:
        spec = unpack(message.spec, type=control.ActorSpec)
        super().__init__(context, values, invocation, message.actor_id, message.incarnation, spec)
        self._daemon = daemon
        self._refs = refs
        self._garbage = garbage
        self._leave_by = leave_by
        current.process.resources = spec.running
        if message.gpus:
            current.see_gpus(",".join(message.gpus))

    def end_by(self, error: BaseException, name: str) -> None:
        """See ActorInstance."""
        self._leave_by(error, name)

    def start(self) -> None:
        """Run the constructor and report."""
        self._prepare()
        received: list[ObjectEntry] = []
        raised = None
        try:
            self.instance = self._construct(received)
            self._introduce()
        except BaseException as error:
            raised = error
        self._report(raised, received)

    async def start_on_loop(self) -> None:
        """Run the constructor, which may be a coroutine, on the running loop, and report."""
        self._prepare()
        received: list[ObjectEntry] = []
        raised = None
        try:
            self.instance = await self._construct_on_loop(received)
            self._introduce()
        except BaseException as error:
            raised = error
        self._report(raised, received)

    def _prepare(self) -> None:
        spec = self.spec
        output.names.current = spec.class_name
        current.call.set(CallInfo(b"", 0, f"{spec.class_name}.__init__", 1))
        limit_threads(-(-spec.running.get("CPU", 10_000) // 10_000))

    def _report(self, raised: BaseException | None, received: list[ObjectEntry]) -> None:
        error = self._constructor_failed(raised) if raised is not None else b""
        if raised is not None and not error:
            return
        shown = self.repr if self.repr != self.spec.class_name else ""
        with self._context.locked:
            self._garbage.drain()
            for entry in received:
                # The creator keeps the arguments as long as the actor may need them again.
                if not entry.gone:
                    self._refs.register(entry)
            self._garbage.drain()
            self._daemon.send(node.ActorReady(self.actor_id, self.incarnation, error, shown))
            self._context.reactor.flush()


def _of_class(instance: Any, name: str) -> Any:
    """Return a method of an instance: the class's, even if the instance has an attribute of that name."""
    kind = type(instance)
    for base in kind.__mro__:
        if name in base.__dict__:
            found = base.__dict__[name]
            get = getattr(type(found), "__get__", None)
            return found if get is None else get(found, instance, kind)
    return getattr(instance, name)


def _terminate() -> None:
    raise ActorExit("terminated")
