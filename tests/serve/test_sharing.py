"""Sockets on their way from one process to another."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from skate.serve._http.sharing import Door, Doors, door_path


class Loop:
    """Does something once between two steps of what it is a loop for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, between: Any) -> None:
        self._loop, self._between = loop, between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def remove_reader(self, one: Any) -> bool:
        between, self._between = self._between, lambda: None
        between()
        return self._loop.remove_reader(one)


def test_a_door_that_closes_loses_no_connection(tmp_path: Path) -> None:
    """One is sent after all that were there are taken: the sender keeps it."""

    async def run(is_known: bool) -> tuple[list[bool], list[bytes]]:
        taken: list[bytes] = []
        given: list[bool] = []

        def take(connection: socket.socket, data: bytes) -> None:
            taken.append(data)
            connection.close()

        door = Door(door_path(str(tmp_path), "x-1"), None, take)
        doors = Doors(str(tmp_path))
        one, other = socket.socketpair()
        if is_known:
            given.append(doors.give("x-1", one, b"first"))
        door._loop = Loop(  # type: ignore[assignment]
            asyncio.get_running_loop(), lambda: given.append(doors.give("x-1", one, b"second"))
        )
        door.close()
        doors.close()
        one.close()
        other.close()
        return given, taken

    assert asyncio.run(run(True)) == ([True, False], [b"first"])
    assert asyncio.run(run(False)) == ([False], [])
