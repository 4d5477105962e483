"""One request on its way to a replica and back."""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate.exceptions import RayActorError, RayTaskError
from skate.serve.exceptions import RequestCancelledError

if TYPE_CHECKING:
    from skate.serve.context import RequestContext

#: The methods of replicas that return one result, rather than yield items.
ONE_RESULT = ("call", "rpc")

_numbers = itertools.count(1)

#: Held while an outcome is set, or waited for.
_outcomes = threading.Lock()


class Call:
    """One request, from ``remote()`` to its result. Its fields change on the loop of its port, but for those
    of a request that a thread has sent itself: see ``tickets``.

    Args:
        method: of the replica's object.
        args, kwargs: of the call.
        context: what it inherits: request id, model id, deadline.
        entry: the method of the replica that takes it: "call", "stream", "http", "rpc", "rpc_stream", or
            "broadcast" (to all).
    """

    __slots__ = (
        "key", "method", "args", "kwargs", "context", "entry", "parent", "port", "is_cancelled", "ref", "run",
        "finished", "value", "error", "_when_finished", "_when_sent", "begin_here", "is_repeated",
        "since", "sent_at", "ticket", "is_watched",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: RequestContext,
        entry: str = "call",
    ) -> None:
        #: Orders the calls of this process.
        self.key = next(_numbers)
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.context = context
        self.entry = entry
        #: Runs a function as a part of what made this call, whatever happens to send it: the runtime cancels
        #: the calls of a cancelled call.
        self.run = contextvars.copy_context().run
        #: The request that made it, whose cancelling cancels it.
        self.parent: RequestContext | None = None
        #: Its first replica died, and it was sent once more.
        self.is_repeated = False
        #: The port that has it.
        self.port: Any = None
        self.is_cancelled = False
        #: Once it was sent: the ref, or the generator of refs, of the replica's method.
        self.ref: Any = None
        self.finished = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._when_finished: list[Callable[[Call], None]] = []
        self._when_sent: list[Callable[[Call], None]] = []
        #: Of a request that came to a replica itself: called when it may run there.
        self.begin_here: Callable[[], None] | None = None
        #: When its port got it (monotonic clock, seconds).
        self.since = 0.0
        #: On the loop's clock (seconds).
        self.sent_at = 0.0
        #: By which a thread has sent it, and whether the loop waits for its result, too.
        self.ticket: Any = None
        self.is_watched = False

    def cancel(self) -> None:
        """Cancel it, wherever it is. On the loop."""
        if self.port is not None:
            self.port.cancel(self)
        else:
            # It waits for its arguments, or for the loop.
            self.is_cancelled = True
            self.finish(None, RequestCancelledError(self.context.request_id))

    def when_finished(self, callback: Callable[[Call], None]) -> None:
        """Have a function called once the outcome is there: now, or later on the loop."""
        with _outcomes:
            is_finished = self.finished
            if not is_finished:
                self._when_finished.append(callback)
        if is_finished:
            callback(self)
        elif self.ticket is not None:
            self.port.tickets.watch(self)

    def when_sent(self, callback: Callable[[Call], None]) -> None:
        """Have a function called once ``ref`` is there, or the call has ended without."""
        if self.ref is not None or self.finished:
            callback(self)
        else:
            self._when_sent.append(callback)

    def sent(self, ref: Any) -> None:
        """Note that it is at a replica."""
        self.ref = ref
        if self._when_sent:
            waiting, self._when_sent = self._when_sent, []
            for callback in waiting:
                callback(self)

    def finish(self, value: Any, error: BaseException | None) -> None:
        """Set the outcome and call back, once."""
        for callback in self.settle(value, error) or ():
            callback(self)

    def settle(self, value: Any, error: BaseException | None) -> list[Callable[[Call], None]] | None:
        """Set the outcome, and return what is to be called on the loop; None: it was set. Any thread."""
        with _outcomes:
            if self.finished:
                return None
            self.value, self.error = value, error
            self.finished = True
            waiting = [*self._when_sent, *self._when_finished]
        self._when_sent, self._when_finished = [], []
        self.args, self.kwargs = (), {}
        if self.parent is not None and self.parent.children is not None:
            self.parent.children.discard(self)
        return waiting


def cancel_children(context: RequestContext) -> None:
    """Cancel the calls that a request has made and that have not ended."""
    for call in list(context.children or ()):
        call.cancel()


def is_death(error: BaseException | None) -> bool:
    """Tell whether an error says that the replica is gone, rather than that user code raised."""
    return isinstance(error, RayActorError) and not isinstance(error, RayTaskError)
