"""What the parts of an in-process session stand on, and how they see each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from skate._inline.turns import Turns
from skate._transport.connection import Handler
from skate._wire import control
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.values import Values
from skate._worker.process.context import ProcessContext

if TYPE_CHECKING:
    from skate._inline.player import Player


class Actor(Protocol):
    """An actor that lives in this process: ``host.Host``."""

    id: bytes
    address: str
    repr: str
    actor_id: bytes
    incarnation: int
    spec: control.ActorSpec
    #: The call begun last, for whoever must decide what to repeat.
    begun: tuple[bytes, int]


class Place(Protocol):
    """Where actors live: ``node.InlineNode``. Under the lock."""

    def started(self, host: Actor, error: bytes) -> None:
        """Tell the control store that a constructor returned, or raised ``error``."""

    def ended(self, host: Actor, cause: str, *, intended: bool) -> None:
        """Tell the control store that an incarnation is over."""


class HostParts:
    """What an actor needs of its session.

    Args:
        calls_table: what is done with messages of callees, by those who call the actor.
        on_ended: called under the lock when an incarnation has ended: its calls and actors end, too.
    """

    def __init__(
        self,
        context: ProcessContext,
        turns: Turns,
        player: Player,
        values: Values,
        garbage: Garbage,
        place: Place,
        calls_table: Mapping[type, Handler],
        on_ended: Callable[[Actor], None],
    ) -> None:
        self.context = context
        self.turns = turns
        self.player = player
        self.values = values
        self.garbage = garbage
        self.place = place
        self.calls_table = calls_table
        self.on_ended = on_ended
