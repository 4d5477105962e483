"""The port of a controller that replaces one that has died."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skate.serve._controller import port as module
from skate.serve._controller.port import Port
from skate.serve._http.sharing import listen
from skate.serve._targets import HTTPTarget


def test_a_port_that_another_process_has_for_the_moment(tmp_path: Path, monkeypatch: Any) -> None:
    """It was a replica that drains, or is stopped, and does not answer: it will end."""

    async def run() -> tuple[int, int]:
        holder = listen("127.0.0.1", 0)
        options = HTTPTarget(host="127.0.0.1", port=holder.getsockname()[1])
        port = Port(str(tmp_path), _client(), asyncio.ensure_future)
        tries = 0

        def counted(host: str, number: int) -> Any:
            nonlocal tries
            tries += 1
            return listen(host, number)

        monkeypatch.setattr(module, "listen", counted)
        monkeypatch.setattr(module, "_POLL_S", 0.0)
        reopening = asyncio.ensure_future(port.reopen(options, ["x-1"]))
        while tries < 3:
            await asyncio.sleep(0)
        holder.close()
        await reopening
        assert port.options is not None
        found = port.options.port
        port.close()
        return found, options.port

    found, wanted = asyncio.run(run())
    assert found == wanted


def test_a_port_that_another_program_has_taken(
    tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Serve goes on without HTTP, and says so."""

    async def run() -> HTTPTarget | None:
        holder = listen("127.0.0.1", 0)
        options = HTTPTarget(host="127.0.0.1", port=holder.getsockname()[1])
        port = Port(str(tmp_path), _client(), asyncio.ensure_future)
        monkeypatch.setattr(module, "_POLL_S", 0.0)
        monkeypatch.setattr(module, "_REOPEN_S", 0.0)
        await port.reopen(options, [])
        holder.close()
        port.close()
        return port.options

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(run()) is None
    assert "HTTP is not answered: serve cannot listen on 127.0.0.1:" in caplog.text


def _client() -> Any:
    return SimpleNamespace(loop=asyncio.get_running_loop())
