"""User exceptions between processes: their own type kept, their traceback as text."""

from __future__ import annotations

import os
import pickle
from typing import Any

from skate._base.errors import RayTaskError, UnserializableException, UserCodeException
from skate._serialize.values import dump_code


def dump_task_error(
    error: BaseException, function_name: str, actor_repr: str | None = None, actor_id: str | None = None
) -> tuple[bytes, list[Any]]:
    """Return what ``get`` shall raise for a task that raised ``error``, and the refs inside.

    An exception that does not survive the trip is replaced by a UserCodeException that says so.
    """
    if isinstance(error, RayTaskError):
        # A task that got another task's error and let it through: the first one is the story.
        cause: BaseException = error.cause
        text = f"{error.traceback_str.rstrip()}\n\nwhich went through:\n{_user_traceback(error, short=True)}"
    else:
        cause, text = error, _user_traceback(error)
    title = f"skate::{function_name}"
    wrapped = RayTaskError(function_name, text, cause, title, os.getpid(), None, actor_repr, actor_id)
    try:
        dumped = dump_code(wrapped)
        pickle.loads(dumped[0])
        return dumped
    except Exception as problem:
        stand_in = UserCodeException(
            f"{type(cause).__module__}.{type(cause).__qualname__}: {_safe_str(cause)} (this is not the "
            f"exception itself: it cannot be pickled and unpickled: {type(problem).__name__}: {problem})"
        )
        wrapped.cause = stand_in
        return dump_code(wrapped)


def dump_error(error: BaseException) -> bytes:
    """Return an exception of the runtime's own as bytes."""
    return dump_code(error)[0]


def load_error(data: bytes) -> BaseException:
    """Return the exception to raise."""
    try:
        error: Any = pickle.loads(data)
    except Exception:
        import traceback

        return UnserializableException(traceback.format_exc())
    if isinstance(error, RayTaskError):
        return error.as_instanceof_cause()
    assert isinstance(error, BaseException)
    return error


def _safe_str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its str() failed>"


def _user_traceback(error: BaseException, *, short: bool = False) -> str:
    """Format the traceback without the runtime's own frames around the user's."""
    import traceback

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(here):
        tb = tb.tb_next
    if short:
        return "".join(traceback.format_tb(tb)) or "  (no frames)\n"
    return "".join(traceback.format_exception(type(error), error, tb))
