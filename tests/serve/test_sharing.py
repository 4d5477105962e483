"""Sockets on their way from one process to another."""

from __future__ import annotations

import asyncio
import os
import resource
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


def test_a_connection_waits_for_a_free_descriptor(tmp_path: Path) -> None:
    """Without one, the system would drop it while it is read."""
    taken: list[bytes] = []

    def take(connection: socket.socket, data: bytes) -> None:
        taken.append(data)
        connection.close()

    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def run() -> None:
        door, doors = Door(door_path(str(tmp_path), "x-1"), None, take), Doors(str(tmp_path))
        one, other = socket.socketpair()
        assert doors.give("x-1", one, b"first")
        while taken != [b"first"]:
            await asyncio.sleep(0)
        spares, limits = [], resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, limits[0]), limits[1]))
        try:
            while True:
                try:
                    spares.append(os.dup(one.fileno()))
                except OSError:
                    break
            assert doors.give("x-1", one, b"second")
            await turns(100)
            assert taken == [b"first"]
        finally:
            for spare in spares:
                os.close(spare)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        while taken != [b"first", b"second"]:
            await asyncio.sleep(0)
        door.close()
        doors.close()
        one.close()
        other.close()

    asyncio.run(run())
