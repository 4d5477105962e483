"""`skate start`, `stop`, and the command line itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from skate._launch import session

from . import processes


@pytest.fixture
def folder(folder: str) -> Iterator[str]:
    """The test's own, and the sessions that it leaves there are stopped."""
    yield folder
    for one in session.living():
        skate("stop", "--address", one)


def skate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "skate", *arguments], capture_output=True, text=True)


def test_start_use_stop(folder: str) -> None:
    done = skate("start", "--head", "--num-cpus", "3", "--resources", '{"license": 2}')
    assert done.returncode == 0, done.stderr
    (path,) = session.living()
    assert path in done.stdout
    again = skate("start", "--head")
    assert (again.returncode, "runs already" in again.stderr) == (1, True)
    program = "import skate; skate.init(); print(skate.cluster_resources())"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "'CPU': 3.0" in out
    assert "'license': 2.0" in out
    status = json.loads(skate("status", "--json").stdout)
    assert status["session"] == path
    assert [job["status"] for job in status["jobs"]] == ["SUCCEEDED"]
    done = skate("stop")
    assert (done.returncode, path in done.stdout) == (0, True)
    processes.wait_until_gone(path)
    assert "No session" in skate("stop").stdout


def test_block(folder: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "skate", "start", "--head", "--num-cpus", "1", "--block"],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    path = process.stdout.readline().split()[-1]
    assert session.is_alive(path)
    while "End it" not in process.stdout.readline():
        pass
    os.kill(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode == 0
    processes.wait_until_gone(path)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "usage: skate"),
        (["--help"], 0, "timeline"),
        (["--version"], 0, "skate 0."),
        (["fly"], 2, "no command 'fly'"),
        (["start"], 1, "say --head"),
        (["start", "--head", "--num-cpus", "-1"], 1, "nonnegative: num_cpus is -1"),
        (["status"], 1, "no session of this user runs"),
        (["list", "clouds"], 2, "invalid choice"),
        (["stop", "--address", "/nowhere"], 1, "no session at '/nowhere'"),
        (["memory", "--address", "/nowhere"], 1, "no session answers at '/nowhere'"),
    ],
)
def test_words(folder: str, arguments: list[str], code: int, text: str) -> None:
    done = skate(*arguments)
    assert done.returncode == code
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
