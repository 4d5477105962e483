"""Variables that make processes which this one starts take skate for ray.

``PYTHONPATH`` gets a folder with a package ``ray`` (which hands over to skate) and the metadata of a
distribution ``ray``; ``PATH`` one with a command ``ray``. Both are inherited by whatever the program starts:
multiprocessing's children, ``subprocess``, shells. ``python -I`` and ``-E`` do not read PYTHONPATH.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

from skate._as_ray import VARIABLE

_HERE = os.path.dirname(os.path.abspath(__file__))
#: Has the package and the metadata.
FOLDER = os.path.join(_HERE, "path")
#: Has the command.
COMMANDS = os.path.join(_HERE, "bin")
#: Which Python the command runs.
PYTHON = "SKATE_AS_RAY_PYTHON"
#: All variables that ``extend`` sets.
VARIABLES = (VARIABLE, PYTHON, "PYTHONPATH", "PATH")


def extend(environment: MutableMapping[str, str]) -> None:
    """Add what processes with this environment need.

    Args:
        environment: is changed; what is there already stays as it is.
    """
    environment[VARIABLE] = "1"
    environment[PYTHON] = sys.executable
    _prepend(environment, "PYTHONPATH", FOLDER, "")
    _prepend(environment, "PATH", COMMANDS, os.defpath)


def extend_path(path: list[str]) -> None:
    """Let this process find the distribution ``ray``: behind the script's folder, where PYTHONPATH stands."""
    if FOLDER not in path:
        path.insert(1, FOLDER)


def _prepend(environment: MutableMapping[str, str], name: str, folder: str, default: str) -> None:
    given = environment.get(name) or default
    folders = given.split(os.pathsep) if given else []
    if folder not in folders:
        environment[name] = os.pathsep.join([folder, *folders])
