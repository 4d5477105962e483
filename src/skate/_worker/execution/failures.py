"""Makes the reply to a call that raised, in workers and in in-process mode.

The exception is the user's: it is handled through ``_base.user_errors`` alone, and if that fails, the caller
gets an error all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate._base import errors
from skate._base.user_errors import full_name, is_a, set_traceback, summary_of
from skate._serialize.exceptions import dump_error
from skate._wire import worker as wire
from skate._worker.execution.invocation import Invocation, Result, Stopped, Yielded, matches

#: Returns an exception as bytes, and the refs inside: ``dump_task_error``.
Dump = Callable[[BaseException, str, "str | None", "str | None"], "tuple[bytes, list[Any]]"]


def taken_apart(error: BaseException) -> tuple[BaseException, Yielded | None]:
    """Return the exception of user code, and the items yielded before, if its number of returns is fixed."""
    if type(error) is Stopped:
        return error.error, error.before
    return error, None


def reply_of(
    invocation: Invocation,
    dump: Dump,
    owner: bytes,
    call: wire.Call,
    error: BaseException,
    name: str,
    actor: tuple[str, str] | None = None,
    before: Yielded | None = None,
) -> Result:
    """Return the reply that says that a call raised.

    Args:
        invocation: of the process.
        dump: makes bytes of the exception.
        owner: the caller.
        call: the call that raised.
        error: its exception.
        name: the name that users know it by.
        actor: its repr and its id, if it is a method.
        before: the items yielded before, if its number of returns is fixed.

    Raises:
        MemoryError: there is no memory even for the text.
    """
    try:
        invocation.discard_results(owner, call, error)
        data, refs = dump(error, name, *(actor or (None, None)))
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
