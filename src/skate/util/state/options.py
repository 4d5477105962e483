"""Defines the options of ``StateApiClient``, as Ray's classes."""

from __future__ import annotations

import enum
import warnings
from dataclasses import dataclass, field
from typing import Any

#: The number of rows of a list without a limit of its own.
DEFAULT_LIMIT = 100
#: The time limit of a request without one of its own, in seconds.
DEFAULT_TIMEOUT = 30


class StateResource(enum.Enum):
    """The kinds of lists."""

    ACTORS = "actors"
    JOBS = "jobs"
    PLACEMENT_GROUPS = "placement_groups"
    NODES = "nodes"
    WORKERS = "workers"
    TASKS = "tasks"
    OBJECTS = "objects"
    RUNTIME_ENVS = "runtime_envs"
    CLUSTER_EVENTS = "cluster_events"


class SummaryResource(enum.Enum):
    """The kinds of summaries."""

    ACTORS = "actors"
    TASKS = "tasks"
    OBJECTS = "objects"


@dataclass
class ListApiOptions:
    """Options of a list.

    Args:
        limit: the most rows.
        timeout: its time limit in seconds.
        detail: accepted as in Ray; rows have all columns.
        filters: ``[("state", "=", "RUNNING")]``; all must hold.
        exclude_driver: accepted as in Ray; drivers are no tasks here.
        server_timeout_multiplier: accepted as in Ray; not used.

    Raises:
        ValueError: a predicate is not "=" or "!=", or the timeout not above 0.
    """

    limit: int = DEFAULT_LIMIT
    timeout: int = DEFAULT_TIMEOUT
    detail: bool = False
    filters: list[tuple[str, str, Any]] | None = field(default_factory=list)
    exclude_driver: bool = True
    server_timeout_multiplier: float = 0.8

    def __post_init__(self) -> None:
        _check_timeout(self.timeout)
        self.filters = list(self.filters or ())
        check_filters(self.filters)

    def has_conflicting_filters(self) -> bool:
        """Tell, and warn, whether filters ask for two values of one column, so that no row passes."""
        wanted: dict[str, Any] = {}
        for name, predicate, value in self.filters or ():
            if predicate == "=" and wanted.setdefault(name, value) != value:
                warnings.warn(
                    f"no row can have {name} = {wanted[name]!r} and {name} = {value!r}",
                    UserWarning,
                    stacklevel=2,
                )
                return True
        return False


@dataclass
class GetApiOptions:
    """Options of a request for one row. See ``ListApiOptions``."""

    timeout: int = DEFAULT_TIMEOUT
    server_timeout_multiplier: float = 0.8

    def __post_init__(self) -> None:
        _check_timeout(self.timeout)


@dataclass
class SummaryApiOptions:
    """Options of a summary. See ``ListApiOptions``.

    Args:
        summary_by: of tasks: "func_name" or "lineage"; None: the first.
    """

    timeout: int = DEFAULT_TIMEOUT
    filters: list[tuple[str, str, Any]] | None = field(default_factory=list)
    summary_by: str | None = None

    def __post_init__(self) -> None:
        _check_timeout(self.timeout)
        check_filters(self.filters or ())


@dataclass
class GetLogOptions:
    """Options that select a log and its lines. See ``get_log``.

    Raises:
        ValueError: no option selects a log, or a value is out of range.
    """

    timeout: int
    node_id: str | None = None
    node_ip: str | None = None
    #: "file": up to its present end; "stream": also later lines.
    media_type: str = "file"
    filename: str | None = None
    download_filename: str = "file.txt"
    actor_id: str | None = None
    task_id: str | None = None
    attempt_number: int = 0
    pid: int | None = None
    #: The number of last lines; below zero: all.
    lines: int = 1000
    #: Seconds between two checks for later lines.
    interval: float | None = None
    suffix: str = "out"
    submission_id: str | None = None

    def __post_init__(self) -> None:
        self.pid = int(self.pid) if self.pid else None
        self.interval = float(self.interval) if self.interval else None
        self.lines = int(self.lines)
        if self.media_type not in ("file", "stream"):
            raise ValueError(f"media_type is 'file' or 'stream', got {self.media_type!r}")
        if self.node_id and self.node_ip:
            raise ValueError("node_id and node_ip both say where the log is: give one of them")
        if not any((self.actor_id, self.task_id, self.pid, self.filename, self.submission_id)):
            raise ValueError("which log? Give filename, actor_id, task_id or pid")
        if self.suffix not in ("out", "err"):
            raise ValueError(f"suffix is 'out' or 'err', got {self.suffix!r}")


def check_filters(filters: Any) -> None:
    """Raise unless all predicates are "=" or "!=".

    Raises:
        ValueError: the message names the predicate.
    """
    for _, predicate, _ in filters:
        if predicate not in ("=", "!="):
            raise ValueError(f"a filter's predicate is '=' or '!=', got {predicate!r}")


def wanted_id(filters: Any, column: str) -> str:
    """Return the id that filters ask for, or ""; with an id, processes report nothing else."""
    found = [value for name, predicate, value in filters or () if name == column and predicate == "="]
    return str(found[0]).lower() if found else ""


def _check_timeout(seconds: float) -> None:
    if seconds <= 0:
        raise ValueError(f"timeout takes seconds above 0, got {seconds!r}")
