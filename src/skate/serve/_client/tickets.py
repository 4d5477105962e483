"""Credits that any thread of this process may use: its request goes to a replica, and the result comes back,
without a decision of the router, and without a switch to the client's loop and back.

::

    the loop                                   any thread
    Router.lend ---- ticket ----> [free] ----> send ----> ref ----> get, or await
        ^                           | ^                                | the result
        '--------- collect ---------' '----------- give back ----------'

The router belongs to the loop alone: for it a ticket is a request that was sent, whichever requests use it.
Tickets are free only while no request waits in the router, no lender wants credits back, and any replica will
do: else the loop takes them back, and requests of threads go to the loop.

If nobody waits for a result, its ticket would stay away: the loop looks each ``_TICK_S`` while requests are
under way, and waits itself for the results of those that were sent longer ago.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol

from skate import api
from skate.exceptions import GetTimeoutError, RayTaskError, TaskCancelledError
from skate.serve._client.call import Call, is_death
from skate.serve._router import router as routing
from skate.serve._router.forecast import Forecast
from skate.serve.exceptions import DeploymentUnavailableError, RequestCancelledError

#: The loop looks after the tickets as often, while they are used (seconds).
_TICK_S = 0.01
#: So many tickets are out at a time, at most: a bound of the time to take them back.
_MOST = 256


class Stock:
    """The tickets of one replica."""

    __slots__ = ("replica", "send", "free", "count")

    def __init__(self, replica: str, send: Callable[..., Any]) -> None:
        self.replica = replica
        #: The method of the replica's actor.
        self.send = send
        self.free: deque[Ticket] = deque()
        #: All of them, free or not.
        self.count = 0


class Ticket:
    """A credit that one thread at a time may use."""

    __slots__ = ("stock", "call", "is_valid", "is_sent", "times")

    def __init__(self) -> None:
        #: Set when it is given out.
        self.stock: Stock
        #: The request that uses it.
        self.call: Call | None = None
        #: Its replica may get requests. The loop ends that.
        self.is_valid = True
        #: The request is on its way.
        self.is_sent = False
        #: How long requests took, since the loop looked last (seconds).
        self.times: list[float] = []

    @property
    def replica(self) -> str:
        """The replica that its request goes to."""
        return self.stock.replica


class Owner(Protocol):
    """The port. All on the loop, but for the names."""

    router_id: str
    router: routing.Router
    forecast: Forecast

    @property
    def is_plain(self) -> bool:
        """Whether any replica may get any request."""

    def perform(self, commands: list[routing.Command]) -> None:
        """Carry out what the router decides."""

    def method(self, replica: str) -> Callable[..., Any]:
        """Return the method of a replica that takes requests."""

    def count(self, requests: int) -> None:
        """Count requests that were sent."""

    def died(self, call: Call, replica: str, error: BaseException) -> None:
        """Deal with a request whose replica is gone."""


class Tickets:
    """The tickets of one port.

    Args:
        owner: the port.
        loop: of the port.
    """

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        #: By the replicas' names. Threads read it: it is replaced as a whole.
        self._stocks: tuple[Stock, ...] = ()
        #: All that are out, free or not.
        self._issued: set[Ticket] = set()
        #: Threads may take tickets.
        self._is_open = False
        #: A thread has asked for one.
        self.is_wanted = False
        #: How often a thread has found none, since the loop looked last; and how many tickets may be out.
        self._missed = self._most = 0
        self._is_ticking = False
        self._timer: asyncio.TimerHandle | None = None
        #: Requests to replicas that are to get none, which threads are about to send.
        self._late: list[Ticket] = []
        self._all_sent: asyncio.Future[None] | None = None

    # ------------------------------------------------------------------ any thread

    def send(self, call: Call) -> bool:
        """Send a request that any replica may get, if a ticket is free."""
        ticket = self._take() if self._is_open else None
        if ticket is None:
            self.is_wanted = True
            self._missed += 1
            return False
        context, now = call.context, monotonic()
        remaining = context.deadline - now if context.deadline else 0.0
        if not ticket.is_valid or (context.deadline and remaining <= 0):
            self._give_back(ticket)
            return False
        call.port, call.ticket = self._owner, ticket
        call.since = call.sent_at = now
        ticket.call = call
        router = self._owner.router_id
        meta = (router, context.request_id, call.method, context.model_id, remaining, context.trace)
        try:
            call.ref = ticket.stock.send(meta, *call.args, **call.kwargs)
        except BaseException as error:
            call.ticket = None
            if not isinstance(error, Exception):
                ticket.times.append(0.0)  # it may have been sent, and its credit may come
                self._give_back(ticket)
                raise
            self._give_back(ticket)
            call.finish(None, error)  # its arguments cannot be pickled, or the session has ended
            return True
        ticket.is_sent = True
        if not ticket.is_valid:
            self._tell(self._look)
        if call.is_cancelled:
            api.cancel(call.ref)  # the loop did not find its ref
        if not self._is_ticking:
            self._is_ticking = True
            self._tell(self._tick_later)
        return True

    def _take(self) -> Ticket | None:
        """Take a ticket of the replica of which the fewest are in use, as the router chooses."""
        best, least = None, 0
        for stock in self._stocks:
            if stock.free:
                used = stock.count - len(stock.free)
                if best is None or used < least:
                    best, least = stock, used
        try:
            return best.free.pop() if best is not None else None
        except IndexError:  # another thread was faster
            return None

    def wait(self, call: Call, timeout_s: float | None) -> None:
        """Wait for the result of a request with a ticket. If it has none afterwards, the loop gives it one.

        Raises:
            GetTimeoutError: the time is up.
        """
        try:
            value = api.get(call.ref, timeout=timeout_s)
        except GetTimeoutError as error:
            if not isinstance(error, RayTaskError):
                raise
            self.ended(call, None, error)
        except Exception as error:
            self.ended(call, None, error)
        except BaseException as error:
            if not isinstance(error, RayTaskError):
                raise
            # The user's exception would end this thread: the loop finds another one instead.
        else:
            self.ended(call, value, None)

    async def wait_on_loop(self, call: Call) -> None:
        """The same, on whatever loop."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ended(value: Any, error: BaseException | None) -> None:
            self.ended(call, value, error)
            if not future.done():
                future.set_result(None)

        call.ref._call_back(ended)
        await future

    def ended(self, call: Call, value: Any, error: BaseException | None) -> None:
        """Give a request with a ticket its outcome, unless another thread has."""
        if error is not None:
            if is_death(error):
                self._tell(self._died, call, error)
                return
            if call.is_cancelled or isinstance(error, TaskCancelledError):
                error = RequestCancelledError(call.context.request_id)
        ticket, waiting = call.ticket, call.settle(value, error)
        if waiting is None or ticket is None:
            return
        call.ticket = None
        # The replica gives the credit back, however the request ends.
        ticket.times.append(monotonic() - call.sent_at)
        self._give_back(ticket)
        if waiting:
            self._tell(_run, waiting, call)

    def _give_back(self, ticket: Ticket) -> None:
        ticket.is_sent, ticket.call = False, None
        ticket.stock.free.append(ticket)
        if not (self._is_open and ticket.is_valid):
            self._tell(self._returned)

    def _tell(self, function: Callable[..., object], *args: Any) -> None:
        if asyncio._get_running_loop() is self._loop:
            function(*args)
            return
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # the session has ended

    # ------------------------------------------------------------------ the loop

    def calls(self) -> list[Call]:
        """Return the requests that were sent and have not ended."""
        return [ticket.call for ticket in self._issued.copy() if ticket.call is not None]

    @property
    def idle(self) -> int:
        """How many tickets are out that no request uses. Any thread."""
        return sum([ticket.call is None for ticket in self._issued.copy()])

    def renew(self) -> None:
        """Give tickets out, or take them back, after the router has decided something."""
        router = self._owner.router
        if not (self._owner.is_plain and router.is_at_ease):
            if self._is_open:
                self._is_open = False
                self._owner.perform(self.collect())
            return
        missed, self._missed = self._missed, 0
        self._most = min(self._most + missed, _MOST)
        self._is_open = True
        while len(self._issued) < self._most:
            ticket = Ticket()
            name = router.lend(ticket)
            if name is None:
                break
            ticket.stock = self._stock(name)
            ticket.stock.count += 1
            self._issued.add(ticket)
            ticket.stock.free.append(ticket)

    def _stock(self, replica: str) -> Stock:
        for stock in self._stocks:
            if stock.replica == replica:
                return stock
        stock = Stock(replica, self._owner.method(replica))
        self._stocks = tuple(sorted((*self._stocks, stock), key=lambda one: one.replica))
        return stock

    def collect(self) -> list[routing.Command]:
        """Take the free tickets back: the router is about to decide something, or to report. Return what it
        decides of that."""
        if not self._issued:
            return []
        self._note_times()
        back = []
        for stock in self._stocks:
            while stock.free:
                try:
                    ticket = stock.free.pop()
                except IndexError:  # a thread was faster
                    break
                self._note(ticket)
                self._forget(ticket)
                back.append(ticket)
        return self._owner.router.repaid(back) if back else []

    def replicas_changed(self) -> asyncio.Future[None] | None:
        """The router has another table. Return what ends when no thread is about to send a request to a
        replica that is to get none; None: none is."""
        living = self._owner.router.replicas()
        self._stocks = tuple(stock for stock in self._stocks if stock.count or stock.replica in living)
        for ticket in self._issued:
            if ticket.replica not in living:
                ticket.is_valid = False
        self._owner.perform(self.collect())
        self._late = [ticket for ticket in self._issued if not ticket.is_valid and not ticket.is_sent]
        if not self._late:
            return None
        self._all_sent = self._loop.create_future()
        return self._all_sent

    def lost(self, ticket: Ticket) -> None:
        """The replica of a ticket is gone."""
        ticket.is_valid = False
        self._forget(ticket)
        if ticket.call is not None:
            self.watch(ticket.call)

    def _forget(self, ticket: Ticket) -> None:
        if ticket in self._issued:
            self._issued.discard(ticket)
            ticket.stock.count -= 1

    def watch(self, call: Call) -> None:
        """Wait on the loop for the result of a request."""
        if call.ref is not None and not call.is_watched:
            call.is_watched = True
            call.ref._call_back(partial(self.ended, call))

    def close(self, error: DeploymentUnavailableError) -> None:
        """Fail what is left."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        for call in self.calls():
            call.finish(None, error)

    def _note(self, ticket: Ticket) -> int:
        count = len(ticket.times)
        if count:
            for seconds in ticket.times[:count]:
                self._owner.forecast.served(seconds)
            del ticket.times[:count]
            self._owner.router.used(ticket, count)
            self._owner.count(count)
        return count

    def _note_times(self) -> int:
        return sum([self._note(ticket) for ticket in self._issued])

    def _died(self, call: Call, error: BaseException) -> None:
        ticket = call.ticket
        if call.finished or ticket is None:
            return
        call.ticket = ticket.call = None
        self.lost(ticket)
        self._owner.died(call, ticket.replica, error)

    def _returned(self) -> None:
        self._owner.perform(self.collect())
        self._look()

    def _look(self) -> None:
        """A request that was late was sent, or its ticket came back."""
        self._late = [one for one in self._late if not one.is_sent and one in self._issued]
        if not self._late and self._all_sent is not None:
            if not self._all_sent.done():
                self._all_sent.set_result(None)
            self._all_sent = None

    def _tick_later(self) -> None:
        self._timer = self._loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        is_used = self._note_times() > 0
        until = monotonic() - _TICK_S
        for call in self.calls():
            if call.is_watched:
                continue
            is_used = True
            if call.sent_at <= until:
                self.watch(call)
        if not is_used:
            # A thread that saw it tick just now has a ticket in use.
            self._is_ticking = False
            is_used = self._is_ticking = any(not call.is_watched for call in self.calls())
        if is_used:
            self._tick_later()
        else:
            self._most = 1
            self._owner.perform(self.collect())


def _run(waiting: list[Callable[[Call], None]], call: Call) -> None:
    for callback in waiting:
        callback(call)
