"""HTTPS: answers, other applications, WebSockets, clients' certificates, updates, what cannot be used."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import websockets.asyncio.client
from fastapi import FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import StreamingResponse

from skate import serve
from skate.serve.config import ValidationError
from skate.serve.exceptions import RayServeException

from .conftest import session

PASSWORD = "of-the-key"


class Authority:
    """Signs certificates, as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = trustme.CA()
        self.file = str(folder / "authority.pem")
        self._made.cert_pem.write_to_path(self.file)

    def files(self, name: str) -> tuple[str, str]:
        """Return files of a new certificate and its key."""
        made = self._made.issue_cert(name)
        certificate, key = str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key")
        for index, part in enumerate(made.cert_chain_pems):
            part.write_to_path(certificate, append=index > 0)
        made.private_key_pem.write_to_path(key)
        return certificate, key

    def client(self, *own: str) -> ssl.SSLContext:
        """Return what a client needs that trusts it; with files, also a certificate of the client."""
        context = ssl.create_default_context(cafile=self.file)
        if own:
            context.load_cert_chain(*own)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@contextmanager
def secure(**options: Any) -> Iterator[int]:
    """A session that answers HTTPS; yields its port."""
    with session(host="127.0.0.1", **options) as address:
        assert address.startswith("https://")
        yield urllib.parse.urlsplit(address).port or 0


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    certificate, key = authority.files("127.0.0.1")
    with secure(ssl_certfile=certificate, ssl_keyfile=key, header_timeout_s=1) as found:
        yield found


def connected(port: int, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)


def get(connection: http.client.HTTPConnection, path: str, body: bytes | None = None) -> tuple[int, str]:
    connection.request("GET" if body is None else "POST", path, body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@serve.deployment
class Measures:
    """Answers with its application, the scheme, and the size of the body, as a stream if it is asked to."""

    async def __call__(self, request: Request) -> Any:
        text = f"{serve.get_replica_context().app_name} {request.url.scheme} {len(await request.body())}"
        if request.url.path.endswith("/stream"):
            return StreamingResponse(f"{text} {number};" for number in range(3))
        return text


def test_several_applications(port: int, authority: Authority) -> None:
    connection = connected(port, authority.client())
    assert get(connection, "/-/healthz") == (200, "success")
    connection.close()
    for name in ("a", "b"):
        serve.run(Measures.bind(), name=name, route_prefix=f"/{name}")
    large = bytes(1_000_000)
    for _ in range(3):  # whichever replica accepts, the other's requests are relayed to it
        connection = connected(port, authority.client())
        for name in ("a", "b", "a", "b"):
            assert get(connection, f"/{name}") == (200, f"{name} https 0")
            assert get(connection, f"/{name}", large) == (200, f"{name} https 1000000")
            streamed = "".join(f"{name} https 1000000 {number};" for number in range(3))
            assert get(connection, f"/{name}/stream", large) == (200, streamed)
        assert get(connection, "/c")[0] == 404
        connection.close()
    for name in ("a", "b"):
        serve.delete(name)


def test_websockets(port: int, authority: Authority) -> None:
    app = FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class Echo:
        @app.websocket("/echo")
        async def echo(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text(f"{socket.url.scheme} {socket.url.path} {await socket.receive_text()}")
            await socket.close()

    async def said(path: str) -> str:
        # On one thread: a connection of ssl is no place for one that reads beside one that writes.
        async with websockets.asyncio.client.connect(
            f"wss://127.0.0.1:{port}{path}", ssl=authority.client()
        ) as client:
            await client.send("hello")
            return str(await client.recv())

    for name in ("a", "b"):
        serve.run(Echo.bind(), name=name, route_prefix=f"/{name}")
    for number in range(10):  # the process of the one or the other accepts it
        path = f"/{'ab'[number % 2]}/echo"
        assert asyncio.run(said(path)) == f"wss {path} hello"
    for name in ("a", "b"):
        serve.delete(name)


def test_strangers_and_silence(port: int, authority: Authority, tmp_path: Path) -> None:
    serve.run(Measures.bind())
    stranger = connected(port, Authority(tmp_path).client())
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", "/")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:  # no TLS
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        try:
            while part := client.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        assert b"HTTP" not in received
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:  # half a handshake
        client.sendall(b"\x16\x03\x01")
        assert client.recv(65536) == b""
    with authority.client().wrap_socket(
        socket.create_connection(("127.0.0.1", port), timeout=60), server_hostname="127.0.0.1"
    ) as client:  # half a request
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 408")
    connection = connected(port, authority.client())
    assert get(connection, "/") == (200, "default https 0")
    connection.close()
    serve.delete("default")


def test_an_update_loses_no_request(
    port: int, authority: Authority, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    """Connections end by ``Connection: close`` after an answer: the client connects again."""
    serve.run(Measures.options(num_replicas=2).bind())
    errors: list[str] = []
    answers, closed, stopped = [0] * 4, [0] * 4, threading.Event()

    def run(number: int) -> None:
        connection = connected(port, authority.client())
        while not stopped.is_set():
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
                connection.close()
                continue
            answers[number] += answer.status == 200
            closed[number] += answer.will_close
        connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(answers))
        serve.run(Measures.options(num_replicas=2, ray_actor_options={"memory": 1}).bind())  # other replicas
        before = sum(answers)
        wait_until(lambda: sum(answers) > before + 20)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert sum(closed) >= 1
    serve.delete("default")


def test_clients_need_a_certificate(authority: Authority) -> None:
    certificate, key = authority.files("127.0.0.1")
    encrypted = _encrypted(Path(key))
    options = {
        "ssl_certfile": certificate, "ssl_keyfile": encrypted, "ssl_keyfile_password": PASSWORD,
        "ssl_ca_certs": authority.file,
    }  # fmt: skip
    assert PASSWORD not in repr(serve.HTTPOptions(**options))
    with secure(**options) as port:
        serve.run(Measures.bind())
        connection = connected(port, authority.client(*authority.files("a-client")))
        assert get(connection, "/") == (200, "default https 0")
        connection.close()
        nameless = connected(port, authority.client())
        with pytest.raises(OSError, match="certificate required|reset|EOF|closed"):
            get(nameless, "/")


def _encrypted(key: Path) -> str:
    """Return a file with the same key under a password."""
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    path = key.with_suffix(".encrypted")
    path.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSWORD.encode()),
        )
    )
    return str(path)


def test_what_cannot_be_used_is_refused_at_the_start(port: int, authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.files("localhost")
    for wrong in (
        {"ssl_certfile": certificate},
        {"ssl_keyfile": key},
        {"ssl_ca_certs": authority.file},
        {"ssl_keyfile_password": PASSWORD},
    ):
        with pytest.raises(ValidationError, match="both ssl_keyfile and ssl_certfile"):
            serve.HTTPOptions(**wrong)
    missing = str(tmp_path / "missing")
    for files in (
        {"ssl_certfile": missing, "ssl_keyfile": key},
        {"ssl_certfile": key, "ssl_keyfile": key},
        {"ssl_certfile": certificate, "ssl_keyfile": _encrypted(Path(key)), "ssl_keyfile_password": "wrong"},
        {"ssl_certfile": certificate, "ssl_keyfile": _encrypted(Path(key))},
    ):
        with pytest.raises(RayServeException, match="cannot answer HTTPS with the certificate") as caught:
            serve.start(http_options=files)
        assert "wrong" not in str(caught.value)
    with pytest.raises(RayServeException, match="cannot check clients by the certificates"):
        serve.start(http_options={"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_ca_certs": missing})
