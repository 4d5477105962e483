"""Ends a child that user code forked inside a call, when that code returns to the runtime.

In a program of its own the child would unwind the whole stack and end as Python ends: ``sys.exit(9)``
with code 9, an exception with its traceback and code 1, after the functions registered with ``atexit``.
In a call the stack leads to the runtime, which cannot go on there: it has no connections and no threads.
So the child ends in that place, in the same way.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from typing import Any, NoReturn

from skate._base.user_errors import code_of, is_a, status_of, text_of
from skate._serialize.tracebacks import format_error


def end_where_user_code_ends(runner: Any, invocation: Any) -> None:
    """Have this process end when a call, or the constructor of an actor, returns or raises.

    Args:
        runner: its ``failed`` is called with the exception of a call.
        invocation: the object that turns results and items into messages.
    """
    from skate._worker.execution.actor_host import ActorInstance

    # In-process mode has kinds of its own.
    kinds: list[Any] = ActorInstance.__subclasses__()
    # Here, in the child: so the parent's code need not check whether it runs in a child.
    runner.failed = lambda error, *_: end(error)
    invocation.encode = invocation.encode_value = invocation.reply = lambda *_, **__: end(None)
    for kind in kinds:
        kind._report = lambda _self, raised, _received: end(raised)


def end(error: BaseException | None) -> NoReturn:
    """End the process as Python ends one whose main program raised this, or came to its end."""
    code = 1
    try:
        code = _report(error)
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that the child started
        atexit._run_exitfuncs()
    except BaseException as late:
        code = _report(late)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass  # it is closed, or its reader is gone
        if error is not None and is_a(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(code)


def _report(error: BaseException | None) -> int:
    """Print an error as Python does at the end of a program; return the exit code."""
    if error is None:
        return 0
    if not is_a(error, SystemExit):
        print(format_error(error), end="", file=sys.stderr)
        return 1
    code = code_of(error)
    if code is not None and not is_a(code, int):
        print(text_of(code), file=sys.stderr)
    return status_of(error)
