"""Programs that say ``import ray``, run on skate without a change.

``skate run script.py`` does it for a whole program; ``skate.compat.install()`` from its first line on::

    import skate.compat
    skate.compat.install()
    import ray                      # is skate

In that process, in every worker that it starts, and in the processes that these start themselves, ``ray``
is skate: ``ray.x.y`` is the very module ``skate.x.y``, and nothing is imported twice. ``importlib.metadata``
finds a distribution ``ray``, ``PATH`` has a command ``ray``, and public classes say ``ray`` in their
``__module__``. Nothing is installed under that name. A name that skate lacks raises ModuleNotFoundError by
its name.
"""

from __future__ import annotations

import os
import sys

from skate._as_ray import RAY_VERSION, VARIABLE, environment, modules, names
from skate.engine import engine

__all__ = ["RAY_VERSION", "VARIABLE", "install"]


def install() -> None:
    """Make ``import ray`` mean skate: here, in all workers that this process starts, in its child processes.

    Call it before ``init``: workers are started with what was so then.

    Raises:
        RuntimeError: the real ray was imported already, or this process is connected already.

    Example:
        >>> skate.compat.install()
        >>> import ray
        >>> ray.__name__
        'ray'
    """
    loaded = sys.modules.get("ray")
    if loaded is not None and not isinstance(loaded, modules.Joined):
        raise RuntimeError("install() comes too late: this program has imported the real ray already")
    if engine() is not None and not os.environ.get(VARIABLE):
        raise RuntimeError("install() comes too late: workers know nothing of it. Call it before init()")
    environment.extend(os.environ)
    environment.extend_path(sys.path)
    if modules.finder not in sys.meta_path:
        sys.meta_path.insert(0, modules.finder)
    names.use()
