"""Starts threads of the runtime inside users' programs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def start(name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
    """Start a thread that does not keep the program alive, and return it.

    Raises:
        RuntimeError: no thread can start. The system has no more, or the program is ending, when some
            versions of Python refuse (3.12 as soon as ``atexit`` functions run).
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        ending = "shutdown" in str(error)
        raise RuntimeError(
            f"Python cannot start the thread {name} that skate needs: {error}. "
            + ("The program is ending: do this before its end." if ending else "See `ulimit -u`.")
        ) from None
    return thread
