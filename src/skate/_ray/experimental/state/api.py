"""``ray.experimental.state.api``: the older name of ``ray.util.state``."""

from __future__ import annotations

from skate.util import state
from skate.util.state import *  # noqa: F403

__all__ = list(state.__all__)
