"""Interprets ``sys.exit()`` and ``exit_actor()`` in tasks and actors, as Ray does.

=====================  ========================================================================
``exit_actor()``       the actor ends for good
``sys.exit(0)``        the same, in an actor
any other code         it is restarted, as after a crash, and its calls are retried; None, which
                       ``sys.exit()`` stands for, is no 0 here
of a task, any code    a crash: the task is retried, else it raises WorkerCrashedError
=====================  ========================================================================
"""

from __future__ import annotations

from skate._base import errors
from skate._base.user_errors import code_of, is_a, status_of, type_name
from skate._serialize.exceptions import dump_error
from skate._wire import worker as wire
from skate._worker.execution.invocation import Result

#: Codes that are shown as they are; of others, a repr may be anything.
_SHOWN = (int, bool, str, type(None))


class ActorExit(SystemExit):
    """Raised by ``exit_actor``: the actor's process ends on purpose."""


class Exit:
    """The meaning of an exit that user code raised."""

    def __init__(self, error: BaseException) -> None:
        code: object = code_of(error)
        by_name = is_a(error, ActorExit)
        #: An actor that exits so ends for good.
        self.intended = by_name or (is_a(code, int) and int.__int__(code) == 0)  # type: ignore[arg-type]
        shown = repr(code) if type(code) in _SHOWN else f"<{type_name(code)}>"
        #: The function that was called, in words.
        self.what = "exit_actor() was called" if by_name else f"sys.exit({shown}) was called"
        #: The process's exit code.
        self.status = status_of(error)

    def of_task(self, name: str) -> tuple[str, Result]:
        """Return why the process of a task ends, and the reply to the task's owner, who may retry it."""
        crash = errors.WorkerCrashedError(
            f"{self.what} in task {name}, which ends its process: the task was retried as often as its "
            "max_retries allows. Raise an exception or return instead."
        )
        return f"{self.what} in task {name}", (wire.RETRIABLE, dump_error(crash), None, None, None)
