"""Waiting for conditions and ending processes, in tests and in their tasks. Light: workers import it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: Seconds after which a wait counts as hung.
DEADLINE = 20.0


def wait_for(condition: Callable[[], T], what: str, timeout: float = DEADLINE) -> T:
    """Return the first true value of the condition.

    Raises:
        AssertionError: there was none in time; it names ``what`` was waited for, and the last value.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last look gave {value!r}")
        time.sleep(0.01)


def wait_until_none(look: Callable[[], object], what: str, timeout: float = DEADLINE) -> None:
    """Wait until ``look`` finds nothing (``None``, an empty list, ...) any more.

    Raises:
        AssertionError: it still did in the end; what it found is named.
    """
    deadline = time.monotonic() + timeout
    while found := look():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout:g} s there is still {what}: {found!r}")
        time.sleep(0.01)


def meet(folder: str | Path, name: object, count: int) -> int:
    """Leave a file of that name in the folder, wait until there are ``count``, return how many there are.

    Tasks that all return have run at the same time.
    """
    os.makedirs(folder, exist_ok=True)
    Path(folder, str(name)).touch()
    return wait_for(
        lambda: len(os.listdir(folder)) >= count and len(os.listdir(folder)),
        f"{count} to meet in {os.path.basename(folder)}",
    )


def wait_for_file(path: str | Path) -> None:
    """Wait until somebody made the file."""
    wait_for(lambda: os.path.exists(path), f"the file {os.path.basename(path)}")


def first_time(path: str | Path) -> bool:
    """Tell whether nobody asked for this path before: for what is to happen in the first attempt only."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def attempt(path: str | Path) -> int:
    """Count the attempts at something over processes that die: 1 at first."""
    with open(path, "ab") as file:
        file.write(b".")
    return os.path.getsize(path)


def end_process(how: str) -> None:
    """End this process by the signal of that name, or ("exit") with code 7."""
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))
