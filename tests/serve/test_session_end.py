"""What is still under way in a process whose session is being shut down."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from skate.serve._client import port as module
from skate.serve._client.port import Port
from skate.serve._router import router as routing
from skate.serve._targets import DeploymentId


def report(monkeypatch: pytest.MonkeyPatch, engine: object) -> None:
    """Have a port report to a replica that cannot be called."""

    def refuse(*_: object) -> None:
        raise RuntimeError("the session is being shut down: no call can be made any more")

    async def run() -> None:
        port = Port(DeploymentId("Model"), "caller", asyncio.get_running_loop(), None, lambda *_: None)
        port._actors["replica"] = SimpleNamespace(credits=SimpleNamespace(remote=refuse))
        command: Any = routing.Report("replica", 1, 0, 0, 0)
        port.perform([command])

    monkeypatch.setattr(module, "engine", lambda: engine)
    asyncio.run(run())


def test_nothing_is_reported_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    report(monkeypatch, None)


def test_other_mistakes_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="being shut down"):
        report(monkeypatch, object())
