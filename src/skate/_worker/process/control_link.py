"""This process's connection to the control store, made again after a restart of the control store.

::

    (none) --connect--> JOINED --closed--> dial again --accepted--> JOINED: register, repeat what was not
       ^  first need       |                   |                    answered, watch the same actors
       '-------------------'                   '--refused--> GONE: it is not restarted any more

Every request may be repeated (see ``_wire.control``), so a thread that waits for an answer goes on waiting.
The daemon keeps the listening socket open while there is no control store: a process that dials waits in its
queue.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from skate._base import descriptors, errors
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._base.hooks import unset
from skate._transport.connection import Connection, Handler
from skate._transport.requests import Request, Requests
from skate._transport.streams import Stream
from skate._wire import control
from skate._wire.codec import PROTOCOL
from skate._worker.process.context import ProcessContext

#: A control store that hangs up right after it was dialled is dialled again after this time (seconds).
_REDIAL_DELAY_S = 0.2


class ControlLink:
    """Connects to the control store and sends it requests. Under the lock, unless a method says otherwise.

    Core sets the hooks.
    """

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self.connection: Connection | None = None
        #: Why the control store ended for good; empty: it has not.
        self.gone = ""
        #: Why the last series of attempts to dial it was given up; and attempts under way.
        self.shortage = ""
        self._attempts: Backoff | None = None
        self._requests = Requests(context.reactor, context.locked)
        #: It answered once: this process is known there.
        self._joined = False
        self._dialled = 0.0
        self._entrypoint = ""
        #: Which message of the control store goes where; Core adds those of other parts.
        self.handlers: dict[type, Handler] = {control.Answer: self._answered}
        #: Called when the process has registered with a control store that was restarted.
        self.on_rejoined: Callable[[], None] = unset
        #: Called with an empty text when the control store is gone, else with why it cannot be reached.
        self.on_cut_off: Callable[[str], None] = unset

    # ------------------------------------------------------------------ connecting

    def join(self, sock: Stream, entrypoint: str) -> Request:
        """Register as the driver of a new job; the answer has its id."""
        self._entrypoint = entrypoint
        self._connect(sock)
        return self._ask(lambda request: self._registration(request, b""))

    def _registration(self, request: int, job_id: bytes) -> control.RegisterJob:
        context = self._context
        return control.RegisterJob(
            request,
            context.worker_id,
            job_id,
            context.namespace,
            self._entrypoint,
            PROTOCOL,
            context.job_facts,
        )

    def _connect(self, sock: Stream) -> None:
        self.connection = Connection(self._context.reactor, sock, self.handlers, self._closed)
        self.connection.peer = "the control store"

    def _ensure(self) -> bool:
        """Connect if need be; tell whether there is a control store."""
        if (
            self.connection is None
            and not self.gone
            and self._attempts is None
            and (self._joined or self._context.is_worker)
        ):
            self._dial()
        return self.connection is not None

    def _dial(self) -> None:
        context = self._context
        if self.connection is not None or self.gone or context.reactor.is_stopped:
            return
        self._dialled = monotonic()
        try:
            self._connect(context.reactor.dial(os.path.join(context.session_dir, "control.sock")))
        except OSError as error:
            if descriptors.is_transient(error):
                self._dial_later(error)
            else:
                self._give_up(f"no process answers there ({error.strerror or error})")
            return
        self._attempts = None
        connection = self.connection
        assert connection is not None
        connection.send(self._registration(0, context.job_id))
        for request in self._requests:
            connection.send(request.message)
        self.on_rejoined()
        connection.flush()

    def _dial_later(self, error: OSError) -> None:
        """Dial again later: there is no descriptor, or the queue of a restarting control store is full."""
        if self._attempts is None:
            self._attempts = Backoff(monotonic())
        pause = self._attempts.again(monotonic())
        if pause is not None or not descriptors.is_out_of_descriptors(error):
            self._context.reactor.call_later(pause or _REDIAL_DELAY_S, self._dial)
            return
        self._attempts = None
        # Waiting threads get an error. Later requests dial again, and so does a timer for posted ones.
        self.shortage = f"this process {descriptors.explain(error)}"
        self._requests.end_waits(forget_posted=False)
        self.on_cut_off(self.shortage)
        if any(self._requests):
            self._context.reactor.call_later(1.0, self._dial)

    def _closed(self, connection: Connection) -> None:
        self.connection = None
        context = self._context
        if context.dead_reason or context.reactor.is_stopped or not (self._joined or context.is_worker):
            self._give_up(connection.close_reason)
        elif monotonic() - self._dialled > _REDIAL_DELAY_S:
            self._dial()
        else:
            context.reactor.call_later(_REDIAL_DELAY_S, self._dial)

    def _give_up(self, why: str) -> None:
        self.gone = why
        self._requests.end_waits()
        self.on_cut_off("")

    # ------------------------------------------------------------------ sending

    def send(self, message: Any) -> bool:
        """Send a message that is sent again at every connect (see ``ActorSubmitter.watch_again``).

        Return False if the control store is gone.
        """
        if self._ensure():
            assert self.connection is not None
            self.connection.send(message)
            self.connection.flush()
        return not self.gone

    def post(self, make: Callable[[int], Any]) -> bool:
        """Send a request without waiting for its answer. Return False if the control store is gone."""
        self._ensure()
        if self.gone:
            return False
        self._ask(make).posted = True
        return not self.gone

    def _ask(self, make: Callable[[int], Any]) -> Request:
        request = self._requests.add(make)
        if self.connection is not None:  # else: when it is there again
            self.connection.send(request.message)
            self.connection.flush()
        return request

    def _answered(self, connection: Connection, message: control.Answer) -> None:
        self._joined = True
        self._requests.answered(message)

    def ask(self, make: Callable[[int], Any]) -> bytes:
        """Send a request, wait for the answer and return its body. Not under the lock.

        Raises:
            LocalRayletDiedError: the session is lost.
            RaySystemError: the control store is gone.
            Exception: the error that the answer names.
        """
        context = self._context
        with context.locked:
            context.check_usable()
            self._ensure()
            request = self._ask(make) if not self.gone else None
        answer: control.Answer | None = None
        if request is not None:
            answer = self._requests.wait(request)
        if answer is None:
            context.check_usable()
            if not self.gone:
                raise errors.RaySystemError(f"the control store cannot be asked: {self.shortage}")
            raise errors.RaySystemError(f"the control store of the session is gone: {self.gone}")
        if answer.error_type == "ValueError":
            raise ValueError(answer.error)
        if answer.error_type:
            kind: type[Exception] = getattr(errors, answer.error_type, RuntimeError)
            raise kind(answer.error)
        return answer.data

    # ------------------------------------------------------------------ end

    def close(self) -> None:
        """Close the connection without a message."""
        if self.connection is not None:
            self.connection.abandon()
