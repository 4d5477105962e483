"""A worker enters its environment: variables, folder, paths, packages; then the user's setup hook.

The worker is a fork of a running Python. Modules that Python has imported already (the runtime and its
dependencies) stay as they are; all others are found in the environment first.
"""

from __future__ import annotations

import importlib
import os
import pickle
import site
import sys
import time
from typing import Any

import msgspec

from skate._environment.spec import Environment, Prepared, expand, site_packages


def enter(environment: Environment, given: dict[str, Any]) -> None:
    """Make this process a member of the environment. The job's own variables and paths are set already.

    Args:
        environment: the environment.
        given: the result of its preparation (Prepared, decoded from JSON).
    """
    prepared = msgspec.convert(given, Prepared)
    paths = [prepared.working_dir, *prepared.paths] if prepared.working_dir else list(prepared.paths)
    before = os.environ.get("PYTHONPATH")
    os.environ.update(expand(environment.env_vars, os.environ))
    if prepared.venv:
        _use_packages(prepared.venv)
    own = os.environ.get("PYTHONPATH")
    if own and own != before:  # this Python has read the one that it was started with
        paths += [os.path.abspath(path) for path in own.split(os.pathsep) if path]
    if paths:
        sys.path[:0] = paths
        # For Python processes that tasks start.
        more = [path for path in (own or "").split(os.pathsep) if path]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*paths, *more]))
    if prepared.working_dir:
        os.chdir(prepared.working_dir)
    if "TZ" in environment.env_vars:
        time.tzset()
    importlib.invalidate_caches()


def _use_packages(venv: str) -> None:
    """Behave as the Python of a virtual environment would: its packages come before those outside."""
    before = list(sys.path)
    site.addsitedir(site_packages(venv))
    new = [path for path in sys.path if path not in before]
    where = next((i for i, path in enumerate(before) if path.endswith(("site-packages", "dist-packages"))),
                 len(before))  # fmt: skip
    sys.path[:] = [*before[:where], *new, *before[where:]]
    sys.prefix = sys.exec_prefix = venv
    sys.executable = os.path.join(venv, "bin", "python")
    os.environ["VIRTUAL_ENV"] = venv
    os.environ["PATH"] = os.pathsep.join([os.path.join(venv, "bin"), os.environ.get("PATH", os.defpath)])


def run_hook(environment: Environment) -> None:
    """Run the setup hook; the caller reports an exception of the hook."""
    if environment.hook_code:
        hook = pickle.loads(environment.hook_code)
    else:
        module, _, name = environment.hook.rpartition(".")
        hook = getattr(importlib.import_module(module), name)
    hook()
