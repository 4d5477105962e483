"""One call in this process: its strand, what it holds, and what its thread knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from skate._inline.turns import End
from skate._wire import control
from skate._wire import worker as wire
from skate._worker.process.current import CallInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skate._inline.strands import Strand


class WorkHost(Protocol):
    """The actor whose method a call is: ``host.Host``."""

    id: bytes
    actor_id: bytes
    repr: str
    gpus: tuple[str, ...]
    spec: control.ActorSpec

    def left(self, error: BaseException, name: str) -> None:
        """End the actor: a method or the constructor of it did. On its strand."""


class Work(CallInfo):
    """A call that was sent, until its reply."""

    __slots__ = (
        "end",
        "call",
        "host",
        "resources",
        "gpus",
        "strand",
        "began",
        "target",
        "over",
        "coroutine",
        "unwanted",
    )

    def __init__(
        self, end: End, call: wire.Call, name: str, host: WorkHost | None, function: str = ""
    ) -> None:
        super().__init__(end.peer.id, call.seq, name, call.flags >> wire.DEPTH_SHIFT, function)
        self.end = end
        self.call = call
        #: The actor whose method it is.
        self.host = host
        self.resources: Mapping[str, int] = {}
        self.gpus: tuple[str, ...] = ()
        self.strand: Strand | None = None
        self.began = 0.0
        self.target: Callable[..., Any] | None = None
        #: Called under the lock when it is over.
        self.over: Callable[[], None] | None = None
        #: Its caller is gone.
        self.unwanted = False
        #: In an async actor: the asyncio.Task.
        self.coroutine: Any = None

    @property
    def key(self) -> tuple[bytes, int]:
        """What names it where it runs."""
        return self.owner, self.seq


class Constructor(CallInfo):
    """The constructor of an actor, as the call that runs."""

    __slots__ = ("host",)

    def __init__(self, host: WorkHost, owner: bytes, name: str) -> None:
        super().__init__(owner, 1, name, 1)
        self.host = host
