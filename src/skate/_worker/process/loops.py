"""Calls on asyncio loops from whatever thread has the news."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from skate._transport.reactor import Reactor

if TYPE_CHECKING:
    import asyncio


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object], reactor: Reactor) -> None:
    """Have a loop call a function soon.

    Raises:
        RuntimeError: the loop was closed.
    """
    import asyncio

    if reactor.awake_thread == threading.get_ident() and asyncio._get_running_loop() is loop:
        # It reads the sockets just now: nothing needs to wake it.
        if reactor.after_turn is not None:
            reactor.after_turn.append(callback)
        else:
            loop.call_soon(callback)
    else:
        loop.call_soon_threadsafe(callback)
