"""Holds the common parts of an in-process session, and the protocols by which its parts use each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from skate._inline.reactor import InlineReactor
from skate._transport.connection import Handler
from skate._wire import control
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.values import Values
from skate._worker.process.context import ProcessContext

if TYPE_CHECKING:
    from skate._inline.executor import InlineExecutor


class Actor(Protocol):
    """An actor that lives in this process: ``actor.InlineActor``."""

    id: bytes
    address: str
    repr: str
    actor_id: bytes
    incarnation: int
    spec: control.ActorSpec
    #: The call begun last: callers decide by it what to repeat.
    begun: tuple[bytes, int]


class Place(Protocol):
    """The node on which actors live: ``node.InlineNode``. Under the lock."""

    def started(self, actor: Actor, error: bytes) -> None:
        """Tell the control store that a constructor returned, or raised ``error``."""

    def ended(self, actor: Actor, cause: str, *, intended: bool) -> None:
        """Tell the control store that an incarnation is over."""


class ActorParts:
    """The parts of the session that an actor needs.

    Args:
        calls_table: the callers' handlers of messages from the actor.
        on_ended: called under the lock when an incarnation has ended; it ends the actor's calls and actors.
    """

    def __init__(
        self,
        context: ProcessContext,
        reactor: InlineReactor,
        executor: InlineExecutor,
        values: Values,
        garbage: Garbage,
        place: Place,
        calls_table: Mapping[type, Handler],
        on_ended: Callable[[Actor], None],
    ) -> None:
        self.context = context
        self.reactor = reactor
        self.executor = executor
        self.values = values
        self.garbage = garbage
        self.place = place
        self.calls_table = calls_table
        self.on_ended = on_ended
