"""The command line: what is done to the service while clients use it, and what is printed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from demo import ocr
from demo.arguments import cpus, positive
from demo.errors import DemoError
from rich.console import Console

from demo_serve import memory
from demo_serve.clients import Clients
from demo_serve.table import rows, table
from skate import serve
from skate.util.state import list_actors

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "serve"
WORDS = ("Harbour", "Lantern", "Meadow", "Clockwork", "Orchard", "Window", "Saffron", "Compass")

FAILED = 1
ERROR = 2
INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

#: Seconds between two looks, and after which what is waited for will not come any more.
_INTERVAL_S, _LONGEST_S = 0.05, 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        return _run(options, console)
    except DemoError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False, style="red")
        return ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        serve.shutdown()


def _run(options: argparse.Namespace, console: Console) -> int:
    def say(what: str, text: str) -> None:
        console.print(f"{what:<9} {text}", soft_wrap=True, markup=False)

    say("Model", ocr.describe())
    service = _service()
    began = time.perf_counter()
    serve.start(http_options={"port": options.port})
    serve.run(service.build(options.readers))
    (address,) = serve.status().proxies
    ready_s = time.perf_counter() - began
    say("Service", f"http://{address}: an entrance and {options.readers} readers, ready in {ready_s:.1f} s")
    say("Load", f"{options.clients} clients, each of which sends a picture of a word after the other")

    seconds: dict[str, float] = {}
    pictures = [(word, service.picture_of(word)) for word in WORDS]
    with Clients(address, options.clients, pictures) as clients:

        def phase(name: str, work: Callable[[], object]) -> None:
            clients.phase, began = name, time.perf_counter()
            work()
            seconds[name] = time.perf_counter() - began

        def steady() -> None:
            time.sleep(options.seconds)
            # On a busy machine a picture may take longer than that.
            while not any(one.phase == clients.phase for one in clients.outcomes):
                time.sleep(_INTERVAL_S)

        phase("before", steady)
        phase("during the update", lambda: serve.run(service.build(options.readers, least_confidence=0.6)))
        phase("after it", steady)
        phase("a reader is killed", lambda: _kill_a_reader(options.readers, say))
        phase("after that", steady)
        processes, bytes_ = memory.of_session()

    found = rows(clients.outcomes, seconds)
    console.print(table(found))
    wrong = sum(not one.failure and not one.is_right for one in clients.outcomes)
    failures = [one.failure for one in clients.outcomes if one.failure]
    right = f"all {len(clients.outcomes):,} have the word of their picture"
    say("Answers", f"{wrong} of {len(clients.outcomes):,} lack the word of their picture" if wrong else right)
    say("Memory", f"{bytes_ / 1e6:,.0f} MB in {processes} processes, these clients among them (PSS)")
    for failure in sorted({*failures}):
        say("Failed", f"{failures.count(failure)}: {failure}")
    if options.keep:
        say("Service", f"http://{address} is up until Ctrl-C")
        signal.pause()
    return FAILED if failures or wrong else 0


def _service() -> Any:
    """Return the example, as a module that replicas find, too."""
    sys.path.insert(0, str(EXAMPLE))
    import ocr_service  # type: ignore[import-not-found]

    return ocr_service


def _readers() -> dict[str, int]:
    """Return the names and process ids of the readers that run."""
    return {
        str(one.name): one.pid
        for one in list_actors(filters=[("state", "=", "ALIVE")])
        if "#Reader#" in str(one.name)
    }


def _kill_a_reader(count: int, say: Callable[[str, str], None]) -> None:
    """Kill a reader, and wait until there are as many as before."""
    before = _readers()
    name, pid = next(iter(before.items()))
    os.kill(pid, signal.SIGKILL)
    say("Killed", f"process {pid}, a reader, in the middle of its work")
    until = time.monotonic() + _LONGEST_S
    while name in _readers() or _running() < count:
        if time.monotonic() > until:
            raise DemoError(f"no reader replaced process {pid} within {_LONGEST_S:g} s: {serve.status()}")
        time.sleep(_INTERVAL_S)


def _running() -> int:
    """Return how many readers are ready."""
    return serve.status().applications["default"].deployments["Reader"].replica_states.get("RUNNING", 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo_serve",
        description="Run a service that reads the text in pictures; update it and kill one of its processes\n"
        "while clients use it. The exit code is 1 if any request fails.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--readers", type=positive, default=cpus(), metavar="N",
        help="processes with a model each (default: one for each CPU, here %(default)s)")  # fmt: skip
    add("--clients", type=positive, default=4, metavar="N", help="(default: %(default)s)")
    add("--seconds", type=float, default=10.0, metavar="S",
        help="of each phase in which nothing happens (default: %(default)s)")  # fmt: skip
    add("--port", type=int, default=0, help="(default: any that is free)")
    add("--keep", action="store_true", help="stay up afterwards: there is a page for pictures of your own")
    return parser
