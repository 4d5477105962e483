"""Sends calls to actors, and follows their states as the control store publishes them."""

from __future__ import annotations

from skate._base import errors
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._serialize.exceptions import dump_death, dump_error, is_task_error, load_error
from skate._transport.connection import EAGER_BYTES, Connection
from skate._wire import control
from skate._wire import worker as wire
from skate._wire.handshake import BUSY
from skate._worker.calls.actor_client import ActorClient, Command, Connect, Fail
from skate._worker.calls.cancellation import cancel_error
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.results import Results
from skate._worker.calls.task_submitter import EXIT_REPORT_TIMEOUT_S
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process.context import ProcessContext
from skate._worker.process.control_link import ControlLink
from skate._worker.process.peers import Peers

#: A control store that was restarted publishes a death within its lease (seconds), and some.
_DEATH_NEWS_TIMEOUT_S = 60.0
_CUT_OFF = "the control store of the session ended, so the actor's address is unknown"

#: Errors of actors that never came to life, or lost their place, which callers get as they are.
_SAY_IT_ALL = (
    errors.RuntimeEnvSetupError,
    errors.ActorUnschedulableError,
    errors.ActorPlacementGroupRemoved,
)


class ActorRoute:
    """The route of the calls of one actor: see ``records.Route``."""

    __slots__ = ("_client", "_submitter")

    def __init__(self, client: ActorClient, submitter: ActorSubmitter) -> None:
        self._client = client
        self._submitter = submitter

    def ready(self, task: TaskRecord) -> None:
        """See Route."""
        self._client.ready(task)

    def resubmit(self, task: TaskRecord, may_go: bool) -> None:
        """See Route: a call whose arguments have no values holds up those behind it."""
        # No handle may have been left meanwhile, so that the client was forgotten.
        client = self._submitter.client(self._client.id, self._client.class_name)
        task.route = client.route
        self._submitter.submit(task, client)

    def replied(self, task: TaskRecord, microseconds: int) -> None:
        """See Route."""
        client = self._client
        client.inflight.pop(task.seq, None)
        if not client.inflight and not client.queue:
            client.keep = None  # as ``let_go``

    def argument_failed(self, task: TaskRecord) -> None:
        """See Route: those behind it may go."""
        self.withdraw(task)

    def withdraw(self, task: TaskRecord) -> None:
        """See Route: those behind it may go."""
        self._client.withdraw(task)
        self._client.let_go()


class ActorSubmitter:
    """Sends calls to actors, and follows their addresses. Under the process's lock."""

    def __init__(self, context: ProcessContext, control: ControlLink, peers: Peers, results: Results) -> None:
        self._context = context
        self._control = control
        self._peers = peers
        self._results = results
        self._clients: dict[bytes, ActorClient] = {}

    def client(self, actor_id: bytes, class_name: str) -> ActorClient:
        """Return this process's view of the actor; the same for all its handles here."""
        client = self._clients.get(actor_id)
        if client is None:
            client = ActorClient(actor_id, class_name, self._context.worker_id, self._send)
            client.route = ActorRoute(client, self)
            self._clients[actor_id] = client
        return client

    def forget(self, actor_id: bytes) -> None:
        """Forget an actor of which this process has no handle. Calls in flight keep their client."""
        client = self._clients.get(actor_id)
        if client is not None and not client.queue and not client.inflight:
            del self._clients[actor_id]

    def submit(self, call: TaskRecord, client: ActorClient) -> None:
        """Send or queue a call of a method."""
        call.actor = client
        if not client.watched:
            client.watched = self._control.send(control.WatchActor(client.id))
        commands = client.submit(call)
        if not client.watched:
            commands += client.cut_off(_CUT_OFF)
        if commands:
            self._run(commands)

    def waiting_with(self, argument: ObjectEntry) -> list[TaskRecord]:
        """Return the calls that could leave once their actor is there, and have this argument."""
        return [
            call for client in self._clients.values() for call in client.queue
            if not call.unresolved and call.needs(argument)
        ]  # fmt: skip

    # ------------------------------------------------------------------ effects

    def _send(self, client: ActorClient, call: TaskRecord) -> None:
        connection = client.connection
        assert connection is not None
        call.connection = connection
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
        if len(client.inflight) == 1:
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
        """Connect to the living incarnation. ``reason``: why the last connection ended."""

        def current() -> bool:
            return client.is_dialling(address)

        def connected(connection: Connection) -> None:
            if current():
                commands = client.broken(reason)
                for call in [call for call in client.queue if not call.unresolved]:
                    self._results.can_resend(call)
                client.connected(connection)
                self._run(commands)

        def failed(shortage: str) -> None:
            if not current():
                return
            if shortage:
                self._run(client.unreachable(f"this process {shortage}"))
                return
            # The address refuses connections: the actor died again, and the control store will publish that.
            # If it does not (the socket was removed by hand), calls must not wait for ever.
            tries = attempts or Backoff(monotonic(), _DEATH_NEWS_TIMEOUT_S)
            if tries.again(monotonic()) is None:
                self._run(
                    client.unreachable(
                        f"no process answers at {address}, though the actor's is not known to have ended"
                    )
                )
                return
            self._context.reactor.call_later(
                EXIT_REPORT_TIMEOUT_S,
                lambda: self._dial(client, address, reason, tries) if current() else None,
            )

        self._peers.reach(address, connected, failed)

    def _fail(self, command: Fail) -> None:
        client = command.client
        client.let_go()
        dead = b""
        for call in command.calls:
            if call.unresolved < 0:
                continue  # it depended on a call that failed just now
            if call.cancelled:
                error = cancel_error(self._context, call)
            elif command.unavailable or command.unsent:
                error = self._error(client, call, command.unavailable, command.unsent)
            else:  # the same for all
                error = dead = dead or self._error(client, call, False, "")
            self._results.finish_with_error(call, error)

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
            if isinstance(cause, _SAY_IT_ALL):
                return client.error
            return dump_error(errors.ActorDiedError(f"{who} never came to life: {cause}", client.id.hex()))
        text = f"The actor died unexpectedly before finishing this task: {who} is dead: {client.cause}"
        return dump_error(errors.ActorDiedError(text, client.id.hex()))

    # ------------------------------------------------------------------ news

    def updated(self, connection: Connection, message: control.ActorUpdate) -> None:
        """Apply an actor's state that the control store published."""
        client = self._clients.get(message.actor_id)
        if client is None:
            return
        if client.connection is not None and message.state != "ALIVE":
            client.connection.drain()  # replies that it sent before it ended
        commands = client.updated(message)
        for call in [call for call in client.queue if not call.unresolved]:
            self._results.can_resend(call)
        self._run(commands)

    def disconnected(self, connection: Connection) -> None:
        """Stop sending on a closed connection; the control store will publish what became of the actor."""
        for client in list(self._clients.values()):
            if client.connection is connection:
                self._lost(client, connection)
                if self._control.gone:
                    self._run(client.cut_off(_CUT_OFF))  # nothing will be published

    def _lost(self, client: ActorClient, connection: Connection) -> None:
        refused = connection.refused
        if refused is not None and refused.code == BUSY:
            client.disconnected(begun=False)
            if client.dialling:
                self._run(client.unreachable(connection.close_reason))
            return
        client.disconnected()
        if client.dialling:  # until an update comes, or it is clear that there is none
            address, reason = client.address, f"the connection to it was lost ({connection.close_reason})"

            def look() -> None:
                if client.is_dialling(address):
                    self._dial(client, address, reason)

            self._context.reactor.call_later(EXIT_REPORT_TIMEOUT_S, look)

    def watch_again(self) -> None:
        """Ask a control store that was restarted to publish the same actors' states."""
        for client in self._clients.values():
            if client.watched and client.state != "DEAD":
                self._control.send(control.WatchActor(client.id))

    def cut_off(self, reason: str) -> None:
        """Fail calls that wait for an update: the control store is gone (empty text), or unreachable."""
        reason = reason or _CUT_OFF
        for client in list(self._clients.values()):
            client.watched = False
            self._run(client.cut_off(reason))

    def fail_all(self, reason: str) -> None:
        """Fail every call: the session is lost."""
        for client in self._clients.values():
            client.cause = reason
            calls = [*client.inflight.values(), *client.queue]
            client.inflight.clear()
            client.queue.clear()
            client.connection = None
            if calls:
                self._fail(Fail(client, calls, True))
