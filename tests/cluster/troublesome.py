"""Exceptions that make trouble for whoever handles them. Light: workers import it."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, NoReturn


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses attributes."""

    user: str = "someone"


class NoStr(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no text")


class NoRepr(Exception):
    def __repr__(self) -> NoReturn:
        raise RuntimeError("no text")


class NoReduce(Exception):
    def __reduce__(self) -> NoReturn:
        raise RuntimeError("cannot be pickled")


class NoAttributes(Exception):
    """Has none, says every look."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"no {name}")


class NoSetting(Exception):
    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise RuntimeError(f"{name} cannot be set")


class NoTruth(Exception):
    def __bool__(self) -> NoReturn:
        raise RuntimeError("neither true nor false")


class Holder(Exception):
    """Holds something that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("it holds a lock")
        self.lock = threading.Lock()


class TwoArguments(Exception):
    """Its args are not what it is made of."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


#: Each by a name, and how it is made.
EXCEPTIONS: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (
        Frozen, NoStr, NoRepr, NoReduce, NoAttributes, NoSetting, NoTruth, Holder, TwoArguments
    )
}  # fmt: skip


def make(name: str) -> BaseException:
    """Return one of them."""
    return TwoArguments(1, 2) if name == "TwoArguments" else EXCEPTIONS[name]()
