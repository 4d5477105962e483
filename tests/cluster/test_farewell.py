"""How actors end in peace: their hook, their atexit handlers, and nothing of that when they are killed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import skate
from cluster.waiting import wait_for

pytestmark = pytest.mark.usefixtures("session")


@skate.remote
class Tidy:
    def __init__(self, path: str, *, fail: bool = False, hang: bool = False) -> None:
        import atexit

        self.path, self.fail, self.hang = path, fail, hang
        atexit.register(self.note, "atexit")

    def note(self, word: str) -> None:
        with open(self.path, "a") as file:
            file.write(word + "\n")

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        skate.actor.exit_actor()

    def __ray_shutdown__(self) -> None:
        self.note("hook")
        if self.fail:
            raise ValueError("on the way out")
        while self.hang:
            time.sleep(1)


@skate.remote
class AsyncTidy:
    def __init__(self, path: str) -> None:
        self.path = path

    async def pid(self) -> int:
        return os.getpid()

    async def __ray_shutdown__(self) -> None:
        Path(self.path).write_text("hook\n")


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def start(kind: Any, *args: Any, **options: Any) -> tuple[Any, int]:
    actor = kind.remote(*args, **options)
    return actor, skate.get(actor.pid.remote())


@pytest.mark.parametrize("how", ["handle", "exit_actor", "terminate"])
def test_an_actor_cleans_up(tmp_path: Path, how: str) -> None:
    path = tmp_path / "notes"
    actor, pid = start(Tidy, str(path))
    if how == "exit_actor":
        with pytest.raises(skate.exceptions.ActorDiedError):
            skate.get(actor.leave.remote())
    elif how == "terminate":
        actor.__ray_terminate__.remote()
    del actor
    wait_for(lambda: gone(pid), "the actor to end")
    assert path.read_text().split() == ["hook", "atexit"]


def test_kill_leaves_no_time_for_that(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    actor, pid = start(Tidy, str(path))
    skate.kill(actor)
    wait_for(lambda: gone(pid), "the actor to end")
    assert not path.exists()


def test_calls_made_before_come_first(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    actor, pid = start(Tidy, str(path))
    for number in range(20):
        actor.note.remote(str(number))
    del actor
    wait_for(lambda: gone(pid), "the actor to end")
    assert path.read_text().split() == [*map(str, range(20)), "hook", "atexit"]


def test_a_hook_that_raises_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    actor, pid = start(Tidy, str(tmp_path / "notes"), fail=True)
    del actor
    wait_for(lambda: gone(pid), "the actor to end")
    wait_for(lambda: "ValueError: on the way out" in capfd.readouterr().err, "its traceback")


def test_a_coroutine_as_hook(tmp_path: Path) -> None:
    actor, pid = start(AsyncTidy, str(tmp_path / "notes"))
    del actor
    wait_for(lambda: gone(pid), "the actor to end")
    assert (tmp_path / "notes").read_text() == "hook\n"


def test_a_hook_that_hangs_does_not_keep_the_session(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    actor, pid = start(Tidy, str(path), hang=True)
    del actor
    wait_for(path.exists, "the hook to begin")
    skate.shutdown()
    wait_for(lambda: gone(pid), "the actor to end")
