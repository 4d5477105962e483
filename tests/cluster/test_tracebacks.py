"""What a user sees of an error: the lines of the program, through all tasks that it went through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .terminals import program

PROGRAM = """
import asyncio, sys
import skate

@skate.remote
def divide(x):
    y = 0
    return x / y

@skate.remote
def ask():
    return skate.get(divide.remote(1))

@skate.remote
class Actor:
    def relay(self):
        return skate.get(ask.remote())

    async def later(self):
        return await ask.remote()

@skate.remote
def translate():
    try:
        return skate.get(divide.remote(1))
    except ZeroDivisionError as error:
        raise KeyError("translated") from error

@skate.remote
class Broken:
    def __init__(self):
        raise ValueError("no")

    def ping(self):
        pass

async def main():
    return await ask.remote()

skate.init(num_cpus=4)
"""


def shown(folder: Path, line: str, **env: str) -> list[str]:
    """Run the program with this last line, which raises; return what was printed, made comparable."""
    file = program(folder, PROGRAM + line + "\n")
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, env={**os.environ, **env}
    )
    assert done.returncode == 1
    text = done.stderr.replace(str(file), "program.py")
    text = re.sub(r"process \d+", "process N", text)
    text = re.sub(r"line \d+", "line N", text)
    text = re.sub(r'"/\S*/skate/(\S+)"', r'"skate/\1"', text)
    text = re.sub(r"\n +[~^]+(?=\n)", "", text)  # Python 3.11 and later
    # What workers say themselves (a constructor that raised, a loop that is blocked) is about more than that.
    return [line for line in text.splitlines() if not re.match(r"\(\w+ pid=", line)]


DIVIDE = [
    "Traceback (most recent call last):",
    '  File "program.py", line N, in divide',
    "    return x / y",
    "ZeroDivisionError: division by zero",
]
GET = ['  File "skate/api.py", line N, in get', "    raise shortened(error)"]


def local(line: str) -> list[str]:
    return ["Traceback (most recent call last):", '  File "program.py", line N, in <module>', f"    {line}"]


def test_a_task(tmp_path: Path) -> None:
    line = "skate.get(divide.remote(1))"
    head = "RayTaskError(ZeroDivisionError): divide failed in worker process N:"
    assert shown(tmp_path, line) == [*local(line), *GET, head, *DIVIDE]


def test_through_tasks_and_actors(tmp_path: Path) -> None:
    line = "skate.get(Actor.remote().relay.remote())"
    assert shown(tmp_path, line) == [
        *local(line),
        *GET,
        "RayTaskError(ZeroDivisionError): Actor.relay failed in worker process N, actor Actor:",
        '  File "program.py", line N, in relay',
        "    return skate.get(ask.remote())",
        "because ask failed in worker process N:",
        '  File "program.py", line N, in ask',
        "    return skate.get(divide.remote(1))",
        "because divide failed in worker process N:",
        *DIVIDE,
    ]


def test_through_coroutines(tmp_path: Path) -> None:
    told = shown(tmp_path, "asyncio.run(main())")
    start = told.index('  File "program.py", line N, in main')
    assert told[start:] == [
        '  File "program.py", line N, in main',
        "    return await ask.remote()",
        "RayTaskError(ZeroDivisionError): ask failed in worker process N:",
        '  File "program.py", line N, in ask',
        "    return skate.get(divide.remote(1))",
        "because divide failed in worker process N:",
        *DIVIDE,
    ]
    assert "skate/" not in "\n".join(told)


def test_another_error_made_of_it(tmp_path: Path) -> None:
    line = "skate.get(translate.remote())"
    assert shown(tmp_path, line) == [
        *local(line),
        *GET,
        "RayTaskError(KeyError): translate failed in worker process N:",
        "Traceback (most recent call last):",
        '  File "program.py", line N, in translate',
        "    return skate.get(divide.remote(1))",
        "RayTaskError(ZeroDivisionError): divide failed in worker process N:",
        *DIVIDE,
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        '  File "program.py", line N, in translate',
        '    raise KeyError("translated") from error',
        "KeyError: 'translated'",
    ]


def test_a_constructor(tmp_path: Path) -> None:
    line = "skate.get(Broken.remote().ping.remote())"
    assert shown(tmp_path, line) == [
        *local(line),
        *GET,
        "skate.exceptions.ActorDiedError: The actor died because of an error raised in its creation task: Broken.__init__ failed "
        "in worker process N, actor Broken:",
        "Traceback (most recent call last):",
        '  File "program.py", line N, in __init__',
        '    raise ValueError("no")',
        "ValueError: no",
    ]


def test_no_code_of_the_user_ran(tmp_path: Path) -> None:
    line = "skate.get(skate.remote(sum).remote(5))"
    assert shown(tmp_path, line) == [
        *local(line),
        *GET,
        "RayTaskError(TypeError): sum failed in worker process N:",
        "TypeError: 'int' object is not iterable",
    ]


def test_time_is_up(tmp_path: Path) -> None:
    line = "skate.get(ask.remote(), timeout=0)"
    told = shown(tmp_path, line)
    assert told[:-1] == [*local(line), *GET]
    assert told[-1].startswith(
        "skate.exceptions.GetTimeoutError: Get timed out: some object(s) not ready. get() waited 0 s"
    )


def test_all_of_it_is_there_when_asked_for(tmp_path: Path) -> None:
    told = "\n".join(shown(tmp_path, "skate.get(ask.remote())", SKATE_FULL_TRACEBACKS="1"))
    for file in ("skate/_worker/execution/executor.py", "skate/_worker/objects/values.py", "skate/api.py"):
        assert file in told
    assert told.count("program.py") == 3


def test_pytest_leaves_out_the_same(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(PROGRAM + "\ndef test_it():\n    skate.get(divide.remote(1))\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(file)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (
        ">       skate.get(divide.remote(1))\nE       RayTaskError(ZeroDivisionError): divide" in done.stdout
    )
    assert "api.py" not in done.stdout


@pytest.mark.parametrize("module", ["skate.exceptions", "skate._base.errors"])
def test_errors_go_by_the_name_that_users_know(module: str, tmp_path: Path) -> None:
    code = (
        f"import pickle, {module} as found; e = found.TaskCancelledError('id', 'text'); "
        "print(type(e).__module__, pickle.loads(pickle.dumps(e)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "skate.exceptions text\n"
