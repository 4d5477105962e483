"""``skate start --head``: a session that stays."""

from __future__ import annotations

import argparse
import json
import signal

from skate._base.config import Config
from skate._launch import machine, standalone
from skate._scheduling.labels import parse_labels

#: The signals that end a session that was started with --block.
_STOP = (signal.SIGINT, signal.SIGTERM)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("--head", action="store_true", help="the first node of a cluster (required)")
    parser.add_argument("--num-cpus", type=int, help="CPUs to schedule on (default: those of this machine)")
    parser.add_argument("--num-gpus", type=int, help="GPUs to schedule on")
    parser.add_argument("--resources", default="{}", metavar="JSON", help="your own: '{\"license\": 2}'")
    parser.add_argument("--object-store-memory", type=int, metavar="BYTES", help="shared memory for objects")
    parser.add_argument("--object-spilling-directory", metavar="DIR", help="where objects go when it is full")
    parser.add_argument("--labels", default="", metavar="KEY=VALUE,...", help="labels of this node")
    parser.add_argument("--block", action="store_true", help="stay here, and end the session with Ctrl-C")


def run(arguments: argparse.Namespace) -> int:
    """Start a session."""
    if not arguments.head:
        raise ValueError("say --head: joining a session as another node is not supported by this version yet")
    resources = json.loads(arguments.resources)
    offer = machine.offer(
        arguments.num_cpus, arguments.num_gpus, resources, arguments.object_store_memory,
        arguments.object_spilling_directory, parse_labels(arguments.labels, "--labels"),
    )  # fmt: skip
    config = Config.load()
    path = standalone.start(offer, config)
    if arguments.block:
        # From now on the signal waits until it is waited for: it must not hit between two lines.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    print(
        f"""The session runs at {path}

  Programs of yours on this machine join it by themselves: skate.init()
  From elsewhere in your files: SKATE_ADDRESS={path} python program.py
  Look at it: skate status
  End it:     skate stop""",
        flush=True,
    )
    if arguments.block:
        signal.sigwait(_STOP)
        standalone.stop(path, config)
    return 0
