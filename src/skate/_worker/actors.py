"""An actor as its callers see it: calls in order, through restarts, to the end. Decisions only.

One client an actor and process, whatever the number of handles. Calls leave in the order they were
made; one whose arguments are not ready holds up those behind it, unless the actor runs several at a
time (``out_of_order``)::

    submit --> [queue] --ALIVE and connected, arguments ready--> [inflight] --reply--> done
                  ^                                                  |
                  |    not begun, or retries left (in order, first)  | the incarnation died
                  '--------------------------------------------------+
                                                 else: ActorUnavailableError / ActorDiedError

The control store tells states; a closed connection alone only stops sending until it does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from skate._wire.control import ActorUpdate
from skate._worker.records import TaskRecord, split_begun, take_out

if TYPE_CHECKING:
    from skate._transport.connection import Connection
    from skate._worker.tallies import Tally


class Connect(NamedTuple):
    """Dial this incarnation, then call ``connected``."""

    client: ActorClient
    address: str


class Fail(NamedTuple):
    """End these calls: the actor is dead, or may have done them (``unavailable``)."""

    client: ActorClient
    calls: list[TaskRecord]
    unavailable: bool


Command = Connect | Fail


class ActorClient:
    """See the module's text."""

    __slots__ = ("id", "class_name", "max_pending", "out_of_order", "state", "incarnation", "connection",
                 "queue", "inflight", "cause", "error", "watched", "keep", "tallies", "_send",
                 "_me")  # fmt: skip

    def __init__(
        self,
        actor_id: bytes,
        class_name: str,
        me: bytes,
        send: Callable[[ActorClient, TaskRecord], None],
    ) -> None:
        self.id = actor_id
        self.class_name = class_name
        #: How many calls may be unfinished; below zero: any number.
        self.max_pending = -1
        #: A call whose arguments are not ready holds up nobody.
        self.out_of_order = False
        self.state = "PENDING_CREATION"
        self.incarnation = -1
        self.connection: Connection | None = None
        self.queue: deque[TaskRecord] = deque()
        self.inflight: dict[int, TaskRecord] = {}
        self.cause = ""
        #: Pickled exception of the constructor.
        self.error = b""
        #: The control store was asked to tell its states.
        self.watched = False
        #: A ref to the actor's handle object while calls are under way: they keep the actor alive.
        self.keep: object = None
        #: Where calls of its methods count: see ``tallies``.
        self.tallies: dict[str, Tally] = {}
        self._send = send
        self._me = me

    def submit(self, call: TaskRecord) -> list[Command]:
        """A call was made."""
        if self.state == "DEAD":
            return [Fail(self, [call], False)]
        if self.out_of_order and self.connection is not None and not call.unresolved:
            self._leave(call)
        else:
            self.queue.append(call)
            if not self.out_of_order:
                self.pump()
        return []

    def pump(self) -> None:
        """Send what may leave."""
        queue = self.queue
        if self.connection is None:
            return
        if self.out_of_order:
            ready = [call for call in queue if not call.unresolved]
            self.queue = deque(call for call in queue if call.unresolved)
            for call in ready:
                self._leave(call)
            return
        while queue and not queue[0].unresolved:
            self._leave(queue.popleft())

    def _leave(self, call: TaskRecord) -> None:
        self.inflight[call.seq] = call
        self._send(self, call)

    def ready(self, call: TaskRecord) -> None:
        """The last argument of a queued call got its value."""
        if self.out_of_order and self.connection is not None and take_out(self.queue, call):
            self._leave(call)
        else:
            self.pump()

    def connected(self, connection: Connection) -> None:
        """The living incarnation can be reached."""
        self.connection = connection
        self.pump()

    def disconnected(self) -> None:
        """The connection closed; what that means the control store will tell."""
        self.connection = None

    def withdraw(self, call: TaskRecord) -> None:
        """A queued call failed before it left (an argument of it did): those behind it may go."""
        take_out(self.queue, call)
        if not self.out_of_order:
            self.pump()

    def updated(self, update: ActorUpdate) -> list[Command]:
        """The control store told the state. Late and repeated news change nothing."""
        if self.state == "DEAD" or update.incarnation < self.incarnation:
            return []
        commands: list[Command] = []
        news = update.incarnation > self.incarnation
        if update.state == "DEAD":
            self.state, self.cause, self.error = "DEAD", update.cause, update.error
            self.connection = None
            calls = [*self.inflight.values(), *self.queue]
            self.inflight.clear()
            self.queue.clear()
            if calls:
                commands.append(Fail(self, calls, False))
            return commands
        if news and self.incarnation >= 0:
            commands += self._incarnation_died(update)
        self.incarnation = update.incarnation
        self.state = update.state
        self.cause = update.cause
        if update.state == "ALIVE" and self.connection is None:
            commands.append(Connect(self, update.address))
        return commands

    def _incarnation_died(self, update: ActorUpdate) -> list[Command]:
        """Sort what was in flight: sent again, in order and first, or failed."""
        self.connection = None
        calls = list(self.inflight.values())
        self.inflight.clear()
        # The word names one caller's call; about the calls of the others nothing is known.
        known = update.begun_owner == self._me
        begun, fresh = split_begun(calls, update.begun_seq if known else None)
        again: list[TaskRecord] = []
        lost: list[TaskRecord] = []
        for call in begun:
            (again if call.spend_retry() else lost).append(call)
        lost += [call for call in fresh if call.cancelled]
        self.queue.extendleft(reversed(again + [call for call in fresh if not call.cancelled]))
        return [Fail(self, lost, True)] if lost else []

    def cut_off(self, reason: str) -> list[Command]:
        """The control store is gone: whoever is not connected will hear no more news."""
        if self.connection is not None or self.state == "DEAD":
            return []
        self.cause = reason
        calls = [*self.inflight.values(), *self.queue]
        self.inflight.clear()
        self.queue.clear()
        return [Fail(self, calls, True)] if calls else []
