"""The HTTP server of a process, alone."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from skate.serve._http import protocol
from skate.serve._http.entrance import Entrance
from skate.serve._http.protocol import Connection, refuse
from skate.serve._http.server import HTTPServer
from skate.serve._http.sharing import listen
from skate.serve._targets import HTTPTarget, TLSFiles

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def answered(client: socket.socket) -> bytes:
    """Return the answer to a request by this connection."""
    loop = asyncio.get_running_loop()
    with client:
        await loop.sock_sendall(client, REQUEST)
        return await loop.sock_recv(client, 1000)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers each request."""
    await refuse(scope, receive, send, 404, "here")


def test_what_was_accepted_is_kept_when_no_more_is() -> None:
    """The connection is neither in the socket's queue any more, nor begun."""

    async def run() -> bytes:
        server = HTTPServer(application, HTTPTarget(port=0), lambda connection, data: False)
        listener = listen("127.0.0.1", 0)
        server.accept(listener)
        client = socket.create_connection(listener.getsockname())
        client.setblocking(False)
        while not server.is_beginning:
            await asyncio.sleep(0)
        server.stop_accepting()
        answer = await answered(client)
        server.close()
        listener.close()
        return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 404")


def test_a_process_without_descriptors_accepts_later(caplog: Any) -> None:
    """The queue waits meanwhile, and the loop does not spin."""

    async def run() -> bytes:
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
        answer = await answered(client)
        server.close()
        listener.close()
        return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 404")
    assert [one.message for one in caplog.records] == [
        "no connection can be accepted for 1 s: [Errno 24] Too many open files"
    ]


def test_what_was_read_goes_with_its_connection() -> None:
    """A process that drains took a connection, and passes on what is idle: not this one without its bytes."""

    async def run() -> list[bytes]:
        passed: list[bytes] = []

        def pass_on(connection: Connection, data: bytes) -> bool:
            passed.append(data)
            connection.leave()
            return True

        server = HTTPServer(application, HTTPTarget(port=0), pass_on)
        client, ours = socket.socketpair()
        ours.setblocking(False)
        server.adopt(ours, REQUEST)
        while not passed:
            for one in server.connections():
                if not one.is_busy:
                    one.pass_on(one, b"")
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        server.close()
        client.close()
        return passed

    assert asyncio.run(run()) == [REQUEST]


def test_a_connection_that_is_being_closed_is_not_passed_on() -> None:
    """Its client waits for the end, which the other process would not know of."""

    async def run() -> list[bool]:
        server = HTTPServer(application, HTTPTarget(port=0), lambda connection, data: False)
        client, ours = socket.socketpair()
        ours.setblocking(False)
        server.adopt(ours, REQUEST.replace(b"1.1", b"1.0"))
        while not server.connections():
            await asyncio.sleep(0)
        found = []
        while server.connections():
            found += [one.is_busy for one in server.connections()]
            await asyncio.sleep(0)
        server.close()
        client.close()
        return found

    assert {*asyncio.run(run())} == {True}


# ---------------------------------------------------------------------- TLS: what cannot be passed on


class Secure:
    """The target of a port of TLS, and what its clients trust."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        file = str(folder / "key.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
        self.target = HTTPTarget(port=0, tls=TLSFiles(file, file))
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)

    async def connect(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(sock=client, ssl=self.context, server_hostname="127.0.0.1")


@pytest.fixture
def secure(tmp_path: Path) -> Secure:
    return Secure(tmp_path)


@contextmanager
def accepting(target: HTTPTarget) -> Iterator[tuple[HTTPServer, socket.socket]]:
    """A server, and a client whose connection waits to be accepted."""
    server = HTTPServer(application, target, lambda connection, data: False)
    with closing(listen("127.0.0.1", 0)) as listener:
        server.accept(listener)
        client = socket.create_connection(listener.getsockname())
        client.setblocking(False)
        try:
            yield server, client
        finally:
            server.close()


def test_a_websocket_is_answered_that_comes_as_its_process_ends(secure: Secure) -> None:
    async def run() -> bytes:
        with accepting(secure.target) as (server, client):
            reader, writer = await secure.connect(client)
            while server.is_beginning or not server.connections():
                await asyncio.sleep(0)
            server.end_secure()
            writer.write(UPGRADE)
            answer = await reader.read(1000)
            writer.close()
            return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 404")


def test_a_connection_ends_whose_handshake_was_under_way_as_its_process_ended(secure: Secure) -> None:
    async def run() -> bytes:
        with accepting(secure.target) as (server, client):
            while not server.is_beginning:
                await asyncio.sleep(0)
            server.end_secure()
            reader, writer = await secure.connect(client)
            writer.write(REQUEST)
            answer = await reader.read()
            writer.close()
            return answer

    assert b"connection: close" in asyncio.run(run())


def test_the_first_request_of_a_connection_is_waited_for(
    secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client cannot know that the connection has closed just after it came."""
    monkeypatch.setattr(protocol, "_FIRST_S", 1000.0)

    async def run() -> bytes:
        here: Any = SimpleNamespace(loop=asyncio.get_running_loop())
        entrance = Entrance("door-1", str(tmp_path), secure.target, here)
        listener = listen("127.0.0.1", 0)
        entrance.open(listener)
        client = socket.create_connection(listener.getsockname())
        client.setblocking(False)
        reader, writer = await secure.connect(client)
        while entrance.server.is_beginning or not entrance.server.connections():
            await asyncio.sleep(0)
        entrance.drain()
        assert not entrance.has_left()
        writer.write(REQUEST)
        answer = await reader.read()
        writer.close()
        while not entrance.has_left():
            await asyncio.sleep(0)
        entrance.close()
        return answer

    assert b"connection: close" in asyncio.run(run())
