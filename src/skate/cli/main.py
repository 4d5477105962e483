"""``skate COMMAND``: finds the command and runs it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import skate

#: Command to its module and what it is for. A module has ``add_arguments(parser)`` and
#: ``run(arguments)``, which returns the exit code.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("skate.cli.run", "run a program; `import ray` means skate in it and in its workers"),
    "start": ("skate.cli.start", "start a session that stays until it is stopped"),
    "stop": ("skate.cli.stop", "end the session that `start` started"),
    "serve": ("skate.cli.serve", "run applications of skate.serve, and look at them"),
    "status": ("skate.cli.status", "show the session at a glance"),
    "list": ("skate.cli.listing", "list tasks, actors, objects, workers, nodes or jobs"),
    "get": ("skate.cli.get", "show everything that is known of one task, actor, object, worker, ..."),
    "summary": ("skate.cli.summary", "count tasks, actors or objects by what they are and their state"),
    "memory": ("skate.cli.memory", "show who holds which objects, and where in the code they were made"),
    "logs": ("skate.cli.logs", "show what a worker or actor printed"),
    "stack": ("skate.cli.stack", "show what every thread of the session is doing"),
    "debug": ("skate.cli.debug", "attach to a task or actor that stopped at a breakpoint"),
    "why": ("skate.cli.why", "say why an object or a task is not there yet: what it waits for, and so on"),
    "metrics": (
        "skate.cli.metrics",
        "print what programs counted (skate.util.metrics), as Prometheus reads it",
    ),
    "kill-actor": ("skate.cli.kill_actor", "end an actor, by its id or name"),
    "health-check": ("skate.cli.health_check", "tell by the exit code whether the session answers"),
    "microbenchmark": ("skate.cli.microbenchmark", "measure tasks, calls and objects on this machine"),
    "timeline": ("skate.cli.timeline", "write a trace of what ran when, for ui.perfetto.dev"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Args:
        argv: the arguments; None: those of this process.

    Example:
        >>> main(["--version"])
        0
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if given else 2
    if given[0] == "--version":
        print(f"skate {skate.__version__}")
        return 0
    name, *rest = given
    found = COMMANDS.get(name)
    if found is None:
        print(f"skate: there is no command {name!r}\n\n{help_text()}", file=sys.stderr)
        return 2
    module = importlib.import_module(found[0])
    parser = argparse.ArgumentParser(prog=f"skate {name}", description=found[1].capitalize() + ".")
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(rest)))
    except (ConnectionError, RuntimeError, ValueError) as error:
        if name == "run":
            raise
        print(f"skate {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if name == "run":
            raise
        return 130  # as a shell has it for SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has closed the pipe, such as head(1)
        return 0


def help_text(program: str = "skate") -> str:
    """Return the list of commands.

    Args:
        program: what they are commands of.
    """
    lines = [f"  {name:14} {text}" for name, (_, text) in COMMANDS.items()]
    return (
        f"usage: {program} COMMAND ...\n\n" + "\n".join(lines) + f"\n\n`{program} COMMAND --help` tells more."
    )
