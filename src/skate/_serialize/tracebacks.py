"""Tracebacks as users want to read them: their own frames, not the runtime's.

``SKATE_FULL_TRACEBACKS=1`` leaves everything in, in the process that has it.
"""

from __future__ import annotations

import importlib
import os
from types import TracebackType
from typing import TYPE_CHECKING

from skate._base.errors import RayError

if TYPE_CHECKING:
    from traceback import FrameSummary, TracebackException

#: Functions of ours that call the user's: wrong arguments raise there.
_CALLS = frozenset({"_invoke", "_construct"})
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def full() -> bool:
    """Tell whether the runtime's own frames are wanted."""
    return os.environ.get("SKATE_FULL_TRACEBACKS", "0") not in ("", "0")


def shortened(error: BaseException) -> BaseException:
    """Return an error, about to be raised at the public boundary, without the frames below that.

    Bugs of the runtime keep theirs: they are what a report needs.
    """
    if isinstance(error, (RayError, KeyboardInterrupt)) and not full():
        error.__traceback__ = None
    return error


def for_ipython(error: BaseException) -> list[str]:
    """Return the lines that IPython is to show for an error: its own, without the runtime's frames.

    It leaves out what says ``__tracebackhide__``, but never the last frame, which would be ours.
    """
    try:
        shell = importlib.import_module("IPython").get_ipython()
        shown = error.__traceback__ if full() else _users(error.__traceback__)
        lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, shown)
        return lines
    except Exception:
        return format_error(error).splitlines()


def _users(trace: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            kept.append(trace)
        trace = trace.tb_next
    made: TracebackType | None = None
    for one in reversed(kept):
        made = TracebackType(made, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return made


def format_error(error: BaseException) -> str:
    """Return the traceback of an error, and of those behind it, as Python prints it."""
    from traceback import TracebackException

    told = TracebackException(type(error), error, error.__traceback__, compact=True)
    if not full():
        _strip(told)
    return "".join(told.format())


def format_frames(trace: TracebackType | None) -> str:
    """Return the frames alone, as Python prints them."""
    from traceback import StackSummary, extract_tb

    stack: list[FrameSummary] = list(extract_tb(trace))
    if not full():
        stack = [frame for frame in stack if not frame.filename.startswith(_PACKAGE)]
    return "".join(StackSummary.from_list(stack).format()) or "  (in the runtime itself)\n"


def _strip(told: TracebackException) -> None:
    """Take the runtime's frames out, and those of a debugger that was left."""
    library = os.path.dirname(os.__file__) + os.sep
    debugger = (library + "bdb.py", library + "pdb.py")
    seen: set[int] = set()
    todo: list[TracebackException | None] = [told]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        users = [frame for frame in one.stack if not frame.filename.startswith((_PACKAGE, *debugger))]
        # An error all of whose frames are ours tells nothing without them, unless it is of the very call.
        if users or (one.stack and one.stack[-1].name in _CALLS):
            one.stack[:] = users
        todo += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]
