"""What ``ps`` and ``top`` call workers, where programs say ``import skate``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import skate
from skate._worker.execution.executor import Executor
from skate.api import RayContext as Session

from .processes import roles
from .waiting import wait_for


@skate.remote
def pid_of(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    wait_for(lambda: not Path(path).exists(), "the end")


@skate.remote
class Actor:
    def pid(self) -> int:
        return os.getpid()

    def fork(self) -> str:
        """Return the title of a program that it starts."""
        code = "print(open('/proc/self/cmdline').read().replace(chr(0), ' '))"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout

    def variables(self) -> dict[str, str]:
        return dict(os.environ)


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def thread(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_task_and_an_idle_worker(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    long_name = "a long name: " + "x" * 1000
    for name, shown in (("pid_of", "pid_of"), ("two\0words ü", "two words ü"), (long_name, long_name[:249])):
        running = pid_of.options(name=name).remote(str(path))
        wait_for(lambda: path.exists() and path.read_text(), "the task")
        pid = int(path.read_text())
        wait_for(lambda pid=pid, shown=shown: title(pid) == f"skate::{shown}\0", shown)
        assert f"skate::{shown}".encode().startswith(thread(pid).encode("utf-8", "surrogateescape")[:14])
        path.unlink()
        skate.get(running)
        wait_for(lambda pid=pid: title(pid) == "skate::IDLE\0", "the idle worker's title")
        assert thread(pid) == "skate::IDLE"


def delay_calls() -> None:
    """Have the main thread of this worker linger between the arrival of a call and its beginning."""
    begin = Executor._run_call

    def linger(*args: Any) -> None:
        time.sleep(0.05)  # the background thread takes the lead, and finds no call
        begin(*args)

    Executor._run_call = linger  # type: ignore[method-assign]


def test_a_task_that_began_after_the_background_thread_looked(tmp_path: Path) -> None:
    skate.init(num_cpus=1, runtime_env={"worker_process_setup_hook": delay_calls})
    path = tmp_path / "pid"
    running = pid_of.remote(str(path))
    wait_for(lambda: path.exists() and path.read_text(), "the task")
    pid = int(path.read_text())
    wait_for(lambda: title(pid) == "skate::pid_of\0", "the title")
    path.unlink()
    skate.get(running)


def test_an_actor_and_what_it_starts(session: Session) -> None:
    actor = Actor.options(name="of a name").remote()
    pid = skate.get(actor.pid.remote())
    assert title(pid) == "skate::Actor\0"
    assert thread(pid) == "skate::Actor"
    assert skate.get(actor.fork.remote()).startswith(sys.executable)
    assert "SKATE_SESSION" not in skate.get(actor.variables.remote())


def test_who_belongs_to_a_session_can_still_be_found(session: Session) -> None:
    actor = Actor.remote()
    pid = skate.get(actor.pid.remote())
    assert pid in roles(session["session_dir"]).workers
