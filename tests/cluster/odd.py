"""Tasks and actors that behave oddly, for random programs. Light: workers import it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import skate
from skate import ObjectRef
from skate.actor import exit_actor

from . import awkward
from .arithmetic import combine, mix, unpack


@skate.remote(num_cpus=0)
class Closed:
    """Lets nobody through."""

    async def passed(self) -> None:
        await asyncio.Event().wait()


# Processes of their own: with one that exits would go what it owns.
@skate.remote(max_retries=0, runtime_env={"env_vars": {"SKATE_TEST_EXITS": "1"}})
def exit_task(how: str, code: int) -> None:
    os._exit(code) if how == "_exit" else sys.exit(code)


@skate.remote(num_cpus=0)
class Exiting:
    def pid(self) -> int:
        return os.getpid()

    def alive(self) -> bool:
        return True

    def leave(self, how: str, code: int) -> None:
        os._exit(code) if how == "_exit" else exit_actor()

    def exit_if(self, pid: int, code: int) -> bool:
        """Exit in that process; in another one the actor was restarted."""
        if os.getpid() == pid:
            sys.exit(code)
        return True


@skate.remote(num_cpus=1, num_gpus=1)
def gpu_combine(large: bool, *values: Any) -> int:
    return mix(*map(unpack, values))


# ---------------------------------------------------------------------- awkward exceptions


@skate.remote(max_retries=0)
def throw(name: str) -> None:
    raise awkward.make(name)


@skate.remote(max_retries=0)
def yield_and_throw(name: str) -> Iterator[int]:
    yield 1
    raise awkward.make(name)


@skate.remote(num_cpus=0)
class Thrower:
    def __init__(self, name: str = "") -> None:
        if name:
            raise awkward.make(name)

    def throw(self, name: str) -> None:
        raise awkward.make(name)

    def alive(self) -> bool:
        return True


@skate.remote(num_cpus=0)
class AsyncThrower:
    async def throw(self, name: str) -> None:
        raise awkward.make(name)

    async def alive(self) -> bool:
        return True


# ---------------------------------------------------------------------- signals


@skate.remote
def signalled(refs: list[ObjectRef[Any]], count: int) -> int:
    """Combine while a handler calls the runtime, again and again."""
    handled: list[int] = []

    def handler(*_: object) -> None:
        handled.append(unpack(skate.get(combine.remote(False, 1))))

    def send() -> None:
        for number in range(count):
            signal.pthread_kill(main, signal.SIGUSR1)
            while len(handled) <= number and not stop.wait(0.001):
                pass

    main, stop = threading.main_thread().ident, threading.Event()
    assert main is not None
    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        while True:
            result = mix(*map(unpack, skate.get(refs)))
            if not thread.is_alive():
                break
    finally:
        stop.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert handled == [mix(1)] * count
    return result
