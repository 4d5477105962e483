"""Formats tracebacks for users: with their own frames, without the runtime's.

``SKATE_FULL_TRACEBACKS=1`` keeps all frames, in the process that has this variable.
"""

from __future__ import annotations

import importlib
import os
from types import TracebackType
from typing import TYPE_CHECKING

from skate._base import errors
from skate._base.errors import RayError
from skate._base.process import PACKAGE
from skate._base.user_errors import (
    found_in,
    full_name,
    group_of,
    is_a,
    notes_of,
    origin_of,
    set_traceback,
    text_of,
    traceback_of,
)

if TYPE_CHECKING:
    from traceback import FrameSummary, TracebackException

#: Python's own formatting is used for up to so many exceptions, in chains and groups; of a longer chain so
#: many are shown, half of them the first ones and half the last ones (counts).
_MAX_STANDARD, _MAX_SHOWN = 200, 100
#: The most exceptions of a group that are shown, and the most nested groups (count).
_MAX_GROUP_PARTS, _MAX_GROUP_DEPTH = 15, 10
#: Hooks that Python's own formatting calls. An exception that defines one of them is formatted with fewer
#: calls.
_ASKED = ("__getattribute__", "__getattr__", "__bool__", "__len__", "__class__", "__traceback__", "__cause__",
          "__context__", "__suppress_context__", "__notes__", "exceptions")  # fmt: skip
_DIRECT = "The above exception was the direct cause of the following exception:"
_DURING = "During handling of the above exception, another exception occurred:"

#: Functions of the runtime that find or call the user's, or take the result; what is wrong with a name, the
#: arguments or the result raises there.
_CALLS = frozenset({"_invoke", "_construct", "_find_method", "_in_thread", "checked_result", "encode_value"})


def is_full_wanted() -> bool:
    """Tell whether the runtime's own frames are wanted."""
    return os.environ.get("SKATE_FULL_TRACEBACKS", "0") not in ("", "0")


def shortened(error: BaseException) -> BaseException:
    """Return an error that the public API is about to raise, without the runtime's frames.

    Bugs of the runtime keep them, as a report needs them.
    """
    if (is_a(error, RayError) or is_a(error, KeyboardInterrupt)) and not is_full_wanted():
        set_traceback(error, None)
    return error


def for_ipython(error: BaseException) -> list[str]:
    """Return the lines that IPython is to show for an error: its own, without the runtime's frames.

    IPython leaves out frames with ``__tracebackhide__``, but never the last frame, which would be the
    runtime's.
    """
    try:
        shell = importlib.import_module("IPython").get_ipython()
        shown = error.__traceback__ if is_full_wanted() else _users(error.__traceback__)
        lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, shown)
        return lines
    except Exception:
        return format_error(error).splitlines()


errors.render_traceback = for_ipython


def _users(trace: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
            kept.append(trace)
        trace = trace.tb_next
    made: TracebackType | None = None
    for one in reversed(kept):
        made = TracebackType(made, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return made


def format_error(error: BaseException) -> str:
    """Return the traceback of an error and of its causes, as Python prints it."""
    from traceback import TracebackException

    behind = _behind(error)
    if len(behind) <= _MAX_STANDARD and not any(map(_answers, behind.values())):
        try:
            standard = TracebackException(type(error), error, traceback_of(error), compact=True)
            if not is_full_wanted():
                _strip(standard)
            return "".join(standard.format())
        except BaseException:  # SystemExit too: the hooks of the user's exceptions
            pass
    return _format_plainly(error)


def _behind(error: BaseException) -> dict[int, BaseException]:
    """Return an exception and those that its traceback shows, by their ids; of very many, only some."""
    found: dict[int, BaseException] = {}
    todo = [error]
    while todo and len(found) <= _MAX_STANDARD:
        one = todo.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        origin, _ = origin_of(one)
        parts = (group_of(one) or ("", ()))[1]
        todo += [*reversed(parts), *([origin] if origin is not None else [])]
    return found


def _answers(error: BaseException) -> bool:
    """Tell whether the class defines hooks that Python's own formatting calls."""
    return any(found_in(type(error), name) is not None for name in _ASKED)


def _format_plainly(error: BaseException) -> str:
    """Return the traceback, the innermost cause first; only the texts of the exceptions are read.

    Of very many, those in the middle are left out.
    """
    chain: list[tuple[BaseException, bool]] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        origin, direct = origin_of(one)
        chain.append((one, direct))
        one = origin
    left_out = len(chain) - _MAX_SHOWN
    if left_out > 0:
        half = _MAX_SHOWN // 2
        chain[half : half + left_out] = []
    pieces: list[str] = []
    for index in range(len(chain) - 1, -1, -1):
        one, direct = chain[index]
        if left_out > 0 and index == _MAX_SHOWN // 2 - 1:
            pieces.append(f"\n[{left_out} exceptions between these are left out]\n\n")
        elif index < len(chain) - 1:
            pieces.append(f"\n{_DIRECT if direct else _DURING}\n\n")
        pieces.append(_format_one(one, 0))
    return "".join(pieces)


def _format_one(error: BaseException, depth: int) -> str:
    trace = traceback_of(error)
    frames = f"Traceback (most recent call last):\n{format_frames(trace)}" if trace is not None else ""
    name, text = full_name(type(error)).removeprefix("__main__."), text_of(error)
    lines = [f"{name}: {text}" if text else name, *notes_of(error)]
    printed = frames + "\n".join(lines) + "\n"
    _, parts = group_of(error) or ("", ())
    for number, part in enumerate(parts[:_MAX_GROUP_PARTS], 1):
        if depth >= _MAX_GROUP_DEPTH:
            break
        inner = _format_one(part, depth + 1)
        printed += f"  +---------------- {number} ----------------\n"
        printed += "".join(f"  | {line}\n" for line in inner.splitlines())
    if len(parts) > _MAX_GROUP_PARTS:
        printed += f"  and {len(parts) - _MAX_GROUP_PARTS} more exceptions\n"
    return printed


def format_frames(trace: TracebackType | None) -> str:
    """Return the frames alone, as Python prints them."""
    return users_frames(trace) or "  (in the runtime itself)\n"


def users_frames(trace: TracebackType | None) -> str:
    """Return the frames of user code, as Python prints them; nothing, if there are none."""
    from traceback import StackSummary, extract_tb

    stack: list[FrameSummary] = list(extract_tb(trace))
    if not is_full_wanted():
        stack = [frame for frame in stack if not frame.filename.startswith(PACKAGE)]
    return "".join(StackSummary.from_list(stack).format())


def _strip(standard: TracebackException) -> None:
    """Remove the runtime's frames, and those of a debugger that has ended."""
    library = os.path.dirname(os.__file__) + os.sep
    debugger = (library + "bdb.py", library + "pdb.py")
    seen: set[int] = set()
    todo: list[TracebackException | None] = [standard]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        users = [frame for frame in one.stack if not frame.filename.startswith((PACKAGE, *debugger))]
        # An error whose frames all are the runtime's needs them, unless the call itself was wrong.
        if users or (one.stack and one.stack[-1].name in _CALLS):
            one.stack[:] = users
        todo += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]
