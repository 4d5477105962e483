"""Errors that nobody asks for are told on stderr; those that somebody asks for are not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import processes

PREPARE = """
import asyncio, os, time
import skate

@skate.remote
def bad(text):
    raise ValueError(text)

@skate.remote(max_retries=0)
def crash():
    os._exit(4)

@skate.remote
def echo(value):
    return value

@skate.remote(num_cpus=0)
class Actor:
    def bad(self, text):
        raise ValueError(text)

    def wait(self):
        time.sleep(3600)

def caught(call):
    try:
        call()
    except Exception as error:
        print(type(error).__name__)

skate.init(num_cpus=2)
"""


def told(folder: Path, body: str) -> tuple[list[str], str]:
    """Run a driver; return the last lines of the errors that it was told of, and all of stderr."""
    done = processes.run_driver(folder, PREPARE + body)
    parts = re.split(r"skate: this error was never retrieved.*\n", done.stderr)[1:]
    return [
        part.splitlines()[0] if "finish" in part else part.splitlines()[-1] for part in parts
    ], done.stderr


def test_an_error_that_is_never_retrieved_is_printed(tmp_path: Path) -> None:
    lines, _ = told(
        tmp_path,
        """
bad.remote("dropped")
held = bad.remote("waited for")
skate.wait([held])
del held
actor = Actor.remote()
actor.bad.remote("of an actor")
echo.remote(bad.remote("of an argument"))
crash.remote()
skate.get([echo.remote(1), actor.__ray_ready__.remote()])
skate.wait([crash.remote()])
""",
    )
    assert sorted(line for line in lines if line.startswith("ValueError")) == [
        "ValueError: dropped", "ValueError: of an actor", "ValueError: of an argument", "ValueError: waited for",
    ]  # fmt: skip
    assert [line for line in lines if "task crash" in line and "exited with code 4" in line]


def test_what_somebody_asks_for_is_not(tmp_path: Path) -> None:
    lines, stderr = told(
        tmp_path,
        """
@skate.remote
def look(refs):
    caught(lambda: skate.get(refs[0]))

@skate.remote
def items():
    yield 1
    raise ValueError("in a generator that was left")

async def wait():
    try:
        await bad.remote("awaited")
    except ValueError:
        await asyncio.gather(bad.remote("gathered"), return_exceptions=True)

caught(lambda: skate.get(bad.remote("got")))
caught(lambda: skate.get([bad.remote(str(i)) for i in range(5)]))
caught(lambda: skate.get(echo.remote(bad.remote("of an argument"))))
skate.get(look.remote([bad.remote("passed on")]))
asyncio.run(wait())
bad.remote("a future").future().exception()
next(items.remote())
ref = echo.options(resources={"none": 1}).remote(1)
skate.cancel(ref)
del ref
actor = Actor.remote()
skate.get(actor.__ray_ready__.remote())
actor.wait.remote()
skate.kill(actor)
caught(lambda: skate.get(crash.remote()))
skate.get(echo.remote(1))
""",
    )
    assert lines == []
    assert "nobody asked" not in stderr


def test_a_constructor_that_raises_is_told(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        PREPARE
        + """
@skate.remote
class Broken:
    def __init__(self):
        raise ValueError("at birth")

broken = Broken.remote()
caught(lambda: skate.get(broken.__ray_ready__.remote()))
skate.get(echo.remote(1))
""",
    )
    assert re.search(r"\(Broken pid=\d+\) skate: Broken.__init__ raised, so the actor is dead:", done.stderr)
    assert "ValueError: at birth" in done.stderr


def test_many_are_counted(tmp_path: Path) -> None:
    lines, stderr = told(tmp_path, "skate.wait([bad.remote('x') for _ in range(15)], num_returns=15)\n")
    assert lines[:9] == ["ValueError: x"] * 9
    assert stderr.splitlines()[-1] == "skate: 5 more error(s) of calls were never retrieved"


@pytest.mark.parametrize("variable", ["SKATE_IGNORE_UNHANDLED_ERRORS", "RAY_IGNORE_UNHANDLED_ERRORS"])
def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    lines, stderr = told(tmp_path, "skate.wait([bad.remote('x')])\n")
    assert (lines, stderr) == ([], "")


def test_what_a_future_is_for_is_not(tmp_path: Path) -> None:
    """The process may end before the future has the error, and an iteration before it comes to it."""
    lines, stderr = told(
        tmp_path,
        """
import threading
from skate.util import ActorPool, as_completed, map_unordered

started = threading.Event()

def hold_up(_):
    started.set()
    threading.Event().wait(3)  # futures are resolved on the thread that runs this

future = echo.remote(1).future()
future.add_done_callback(hold_up)
if not future.done():
    started.wait()
refs = [bad.remote("of a future") for _ in range(2)]
futures = [ref.future() for ref in refs]
skate.wait(refs, num_returns=2)
del refs
caught(lambda: list(as_completed([bad.remote("completed") for _ in range(5)])))
caught(lambda: list(map_unordered(bad, ["mapped"] * 5)))
actor = Actor.remote()
pool = ActorPool([actor])
caught(lambda: list(pool.map(lambda actor, text: actor.bad.remote(text), ["of a pool"] * 3)))
caught(lambda: pool.get_next(timeout=3600))
skate.get(actor.__ray_ready__.remote())
""",
    )
    assert lines == [], stderr
