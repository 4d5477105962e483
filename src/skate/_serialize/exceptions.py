"""Sends user exceptions between processes: they keep their own type, and their traceback travels as text."""

from __future__ import annotations

import importlib
import os
import pickle
from typing import Any

from skate._base import errors
from skate._base.errors import (
    ActorDiedError,
    RayError,
    RayTaskError,
    UnserializableException,
)
from skate._base.user_errors import attributes_of, is_a, set_cause, traceback_of
from skate._serialize.sealed import Sealed, seal
from skate._serialize.tracebacks import format_error, format_frames
from skate._serialize.values import collecting, dump_code

# Its classes are pickled under the names by which users import them, and picklers check that these exist.
# Imported by name, as the module is above this one.
importlib.import_module("skate.exceptions")


def dump_task_error(
    error: BaseException, function_name: str, actor_repr: str | None = None, actor_id: str | None = None
) -> tuple[bytes, list[Any]]:
    """Return the error that ``get`` raises for a task that raised ``error``, as bytes, and the refs inside.

    This works for any exception, whatever its hooks do: see ``sealed``.
    """
    cause: BaseException = error
    if is_a(error, RayTaskError):
        # A task that let another task's error through: the text says where it did, and has the other task's
        # traceback.
        cause = attributes_of(error).get("cause", error)
        text = f"{format_frames(traceback_of(error))}because {RayTaskError.__str__(error)}"  # type: ignore[arg-type]
    else:
        text = format_error(error)
    outer, collecting.refs = collecting.refs, []
    try:
        sealed = seal(function_name, text, cause, *_process(function_name, actor_repr, actor_id))
        # A ref may be in the whole and in a piece.
        return pickle.dumps(sealed, 5), list({id(ref): ref for ref in collecting.refs or ()}.values())
    finally:
        collecting.refs = outer


def _process(function_name: str, actor_repr: str | None, actor_id: str | None) -> tuple[Any, ...]:
    return f"skate::{function_name}", os.getpid(), None, actor_repr, actor_id


def dump_sealed(
    function_name: str, text: str, cause: RayError, actor_repr: str | None, actor_id: str | None
) -> bytes:
    """Return the error of a call that the runtime ended, as bytes."""
    return pickle.dumps(seal(function_name, text, cause, *_process(function_name, actor_repr, actor_id)), 5)


def dump_error(error: BaseException) -> bytes:
    """Return an exception of the runtime as bytes."""
    return dump_code(error)[0]


def load_error(data: bytes) -> BaseException:
    """Return the exception to raise."""
    error: Any = None
    try:
        error = pickle.loads(data)
        if type(error) is Sealed or type(error) is _SealedDeath:
            error = error.open()
    except BaseException as problem:  # SystemExit too: unpickling is the user's code
        return UnserializableException(format_error(problem))
    if is_a(error, RayTaskError):
        dual: BaseException = error.as_instanceof_cause()
        return dual
    assert is_a(error, BaseException)
    return error  # type: ignore[no-any-return]


# ---------------------------------------------------------------------- without the user's code


class _SealedDeath:
    """Stands for the ActorDiedError of an actor whose constructor raised."""

    def __init__(self, sealed: Sealed, actor_id: str) -> None:
        self.sealed = sealed
        self.actor_id = actor_id

    def open(self) -> ActorDiedError:
        """Return the error."""
        return ActorDiedError(self.sealed.open(), self.actor_id)


def is_task_error(data: bytes) -> bool:
    """Tell whether the bytes are those of an exception that user code raised. Called under the lock: no user
    object is unpickled."""
    try:
        return type(pickle.loads(data)) is Sealed
    except Exception:
        return False


def dump_death(data: bytes, actor_id: str) -> bytes:
    """Return the ActorDiedError for callers of an actor whose constructor raised this, as bytes. Called under
    the lock: no user object is unpickled."""
    return pickle.dumps(_SealedDeath(pickle.loads(data), actor_id), 5)


# ---------------------------------------------------------------------- as a value


class Travelling:
    """Stands in a pickle for a user's exception. Unpickling gives that exception itself, or as much of it as
    the process can make, caused by a RayTaskError that has its traceback from here.

    Args:
        error: the exception that user code raised.
        where: the name under which users know the code.
    """

    def __init__(self, error: BaseException, where: str = "a call of the pool") -> None:
        self._error = error
        self._where = where

    def __reduce__(self) -> tuple[Any, ...]:
        text = format_error(self._error)
        sealed = seal(self._where, text, self._error, *_process(self._where, None, None))
        return _travelled, (sealed,)


def _travelled(sealed: Sealed) -> BaseException:
    return own_cause(sealed.open())


def own_cause(error: BaseException) -> BaseException:
    """Return the user's exception itself out of a RayTaskError, which becomes its cause."""
    cause: BaseException = attributes_of(error)["cause"]
    set_cause(cause, error)
    return cause


# ---------------------------------------------------------------------- passed on by user code


def reduce_task_error(error: RayTaskError) -> tuple[Any, ...]:
    """Return how an error that ``get`` raised is pickled when user code passes it on."""
    where, text, cause, *process = error.fields
    return _unseal, (seal(where, text, cause, *process), type(error) is not RayTaskError)


errors.reduce_task_error = reduce_task_error


def _unseal(sealed: Sealed, dual: bool) -> RayTaskError:
    error = sealed.open()
    return error.as_instanceof_cause() if dual else error
