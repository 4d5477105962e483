"""Turns user values into bytes and back, with large buffers apart so that they are read in place.

Three ways, cheapest first: plain scalars by C ``pickle``; everything that is importable by a C
pickler that watches for what is not; the rest (``__main__`` classes, lambdas, closures) by
cloudpickle. Refs and handles found inside are collected for the reference counts: their
``__reduce__`` appends them to ``collecting.refs``.

Layout of a value with buffers, in a message or in shared memory::

    u32 buffers | u32 pickle bytes | u64 size of each buffer | pickle | pad | buffer | pad | buffer ...

Each buffer starts at a multiple of 64 bytes, so that vector instructions like it.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
import pickle
import struct
import sys
import threading
import typing
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from skate._base.class_proxy import is_below_proxy
from skate._base.kinds import BUFFERS, NONE, PICKLE
from skate._serialize import aliases, callables, foreign

ALIGNMENT = 64
PLAIN = frozenset({int, str, float, bool, bytes, complex, type(None)})
_COUNTS = struct.Struct("<II")
#: The type of ``type X = ...``, from Python 3.12 on.
_ALIAS = getattr(typing, "TypeAliasType", None)

#: Types besides classes whose instances C pickle writes by name.
_KNOWN_BY_NAME = callables.KNOWN_BY_NAME | {FunctionType}


class _Collecting(threading.local):
    """Holds the refs that this thread's current ``serialize`` found. None: no serialisation of the runtime is
    running, so a ref that is pickled now is out of band and kept until the job ends."""

    refs: list[Any] | None = None


collecting = _Collecting()

#: How instances are pickled, by their exact type: what the user registered (see util.register_serializer),
#: and refs.
reducers: dict[type, Callable[[Any], Any]] = {}

#: Classes that have another module's name in this process (see ``_as_ray.names``), by their id, with the
#: module and qualified name under which every process finds them.
renamed: dict[int, tuple[type, str, str]] = {}


class _ByValue(Exception):
    """A part of the value cannot be found by name in another process."""


class FastPickler(pickle.Pickler):
    """Pickles by the C pickler, and gives up at a class, a function or the like that workers could not
    import."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in reducers:
            return reducers[kind](obj)
        if kind in _KNOWN_BY_NAME or isinstance(obj, type):
            if id(obj) in renamed:
                return _by_own_name(obj)
            if _needs_value(obj):
                raise _ByValue
        if kind is _ALIAS and not is_known_by_name(obj):
            raise _ByValue
        return NotImplemented


def _by_own_name(kind: type) -> Any:
    """Return how a renamed class is pickled."""
    return class_at, renamed[id(kind)][1:]


def class_at(module: str, name: str) -> Any:
    """Return a class of this package."""
    return getattr(importlib.import_module(module), name)


def _needs_value(obj: Any) -> bool:
    module = getattr(obj, "__module__", None)
    if module is None or is_by_value_module(module):
        return True
    # Calls with an object as an argument need the first half only.
    return "." in getattr(obj, "__qualname__", "") and is_below_proxy(obj)


def is_by_value_module(module: str) -> bool:
    """Tell whether functions and classes of a module are pickled by value, not by name."""
    if module == "__main__" or module == "__mp_main__":
        return True
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    if cloudpickle is not None:
        registered = cloudpickle.list_registry_pickle_by_value()
        while registered and module:
            if module in registered:
                return True
            module = module.rpartition(".")[0]
    return False


def is_known_by_name(obj: Any) -> bool:
    """Tell whether another process finds a class, a function or the like by its name."""
    return not _needs_value(obj) and callables.is_found_by_name(obj)


class Serialized:
    """Holds a value as bytes: ``data`` and, apart from it, the large ``buffers``, not yet copied."""

    __slots__ = ("kind", "data", "buffers", "size", "refs")

    def __init__(self, kind: int, data: bytes, buffers: list[memoryview], refs: list[Any]) -> None:
        self.kind = kind
        self.data = data
        self.buffers = buffers
        #: Object refs inside, in no order, with repeats.
        self.refs = refs
        size = len(data)
        if buffers:
            size += _COUNTS.size + 8 * len(buffers)
            for buffer in buffers:
                size = _align(size) + buffer.nbytes
        self.size = size

    def to_bytes(self) -> bytes:
        """Return the value as one piece, for a message."""
        if not self.buffers:
            return self.data
        out = bytearray(self.size)
        self.write_into(memoryview(out))
        return bytes(out)

    def write_into(self, target: memoryview) -> int:
        """Write the layout (also for values without buffers) into memory; return the bytes used."""
        buffers = self.buffers
        position = _COUNTS.size + 8 * len(buffers)
        target[:position] = self._head()
        target[position : position + len(self.data)] = self.data
        position += len(self.data)
        for buffer in buffers:
            position = _align(position)
            target[position : position + buffer.nbytes] = buffer
            position += buffer.nbytes
        return position

    def _head(self) -> bytes:
        buffers = self.buffers
        return _COUNTS.pack(len(buffers), len(self.data)) + struct.pack(
            f"<{len(buffers)}Q", *[buffer.nbytes for buffer in buffers]
        )

    def pieces(self) -> list[bytes | memoryview]:
        """Return the layout as pieces to be written one after the other."""
        pieces: list[bytes | memoryview] = [self._head(), self.data]
        position = len(pieces[0]) + len(self.data)
        for buffer in self.buffers:
            padding = _align(position) - position
            pieces += [bytes(padding), buffer]
            position += padding + buffer.nbytes
        return pieces

    @property
    def laid_out_size(self) -> int:
        """Return how many bytes ``write_into`` needs."""
        return self.size if self.buffers else self.size + _COUNTS.size


def _align(position: int) -> int:
    return (position + ALIGNMENT - 1) & -ALIGNMENT


_NOTHING: list[Any] = []


#: Makes a pickler: (file, protocol, buffer_callback=...).
Pickling = Callable[..., pickle.Pickler]


def serialize(value: Any, fast: Pickling = FastPickler, slow: Pickling | None = None) -> Serialized:
    """Return the value as bytes.

    Args:
        value: the value.
        fast: the pickler that is tried first.
        slow: the pickler for a value with a part that no other process could import; default:
            ``slow_pickler()``.

    Raises:
        TypeError, pickle.PicklingError, ...: whatever the pickler raised; see ``culprit.explain``.
    """
    if value is None:
        return Serialized(NONE, b"", _NOTHING, _NOTHING)
    if type(value) in PLAIN:
        return Serialized(PICKLE, pickle.dumps(value, 5), _NOTHING, _NOTHING)
    outer = collecting.refs
    refs: list[Any] = []
    collecting.refs = refs
    try:
        out = io.BytesIO()
        pickle_buffers: list[pickle.PickleBuffer] = []
        try:
            fast(out, 5, buffer_callback=pickle_buffers.append).dump(value)
        except (_ByValue, pickle.PicklingError, AttributeError, TypeError, ImportError):
            # The slow way also gives the better error where both fail.
            out = io.BytesIO()
            pickle_buffers = []
            refs.clear()
            (slow or slow_pickler())(out, 5, buffer_callback=pickle_buffers.append).dump(value)
        data = out.getvalue()
    finally:
        collecting.refs = outer
    if not pickle_buffers:
        return Serialized(PICKLE, data, _NOTHING, refs)
    return Serialized(BUFFERS, data, [_raw(buffer) for buffer in pickle_buffers], refs)


def _raw(buffer: pickle.PickleBuffer) -> memoryview:
    return buffer.raw()


def deserialize(kind: int, data: bytes | memoryview) -> Any:
    """Return the value. Buffers stay where they are: views into ``data``, read-only if it is.

    The refs inside are rebuilt by their own classes, which ask the runtime of this process.
    """
    if kind == PICKLE:
        return pickle.loads(data)
    if kind == NONE:
        return None
    view = memoryview(data)
    count, pickle_size = _COUNTS.unpack_from(view, 0)
    sizes = struct.unpack_from(f"<{count}Q", view, _COUNTS.size)
    position = _COUNTS.size + 8 * count
    pickled = view[position : position + pickle_size]
    position += pickle_size
    buffers: list[memoryview] = []
    for size in sizes:
        position = _align(position)
        buffers.append(view[position : position + size])
        position += size
    return pickle.loads(pickled, buffers=buffers)


def with_file(reduced: Any, code: CodeType) -> Any:
    """Return how a code object is pickled together with its file's name.

    From version 3.1.3 on cloudpickle leaves it out, and tracebacks would not show the user's lines.
    """
    make, args, *rest = reduced
    args = tuple(
        code.co_filename if type(value) is str and value == "<dynamic-code>" else value for value in args
    )
    source = _source(code.co_filename)
    if source is not None:
        return (_with_source, (source, code.co_filename, make, args), *rest)
    return (make, args, *rest)


#: The text of a notebook's cell travels with its functions up to this size (characters).
_MAX_CELL_CHARACTERS = 64 * 1024


def _source(filename: str) -> str | None:
    """Return the source of code outside of files, such as a notebook's cell; None: the source is not
    known."""
    linecache = sys.modules.get("linecache")
    found = linecache.cache.get(filename) if linecache is not None else None
    if not found or len(found) == 1 or os.path.exists(filename):
        return None
    text = _joined(tuple(found[2]))
    return text if 0 < len(text) <= _MAX_CELL_CHARACTERS else None


@functools.lru_cache(4)
def _joined(lines: tuple[str, ...]) -> str:
    """Return the same string object each time, so that a pickle contains it once."""
    return "".join(lines)


def _with_source(source: str, filename: str, make: Any, args: tuple[Any, ...]) -> CodeType:
    """Make a code object and register its lines for tracebacks and the debugger of this process."""
    import linecache

    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    code: CodeType = make(*args)
    return code


_slow: type[pickle.Pickler] | None = None


def slow_pickler() -> type[pickle.Pickler]:
    """Return the cloudpickle pickler, with the user's reducers; imported at first need."""
    global _slow
    if _slow is None:
        import cloudpickle

        class SlowPickler(cloudpickle.Pickler):  # type: ignore[misc]
            def reducer_override(self, obj: Any) -> Any:
                kind = type(obj)
                if kind in reducers:
                    return reducers[kind](obj)
                if id(obj) in renamed:
                    return _by_own_name(obj)
                if kind is CodeType:
                    return with_file(self.dispatch_table[CodeType](obj), obj)
                if kind is _ALIAS and not is_known_by_name(obj):
                    return aliases.reduce(obj)
                if kind is FunctionType:
                    return self._reduce_function(obj)
                if isinstance(obj, type):
                    if is_below_proxy(obj):
                        return cloudpickle.cloudpickle._dynamic_class_reduce(obj)
                    if "ctypes" in sys.modules and not is_known_by_name(obj):
                        reduced = foreign.reduce(obj)
                        if reduced is not NotImplemented:
                            return reduced
                if kind in callables.KINDS and not is_known_by_name(obj):
                    reduced = callables.reduce(obj)
                    if reduced is not None:
                        return reduced
                return super().reducer_override(obj)

            def _reduce_function(self, function: FunctionType) -> Any:
                if is_below_proxy(function):
                    reduced = self._dynamic_function_reduce(function)
                else:
                    reduced = super().reducer_override(function)
                    if reduced is NotImplemented:  # by its name
                        return reduced
                return callables.reduce_function(function) or callables.with_super(function, reduced)

        main = sys.modules.get("__mp_main__")
        if main is not None:  # this is the __main__ of a process that multiprocessing spawned
            cloudpickle.register_pickle_by_value(main)
        _slow = SlowPickler
    return _slow


def dump_code(code: Any) -> tuple[bytes, list[Any]]:
    """Return a function or class as bytes, and the refs in its closure or defaults."""
    outer = collecting.refs
    refs: list[Any] = []
    collecting.refs = refs
    try:
        out = io.BytesIO()
        slow_pickler()(out, 5).dump(code)
    finally:
        collecting.refs = outer
    return out.getvalue(), refs
