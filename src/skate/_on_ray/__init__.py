"""Carries out the public API on an existing Ray cluster, through Ray's own public API.

::

    session                     joins the cluster, in a driver and in Ray's workers; what travels there
       |
    engine                      skate.engine.interface.Engine: each call of skate is one call of Ray
       |
    groups | calls | graphs     placement groups | options, in Ray's words | compiled graphs of Ray's own
       |
    bars | serializers          progress bars by Ray's | registered types in Ray's pickler
       |
    refs                        skate's refs and generators around Ray's
       |
    errors                      Ray's exceptions as skate's

Ray is imported when a program asks for it (``init("ray://...")``, ``init(address="ray")``,
``SKATE_ENGINE=ray``), never before. A task runs the user's own function in one of Ray's workers, without
anything of skate around it; there, skate connects itself at its first use, since the job's environment says
``SKATE_ENGINE=ray``.
"""

from __future__ import annotations

import sys
from typing import Any

#: The variable that chooses the engine, in drivers and in Ray's workers.
VARIABLE = "SKATE_ENGINE"
#: Has Ray leave the pickling of tables to Arrow: its own way, through Arrow files, loses types that are not
#: registered, such as that of a column of any Python values. Read when a process connects.
ARROW = {"RAY_DISABLE_CUSTOM_ARROW_DATA_SERIALIZATION": "1"}
#: The variables that skate adds to the environment of a job.
OWN_VARIABLES = frozenset({VARIABLE, *ARROW})


def import_ray() -> Any:
    """Return the real Ray.

    Raises:
        ImportError: it is not installed.
        RuntimeError: in this process ``import ray`` means skate.
    """
    loaded = sys.modules.get("ray")
    if loaded is not None and hasattr(loaded, "__skate_parts__"):
        raise RuntimeError(
            "in this process `import ray` means skate (`skate run`, skate.compat.install()), so Ray itself "
            "cannot be imported. A program that says `import ray` runs on a Ray cluster by Ray itself; to "
            "run it by skate's API, write `import skate as ray`"
        )
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "this session is to run on a Ray cluster, and Ray is not installed here: pip install "
            f"'skate-runtime[ray]', in the version of the cluster ({error})"
        ) from error
    return ray
