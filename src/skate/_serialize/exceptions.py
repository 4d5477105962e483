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
    native_type,
    slots_of,
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

    An exception whose constructor cannot be called with its ``args`` is made again without it: what an
    exception holds is its ``args`` and its attributes. One that does not survive the trip even so is
    replaced by a UserCodeException that says so.
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
        return _checked(wrapped)
    except Exception as failed:
        problem = failed
    if type(cause).__reduce__ is native_type(type(cause)).__reduce__:
        try:
            wrapped.cause = _Bare(cause)
            return _checked(wrapped)
        except Exception:
            pass  # the first failure tells more
    wrapped.cause = UserCodeException(
        f"{type(cause).__module__}.{type(cause).__qualname__}: {_safe_str(cause)} (this is not the "
        f"exception itself: it cannot be pickled and unpickled: {type(problem).__name__}: {problem})"
    )
    return dump_code(wrapped)


def _checked(error: RayTaskError) -> tuple[bytes, list[Any]]:
    """Return the error as bytes, and the refs inside.

    Raises:
        Exception: it cannot be pickled, or not be unpickled.
    """
    dumped = dump_code(error)
    pickle.loads(dumped[0])
    return dumped


class _Bare(Exception):
    """Stands for an exception that arrives as itself, made again without its constructor."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error: Any = self.error
        kind, args, *state = error.__reduce__()
        attributes = {name: getattr(error, name) for name in slots_of(kind) if hasattr(error, name)}
        return _make_bare, (kind, args, attributes | (state[0] if state else {}))


def _make_bare(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    native = native_type(kind)
    error: BaseException = native.__new__(kind, *args)
    native.__init__(error, *args)
    for name, value in attributes.items():
        # Not by the type's own __setattr__: that of a frozen dataclass refuses.
        BaseException.__setattr__(error, name, value)
    return error


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
