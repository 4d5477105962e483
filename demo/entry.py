"""Starts a demo, or says which package it lacks."""

from __future__ import annotations

import sys
from importlib import import_module


def start(demo: str) -> None:
    """Run a demo's command line, and exit with its code.

    Args:
        demo: its package, which has a module ``cli`` with a function ``main``. Its extra has the same name.
    """
    try:
        sys.exit(_run(demo))
    except KeyboardInterrupt:  # while the imports were still going on
        sys.exit(130)


def _run(demo: str) -> int:
    try:
        main = import_module(f"{demo}.cli").main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("demo"):
            raise
        extra = demo.replace("_", "-")
        print(f"error: the demo needs the package {error.name}: pip install -e '.[{extra}]'", file=sys.stderr)
        return 2
    return int(main())
