"""Turns exceptions of Ray into those of skate: the same names, the same facts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from skate import exceptions
from skate._base import errors


def translated(error: BaseException) -> BaseException:
    """Return what skate raises where Ray raises ``error``; exceptions of users stay what they are.

    Args:
        error: what a call of Ray raised.
    """
    kind = _name(error)
    if kind is None:
        return error
    given: Any = error
    if kind == "RayTaskError":
        return _task_error(given)
    maker = _MAKERS.get(kind)
    made = maker(given) if maker is not None else _by_text(kind, given)
    made.__cause__ = None
    made.__suppress_context__ = True
    return made


class Translating:
    """Raise what skate raises where a call of Ray raises in the block.

    No generator: one that raises a StopIteration of the user's makes it a RuntimeError.
    """

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """End it."""
        if isinstance(error, Exception) and (found := translated(error)) is not error:
            raise found from None


def _name(error: BaseException) -> str | None:
    """Return the name of the class of Ray's that an error is of; None: it is none of Ray's.

    The error of a task is of a class made for it, which is also the user's.
    """
    for base in type(error).__mro__:
        if base.__module__ == "ray.exceptions":
            name = base.__name__
            return "RayTaskError" if name.startswith("RayTaskError(") else name
    return None


def _task_error(error: Any) -> BaseException:
    cause = translated(error.cause)
    facts = _Facts.of(error)
    if isinstance(cause, errors.RayTaskError):
        # A task let the error of another one through: the error is that one's, the text has both.
        cause = cause.cause
    made = errors.RayTaskError(
        facts.function_name, facts.traceback, cause, f"ray::{facts.function_name}", facts.pid, facts.ip,
        facts.actor_repr, facts.actor_id,
    )  # fmt: skip
    return made.as_instanceof_cause()


class _Facts(NamedTuple):
    """Facts about a task that raised. Ray's error, once it has the type of the user's, has them in its text
    alone."""

    function_name: str
    traceback: str
    pid: int | None = None
    ip: str | None = None
    actor_id: str | None = None
    actor_repr: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> _Facts:
        """Read them off Ray's error."""
        text = _text(error)
        found = _HEAD.match(text)
        if found is None:
            return cls("task", text)
        name, pid, ip, actor_id, actor_repr = found.groups()
        return cls(name, text[found.end() :].lstrip("\n"), int(pid), ip, actor_id, actor_repr)


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_HEAD = re.compile(r"ray::(.*?)(?:\(\))? \(pid=(\d+), ip=([^,)]*)(?:, actor_id=(\w+), repr=(.*?))?\)(?=\n|$)")


def _text(error: BaseException) -> str:
    """Return the text of an error, without the colours that Ray puts into it."""
    return _COLOURS.sub("", str(error))


def _actor_died(error: Any) -> BaseException:
    made = errors.ActorDiedError(_text(error), error.actor_id)
    made.actor_init_failed = bool(getattr(error, "actor_init_failed", False))
    made.preempted = bool(getattr(error, "preempted", False))
    return made


def _actor_error(error: Any) -> BaseException:
    return errors.RayActorError(error.actor_id, _text(error))


def _unavailable(error: Any) -> BaseException:
    return errors.ActorUnavailableError(_text(error), error.actor_id)


def _cancelled(error: Any) -> BaseException:
    task_id = getattr(error, "task_id", None)
    return errors.TaskCancelledError(task_id.hex() if task_id is not None else None, _text(error))


def _lost(error: Any) -> BaseException:
    kind = getattr(exceptions, _name(error) or "", errors.ObjectLostError)
    if not issubclass(kind, errors.ObjectLostError) or kind is errors.ObjectReconstructionFailedError:
        kind = errors.ObjectLostError
    text = _text(error)
    owner = getattr(error, "owner_address", None)
    made: BaseException = kind(str(getattr(error, "object_ref_hex", "")), str(owner or "") or None, text)
    return made


def _plain(error: Any) -> BaseException:
    """Ray has no class for a user's exception that it could not pickle."""
    kind = errors.UserCodeException if "isn't serializable" in str(error) else errors.RayError
    return kind(_text(error))


def _not_serializable(error: Any) -> BaseException:
    return errors.UnserializableException(str(getattr(error, "original_stack_trace", error)))


_MAKERS: dict[str, Callable[[Any], BaseException]] = {
    "RayError": _plain,
    "ActorDiedError": _actor_died,
    "RayActorError": _actor_error,
    "ActorUnavailableError": _unavailable,
    "TaskCancelledError": _cancelled,
    "ObjectLostError": _lost,
    "ObjectFetchTimedOutError": _lost,
    "ObjectFreedError": _lost,
    "OwnerDiedError": _lost,
    "ReferenceCountingAssertionError": _lost,
    "ObjectReconstructionFailedError": _lost,
    "ObjectReconstructionFailedMaxAttemptsExceededError": _lost,
    "ObjectReconstructionFailedLineageEvictedError": _lost,
    "UnserializableException": _not_serializable,
}


def _by_text(kind: str, error: BaseException) -> BaseException:
    """Return the error of the same name with the same text."""
    made = getattr(exceptions, kind, None)
    if made is None:
        return errors.RayError(f"{kind}: {_text(error)}")
    found: BaseException = made(_text(error))
    return found
