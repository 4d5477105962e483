"""The pickler that functions, classes and values travel with, as Ray has it at ``ray.cloudpickle``.

Refs that it pickles outside of a call are kept until the job ends, so that a process that unpickles one finds
its value. With RAY_allow_out_of_band_object_ref_serialization=0 it refuses them.

Example:
    >>> from skate import cloudpickle
    >>> cloudpickle.loads(cloudpickle.dumps(lambda: 5))()
    5
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pickle import PickleBuffer, PicklingError
from typing import IO, Any

from cloudpickle import load, loads, register_pickle_by_value, unregister_pickle_by_value

from skate._serialize import culprit
from skate.engine.pickling import CloudPickler

__all__ = [
    "CloudPickler",
    "Pickler",
    "dump",
    "dump_debug",
    "dumps",
    "dumps_debug",
    "find_unpicklable",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]


Pickler = CloudPickler


def dump(
    obj: Any,
    file: IO[bytes],
    protocol: int | None = None,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
) -> None:
    """Write the pickle of an object, of functions and classes by value where they cannot be imported.

    Args:
        obj: the object.
        file: where to, open for binary writing.
        protocol: pickle's; None: the highest.
        buffer_callback: is given large buffers, which are then not in the pickle.
    """
    CloudPickler(file, protocol=protocol, buffer_callback=buffer_callback).dump(obj)


def dumps(
    obj: Any, protocol: int | None = None, buffer_callback: Callable[[PickleBuffer], Any] | None = None
) -> bytes:
    """Return the pickle of an object: see ``dump``.

    Raises:
        OufOfBandObjectRefSerializationException: a ref is in it, and the environment forbids that.
        TypeError, PicklingError: something in it cannot be pickled.
    """
    with io.BytesIO() as file:
        dump(obj, file, protocol, buffer_callback)
        return file.getvalue()


def dumps_debug(obj: Any, *args: Any, **kwargs: Any) -> bytes:
    """Return the pickle of an object; where it cannot be pickled, the error says what inside is to blame.

    Args:
        obj: the object.
        args, kwargs: as for ``dumps``.

    Raises:
        TypeError: something in it cannot be pickled; the message has the path to it.

    Example:
        >>> from skate import cloudpickle
        >>> cloudpickle.dumps_debug([threading.Lock()])
        Traceback (most recent call last):
        TypeError: cloudpickle.dumps([<unlocked _thread.lock ...>]) failed: value[0] is a _thread.lock, ...
    """
    try:
        return dumps(obj, *args, **kwargs)
    except (TypeError, PicklingError) as error:
        raise _explained("dumps", obj, error) from None


def dump_debug(obj: Any, *args: Any, **kwargs: Any) -> None:
    """``dump``; where the object cannot be pickled, the error says what inside is to blame."""
    try:
        dump(obj, *args, **kwargs)
    except (TypeError, PicklingError) as error:
        raise _explained("dump", obj, error) from None


def find_unpicklable(obj: Any, name: str) -> tuple[str, Any]:
    """Return the innermost part of an object that cannot be pickled, behind words for where it is.

    Args:
        obj: an object of which ``dumps`` fails.
        name: what those words call the object.

    Example:
        >>> from skate import cloudpickle
        >>> cloudpickle.find_unpicklable([threading.Lock()], "settings")
        ('settings[0]', <unlocked _thread.lock ...>)
    """
    return culprit.find(obj, name)


def _explained(what: str, obj: Any, error: Exception) -> TypeError:
    return TypeError(f"cloudpickle.{what}({obj!r:.100}) failed: {culprit.explain(obj, 'value', error)}")
