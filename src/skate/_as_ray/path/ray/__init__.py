"""``import ray`` in a process that a program under ``skate run`` started: skate, or the ray that is meant.

The folder above is on PYTHONPATH there (see ``skate._as_ray.environment``), so that every Python that is
started comes here, also one of another version or of another virtual environment. Only one that has this very
skate takes it; any other goes on without the folder, and finds the ray that it has, or none.
"""

import importlib
import importlib.util
import os
import sys

_FOLDER = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def _is_meant() -> bool:
    """Tell whether this Python has the skate that this file is a part of, and what skate needs."""
    if not os.environ.get("SKATE_AS_RAY"):
        return False
    try:
        found = importlib.util.find_spec("skate")
        usable = importlib.util.find_spec("msgspec") is not None
    except (ImportError, ValueError):
        return False
    ours = os.path.dirname(os.path.dirname(_FOLDER))
    return usable and found is not None and os.path.dirname(os.path.realpath(found.origin or "")) == ours


del sys.modules["ray"]
if _is_meant():
    importlib.import_module("skate.compat").install()
else:
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _FOLDER]
# The import system takes what is in sys.modules when this module has run.
importlib.import_module("ray")
