"""Turns what a call raised into what its caller gets, in workers and in in-process mode.

The exception is the user's: it is handled through ``_base.user_errors`` alone, and if that fails, the caller
gets an error all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from skate._base import errors, ids
from skate._base.hooks import unset
from skate._base.user_errors import full_name, is_a, set_traceback, summary_of
from skate._serialize.exceptions import dump_error
from skate._wire import worker as wire
from skate._worker.execution.exits import Exit
from skate._worker.execution.invocation import (
    ArgumentLost,
    Invocation,
    Result,
    Stopped,
    Yielded,
    matches,
)
from skate._worker.process.cancelled import cancelled_error

#: Returns an exception as bytes, and the refs inside: ``dump_task_error``.
Dump = Callable[[BaseException, str, "str | None", "str | None"], "tuple[bytes, list[Any]]"]


class FailedActor(Protocol):
    """The actor whose method raised: ``actor_host.ActorInstance``."""

    repr: str
    actor_id: bytes

    def end_by(self, error: BaseException, name: str) -> None:
        """End the actor, as this exception of its method or constructor of that name asks."""


class Failures:
    """Makes the replies to calls that raised.

    Args:
        invocation: of the process.
        dump: makes bytes of an exception.
        where: the place in which calls run, in words that follow "while it ran in".
    """

    def __init__(self, invocation: Invocation, dump: Dump, where: str) -> None:
        self._invocation = invocation
        self._dump = dump
        self._where = where
        #: Called with the exception of a call, before the reply: see ``debugging.breakpoints``.
        self.on_raised: Callable[[BaseException], None] = unset
        #: Called with why a task ends the process that runs it.
        self.on_task_exit: Callable[[str], None] = unset

    def reply_to(
        self, owner: bytes, call: wire.Call, error: BaseException, name: str, actor: FailedActor | None
    ) -> Result | None:
        """Return the reply to a call that raised; None if the end of its actor is the reply.

        Args:
            owner: the caller.
            call: the call.
            error: its exception.
            name: the name that users know it by.
            actor: the actor, if it is a method.
        """
        error, before = taken_apart(error)
        if type(error) is ArgumentLost:
            return wire.LOST, error.what, None, None, None
        described = (actor.repr, actor.actor_id.hex()) if actor is not None else None
        if (owner, call.seq) in self._invocation.cancelled:
            if before is not None:
                self._invocation.forget(owner, call, before)
            task_id, when = ids.task_id(owner, call.seq).hex(), f" while it ran in {self._where}"
            return wire.ERROR, cancelled_error(error, name, task_id, when, described), None, None, None
        if is_a(error, SystemExit):
            if actor is not None:
                actor.end_by(error, name)
                return None
            reason, result = Exit(error).of_task(name)
            self.on_task_exit(reason)
            return result
        self.on_raised(error)
        return self._reply(owner, call, error, name, described, before)

    def _reply(
        self,
        owner: bytes,
        call: wire.Call,
        error: BaseException,
        name: str,
        actor: tuple[str, str] | None,
        before: Yielded | None,
    ) -> Result:
        """Return the reply that says that a call raised.

        Raises:
            MemoryError: there is no memory even for the text.
        """
        invocation = self._invocation
        try:
            invocation.discard_results(owner, call, error)
            data, refs = self._dump(error, name, *(actor or (None, None)))
            set_traceback(error, None)  # its frames hold the arguments
            retriable = call.retry is not None and matches(call.retry, error)
            if before is not None and is_a(error, MemoryError):
                before = None  # it was discarded with the rest
            return invocation.failure(owner, call, data, refs, retriable=retriable, before=before)
        except MemoryError:
            raise
        except BaseException as problem:
            set_traceback(error, None)
            failed = errors.RaySystemError(
                f"{name} raised {full_name(type(error))}, and reporting that failed: {summary_of(problem)}"
            )
            return wire.ERROR, dump_error(failed), None, None, None


def taken_apart(error: BaseException) -> tuple[BaseException, Yielded | None]:
    """Return the exception of user code, and the items yielded before, if its number of returns is fixed."""
    if type(error) is Stopped:
        return error.error, error.before
    return error, None


def withdrawn(owner: bytes, seq: int, name: str) -> bytes:
    """Return the error of a call that was cancelled before it began."""
    task_id = ids.task_id(owner, seq).hex()
    return dump_error(errors.TaskCancelledError(task_id, f"{name} was cancelled before it began"))
