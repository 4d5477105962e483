"""Actors: creation, calls, their news from the control store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate._base import errors
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._serialize.exceptions import dump_death, dump_error, is_task_error, load_error
from skate._transport.connection import EAGER_BYTES, Connection
from skate._wire import control
from skate._wire import worker as wire
from skate._wire.handshake import BUSY
from skate._worker.calls.actor_client import ActorClient, Command, Connect, Fail
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.task_submitter import CERTIFICATE_DUE
from skate._worker.objects.refs import ObjectEntry

if TYPE_CHECKING:
    from skate._worker.core import Core


#: A control store that was started anew tells of a death within its lease (seconds), and some.
_NEWS_DUE = 60.0
_CUT_OFF = "the control store of the session is gone, so nobody can tell where the actor is now"


class ActorSubmitter:
    """The process's part about actors. Everything runs under the core's lock."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._clients: dict[bytes, ActorClient] = {}

    def client(self, actor_id: bytes, class_name: str) -> ActorClient:
        """Return this process's view of the actor; the same for all its handles here."""
        client = self._clients.get(actor_id)
        if client is None:
            client = ActorClient(actor_id, class_name, self._core.worker_id, self._send)
            self._clients[actor_id] = client
        return client

    def forget(self, actor_id: bytes) -> None:
        """No handle of this process is left. What is in flight keeps its client by itself."""
        client = self._clients.get(actor_id)
        if client is not None and not client.queue and not client.inflight:
            del self._clients[actor_id]

    def submit(self, call: TaskRecord, client: ActorClient) -> None:
        """A method was called."""
        call.actor = client
        if not client.watched:
            client.watched = self._core.control.send(control.WatchActor(client.id))
        commands = client.submit(call)
        if not client.watched:
            commands += client.cut_off(_CUT_OFF)
        if commands:
            self._run(commands)

    def ready(self, call: TaskRecord) -> None:
        """The last argument of a queued call got its value."""
        assert call.actor is not None
        call.actor.ready(call)

    def failed_argument(self, call: TaskRecord) -> None:
        """An argument of a queued call is an error: the call is over, those behind it may go."""
        assert call.actor is not None
        call.actor.withdraw(call)
        self._let_go(call.actor)

    def _let_go(self, client: ActorClient) -> None:
        """With no call under way, only handles keep the actor alive."""
        if not client.inflight and not client.queue:
            client.keep = None

    def waiting_with(self, argument: ObjectEntry) -> list[TaskRecord]:
        """Return the calls that could leave once their actor is there, and have this argument."""
        return [
            call for client in self._clients.values() for call in client.queue
            if not call.unresolved and call.needs(argument)
        ]  # fmt: skip

    def in_flight(self) -> list[tuple[TaskRecord, bytes]]:
        """Return every call that waits for its actor (b"") or was sent to it."""
        found: list[tuple[TaskRecord, bytes]] = []
        for client in self._clients.values():
            found += [(call, b"") for call in client.queue if not call.unresolved]
            connection = client.connection
            worker = connection.peer.id if connection is not None else b""
            found += [(call, worker) for call in client.inflight.values()]
        return found

    # ------------------------------------------------------------------ effects

    def _send(self, client: ActorClient, call: TaskRecord) -> None:
        connection = client.connection
        assert connection is not None
        message = wire.Call(
            call.seq,
            call.method,
            call.args,
            call.args_kind,
            len(call.returns),
            call.flags,
            None if call.dependencies is None else call.values_to_send(),
            call.name,
            call.group,
            call.stream_state() if call.stream is not None else None,
            None,
            call.retry if call.retries_left else None,
        )
        calls = connection.peer.calls
        calls[call.seq] = call
        if len(calls) == 1:
            connection.send_now(message)
        else:
            connection.send(message)
            if len(connection.out) > EAGER_BYTES:
                connection.flush()

    def _run(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Connect):
                self._dial(command.client, command.address)
            else:
                self._fail(command)

    def _dial(
        self, client: ActorClient, address: str, reason: str = "", attempts: Backoff | None = None
    ) -> None:
        """Connect to the living incarnation. ``reason``: why the connection before ended."""

        def current() -> bool:
            return client.is_dialling(address)

        def connected(connection: Connection) -> None:
            if current():
                commands = client.broken(reason)
                for call in [call for call in client.queue if not call.unresolved]:
                    self._core.calls.may_go_again(call)
                client.connected(connection)
                self._run(commands)

        def failed(shortage: str) -> None:
            if not current():
                return
            if shortage:
                self._run(client.unreachable(f"this process {shortage}"))
                return
            # Nobody there: it died again, and the control store is about to say so. If it is not (its socket
            # was removed by hand), calls are not to wait for ever.
            tries = attempts or Backoff(monotonic(), _NEWS_DUE)
            if tries.again(monotonic()) is None:
                self._run(
                    client.unreachable(
                        f"nobody answers at {address}, though its process is not known to have ended"
                    )
                )
                return
            self._core.reactor.call_later(
                CERTIFICATE_DUE, lambda: self._dial(client, address, reason, tries) if current() else None
            )

        self._core.peers.reach(address, connected, failed)

    def _fail(self, command: Fail) -> None:
        client = command.client
        self._let_go(client)
        dead = b""
        for call in command.calls:
            if call.unresolved < 0:
                continue  # one before it was its argument
            if call.cancelled:
                error = self._core.canceller.error(call)
            elif command.unavailable or command.unsent:
                error = self._error(client, call, command.unavailable, command.unsent)
            else:  # the same for all
                error = dead = dead or self._error(client, call, False, "")
            self._core.calls.finish_with_error(call, error)

    def _error(self, client: ActorClient, call: TaskRecord, unavailable: bool, unsent: str) -> bytes:
        who = f"actor {client.class_name} ({client.id.hex()})"
        if unsent:
            text = (
                f"The actor is temporarily unavailable: {who} is, and {call.describe()} was not sent to it: "
                f"{unsent}. Later calls may work."
            )
            return dump_error(errors.ActorUnavailableError(text, client.id.hex()))
        if unavailable:
            text = (
                f"The actor is temporarily unavailable: {who} is, and whether {call.describe()} was carried "
                f"out is not known: {client.cause}. Later calls may work; max_task_retries repeats such "
                "calls."
            )
            return dump_error(errors.ActorUnavailableError(text, client.id.hex()))
        if client.error:
            if is_task_error(client.error):
                return dump_death(client.error, client.id.hex())
            cause = load_error(client.error)
            if isinstance(cause, (errors.RuntimeEnvSetupError, errors.ActorUnschedulableError)):
                return client.error
            return dump_error(errors.ActorDiedError(f"{who} never came to life: {cause}", client.id.hex()))
        text = f"The actor died unexpectedly before finishing this task: {who} is dead: {client.cause}"
        return dump_error(errors.ActorDiedError(text, client.id.hex()))

    # ------------------------------------------------------------------ news

    def updated(self, connection: Connection, message: control.ActorUpdate) -> None:
        """The control store told an actor's state."""
        client = self._clients.get(message.actor_id)
        if client is None:
            return
        if client.connection is not None and message.state != "ALIVE":
            client.connection.drain()  # replies that it got out before it ended
        commands = client.updated(message)
        for call in [call for call in client.queue if not call.unresolved]:
            self._core.calls.may_go_again(call)
        self._run(commands)

    def disconnected(self, connection: Connection) -> None:
        """A process is gone; the control store will tell what that means for its actor."""
        for client in list(self._clients.values()):
            if client.connection is connection:
                self._lost(client, connection)
                if self._core.control.gone:
                    self._run(client.cut_off(_CUT_OFF))  # nobody will tell what became of it

    def _lost(self, client: ActorClient, connection: Connection) -> None:
        refused = connection.refused
        if refused is not None and refused.code == BUSY:
            client.disconnected(begun=False)
            if client.dialling:
                self._run(client.unreachable(connection.close_reason))
            return
        client.disconnected()
        if client.dialling:  # until news come, or it is clear that there are none
            address, reason = client.address, f"the connection to it was lost ({connection.close_reason})"

            def look() -> None:
                if client.is_dialling(address):
                    self._dial(client, address, reason)

            self._core.reactor.call_later(CERTIFICATE_DUE, look)

    def replied(self, call: TaskRecord) -> None:
        """A call is through."""
        assert call.actor is not None
        client = call.actor
        client.inflight.pop(call.seq, None)
        if not client.inflight and not client.queue:
            client.keep = None  # as _let_go

    def watch_again(self) -> None:
        """The control store was started anew: it is to tell the same actors' states."""
        for client in self._clients.values():
            if client.watched and client.state != "DEAD":
                self._core.control.send(control.WatchActor(client.id))

    def cut_off(self, reason: str = _CUT_OFF) -> None:
        """The control store is gone, or cannot be reached: calls that wait for its news end."""
        for client in list(self._clients.values()):
            client.watched = False
            self._run(client.cut_off(reason))

    def fail_all(self, reason: str) -> None:
        """The session is gone: every call ends."""
        for client in self._clients.values():
            client.cause = reason
            calls = [*client.inflight.values(), *client.queue]
            client.inflight.clear()
            client.queue.clear()
            client.connection = None
            if calls:
                self._fail(Fail(client, calls, True))
