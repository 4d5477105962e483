"""The error of a call that was cancelled while it ran, as its caller and its worker both make it."""

from __future__ import annotations

from skate._base import errors
from skate._base.user_errors import set_traceback, traceback_of
from skate._serialize.exceptions import dump_sealed
from skate._serialize.tracebacks import users_frames


def cancelled_error(
    error: BaseException | None, name: str, task_id: str, when: str, actor: tuple[str, str] | None = None
) -> bytes:
    """Return the error of a call that was cancelled while it ran: TaskCancelledError and RayTaskError in one.

    Args:
        error: the exception that ended it; None: it still runs.
        name: the name that users know it by.
        task_id: its id, in hex.
        when: the stage of the call, or the canceller, in words that follow "was cancelled".
        actor: its repr and its id, if it is a method.
    """
    text = ""
    if error is not None:
        text = users_frames(traceback_of(error))
        set_traceback(error, None)
    cause = errors.TaskCancelledError(task_id, f"{name} was cancelled{when}")
    return dump_sealed(name, text, cause, *(actor or (None, None)))
