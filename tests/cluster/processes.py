"""The processes of a session as the system shows them, and drivers of their own as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from skate._launch import session

from .waiting import Hung, wait_until_none

#: Seconds that a program has to show its stacks.
_LAST_WORDS_S = 10
_TESTS = str(Path(__file__).resolve().parents[1])


class Roles(NamedTuple):
    """Process ids of a session, by role."""

    daemon: int
    control: int
    zygote: int
    workers: list[int]


def of_session(*session_dir: str) -> dict[int, list[str]]:
    """Return the command lines of all processes that have one argument with all these texts in it.

    Workers and what they fork say there what they run; their zygote's environment names the session.
    """
    found = {}
    for process in psutil.process_iter(["cmdline", "environ"]):
        arguments = process.info["cmdline"]
        session = (process.info["environ"] or {}).get("SKATE_SESSION")
        if arguments and session:
            arguments = [*arguments, session]
        if (
            arguments
            and process.pid != os.getpid()
            and any(all(text in argument for text in session_dir) for argument in arguments)
        ):
            found[process.pid] = arguments
    return found


def of_driver(pid: int) -> dict[int, list[str]]:
    """Return the command lines of all processes of all sessions of a driver: their names have its pid."""
    return of_session(f"{session.root()}/", f"-{pid}-")


def roles(session_dir: str) -> Roles:
    """Return who is who in a session that runs."""
    daemon = control = zygote = 0
    forks = []
    for pid, arguments in of_session(session_dir).items():
        code = " ".join(arguments)
        if "from skate._node." in code:
            daemon = pid
        elif "from skate._control." in code:
            control = pid
        else:
            forks.append(pid)
    for pid in list(forks):
        try:
            if psutil.Process(pid).ppid() == daemon:
                zygote = pid
                forks.remove(pid)
        except psutil.NoSuchProcess:
            forks.remove(pid)
    return Roles(daemon, control, zygote, forks)


def shared_memory(pids: list[int]) -> set[int]:
    """Return the inodes of skate's memory files that any of these processes has open or mapped."""
    inodes = set()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            inodes |= {int(line.split()[4]) for line in lines if "/memfd:skate-" in line}
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:skate-"):
                    inodes.add(os.stat(f"/proc/{pid}/fd/{fd}").st_ino)
        except (OSError, ValueError):
            pass  # it ended meanwhile
    return inodes


def alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Driver:
    """A program that is a driver, in a process and a session (as terminals know it) of its own."""

    def __init__(self, folder: Path, source: str, *arguments: object) -> None:
        self.script = folder / "driver.py"
        self.script.write_text(textwrap.dedent(source))
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(self.script), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self.process.pid

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end; when it hangs, have it show its stacks, and kill it."""
        return finish(self.process)


def run(argv: Sequence[object], given: str | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``subprocess.run`` does, with its output captured as text.

    Args:
        argv: its arguments. If it is a Python with ``-X faulthandler``, it shows its stacks when it hangs.
        given: its standard input.
    """
    process = subprocess.Popen(
        [str(argument) for argument in argv],
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", **options,
    )  # fmt: skip
    return finish(process, given)


def run_pytest(
    folder: Path, source: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run pytest on a file of that text, with the ``conftest`` of this repository."""
    file = folder / "test_inside.py"
    imports = "import os, signal, subprocess, sys, threading, time, pytest\n"
    file.write_text(imports + textwrap.dedent(source))
    return run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "conftest", "-o", "addopts=",
         "--rootdir", folder, "--import-mode=importlib", file],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([_TESTS, *sys.path]), **(environment or {})}, cwd=folder,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a program.

    Raises:
        AssertionError: the watchdog ended the test. The error says what the program said until then.
    """
    try:
        out, err = process.communicate(given)
    except Hung as hung:
        process.send_signal(signal.SIGABRT)
        try:
            out, err = process.communicate(timeout=_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        raise AssertionError(f"the program did not end; it said:\n{out}\n{err}\n{hung}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run_driver(folder: Path, source: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program that is a driver to its end, which is to be a good one."""
    done = Driver(folder, source, *arguments).finish()
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def wait_until_gone(session_dir: str) -> None:
    """Wait until no process of the session is left."""
    wait_until_none(lambda: of_session(session_dir), "a process of the session")
