"""Sends values as ``multiprocessing`` does: the receiver gets a copy of its own, to which it may write.

A receiver of the runtime's usual values reads them in place: its arrays are views into a message or
into shared memory, and read-only. Programs written for ``multiprocessing``, ``concurrent.futures`` or
joblib write to the values that they receive. So the helpers send values inside one of these::

    Copy    stands for a value in a pickle and is replaced by it when it is unpickled, wherever that is
    Packed  is unpacked by the helper's code at the receiver: see ``_namespaces``

Both copy each large buffer (of numpy arrays, data frames, ...) once, at the receiver. Arrays that are
read-only at the sender, such as results of ``get`` and arrays that a data frame shows of itself, are copied
there, too: ``multiprocessing`` makes them writable.
"""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from skate._serialize.values import PLAIN, FastPickler, collecting, serialize

#: All calls of a function in a worker share the values that it captures: values of at least this size are
#: read in place, and read-only. joblib's own processes share large arguments so, from the same size on.
SHARED_BYTES = 1 << 20


def all_plain(values: Iterable[Any]) -> bool:
    """Tell whether no part of these values can be written to, so that they need no copies."""
    return PLAIN.issuperset(map(type, values))


def thawed(obj: Any) -> Any:
    """Return the reduction of a read-only numpy array, from which the receiver makes a writable one.

    For the ``reducer_override`` of picklers: NotImplemented for anything else.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or type(obj) is not numpy.ndarray or obj.flags.writeable:
        return NotImplemented
    return obj.copy().__reduce_ex__(5)


class _Pickler(FastPickler):
    def reducer_override(self, obj: Any) -> Any:
        reduced = thawed(obj)
        return super().reducer_override(obj) if reduced is NotImplemented else reduced


class Copy:
    """Takes the place of a value in a pickle. Unpickled, it is a copy of the value, not a Copy.

    Args:
        value: the value to send.
    """

    __slots__ = ("__skate_value__",)

    def __init__(self, value: Any) -> None:
        #: ``_serialize.culprit`` looks for this name.
        self.__skate_value__ = value

    def __reduce__(self) -> tuple[Any, ...]:
        serialized = serialize(self.__skate_value__, _Pickler)
        if collecting.refs is not None:
            collecting.refs += serialized.refs
        if not serialized.buffers:
            return _unpickle, (serialized.data or _NONE,)
        return _unpickle, (serialized.data, [pickle.PickleBuffer(one) for one in serialized.buffers])


_NONE = pickle.dumps(None)


def copy_of(value: Any) -> Any:
    """Return the value, or a Copy of it if its receiver could write to it."""
    return value if type(value) in PLAIN else Copy(value)


def _unpickle(data: bytes, buffers: Sequence[Any] = ()) -> Any:
    return pickle.loads(data, buffers=map(bytearray, buffers))


class Packed:
    """A pickled value, unpickled when ``load`` is called.

    Args:
        data: the pickle.
        buffers: its buffers, apart.
        refs: the refs inside, which live at least as long as this object.
    """

    __slots__ = ("data", "buffers", "refs")

    def __init__(self, data: bytes, buffers: Sequence[Any], refs: Sequence[Any]) -> None:
        self.data = data
        self.buffers = buffers
        self.refs = refs

    def __reduce__(self) -> tuple[Any, ...]:
        return Packed, (self.data, [pickle.PickleBuffer(one) for one in self.buffers], list(self.refs))

    def load(self, *, share_from: float = math.inf) -> Any:
        """Return the value, a new copy each time.

        Args:
            share_from: buffers of at least so many bytes are not copied, and are read-only.
        """
        views = [memoryview(one) for one in self.buffers]
        return pickle.loads(
            self.data,
            buffers=[view.toreadonly() if view.nbytes >= share_from else bytearray(view) for view in views],
        )


def pack(value: Any, slow: Callable[..., pickle.Pickler] | None = None) -> Packed:
    """Return a value in pickled form.

    Args:
        value: the value to send.
        slow: makes the pickler for values with parts that no other process could import.

    Raises:
        TypeError, pickle.PicklingError, ...: it cannot be pickled.
    """
    serialized = serialize(value, _Pickler, slow)
    return Packed(serialized.data or _NONE, serialized.buffers, serialized.refs)
