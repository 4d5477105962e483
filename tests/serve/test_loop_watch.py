"""The watch of a replica's loop: an idle one is left alone, a blocked one is named."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from skate.serve._replica import blocking

Wait = Callable[[Callable[[], object]], None]


class Watched:
    """A loop on a thread of its own, and its watch."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        #: What the watch saw at each look, how often it woke the loop, and what it reported.
        self.looks: list[bool] = []
        self.wakes = 0
        self.places: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._ready = threading.Event()

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        self.do = self.loop.call_soon_threadsafe
        self.loop.call_soon_threadsafe = self._wake  # type: ignore[method-assign]
        self.watch = blocking.LoopWatch(self.loop, self.places.append)
        self._ready.set()
        self.loop.run_forever()
        self.loop.close()

    def _wake(self, *args: Any, **kwargs: Any) -> Any:
        self.wakes += 1
        return self.do(*args, **kwargs)

    def close(self) -> None:
        self.watch.close()
        self.watch._thread.join()
        self.do(self.loop.stop)
        self._thread.join()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    one = Watched()
    is_idle = blocking.is_idle

    def looked(frame: FrameType | None) -> bool:
        one.looks.append(is_idle(frame))
        return one.looks[-1]

    monkeypatch.setattr(blocking, "is_idle", looked)
    monkeypatch.setattr(blocking, "_BLOCKED_S", 0.01)
    one.start()
    yield one
    one.close()


def test_an_idle_loop_is_not_woken(watched: Watched, wait_until: Wait) -> None:
    wait_until(lambda: watched.looks[-3:] == [True] * 3)
    wakes, looks = watched.wakes, len(watched.looks)
    wait_until(lambda: len(watched.looks) >= looks + 10)
    assert watched.wakes == wakes
    assert watched.places == []


def test_a_block_after_a_rest_is_seen(watched: Watched, wait_until: Wait) -> None:
    for number in range(2):
        wait_until(lambda: watched.looks[-3:] == [True] * 3)
        go = threading.Event()

        def hold() -> None:
            go.wait()  # noqa: B023

        watched.do(hold)
        wait_until(lambda: len(watched.places) == 2 * number + 1)  # noqa: B023
        assert "in hold" in watched.places[-1]
        go.set()
        wait_until(lambda: len(watched.places) == 2 * number + 2)  # noqa: B023
        assert watched.places[-1] == ""


def test_user_code_that_waits_in_select_is_not_idle(watched: Watched, wait_until: Wait) -> None:
    """Such as a subprocess's ``communicate``."""
    import select
    import socket

    wait_until(lambda: watched.looks[-1:] == [True])
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def read() -> None:
            select.select([theirs], [], [])

        watched.do(read)
        wait_until(lambda: watched.places)
        assert "in read" in watched.places[0]
        ours.send(b"x")
        wait_until(lambda: watched.places[-1] == "")
