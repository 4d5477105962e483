"""Waiting for conditions and ending processes, in tests and in their tasks. Light: workers import it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: Seconds that no call takes, for arguments named ``timeout``: the watchdog ends a test that hangs long before.
AGES = 3600.0
#: Seconds between two looks at a condition.
_INTERVAL_S = 0.01


class Hung(BaseException):
    """The watchdog's exception: a test does not end. No handler of ordinary exceptions catches it."""


def progress() -> None:
    """Tell the watchdog that the test has done a step: its limits count from here."""
    with contextlib.suppress(KeyError, FileNotFoundError):  # no watchdog
        os.utime(os.environ["SKATE_TEST_PROGRESS"])


def wait_for(condition: Callable[[], T], what: str) -> T:
    """Return the first true value of the condition, however long that takes.

    Raises:
        AssertionError: the watchdog ended the test; it names ``what`` was waited for, and the last value.
    """
    value: object = "(not looked at yet)"
    try:
        while not (value := condition()):
            time.sleep(_INTERVAL_S)
        return value
    except Hung as hung:
        raise AssertionError(f"waited in vain for {what}; the last look gave {value!r}\n{hung}") from None


def wait_until_none(look: Callable[[], object], what: str) -> None:
    """Wait until ``look`` finds nothing (``None``, an empty list, ...) any more, however long that takes.

    Raises:
        AssertionError: the watchdog ended the test; what was still found is named.
    """
    found: object = "(not looked for yet)"
    try:
        while found := look():
            time.sleep(_INTERVAL_S)
    except Hung as hung:
        raise AssertionError(f"there is still {what}: {found!r}\n{hung}") from None


@contextlib.contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Fail when the ``with`` block takes longer, unless the machine has more to do than CPUs."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    busy = os.getloadavg()[0] >= (os.cpu_count() or 1)
    assert busy or took <= seconds, f"{what} took {took:.1f} s and not {seconds:g} s"


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
