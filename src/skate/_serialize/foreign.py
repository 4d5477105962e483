"""Pickles types of ``ctypes`` that other processes cannot import: array and pointer types, which are made on
the fly, and structures of ``__main__``.

pickle knows these types by name only, and cloudpickle takes them apart like classes written in Python, which
breaks them.
"""

from __future__ import annotations

import operator
import sys
import uuid
import weakref
from types import new_class
from typing import Any

#: Structures by the name under which they travel, in the process that wrote them and in those that received
#: them.
_structures: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_names: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()

#: Attributes that the type has by itself, or as soon as it has its fields.
_GIVEN = frozenset({"__dict__", "__weakref__", "__module__", "__qualname__", "__doc__"})
#: Attributes that decide the memory layout, in the order in which they must be set.
_LAYOUT = ("_pack_", "_layout_", "_align_", "_anonymous_", "_fields_")


def reduce(kind: Any) -> Any:
    """Return how a type of ctypes is pickled; NotImplemented: it is no such type, or is found by its name."""
    ctypes: Any = sys.modules.get("ctypes")
    if ctypes is None:
        return NotImplemented
    if issubclass(kind, ctypes.Array) and hasattr(kind, "_length_"):
        made = kind._type_ * kind._length_
        return (operator.mul, (kind._type_, kind._length_)) if made is kind else NotImplemented
    if issubclass(kind, ctypes._Pointer) and hasattr(kind, "_type_"):
        return (ctypes.POINTER, (kind._type_,)) if ctypes.POINTER(kind._type_) is kind else NotImplemented
    if issubclass(kind, ctypes._SimpleCData):
        # c_int and similar types with the opposite byte order
        for own, other in (("__ctype_be__", "__ctype_le__"), ("__ctype_le__", "__ctype_be__")):
            native = getattr(kind, other, kind)
            if native is not kind and getattr(native, own, None) is kind:
                return getattr, (native, own)
    if issubclass(kind, (ctypes.Structure, ctypes.Union)):
        return _structure(kind)
    return NotImplemented


def _structure(kind: type) -> Any:
    name = _names.setdefault(kind, uuid.uuid4().hex)
    _structures.setdefault(name, kind)
    own = vars(kind)
    field = type(own.get(own["_fields_"][0][0])) if own.get("_fields_") else None
    rest = {
        key: value
        for key, value in own.items()
        if key not in _GIVEN and key not in _LAYOUT and (field is None or type(value) is not field)
    }
    layout = [(key, own[key]) for key in _LAYOUT if key in own]
    bases, about = kind.__bases__, (kind.__name__, kind.__qualname__, kind.__module__, kind.__doc__)
    # The type comes first, its fields and methods afterwards, as they may refer to it.
    return _skeleton, (name, bases, about), (layout, rest), None, None, _complete


def _skeleton(name: str, bases: tuple[type, ...], about: tuple[Any, ...]) -> Any:
    found = _structures.get(name)
    if found is None:
        given = {"__qualname__": about[1], "__module__": about[2], "__doc__": about[3]}
        found = _structures[name] = new_class(about[0], bases, {}, lambda namespace: namespace.update(given))
        _names[found] = name
    return found


def _complete(kind: Any, state: tuple[list[tuple[str, Any]], dict[str, Any]]) -> None:
    layout, rest = state
    if "_fields_" in vars(kind):
        return  # this process sent the type, or received it before
    for key, value in (*rest.items(), *layout):
        setattr(kind, key, value)
