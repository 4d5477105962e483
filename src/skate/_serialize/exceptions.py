"""User exceptions between processes: their own type kept, their traceback as text."""

from __future__ import annotations

import importlib
import os
import pickle
from typing import Any

from skate._base.errors import (
    RayTaskError,
    UnserializableException,
    UserCodeException,
)
from skate._serialize.tracebacks import format_error, format_frames
from skate._serialize.values import dump_code

# Its classes go by the names that users import them by: picklers look whether they are there. By name,
# for it is above this module.
importlib.import_module("skate.exceptions")


def dump_task_error(
    error: BaseException, function_name: str, actor_repr: str | None = None, actor_id: str | None = None
) -> tuple[bytes, list[Any]]:
    """Return what ``get`` shall raise for a task that raised ``error``, and the refs inside.

    An exception that does not survive the trip is replaced by a UserCodeException that says so.
    """
    if isinstance(error, RayTaskError):
        # A task that got another task's error and let it through: where it did, and the other's story.
        cause: BaseException = error.cause
        text = f"{format_frames(error.__traceback__)}because {RayTaskError.__str__(error)}"
    else:
        cause, text = error, format_error(error)
    title = f"skate::{function_name}"
    wrapped = RayTaskError(function_name, text, cause, title, os.getpid(), None, actor_repr, actor_id)
    try:
        dumped = dump_code(wrapped)
        pickle.loads(dumped[0])
        return dumped
    except Exception as problem:
        wrapped.cause = UserCodeException(
            f"{type(cause).__module__}.{type(cause).__qualname__}: {_safe_str(cause)} (this is not the "
            f"exception itself: it cannot be pickled and unpickled: {type(problem).__name__}: {problem})"
        )
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
