"""Tasks and an actor that several tests put to work. Light: workers import it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import skate

from .waiting import end_process, wait_for_file


@skate.remote
def square(x: int) -> int:
    return x * x


@skate.remote
def wait_and_return(path: Path, value: Any) -> Any:
    wait_for_file(path)
    return value


@skate.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def add(self, n: int = 1) -> int:
        self.value += n
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def wait_for(self, path: Path) -> int:
        wait_for_file(path)
        return self.value

    def tell_and_wait(self, told: Path, path: Path) -> int:
        told.touch()
        return self.wait_for(path)

    def end(self, how: str) -> None:
        end_process(how)
