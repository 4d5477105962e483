"""Finds the line of code at which a request stands, from another thread than the one that runs it."""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from skate.serve.context import RequestContext

_OURS = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep
#: Code below these folders is not the user's.
_OTHERS = (_OURS, *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")})


def place_of(context: RequestContext, loop: asyncio.AbstractEventLoop, loop_thread: int) -> str:
    """Return where a request stands, as "file.py:12 in function"; "" if that is not known.

    Args:
        context: the request.
        loop: of its task.
        loop_thread: the thread that runs the loop.
    """
    threads = sys._current_frames()
    frames: list[FrameType] = []
    if context.thread:
        frames = list(_stack(threads.get(context.thread)))
    elif context.task is not None and asyncio.current_task(loop) is context.task:
        frames = list(_stack(threads.get(loop_thread)))
    if not frames and context.stream is not None:
        frames = list(reversed(list(_awaited(context.stream))))
    if not frames and context.task is not None:
        frames = list(reversed(list(_awaited(context.task.get_coro()))))
    return _shown(frames)


def place_in(frame: FrameType) -> str:
    """Return where a thread stands, in the same form.

    Args:
        frame: its innermost one.
    """
    return _shown(list(_stack(frame)))


def users_part(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins with the user's code; None: it has none.

    Args:
        trace: of an error that user code raised, or code that this calls.
    """
    while trace is not None and not _is_users(trace.tb_frame):
        trace = trace.tb_next
    return trace


def _shown(frames: list[FrameType]) -> str:
    """Return the first frame of user code, or the first of all; "" for none."""
    # User code is called by ours: the frames around our outermost one belong to the process's start.
    ours = [index for index, one in enumerate(frames) if one.f_code.co_filename.startswith(_OURS)]
    inside = frames[: ours[-1]] if ours else frames
    found = next((one for one in inside if _is_users(one)), frames[0] if frames else None)
    if found is None:
        return ""
    code = found.f_code
    return f"{os.path.basename(code.co_filename)}:{found.f_lineno} in {code.co_name}"


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _awaited(one: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine or generator that waits, and of all that it waits for, inwards."""
    while one is not None:
        kind = next((kind for kind in ("cr", "ag", "gi") if hasattr(one, f"{kind}_frame")), None)
        if kind is None:
            return
        frame = getattr(one, f"{kind}_frame")
        if frame is not None:
            yield frame
        one = getattr(one, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")


def _is_users(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return not name.startswith(_OTHERS) and not name.startswith("<frozen")
