"""``skate logs``: what workers printed."""

from __future__ import annotations

import argparse
import fnmatch
import os
import select
import sys
from pathlib import Path

from skate._launch import observe
from skate.cli import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument(
        "who", nargs="*", metavar="WHO",
        help="pid or id of a worker, id or name of an actor, a replica of serve, id of a task, 'node' or "
        "'control'; "
        "Ray's words will do: actor --id ID, task --id ID, worker --pid PID, cluster [PATTERN]",
    )  # fmt: skip
    parser.add_argument("--id", "-a", help="of the actor or task")
    parser.add_argument("--pid", help="of the worker or actor")
    parser.add_argument("--follow", "-f", action="store_true", help="go on as it prints more")
    parser.add_argument("--tail", type=int, default=1000, help="how many of the last lines (default 1000)")
    parser.add_argument("--address", help="the session's folder (default: the one that runs)")


def run(arguments: argparse.Namespace) -> int:
    """Print a log, or say which there are."""
    path = observe.find(arguments.address)
    folder = Path(path, "logs")
    who, pattern = _who(arguments)
    if who is None:
        chosen = sorted(file for file in folder.iterdir() if fnmatch.fnmatch(file.name, pattern))
        print(show.table(["log", "size"], [[file.name, show.size(file.stat().st_size)] for file in chosen]))
        return 0
    files = _files(who, path, folder)
    if not files:
        raise ValueError(f"no log of {who!r} in {folder}; `skate logs` lists what there is")
    for file in files:
        if len(files) > 1:
            print(f"== {file.name}")
        lines = file.read_text(errors="replace").splitlines()
        print("\n".join(lines[-arguments.tail :]))
    if arguments.follow:
        _follow(files)
    return 0


def _who(arguments: argparse.Namespace) -> tuple[str | None, str]:
    """Return whose log is wanted, or None and a pattern of names to list."""
    given: list[str] = arguments.who
    named: str | None = arguments.id or arguments.pid
    if named is not None:
        return named, ""
    if not given or given[0] == "cluster":
        pattern = given[1] if len(given) > 1 else "*"
        return (pattern, "") if "*" not in pattern and len(given) > 1 else (None, pattern)
    if given[0] in ("actor", "task", "worker") and len(given) == 1:
        raise ValueError(f"which {given[0]}? Say --id or --pid")
    return given[-1], ""


def _files(who: str, path: str, folder: Path) -> list[Path]:
    wanted = {who}
    if not (folder / f"{who}.log").exists() and not (folder / who).exists():
        with show.looking_at(path) as state:
            for actor in state.actors():
                # A replica's actor has the name of its application and deployment before its own.
                names = (actor.actor_id, actor.name, (actor.name or "").rpartition("#")[2])
                if who in names and actor.worker_id:
                    wanted.add(actor.worker_id)
            wanted |= {row.worker_id for row in state.workers() if str(row.pid) == who}
            wanted |= {row.worker_id for row in state.tasks() if row.task_id == who and row.worker_id}
    files = folder.iterdir()
    return sorted(one for one in files if one.name == who or any(name in one.stem for name in wanted))


def _follow(files: list[Path]) -> None:
    """Print what is added, until Ctrl-C."""
    opened = [file.open(errors="replace") for file in files]
    for file in opened:
        file.seek(0, os.SEEK_END)
    try:
        while True:
            text = "".join(file.read() for file in opened)
            if text:
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                select.select([], [], [], 0.2)
    except KeyboardInterrupt:
        pass
    finally:
        for file in opened:
            file.close()
