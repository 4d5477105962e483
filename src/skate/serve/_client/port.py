"""Carries out what the router of one deployment decides. On the client's loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol

from skate import api
from skate.engine import engine
from skate.exceptions import TaskCancelledError
from skate.serve._client import load
from skate.serve._client.call import ONE_RESULT, Call, is_death
from skate.serve._client.choosing import Choosing
from skate.serve._client.deadlines import Deadlines
from skate.serve._client.tickets import Ticket, Tickets
from skate.serve._messages import Table
from skate.serve._observing import requests
from skate.serve._observing.metrics import this as observed
from skate.serve._router import router as routing
from skate.serve._router.draw import is_drawn
from skate.serve._router.forecast import Forecast
from skate.serve._targets import DeploymentId
from skate.serve.context import RequestContext
from skate.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
    RequestTimeoutError,
    WaitTooLongError,
)

#: A router that sent nothing for this time gives back what its next request does not need (seconds).
_REST_S = 0.01


class Host(Protocol):
    """The replica in this process."""

    #: Its id.
    id: str
    #: A class of the user's chooses where requests go.
    has_router: bool

    def report(self, wanted: int, held: int, received: int, answer: Callable[[int, int], object]) -> None:
        """Report to its lender, which calls ``answer(granted, recalled)``, now or later."""

    def arrived(self, call: Call) -> None:
        """Run a request of this process that has a credit."""

    def left(self) -> None:
        """Note that such a request has ended."""


class Port:
    """The requests of this process to one deployment.

    Args:
        name: the deployment.
        router_id: identifies the router among all.
        loop: where everything happens.
        host: the replica in this process, if its own requests wait here; else None.
        submit: sends a request to a deployment, which may be another one.
    """

    def __init__(
        self,
        name: DeploymentId,
        router_id: str,
        loop: asyncio.AbstractEventLoop,
        host: Host | None,
        submit: Callable[[DeploymentId, Call], None],
    ) -> None:
        self.name = name
        self.router_id = router_id
        self._loop = loop
        self._host = host
        self._submit = submit
        self.router = routing.Router(own=host.id if host else "")
        self.router.is_hopeless = self._is_hopeless
        self._actors: dict[str, Any] = {}
        self._calls: dict[Hashable, Call] = {}
        #: Calls of every replica that have not ended.
        self.broadcasts: set[Any] = set()
        #: The latest table; None: none has come.
        self.table: Table | None = None
        #: How long requests wait, and run.
        self.forecast = Forecast()
        self.choosing = Choosing(name, self.router, self.perform, loop)
        self.choosing.service_s = lambda: self.forecast.service_s
        self.choosing.is_custom_expected = host is not None and host.has_router
        self._slots = 0
        self._commands: deque[tuple[routing.Command, BaseException | None]] = deque()
        self._is_performing = False
        #: By these threads send requests without the loop's help.
        self.tickets = Tickets(self, loop)
        self._sent = 0
        self._rest: asyncio.TimerHandle | None = None
        self._deadlines = Deadlines(loop, self._expire)
        reporter = load.Reporter(name, router_id)
        self._meter = load.Meter(loop, lambda: self.router.queued, reporter.queued, sleeps=True)
        self._submitted = observed.metrics.counter("ray_serve_num_router_requests", name.name, name.app_name)

    # ------------------------------------------------------------------ from above

    def submit(self, call: Call) -> None:
        """Have a request sent as soon as a replica can take it."""
        table = self.table
        if table is not None and table.unavailable:
            requests.count_shed(self.name, "unavailable")
            call.finish(None, DeploymentUnavailableError(self.name, table.unavailable))
            return
        if table is not None and table.moved:
            self._submit(DeploymentId(table.moved, self.name.app_name), call)
            return
        commands = self.tickets.collect()
        refusal = self.refusal(call.context)
        if refusal is not None:
            self.perform(commands)
            call.finish(None, refusal)
            return
        self._calls[call.key] = call
        call.port = self
        call.since = self._loop.time()
        self._submitted.value += 1
        self.perform(commands + self.choosing.submitted(call))
        if call.key in self._calls and self.router.at(call.key) is None:
            self._measure()
            self.forecast.queued(self.router.queued - 1, self._loop.time())
            self._deadlines.add(call.context.deadline)

    def refusal(self, context: RequestContext) -> WaitTooLongError | None:
        """Return why a request cannot be answered before its deadline, if that is so; it need not be
        submitted."""
        if not context.deadline or self.router.credits:
            return None
        queued, now = self.router.queued, self._loop.time()
        remaining = context.deadline - now
        wait = self.forecast.too_long_s(queued, self._slots, remaining, now)
        if wait is None:
            return None
        requests.count_shed(self.name, "deadline")
        status = self.table.status_code if self.table is not None else 503
        return WaitTooLongError(context.request_id, self.name, queued, wait, remaining, status)

    def canary_for(self, call: Call) -> str | None:
        """Return the deployment that a request goes to instead, or None."""
        canary = self.table.canary if self.table is not None else None
        return canary[0] if canary is not None and is_drawn(call.context.request_id, canary[1]) else None

    def cancel(self, call: Call) -> None:
        """Cancel a request, wherever it is."""
        call.is_cancelled = True
        if call.finished:
            return
        if self.router.withdrawn(call.key):
            self._calls.pop(call.key, None)
            requests.count_dropped(self.name, call.context, "queued")
            call.finish(None, RequestCancelledError(call.context.request_id))
        elif call.ref is not None:
            api.cancel(call.ref)

    def table_changed(self, table: Table) -> asyncio.Future[None] | None:
        """The controller has another table. Return what ends when no request can go to replicas that are no
        longer in it; None: none can."""
        is_first = self.table is None
        self.table = table
        if is_first and table.canary is not None and self._host is None:
            for key in [key for key, call in self._calls.items() if self.canary_for(call)]:
                self.router.withdrawn(key)
                self._submit(self.name, self._calls.pop(key))
        self.router.max_queued = table.max_queued
        self.router.avoided = table.blocked
        self._slots = sum(slots for slots, _ in table.replicas.values())
        for name, (_, actor) in table.replicas.items():
            self._actors.setdefault(name, actor)
        replicas = {name: slots for name, (slots, _) in table.replicas.items()}
        self.perform(self.tickets.collect() + self.router.table_changed(replicas))
        if is_first:
            self.perform(self.router.bounded())
        self.choosing.table_changed(table, list(self._calls.values()))
        self._meter.follow(table.metrics_interval_s)
        if self.router.queued:
            self._measure()
        self._actors = {
            name: actor
            for name, actor in self._actors.items()
            if name in table.replicas or self.router.knows(name)
        }
        if table.unavailable or table.moved:
            for key in [key for key in self._calls if self.router.withdrawn(key)]:
                self.submit(self._calls.pop(key))
        for broadcast in list(self.broadcasts):
            broadcast.table_changed()
        return self.tickets.replicas_changed()

    def replica_gone(self, replica: str, reason: BaseException | None) -> None:
        """A replica has ended."""
        self._actors.pop(replica, None)
        self.perform(self.tickets.collect() + self.router.replica_gone(replica), reason)

    def at(self, call: Call) -> str | None:
        """Return the replica that a request was sent to; None: it waits, or has ended. Any thread."""
        ticket = call.ticket
        return ticket.replica if ticket is not None else self.router.at(call.key)

    def actor_of(self, call: Call) -> Any:
        """Return the actor of the replica that a request was sent to; None: it waits, or has ended."""
        return self._actors.get(self.router.at(call.key) or "")

    @property
    def ongoing(self) -> int:
        """How many requests were sent and have not ended. Any thread."""
        return self.router.ongoing - self.tickets.idle

    def calls(self) -> list[Call]:
        """Return the requests that wait here or were sent and have not ended. Any thread."""
        return [*self._calls.values(), *self.tickets.calls()]

    def close(self) -> None:
        """Fail what is left: the session has ended."""
        if self._rest is not None:
            self._rest.cancel()
        self._deadlines.close()
        self._meter.close()
        self.choosing.close()
        self._commands.clear()
        calls, self._calls = list(self._calls.values()), {}
        error = DeploymentUnavailableError(self.name, "serve was shut down")
        for call in calls:
            call.finish(None, error)
        self.tickets.close(error)
        for broadcast in list(self.broadcasts):
            broadcast.fail(error)

    # ------------------------------------------------------------------ commands

    @property
    def is_plain(self) -> bool:
        """Whether any replica may get any request that has no session and no model."""
        table = self.table
        return (
            table is not None
            and not (table.unavailable or table.moved or table.canary)
            and not self.choosing.is_custom
        )

    def method(self, replica: str) -> Callable[..., Any]:
        """Return the method of a replica that takes calls."""
        found: Callable[..., Any] = self._actors[replica].call.remote
        return found

    def count(self, requests: int) -> None:
        """Count requests that threads have sent themselves."""
        self._sent += requests
        self._submitted.value += requests

    def died(self, call: Call, replica: str, error: BaseException) -> None:
        """Deal with a request that a thread has sent itself, to a replica that is gone."""
        self.replica_gone(replica, error)
        self._lost(call, replica, error)

    def perform(self, commands: list[routing.Command], reason: BaseException | None = None) -> None:
        """Carry out commands in the order in which they were decided: one may lead to others."""
        self._commands.extend((command, reason) for command in commands)
        if self._is_performing:
            return
        self._is_performing = True
        try:
            while self._commands:
                self._carry_out(*self._commands.popleft())
        except RuntimeError:
            if engine() is not None:
                raise
            return  # the session is being shut down: nobody waits for what is left
        finally:
            self._is_performing = False
        if self.tickets.is_wanted:
            self.tickets.renew()
        if self._rest is None and self.router.is_greedy:
            self._rest = self._loop.call_later(_REST_S, self._relax, self._sent)

    def _carry_out(self, command: routing.Command, reason: BaseException | None) -> None:
        if isinstance(command, routing.Send):
            self._send(self._calls[command.key], command.replica)
        elif isinstance(command, routing.Report):
            self._report(command)
        elif isinstance(command, routing.Refuse):
            self._refuse(self._calls.pop(command.key), command.queued)
        elif isinstance(command, routing.Expire):
            call = self._calls.pop(command.key)
            requests.count_dropped(self.name, call.context, "queued", is_late=True)
            call.finish(None, RequestTimeoutError(call.context.request_id))
        elif isinstance(command.key, Ticket):
            self.tickets.lost(command.key)
        else:
            self._lost(self._calls.pop(command.key), command.replica, reason)

    def _send(self, call: Call, replica: str) -> None:
        now = self._loop.time()
        if call.is_cancelled:
            del self._calls[call.key]
            requests.count_dropped(self.name, call.context, "queued")
            call.finish(None, RequestCancelledError(call.context.request_id))
            self.perform(self.router.unsent(call.key))
            return
        self._sent += 1
        call.sent_at = now
        self.forecast.sent(self.router.queued, self._slots, now)
        if self._host is not None and replica == self._host.id:
            self.choosing.sent(call, replica)
            self._host.arrived(call)
            return
        context = call.context
        remaining = context.deadline - now if context.deadline else 0.0
        meta = (self.router_id, context.request_id, call.method, context.model_id, remaining, context.trace)
        try:
            method = getattr(self._actors[replica], call.entry)
            ref = call.run(method.remote, meta, *call.args, **call.kwargs)
        except Exception as error:  # its arguments cannot be pickled, or the session has ended
            self._over(call)
            call.finish(None, error)
            return
        if call.entry in ONE_RESULT:
            call.sent(ref)
            self.choosing.sent(call, replica)
            ref._call_back(partial(self._done, call, replica))
        else:
            call.sent(ref)
            self.choosing.sent(call, replica)
            ref.completed()._call_back(partial(self._stream_done, call, replica))

    def _is_hopeless(self, deadline: float, others: int) -> bool:
        return self.forecast.is_hopeless(others, deadline - self._loop.time())

    def _done(self, call: Call, replica: str, value: Any, error: BaseException | None) -> None:
        if error is None:
            self._calls.pop(call.key, None)
            self.forecast.served(self._loop.time() - call.sent_at)
            self.choosing.ended(call)
            call.finish(value, None)
            self.perform(self.router.ended(call.key, True))
        elif is_death(error):
            self.replica_gone(replica, error)
        else:
            # The replica gives the credit back, however the call ends: it does not know whether its result
            # can be sent, or was cancelled on the way.
            self._over(call, keeps=True)
            if call.is_cancelled or isinstance(error, TaskCancelledError):
                error = RequestCancelledError(call.context.request_id)
            call.finish(None, error)

    def _stream_done(self, call: Call, replica: str, _: Any, error: BaseException | None) -> None:
        """All items are there, or an error is the last of them: the consumer finds it in its place."""
        if is_death(error):
            self.replica_gone(replica, error)
        self._over(call)
        call.finish(None, error)

    def finished_here(self, call: Call) -> None:
        """A request that ran in this process's own replica has ended."""
        assert self._host is not None
        self._host.left()
        self._over(call)

    def _over(self, call: Call, keeps: bool = False) -> None:
        self._calls.pop(call.key, None)
        self.choosing.ended(call)
        if call.entry != "websocket":  # how long that was open says nothing of others
            self.forecast.served(self._loop.time() - call.sent_at)
        self.perform(self.router.ended(call.key, keeps))

    def _lost(self, call: Call, replica: str, reason: BaseException | None) -> None:
        """Deal with a request that was at a replica that is gone: it may have run in part, and goes to
        another only if that does no harm."""
        self.choosing.ended(call)
        if call.is_cancelled:
            call.finish(None, RequestCancelledError(call.context.request_id))
        elif call.entry in ONE_RESULT and not call.is_repeated and self.is_idempotent:
            call.is_repeated = True
            self._calls[call.key] = call
            self.perform(self.router.resubmitted(call.key, call.context.deadline))
            self._deadlines.add(call.context.deadline)
        else:
            call.finish(None, ReplicaUnavailableError(replica, str(reason or "")))

    @property
    def is_idempotent(self) -> bool:
        """Whether the deployment says that a request may run twice."""
        return self.table is not None and self.table.idempotent

    def _refuse(self, call: Call, queued: int) -> None:
        table = self.table
        assert table is not None
        requests.count_shed(self.name, "queue_full")
        after = table.retry_after_s
        if after is None:
            after = self.forecast.wait_s(queued, self._slots, self._loop.time())
        call.finish(None, BackPressureError(queued, table.max_queued, table.status_code, after))

    def _report(self, command: routing.Report) -> None:
        replica, number = command.replica, command.number
        if self._host is not None and replica == self._host.id:
            self._host.report(
                command.wanted,
                command.held,
                command.received,
                lambda granted, recalled: self._loop.call_soon(
                    self._answered_here, replica, number, granted, recalled
                ),
            )
            return
        actor = self._actors.get(replica)
        if actor is None:
            return
        # As a part of no request: it would be cancelled with that.
        ref = contextvars.Context().run(
            actor.credits.remote, self.router_id, command.wanted, command.held, command.received
        )
        ref._call_back(partial(self._answered, replica, number))

    def _answered(
        self, replica: str, number: int, answer: tuple[int, int] | None, error: BaseException | None
    ) -> None:
        if answer is None:
            self.replica_gone(replica, error)
            return
        granted, recalled = answer
        self.perform(self.tickets.collect() + self.router.answered(replica, number, granted, recalled))

    def _answered_here(self, replica: str, number: int, granted: int, recalled: int) -> None:
        self.perform(self.router.answered(replica, number, granted, recalled))

    # ------------------------------------------------------------------ time

    def _measure(self) -> None:
        """Requests wait: the controller should know, and at once if nothing serves them."""
        if self.router.replicas():
            self._meter.wake()
        else:
            self._meter.report_now()

    def _relax(self, sent: int) -> None:
        self._rest = None
        self.perform(self.tickets.collect() + self.router.relaxed(is_resting=sent == self._sent))

    def _expire(self) -> float:
        self.perform(self.router.expired(self._loop.time()))
        return self.router.next_deadline
