"""``ray.experimental.state``: the older name of ``ray.util.state``."""

from skate._ray.experimental.state import api as api
