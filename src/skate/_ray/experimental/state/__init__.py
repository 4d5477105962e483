"""``ray.experimental.state``: the older name of ``ray.util.state``."""
