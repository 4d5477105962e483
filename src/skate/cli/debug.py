"""``skate debug``: attach to a task or actor that stopped at a breakpoint."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any, NamedTuple

from skate._launch import console, observe, session
from skate._transport.reactor import Reactor
from skate.cli import show
from skate.util.state.source import connected


class _Stop(NamedTuple):
    session: str
    address: str
    name: str
    pid: int
    where: str
    kind: str


class _Keyboard:
    """Reads lines from this command's own terminal, or whatever its input is."""

    def __init__(self, attached: console.Attached) -> None:
        self._attached = attached
        self._asking = False

    def ask(self, prompt: str, attached: console.Attached) -> str:
        """See ``console.Reader``."""
        self._asking = True
        try:
            return input(prompt)
        finally:
            self._asking = False

    def interrupted(self, signum: int, frame: Any) -> None:
        """Ctrl-C: for the line that is typed, or else for the code that runs."""
        if self._asking:
            raise KeyboardInterrupt
        self._attached.interrupt()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument(
        "number", nargs="?", type=int, help="of the breakpoint, as listed (default: the only one)"
    )
    parser.add_argument("--list", action="store_true", help="only list what waits")
    parser.add_argument("-v", "--verbose", action="store_true", help="taken for Ray's sake")
    show.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the breakpoints that wait; talk with the one that is meant until it goes on."""
    if arguments.address:
        sessions = [observe.find(arguments.address)]
    else:
        sessions = session.living() or [observe.find(None)]
    found = [stop for one in sessions for stop in _stops(one)]
    if arguments.json:
        show.as_json([stop._asdict() for stop in found])
        return 0
    if not found:
        where = f"of the session at {sessions[0]}" if len(sessions) == 1 else f"of {len(sessions)} sessions"
        print(f"No task or actor {where} waits at a breakpoint.")
        return 0
    chosen = arguments.number
    if arguments.list or (chosen is None and len(found) > 1):
        rows = [[i, one.name, one.pid, one.kind, one.where] for i, one in enumerate(found, 1)]
        print(show.table(["", "task or actor", "process", "stopped at", "where"], rows))
        if arguments.list:
            return 0
        if not sys.stdin.isatty():
            print("`skate debug NUMBER` attaches to one of them.")
            return 0
        chosen = _choose(len(found))
        if chosen is None:
            return 0
    if chosen is not None and not 1 <= chosen <= len(found):
        raise ValueError(f"there is no breakpoint {chosen}: {len(found)} wait(s); `skate debug --list`")
    _attach(found[(chosen or 1) - 1])
    return 0


def _stops(path: str) -> list[_Stop]:
    with connected(path) as state:
        return [
            _Stop(path, row["address"], row["name"], row["pid"], row["where"], row["kind"])
            for row in state.breakpoints()
        ]


def _choose(count: int) -> int | None:
    while True:
        try:
            text = input(f"Attach to which (1 to {count})? ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return None
        if text.isdecimal() and 1 <= int(text) <= count:
            return int(text)


def _attach(stop: _Stop) -> None:
    try:
        import readline  # noqa: F401  (line editing and history in input())
    except ImportError:
        pass
    reactor = Reactor("debug")
    reactor.start_background()
    try:
        try:
            attached = console.Attached(reactor, stop.address)
        except OSError:
            raise RuntimeError(f"{stop.name} (process {stop.pid}) has just gone on") from None
        print(f"({stop.name} pid={stop.pid}) stopped at {stop.where}", flush=True)
        keyboard = _Keyboard(attached)
        before = signal.signal(signal.SIGINT, keyboard.interrupted)
        try:
            attached.talk(_write, keyboard)
        finally:
            signal.signal(signal.SIGINT, before)
            attached.close()
            if not sys.stdin.isatty():
                print()  # behind the last prompt, where nobody typed a newline
    finally:
        reactor.close()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
