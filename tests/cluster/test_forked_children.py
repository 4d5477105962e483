"""A child that user code forks inside a call ends where that code ends, as in a program of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import processes

PROGRAM = """
import atexit, multiprocessing, os, sys
import skate

def status(child):
    pid = os.fork()
    if not pid:
        child()
        os._exit(77)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def leave(code):
    sys.exit(code)

def fail():
    raise ValueError("of the child")

def interrupt():
    raise KeyboardInterrupt

def register():
    atexit.register(print, "registered", flush=True)
    print("no newline yet", end=", ")
    sys.exit(3)

def in_multiprocessing():
    process = multiprocessing.get_context("fork").Process(target=leave, args=(9,))
    process.start()
    process.join()
    return process.exitcode

WAYS = {
    "nine": lambda: status(lambda: sys.exit(9)),
    "zero": lambda: status(sys.exit),
    "text": lambda: status(lambda: sys.exit("a text")),
    "raises": lambda: status(fail),
    "interrupted": lambda: status(interrupt),
    "at exit": lambda: status(register),
    "multiprocessing": in_multiprocessing,
}
EXPECTED = {"nine": 9, "zero": 0, "text": 1, "raises": 1, "interrupted": -2, "at exit": 3, "multiprocessing": 9}

@skate.remote
def task(way):
    return WAYS[way]()

@skate.remote
def returns():
    pid = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else "the child"

@skate.remote
def items():
    yield 1
    yield status(lambda: sys.exit(9))
    pid = os.fork()
    if pid:
        yield os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    else:
        yield "the child"

@skate.remote
class Serial:
    def __init__(self):
        self.first = status(lambda: sys.exit(8))

    def call(self, way):
        return self.first, WAYS[way]()

@skate.remote
class Async:
    async def call(self, way):
        return 8, WAYS[way]()

MODE
for way in WAYS:
    assert skate.get(task.remote(way), timeout=3600) == EXPECTED[way], way
assert skate.get(returns.remote(), timeout=3600) == 0
assert [skate.get(ref, timeout=3600) for ref in items.options(num_returns="streaming").remote()] == [1, 9, 0]
for actor in (Serial.remote(), Serial.options(max_concurrency=2).remote(), Async.remote()):
    assert skate.get(actor.call.remote("nine"), timeout=3600) == (8, 9)
assert skate.get(task.remote("nine")) == 9
print("all right")
"""


@pytest.mark.parametrize("mode", ["skate.init(num_cpus=2)", "skate.init(mode='inline')"])
def test_they_end_as_python_does(tmp_path: Path, mode: str) -> None:
    done = processes.run_driver(tmp_path, PROGRAM.replace("MODE", mode))
    lines = done.stdout.splitlines()
    assert lines[-1] == "all right"
    assert [line for line in lines if line.endswith("no newline yet, registered")]
    assert "a text" in done.stderr
    assert "ValueError: of the child" in done.stderr
    assert "_invoke" not in done.stderr
