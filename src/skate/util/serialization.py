"""Registers the user's own ways to pickle types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from skate._serialize.values import reducers
from skate.engine import engine

T = TypeVar("T")


def register_serializer(
    cls: type[T], *, serializer: Callable[[T], Any], deserializer: Callable[[Any], T]
) -> None:
    """Send instances of a class in a form of your own.

    It holds for this process: arguments and ``put`` of a driver that registered it. A task that is to
    return such instances must register the class in its process too. Unpickling needs nothing: the
    deserializer travels with the value. Subclasses are not covered.

    Args:
        cls: the class.
        serializer: takes an instance; returns something that can be pickled.
        deserializer: takes the serializer's value; returns the instance. A module-level
            function of an importable module costs least.

    Raises:
        TypeError: ``cls`` is no class, or one of the others cannot be called.

    Example:
        >>> skate.util.register_serializer(
        ...     Connection, serializer=lambda one: one.url, deserializer=Connection)
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer() takes a class, got {cls!r}")
    for name, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(f"{name} takes a function, got {function!r}")

    def reduce(value: Any) -> tuple[Any, ...]:
        return deserializer, (serializer(value),)

    _change(cls, reduce)


def _change(cls: type, reduce: Callable[[Any], tuple[Any, ...]] | None) -> None:
    """Set how instances of a class are pickled; None: as any other."""
    if reduce is None:
        reducers.pop(cls, None)
    else:
        reducers[cls] = reduce
    found = engine()
    if found is not None:
        found.serializers_changed()


def deregister_serializer(cls: type) -> None:
    """Remove the serializer of a class that ``register_serializer`` added, in this process.

    Args:
        cls: the class; nothing happens if it was not registered.

    Example:
        >>> skate.util.deregister_serializer(Connection)
    """
    _change(cls, None)


class StandaloneSerializationContext:
    """Registers ways to pickle types without a session, under the names of Ray's class.

    ``register_serializer`` does the same.
    """

    def _register_cloudpickle_reducer(self, cls: type, reducer: Callable[[Any], tuple[Any, ...]]) -> None:
        _change(cls, reducer)

    def _unregister_cloudpickle_reducer(self, cls: type) -> None:
        _change(cls, None)

    def _register_cloudpickle_serializer(
        self, cls: type, custom_serializer: Callable[[Any], Any], custom_deserializer: Callable[[Any], Any]
    ) -> None:
        register_serializer(cls, serializer=custom_serializer, deserializer=custom_deserializer)
