"""Names of Ray's that documentation, courses and libraries use though they are no part of its public API.

The tree is Ray's: ``ray._private.worker`` is ``skate._ray._private.worker``. Each module is thin: the work
is done elsewhere. ``skate._as_ray.modules`` finds them for ``import ray``. This module itself
has the names of ``ray`` that differ from those of ``skate``.
"""

from skate._as_ray import RAY_VERSION as __version__

__all__ = ["__version__"]
