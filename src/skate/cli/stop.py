"""``skate stop``: ends the session of ``skate start``."""

from __future__ import annotations

import argparse

from skate._base.config import Config
from skate._launch import session, standalone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.add_argument("--address", help="the session's folder (default: the one that init() joins)")
    parser.add_argument(
        "--force", "-f", action="store_true", help="taken for Ray's sake; it ends at once anyway"
    )


def run(arguments: argparse.Namespace) -> int:
    """End the session, its drivers' work, and its detached actors."""
    path = arguments.address or session.current()
    if path is None:
        print("No session of `skate start` runs. (Sessions of init() end with their programs.)")
        return 0
    try:
        standalone.stop(path, Config.load())
    except (OSError, KeyError) as error:
        raise ValueError(f"there is no session at {path!r} ({error})") from None
    print(f"The session at {path} ended.")
    return 0
