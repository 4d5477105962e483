"""Keeps Ray's pickler of this process in step with the types that the program registered with skate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from skate._serialize.values import reducers

Reduce = Callable[[Any], Any]


class Serializers:
    """The types that Ray's pickler has from skate.

    Args:
        registered: by type, what the program registered: see ``skate.util.register_serializer``.
    """

    def __init__(self, registered: Mapping[type, Reduce]) -> None:
        self._registered = registered
        #: Ray has these, also after the end of a session.
        self._given: dict[type, Reduce] = {}

    def pass_on(self) -> None:
        """Update Ray's pickler."""
        from ray.util.serialization import StandaloneSerializationContext

        self.update(StandaloneSerializationContext())

    def update(self, context: Any) -> None:
        """Give Ray what is new, and take back what is no longer registered.

        Args:
            context: a ``ray.util.serialization.StandaloneSerializationContext``.
        """
        for kind in [*self._given]:
            if kind not in self._registered:
                context._unregister_cloudpickle_reducer(kind)
                del self._given[kind]
        for kind, reduce in [*self._registered.items()]:
            if self._given.get(kind) is not reduce:
                context._register_cloudpickle_reducer(kind, reduce)
                self._given[kind] = reduce


#: Ray's pickler is one of the process, too.
of_this_process = Serializers(reducers)
