"""API keys: requests and WebSockets without one are refused, and no key is kept or shown."""

from __future__ import annotations

import http.client
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from fastapi import FastAPI, Request, WebSocket
from websockets.exceptions import InvalidStatus

import skate
from skate import serve
from skate.experimental import internal_kv as kv
from skate.serve._http import keys
from skate.serve.config import KEYS_VARIABLE, ValidationError, api_keys

from .conftest import Web, session

OLD, NEW, OTHER = "key-of-the-past", "key-of-the-future", "key-of-nobody"


# ---------------------------------------------------------------------- decisions


def test_the_key_is_taken_out_of_the_headers() -> None:
    known = keys.hashed([OLD, NEW], b"salt")
    host = (b"host", b"x")
    for header in (
        (b"authorization", b"Bearer key-of-the-past"),
        (b"authorization", b"bearer   key-of-the-future "),
        (b"x-api-key", b"key-of-the-past"),
    ):
        assert keys.admitted(known, [host, header]) == [host]
    own = (b"authorization", b"Basic eDp5")
    assert keys.admitted(known, [own, (b"x-api-key", b"key-of-the-past"), host]) == [own, host]
    for header in (
        host,
        (b"authorization", b"key-of-the-past"),
        (b"authorization", b"Basic key-of-the-past"),
        (b"authorization", b"Bearer"),
        (b"x-api-key", b""),
        (b"x-api-key", b"key-of-the-past, key-of-the-future"),
        (b"x-api-key", b"\xff\xfe"),
        (b"x-other", b"key-of-the-past"),
    ):
        assert keys.admitted(known, [header]) is None
    assert keys.admitted(keys.hashed([OLD], b"other"), [(b"x-api-key", OLD.encode())]) == []


def test_keys_are_in_no_repr_and_no_error(tmp_path: Path) -> None:
    hidden = [repr(serve.HTTPOptions(api_keys=[OLD])), repr(keys.hashed([OLD], b"salt"))]
    assert OLD.encode() not in pickle.dumps(keys.hashed([OLD], b"salt"))
    for wrong in ([OLD + " "], [OLD + "\n"], [OLD, ""], [OLD + "ö"], OLD, [], [OLD.encode()]):
        with pytest.raises(ValidationError) as caught:
            serve.HTTPOptions(api_keys=wrong)  # type: ignore[arg-type]
        hidden.append(str(caught.value))
    path = tmp_path / "keys"
    path.write_text(f"{OLD} {NEW}\n")
    with pytest.raises(ValidationError, match="key 0 of the file") as caught:
        api_keys(serve.HTTPOptions(api_keys_file=str(path)), {})
    hidden.append(str(caught.value))
    assert not [one for one in hidden if OLD in one]


def test_keys_come_from_options_files_and_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# since May\n{OLD}\n\n  {NEW}\n")
    environment = {KEYS_VARIABLE: f"{OTHER}, {OLD}"}
    assert api_keys(serve.HTTPOptions(), {}) == []
    assert api_keys(serve.HTTPOptions(), environment) == [OTHER, OLD]
    assert api_keys(serve.HTTPOptions(api_keys_file=str(path)), environment) == [OLD, NEW]
    assert api_keys(serve.HTTPOptions(api_keys=[OTHER], api_keys_file=str(path)), {}) == [OTHER, OLD, NEW]
    path.write_text("# none yet\n")
    for options, variables in (
        (serve.HTTPOptions(api_keys_file=str(path)), {}),
        (serve.HTTPOptions(), {KEYS_VARIABLE: " "}),
    ):
        with pytest.raises(ValidationError, match="not empty"):
            api_keys(options, variables)
    with pytest.raises(FileNotFoundError):
        api_keys(serve.HTTPOptions(api_keys_file=str(tmp_path / "missing")), {})


# ---------------------------------------------------------------------- processes


def _application() -> Any:
    app = FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class Api:
        @app.get("/headers")
        async def headers(self, request: Request) -> list[str]:
            return [f"{name}: {value}" for name, value in request.headers.items()]

        @app.get("/raise")
        async def fail(self, request: Request) -> None:
            raise KeyError(str(request.scope))

        @app.websocket("/socket")
        async def socket(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text(str(dict(socket.headers)))
            await socket.close()

    return Api


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """A session whose requests need a key."""
    with session(api_keys=[OLD]) as address:
        yield Web(address)


def assert_unauthorized(answer: Any) -> None:
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="skate.serve"'
    assert answer.text == keys.REFUSAL


def test_requests_need_a_key(web: Web, wait_until: Callable[[Callable[[], object]], None]) -> None:
    for _ in range(2):  # in the controller, and in a replica
        assert web("/-/healthz").status == 200
        for path in ("/headers", "/-/routes", "/missing"):
            assert_unauthorized(web(path))
            assert_unauthorized(web(path, x_api_key=OTHER))
            assert_unauthorized(web(path, authorization=f"Basic {OLD}"))
        assert_unauthorized(web("/headers", bytes(1_000_000)))
        assert web("/missing", x_api_key=OLD).status == 404
        assert web("/-/routes", authorization=f"Bearer {OLD}").status == 200
        serve.run(_application().bind())
    for headers in ({"x_api_key": OLD}, {"authorization": f"Bearer {OLD}"}):
        found = web("/headers", x_mine="1", **headers)
        assert found.status == 200
        assert "x-mine: 1" in found.json()
        assert OLD not in found.text
    assert web("/raise", x_api_key=OLD).status == 500
    # Nothing that serve stores or prints has it.
    folder = Path(skate.init(ignore_reinit_error=True)["session_dir"])
    wait_until(lambda: b"KeyError" in _written(folder))
    assert OLD.encode() not in _written(folder)
    stored = b"".join(
        kv._internal_kv_get(key, namespace=b"skate.serve") or b""
        for key in kv._internal_kv_list("", namespace=b"skate.serve")
    )
    assert b"digests" in stored
    assert OLD.encode() not in stored
    assert OLD not in repr(serve.status())


def _written(folder: Path) -> bytes:
    """Return what the session's files have."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_websockets_need_a_key(web: Web) -> None:
    serve.run(_application().bind())
    address = web.address.replace("http", "ws") + "/socket"
    for headers in ({}, {"X-API-Key": OTHER}):
        with pytest.raises(InvalidStatus) as caught:
            websockets.sync.client.connect(address, additional_headers=headers)
        assert caught.value.response.status_code == 401
        assert caught.value.response.headers["www-authenticate"] == 'Bearer realm="skate.serve"'
    with websockets.sync.client.connect(
        address, additional_headers={"Authorization": f"Bearer {OLD}"}
    ) as one:
        text = one.recv()
        assert isinstance(text, str)
        assert "host" in text
        assert OLD not in text


def test_keys_are_rotated_while_requests_come(web: Web) -> None:
    serve.run(_application().bind())
    serve.start(http_options={"api_keys": [OLD, NEW]})
    assert [web("/headers", x_api_key=key).status for key in (OLD, NEW, OTHER)] == [200, 200, 401]
    serve.start(http_options={"api_keys": [NEW]})
    kept = http.client.HTTPConnection(web.host, web.port, timeout=60)
    for key, status in ((OLD, 401), (NEW, 200), (OTHER, 401), (NEW, 200)):
        kept.request("GET", "/headers", headers={"X-API-Key": key})
        answer = kept.getresponse()
        answer.read()
        assert answer.status == status
    kept.close()
    # Neither a start without keys nor another run opens the door.
    serve.start(http_options={"port": 0})
    serve.run(_application().options(num_replicas=2).bind())
    assert [web("/headers", x_api_key=key).status for key in (OLD, NEW) for _ in range(8)] == [401] * 8 + [
        200
    ] * 8
    serve.start(http_options={"api_keys": [OLD]})


def test_an_open_address_without_keys_is_warned_about(
    web: Web, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The instance stays on its loopback address: these are warnings of the program that asks for another.
    with caplog.at_level(logging.WARNING, "skate.serve"):
        serve.start(http_options={"host": "0.0.0.0"})
    assert "requests need no key. Give api_keys" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "skate.serve"):
        serve.start(http_options={"host": "0.0.0.0", "api_keys": [OLD]})
        serve.start(http_options={"host": "127.1.2.3"})
        serve.start(http_options={"host": "localhost"})
    assert caplog.text == ""
