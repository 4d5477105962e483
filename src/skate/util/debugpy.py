"""``ray.util.debugpy``: see ``skate.util.rpdb``."""

from skate.util.rpdb import set_trace as set_trace
