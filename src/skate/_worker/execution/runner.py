"""Interfaces between the parts that run calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from skate._transport.connection import Connection
from skate._wire import worker as wire
from skate._worker.execution.actor_host import ActorHost
from skate._worker.execution.invocation import Invocation, Result
from skate._worker.execution.lanes import Key
from skate._worker.execution.yielding import Yielding
from skate._worker.process.peers import Peer


class Runner(Protocol):
    """A way to run calls other than one after the other on the main thread."""

    def submit(self, connection: Connection, call: Any) -> None:
        """Take a call that arrived. Under the lock, or before ``serve``."""

    def serve(self, host: ActorHost) -> None:
        """Construct the actor and run its calls on and from the main thread until ``stop``."""

    def cancel(self, connection: Connection, seq: int) -> bool:
        """Cancel a call; tell whether it runs, or is about to. Under the lock."""

    def lanes(self) -> list[dict[str, Any]]:
        """Return the lanes with their running and queued calls: see ``_base.waits``."""

    def about_to_wait(self) -> None:
        """Note that user code is about to block its thread in a wait. Any thread."""

    def loop(self) -> Any:
        """Return the asyncio loop of the main thread; None: there is none."""

    def stop(self) -> None:
        """Make ``serve`` return. Any thread, under the lock."""


class Cancelled(Protocol):
    """The calls that run here and were cancelled: ``interrupts.Interrupts``."""

    cancelled: set[Key]

    def call_ended(self, key: Key) -> None:
        """Forget a call that ended."""

    def answer(self, connection: Connection, call: wire.Call) -> None:
        """Tell the caller that a call was cancelled before it began."""


class Invoker(Protocol):
    """The executor of this process, as its runners see it: ``executor.Executor``."""

    invocation: Invocation
    yielding: Yielding
    host: ActorHost | None
    #: The runner of an actor that is not a serial one.
    runner: Runner | None

    @property
    def interrupts(self) -> Cancelled:
        """The calls that were cancelled."""

    @property
    def running_call(self) -> Key | None:
        """Owner and seq of the call that the main thread runs."""

    def target(self, peer: Peer, call: wire.Call) -> tuple[str, Callable[..., Any]]:
        """Return the name and the code of a call, and make it the current one of this context."""

    def failed(self, error: BaseException, connection: Connection, call: wire.Call) -> Result | None:
        """Return the reply for an exception of user code; None: it ends the actor, and this process."""

    def name_of(self, peer: Peer, call: wire.Call) -> str:
        """Return the name by which users know a call that was sent here."""

    def withdraw(self, connection: Connection, seq: int) -> wire.Call | None:
        """Forget a call that has not begun, and return it. Under the lock."""

    def return_queued_tasks(self) -> None:
        """Return tasks to their owners that are queued behind the one that runs. Under the lock."""

    def leave_by(self, error: BaseException, name: str) -> None:
        """Begin to end the process: a method or the constructor of the actor ended it."""

    def run_handlers(self) -> None:
        """Run the handlers of signals that were put off. Between calls, on the main thread."""

    def wait_until_stopped(self) -> None:
        """Lead the reactor on this thread while others run the calls."""
