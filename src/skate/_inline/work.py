"""Describes one call in this process: its thread, its resources, and the facts that its code can ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from skate._inline.reactor import LocalConnection
from skate._wire import control
from skate._wire import worker as wire
from skate._worker.process.current import CallInfo, CodeName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skate._inline.call_threads import CallThread


class WorkActor(Protocol):
    """The actor whose method a call is: ``actor.InlineActor``."""

    id: bytes
    actor_id: bytes
    repr: str
    gpus: tuple[str, ...]
    spec: control.ActorSpec

    def end_by(self, error: BaseException, name: str) -> None:
        """End the actor, as its method or constructor asked. On its call thread."""


class Work(CallInfo):
    """A call from its arrival until its reply."""

    __slots__ = (
        "connection",
        "call",
        "actor",
        "group",
        "resources",
        "gpus",
        "call_thread",
        "began",
        "target",
        "on_end",
        "coroutine",
        "caller_ended",
    )

    def __init__(
        self,
        connection: LocalConnection,
        call: wire.Call,
        name: str,
        actor: WorkActor | None,
        function: str = "",
    ) -> None:
        super().__init__(connection.peer.id, call.seq, name, call.flags >> wire.DEPTH_SHIFT, function)
        self.connection = connection
        self.call = call
        #: The actor whose method it is.
        self.actor = actor
        #: The concurrency group of a method.
        self.group = ""
        self.resources: Mapping[str, int] = {}
        self.gpus: tuple[str, ...] = ()
        self.call_thread: CallThread | None = None
        self.began = 0.0
        self.target: Callable[..., Any] | None = None
        #: Called under the lock when it has ended.
        self.on_end: Callable[[], None] | None = None
        #: Its caller has ended.
        self.caller_ended = False
        #: In an async actor: the asyncio.Task.
        self.coroutine: Any = None

    @property
    def group_id(self) -> bytes:
        """The placement group in which a task runs; empty: in none, or it is a method."""
        return self.function.group[0] if isinstance(self.function, CodeName) else b""

    @property
    def key(self) -> tuple[bytes, int]:
        """Owner and seq, which identify the call in this process."""
        return self.owner, self.seq


class Constructor(CallInfo):
    """The constructor of an actor, as the call that runs."""

    __slots__ = ("actor",)

    def __init__(self, actor: WorkActor, owner: bytes, name: str) -> None:
        super().__init__(owner, 1, name, 1)
        self.actor = actor
