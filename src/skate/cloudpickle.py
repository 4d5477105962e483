"""The pickler that functions, classes and values travel with, as Ray has it at ``ray.cloudpickle``.

Refs that it pickles outside of a call are kept until the job ends: whoever unpickles one finds its value.

Example:
    >>> from skate import cloudpickle
    >>> cloudpickle.loads(cloudpickle.dumps(lambda: 5))()
    5
"""

from cloudpickle import (
    CloudPickler,
    Pickler,
    dump,
    dumps,
    load,
    loads,
    register_pickle_by_value,
    unregister_pickle_by_value,
)

__all__ = [
    "CloudPickler",
    "Pickler",
    "dump",
    "dumps",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]
