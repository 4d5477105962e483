"""Keeps the globals of ``__main__`` in a worker of a Pool or an Executor from one call to the next.

Functions and classes of ``__main__`` are pickled by value, and unpickled with globals of their own. In
a process of ``multiprocessing`` they share one module: an initializer sets a global, and the function that is
mapped later reads it. Here the sender names the module instead of sending new globals, and the receiver
keeps one namespace for each such module::

    Sender.pack(function) -> Packed: code, the globals it uses with the values they have at the sender,
                             and a number for each that grows whenever the sender binds it again
    Receiver.load(Packed) -> the function, whose globals are the receiver's own

The receiver binds an arriving value when its name is new there, or when the sender has bound the name
again; never to a name that code at the receiver has bound itself. So a global that an initializer sets
keeps its value, a dict that it fills stays filled, and a function that a notebook defines again is the new
one. The same holds for attributes of classes.
"""

from __future__ import annotations

import math
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from types import FunctionType
from typing import Any

from skate._serialize import culprit
from skate._serialize.values import is_by_value_module, is_known_by_name, slow_pickler
from skate.util._copies import Packed, pack, thawed

_MISSING = object()


class Sender:
    """Packs the functions and values of a pool or an executor. Several threads may use it."""

    def __init__(self) -> None:
        #: By namespace and name: a test for the value that was sent last, and its number.
        self._sent: dict[str, dict[str, tuple[Callable[[Any], bool], int]]] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()

    def pack(self, value: Any, name: str) -> Packed:
        """Return a value in the form that a ``Receiver`` loads.

        Args:
            value: the value to send.
            name: its name in errors.

        Raises:
            TypeError: it cannot be pickled; the message names the path to the part that cannot.
        """
        try:
            return pack(value, self._pickler)
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            raise TypeError(culprit.explain(value, name, error)) from None

    def _pickler(self, *args: Any, **kwargs: Any) -> pickle.Pickler:
        made: pickle.Pickler = _pickler_class()(self, *args, **kwargs)
        return made

    def numbers(self, namespace: str, bound: dict[str, Any]) -> dict[str, int]:
        """Return a number for each name; it changes when the name is bound to another value."""
        numbers: dict[str, int] = {}
        with self._lock:
            sent = self._sent.setdefault(namespace, {})
            for name, value in bound.items():
                known = sent.get(name)
                if known is None or not known[0](value):
                    known = sent[name] = (_same_as(value), next(self._numbers))
                numbers[name] = known[1]
        return numbers


def _same_as(value: Any) -> Callable[[Any], bool]:
    """Return a test for the value; it keeps the value alive only if that cannot be referred to weakly."""
    try:
        reference = weakref.ref(value)
    except TypeError:
        return lambda other: other is value
    return lambda other: other is not None and reference() is other


class _Namespace:
    """Takes the place of a namespace in a pickle; at the receiver it is ``Bindings``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _bindings, (self.name,)


class Bindings:
    """One namespace of a receiver: the globals of a module, or the attributes of a class."""

    def __init__(self) -> None:
        self.globals: dict[str, Any] = {}
        #: By name: the value bound last from the sender, and its number.
        self._arrived: dict[str, tuple[Any, int]] = {}

    def choose(self, current: Any, values: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
        """Return the arrived values that are to be bound.

        Args:
            current: the values that are bound now, by name.
            values: the values that arrived.
            numbers: their numbers; other names are bound in any case.
        """
        chosen: dict[str, Any] = {}
        for name, value in values.items():
            number = numbers.get(name)
            if number is None:
                chosen[name] = value
                continue
            before, known = self._arrived.get(name, (_MISSING, 0))
            now = current.get(name, _MISSING)
            if now is before and (known != number or now is _MISSING):
                chosen[name] = value
                self._arrived[name] = (value, number)
        return chosen


class Receiver:
    """Loads packed values in one worker. Its namespaces live as long as it does."""

    def __init__(self) -> None:
        self._bindings: dict[str, Bindings] = {}

    def load(self, packed: Packed, *, share_from: float = math.inf) -> Any:
        """Return a value that a ``Sender`` packed; see ``Packed.load``."""
        outer, _loading.receiver = _loading.receiver, self
        try:
            return packed.load(share_from=share_from)
        finally:
            _loading.receiver = outer

    def bindings(self, name: str) -> Bindings:
        """Return the namespace of this name."""
        return self._bindings.setdefault(name, Bindings())


class _Loading(threading.local):
    """The receiver for which this thread unpickles."""

    receiver: Receiver | None = None


_loading = _Loading()


def _bindings(name: str) -> Bindings:
    receiver = _loading.receiver
    if receiver is None:
        raise RuntimeError(f"the globals of {name} were unpickled outside of a pool's worker")
    return receiver.bindings(name)


def is_named(function: Any) -> bool:
    """Tell whether a function is pickled by its name, so that it has the globals of its module anywhere."""
    return isinstance(getattr(function, "__module__", None), str) and is_known_by_name(function)


@lru_cache(1)
def _pickler_class() -> Any:
    """Make the pickler, at its first use, as it imports cloudpickle."""
    base: Any = slow_pickler()

    class NamingPickler(base):  # type: ignore[misc]
        """cloudpickle's pickler, with names of namespaces in place of new globals."""

        def __init__(self, sender: Sender, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._sender = sender

        def reducer_override(self, obj: Any) -> Any:
            reduced = thawed(obj)
            if reduced is not NotImplemented:
                return reduced
            reduced = super().reducer_override(obj)
            if not isinstance(reduced, tuple) or len(reduced) < 6:
                return reduced
            make, args, (plain, slots), more, pairs, set_state = reduced
            if type(obj) is FunctionType:
                name = _module_of(obj)
                if name is None:
                    return reduced
                numbers = self._sender.numbers(name, slots["__globals__"])
                space = _Namespace(name)
                return (
                    _function,
                    (space, make, args),
                    (space, numbers, plain, slots, set_state),
                    more,
                    pairs,
                    _set,
                )
            if isinstance(obj, type):
                name = f"class {args[-2]}"  # cloudpickle's id of it
                numbers = self._sender.numbers(name, _own(plain))
                return (
                    make,
                    args,
                    (_Namespace(name), numbers, plain, slots, set_state),
                    more,
                    pairs,
                    _set_class,
                )
            return reduced

    return NamingPickler


def _own(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a class that the user named; Python has set some of the others already."""
    return {name: value for name, value in attributes.items() if not name.startswith(("__", "_abc_"))}


def _module_of(function: FunctionType) -> str | None:
    """Return the module whose globals a function has, if it is one that is pickled by value."""
    name = function.__globals__.get("__name__")
    if not isinstance(name, str) or not is_by_value_module(name):
        return None
    module = sys.modules.get(name)
    return name if module is not None and vars(module) is function.__globals__ else None


def _function(space: Bindings, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    code, attributes, *rest = args
    for name, value in attributes.items():
        space.globals.setdefault(name, value)
    return make(code, space.globals, *rest)


def _set(function: FunctionType, state: tuple[Any, ...]) -> None:
    space, numbers, plain, slots, set_state = state
    slots["__globals__"] = space.choose(space.globals, slots["__globals__"], numbers)
    set_state(function, (plain, slots))


def _set_class(cls: type, state: tuple[Any, ...]) -> Any:
    space, numbers, plain, slots, set_state = state
    return set_state(cls, (space.choose(vars(cls), plain, numbers), slots))
