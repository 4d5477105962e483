"""In-process mode when threads are slow: a pause has a limit, and no thread pauses for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import skate
from skate._inline import call_threads

from .waiting import wait_for_file


@skate.remote
class Record:
    def __init__(self) -> None:
        self.items: list[Any] = []

    def add(self, item: Any) -> None:
        self.items.append(item)

    def all(self) -> list[Any]:
        return self.items

    def hold(self, path: Path) -> None:
        wait_for_file(path)


def test_an_actor_begins_its_next_call_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No thread pauses for its first call any more: its thread must not pause for itself."""
    skate.init(mode="inline")
    record = Record.remote()
    monkeypatch.setattr(call_threads, "MAX_PAUSE_S", 0.01)
    first = record.hold.remote(tmp_path / "go on")
    monkeypatch.setattr(call_threads, "MAX_PAUSE_S", 3600)
    for number in range(3):
        record.add.remote(number)
    (tmp_path / "go on").touch()
    assert skate.get(record.all.remote()) == [0, 1, 2]
    skate.get(first)
