"""Provides ``list_logs`` and ``get_log``, which read the logs of processes from the session's folder."""

from __future__ import annotations

import fnmatch
import os
import re
import select
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from skate.util.state.exception import translated
from skate.util.state.options import GetLogOptions
from skate.util.state.source import State, connected

#: How much is read at a time.
_CHUNK_BYTES = 64 * 1024
#: The time between two checks for later lines, without an option of its own.
_INTERVAL_S = 0.2
_ANSI = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")


@translated
def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: int = 30,
) -> dict[str, list[str]]:
    """Return the names of the session's logs, by the kind of process: "worker", "node", "control", ...

    Args:
        address: a session's folder; None: this process's session, else the one that runs here.
        node_id, node_ip: accepted as in Ray: there is one node.
        glob_filter: names that match: ``"worker-*"``; None: all.
        timeout: accepted as in Ray; not used.

    Raises:
        RayStateApiException: there is no session.

    Example:
        >>> list_logs(glob_filter="*.log")["control"]
        ['control.log']
    """
    found: dict[str, list[str]] = {}
    with connected(address) as state:
        names = sorted(file.name for file in state.logs.iterdir() if file.is_file())
    for name in names:
        if glob_filter is None or fnmatch.fnmatch(name, glob_filter):
            kind = name.partition(".")[0].partition("-")[0]
            found.setdefault(kind, []).append(name)
    return found


@translated
def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: int = 30,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str | None = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    _interval: float | None = None,
    filter_ansi_code: bool = False,
) -> Iterator[str | bytes]:
    """Return the output of a process, piece by piece.

    Both streams of a process are in one log, in the order printed. The log of a task is that of its process,
    with the output of other tasks there.

    Args:
        address: a session's folder; None: this process's session, else the one that runs here.
        node_id, node_ip, timeout: accepted as in Ray: there is one node, and logs are read from its disk.
        filename: a name of ``list_logs``.
        actor_id, task_id: in hex; the process that runs it, or ran it last.
        pid: of a worker.
        follow: go on as more is printed, until the caller stops.
        tail: the number of last lines; below zero: all.
        suffix: "out" or "err": accepted as in Ray; not used.
        encoding: None: bytes.
        errors: as in ``bytes.decode``.
        submission_id: of a submitted job; this version has none yet.
        attempt_number: accepted as in Ray; the log is that of the last attempt.
        filter_ansi_code: remove colours and other control sequences of terminals.

    Raises:
        RayStateApiException: there is no session, no such log, or no argument selects one.

    Example:
        >>> print("".join(get_log(actor_id=actor._actor_id.hex(), tail=10)))
    """
    options = GetLogOptions(
        timeout, node_id, node_ip, "stream" if follow else "file", filename, actor_id=actor_id,
        task_id=task_id, attempt_number=attempt_number, pid=pid, lines=tail, interval=_interval,
        suffix=suffix, submission_id=submission_id,
    )  # fmt: skip
    with connected(address) as state:
        path = find_log(state, options)
    return _read(path, options, encoding, errors or "strict", filter_ansi_code)


def find_log(state: State, options: GetLogOptions) -> Path:
    """Return the path of the log that the options select.

    Raises:
        ValueError: there is none; the message names the folder.
    """
    if options.submission_id:
        raise ValueError("this version of skate has no job submission yet, and so no logs of submitted jobs")
    if options.filename:
        name = options.filename
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise ValueError(f"filename is a name in the folder of the session's logs, got {name!r}")
    else:
        name = f"worker-{_worker(state, options)}.log"
    path = state.logs / name
    if not path.is_file():
        raise ValueError(f"there is no log {name!r} in {state.logs}: nothing was printed, or it is another's")
    return path


def _worker(state: State, options: GetLogOptions) -> str:
    if options.actor_id:
        kind, wanted = "actor", options.actor_id
        found = [row.worker_id for row in state.actors() if row.actor_id == wanted]
    elif options.task_id:
        kind, wanted = "task", options.task_id
        found = [row.worker_id for row in state.tasks() if row.task_id == wanted]
    else:
        kind, wanted = "process", str(options.pid)
        found = [row.worker_id for row in state.workers() if row.pid == options.pid]
    if not found:
        raise ValueError(f"this session does not know the {kind} {wanted} (any more)")
    if not found[-1]:
        raise ValueError(f"the {kind} {wanted} has no log: no process runs it, or has run it")
    return found[-1]


def _read(
    path: Path, options: GetLogOptions, encoding: str | None, errors: str, filter_ansi_code: bool
) -> Iterator[str | bytes]:
    """Yield a log in pieces that end with a line, as far as lines are complete."""
    with path.open("rb") as file:
        if options.lines >= 0:
            file.seek(_start_of_last(file, options.lines))
        rest = b""
        while True:
            chunk = file.read(_CHUNK_BYTES)
            complete, newline, rest = (rest + chunk).rpartition(b"\n")
            piece = complete + newline
            if not chunk and options.media_type == "file":
                piece, rest = rest, b""
            if piece:
                if filter_ansi_code:
                    piece = _ANSI.sub(b"", piece)
                yield piece if encoding is None else piece.decode(encoding, errors)
            if not chunk:
                if options.media_type == "file":
                    return
                select.select([], [], [], options.interval or _INTERVAL_S)


def _start_of_last(file: IO[bytes], lines: int) -> int:
    """Return the position at which the last ``lines`` lines begin."""
    end = position = file.seek(0, os.SEEK_END)
    if lines == 0:
        return end
    wanted = lines + 1  # newlines from the end, the last line's own among them
    while position > 0:
        size = min(_CHUNK_BYTES, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        if position + size == end and not block.endswith(b"\n"):
            wanted -= 1
        count = block.count(b"\n")
        if count >= wanted:
            index = size
            for _ in range(wanted):
                index = block.rindex(b"\n", 0, index)
            return position + index + 1
        wanted -= count
    return 0
