"""The HTTP server of a process, alone."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from typing import Any

from skate.serve._http.protocol import refuse
from skate.serve._http.server import HTTPServer
from skate.serve._http.sharing import listen
from skate.serve._targets import HTTPTarget


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers each request."""
    await refuse(scope, receive, send, 404, "here")


def test_what_was_accepted_is_kept_when_no_more_is() -> None:
    """The connection is neither in the socket's queue any more, nor begun."""

    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        server = HTTPServer(application, HTTPTarget(port=0), lambda connection, data: False)
        listener = listen("127.0.0.1", 0)
        server.accept(listener)
        client = socket.create_connection(listener.getsockname())
        client.setblocking(False)
        while not server.is_beginning:
            await asyncio.sleep(0)
        server.stop_accepting()
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await loop.sock_recv(client, 1000)
        server.close()
        listener.close()
        client.close()
        return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 404")


def test_a_process_without_descriptors_accepts_later(caplog: Any) -> None:
    """The queue waits meanwhile, and the loop does not spin."""

    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        server = HTTPServer(application, HTTPTarget(port=0), lambda connection, data: False)
        listener = listen("127.0.0.1", 0)
        client = socket.create_connection(listener.getsockname())
        client.setblocking(False)
        held = []
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        server.accept(listener)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(listener.fileno() + 40, limit[0]), limit[1]))
            while True:
                try:
                    held.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            while not caplog.records:
                await asyncio.sleep(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            for one in held:
                os.close(one)
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await loop.sock_recv(client, 1000)
        server.close()
        listener.close()
        client.close()
        return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 404")
    assert [one.message for one in caplog.records] == [
        "no connection can be accepted for 1 s: [Errno 24] Too many open files"
    ]
