"""``ray.util.pdb``: see ``skate.util.rpdb``."""

from skate.util.rpdb import post_mortem as post_mortem
from skate.util.rpdb import set_trace as set_trace
