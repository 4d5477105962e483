"""An actor as its callers see it: calls in order, through restarts, to the end. Decisions only.

One client an actor and process, whatever the number of handles. Calls leave in the order they were
made; one whose arguments are not ready holds up those behind it, unless the actor runs several at a
time (``out_of_order``)::

    submit --> [queue] --ALIVE and connected, arguments ready--> [inflight] --reply--> done
                  ^                                                  |
                  |    not begun, or retries left (in order, first)  | the incarnation died
                  '--------------------------------------------------+
                                                 else: ActorUnavailableError / ActorDiedError

The control store publishes states; a closed connection alone only stops sending until it does. If it
publishes nothing and the actor can be dialled again, only the connection was lost: calls in flight may have
been carried out, and are sent again if they have retries left. The calls of an actor that cannot be dialled
fail; the next call dials again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from skate._wire.control import ActorUpdate
from skate._worker.calls.records import Route, TaskRecord, split_begun, take_out

if TYPE_CHECKING:
    from skate._transport.connection import Connection
    from skate._worker.calls.tallies import Tally


class Connect(NamedTuple):
    """Dial this incarnation, then call ``connected``."""

    client: ActorClient
    address: str


class Fail(NamedTuple):
    """End these calls: the actor is dead, may have done them (``unavailable``), or cannot be reached
    (``unsent``: they did not leave, and why)."""

    client: ActorClient
    calls: list[TaskRecord]
    unavailable: bool
    unsent: str = ""


Command = Connect | Fail


class ActorClient:
    """Decides which calls of an actor leave when, and what becomes of those in flight."""

    __slots__ = ("id", "class_name", "max_pending", "out_of_order", "state", "incarnation", "connection",
                 "address", "dialling", "queue", "inflight", "cause", "error", "watched", "keep", "tallies",
                 "route", "_send", "_me")  # fmt: skip

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
        #: A call whose arguments are not ready does not hold up those behind it.
        self.out_of_order = False
        self.state = "PENDING_CREATION"
        self.incarnation = -1
        self.connection: Connection | None = None
        #: Of the living incarnation; and whether the submitter is to call ``connected`` or ``unreachable``.
        self.address = ""
        self.dialling = False
        self.queue: deque[TaskRecord] = deque()
        self.inflight: dict[int, TaskRecord] = {}
        self.cause = ""
        #: Pickled exception of the constructor.
        self.error = b""
        #: The control store was asked to publish its states.
        self.watched = False
        #: A ref to the actor's handle object while calls are under way: they keep the actor alive.
        self.keep: object = None
        #: The counts of calls of its methods: see ``tallies``.
        self.tallies: dict[str, Tally] = {}
        #: The route of its calls. Set by the submitter.
        self.route: Route
        self._send = send
        self._me = me

    def submit(self, call: TaskRecord) -> list[Command]:
        """Send or queue a new call, or fail it."""
        if self.state == "DEAD":
            return [Fail(self, [call], False)]
        if self.connection is None:
            self.queue.append(call)
            return self._dial() if self.state == "ALIVE" and not self.dialling else []
        if not call.unresolved and (self.out_of_order or not self.queue):
            self._leave(call)
        else:  # its arguments, or those of a call before it, have no values yet
            self.queue.append(call)
            if not self.out_of_order:
                self.pump()
        return []

    def let_go(self) -> None:
        """Release the handle if no call is under way: then only the program's handles keep the actor."""
        if not self.inflight and not self.queue:
            self.keep = None

    def is_dialling(self, address: str) -> bool:
        """Tell whether the submitter is to call ``connected`` or ``unreachable`` for that incarnation."""
        return self.dialling and self.state == "ALIVE" and self.address == address

    def _dial(self) -> list[Command]:
        self.dialling = True
        return [Connect(self, self.address)]

    def pump(self) -> None:
        """Send the queued calls that may leave."""
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
        """Send a queued call, whose last argument got its value, if it may leave."""
        if self.out_of_order and self.connection is not None and take_out(self.queue, call):
            self._leave(call)
        else:
            self.pump()

    def connected(self, connection: Connection) -> None:
        """Send queued calls on a connection to the living incarnation.

        Calls that were in flight on the connection before it have been dealt with by ``broken``.
        """
        self.connection = connection
        self.dialling = False
        self.pump()

    def broken(self, reason: str) -> list[Command]:
        """Retry or fail the calls in flight: the connection was lost, but the incarnation lives."""
        if self.inflight:
            self.cause = reason
        return self._sort_out(list(self.inflight.values()), [])

    def disconnected(self, *, begun: bool = True) -> None:
        """Stop sending: the connection closed. The control store's next update, or ``broken``, follows.

        Not ``begun``: the other side read none of the calls that were sent on it.
        """
        self.connection = None
        self.dialling = self.state == "ALIVE"
        if not begun:
            self._take_back(list(self.inflight.values()))
            self.inflight.clear()

    def _take_back(self, calls: list[TaskRecord]) -> None:
        """Queue calls that were sent, in their order, before all others."""
        for call in calls:
            call.connection = None
        self.queue.extendleft(reversed(calls))

    def unreachable(self, reason: str) -> list[Command]:
        """Fail all calls: the living incarnation cannot be dialled, and attempts were given up."""
        self.dialling = False
        if self.state != "ALIVE" or self.connection is not None:
            return []
        self.cause = reason
        commands: list[Command] = []
        if self.inflight:
            commands.append(Fail(self, list(self.inflight.values()), True))
        if self.queue:
            commands.append(Fail(self, list(self.queue), True, reason))
        self.inflight.clear()
        self.queue.clear()
        return commands

    def withdraw(self, call: TaskRecord) -> None:
        """Forget a queued call that failed before it left, and send those behind it that may leave."""
        take_out(self.queue, call)
        if not self.out_of_order:
            self.pump()

    def updated(self, update: ActorUpdate) -> list[Command]:
        """Apply a state that the control store published. Late and repeated updates change nothing."""
        if self.state == "DEAD" or update.incarnation < self.incarnation:
            return []
        commands: list[Command] = []
        news = update.incarnation > self.incarnation
        if update.state == "DEAD":
            self.state, self.cause, self.error = "DEAD", update.cause, update.error
            self.connection = None
            self.dialling = False
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
        if update.state == "ALIVE" and self.connection is None and (news or not self.dialling):
            self.address = update.address
            commands += self._dial()
        return commands

    def _incarnation_died(self, update: ActorUpdate) -> list[Command]:
        """Retry the calls in flight, in order and first, or fail them."""
        self.connection = None
        self.dialling = False
        calls = list(self.inflight.values())
        # The progress table names one caller's call; of the calls of the others nothing is known.
        known = update.begun_owner == self._me
        return self._sort_out(*split_begun(calls, update.begun_seq if known else None))

    def _sort_out(self, begun: list[TaskRecord], fresh: list[TaskRecord]) -> list[Command]:
        """Retry or fail calls in flight: those that may have begun, and those that did not."""
        self.inflight.clear()
        again: list[TaskRecord] = []
        lost: list[TaskRecord] = []
        for call in begun:
            (again if call.spend_retry() else lost).append(call)
        lost += [call for call in fresh if call.cancelled]
        self._take_back(again + [call for call in fresh if not call.cancelled])
        return [Fail(self, lost, True)] if lost else []

    def cut_off(self, reason: str) -> list[Command]:
        """Fail all calls if there is no connection: the control store will publish no more states."""
        if self.connection is not None or self.state == "DEAD":
            return []
        self.cause = reason
        calls = [*self.inflight.values(), *self.queue]
        self.inflight.clear()
        self.queue.clear()
        return [Fail(self, calls, True)] if calls else []
