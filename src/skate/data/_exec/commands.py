"""Commands of a scheduler to a port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skate.data._task.slices import Bundle


@dataclass(frozen=True, slots=True)
class Submit:
    """Run a task.

    Attributes:
        task: its number, never used again.
        stage: index of its stage.
        name: its name, the same in every run of a plan.
        bundle: its input; of a source: no slices, and the number of the read task as params.
        replica: the replica that runs it, or None.
        skip_rows: rows of output to leave out, since they were passed on before a crash.
        to_file: its output is to go to files.
        number: of the task among those of its stage, the same when it runs again.
        is_isolated: calls of users' functions, and the reading of files, go to processes of their own.
        origin: the part of the source that its input came from.
    """

    task: int
    stage: int
    name: str
    bundle: Bundle
    replica: int | None
    skip_rows: int
    to_file: bool
    number: int | None = None
    is_isolated: bool = False
    origin: str = ""


@dataclass(frozen=True, slots=True)
class StartReplica:
    """Start a process that holds the stage's instances."""

    replica: int
    stage: int


@dataclass(frozen=True, slots=True)
class StopReplica:
    """End a replica that has nothing to do any more (it may be kept warm for another execution)."""

    replica: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a task whose output is not wanted."""

    task: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Read no further blocks of a task."""

    task: int


@dataclass(frozen=True, slots=True)
class Release:
    """Go on reading blocks of a task."""

    task: int


@dataclass(frozen=True, slots=True)
class PartDone:
    """All rows that came from a part of the source have been written."""

    part: str
    results: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Fail:
    """End the execution with an error."""

    error: BaseException


Command = Submit | StartReplica | StopReplica | Cancel | Hold | Release | PartDone | Fail
