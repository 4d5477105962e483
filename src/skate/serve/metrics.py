"""Counters, gauges and histograms of deployments: those of ``skate.util.metrics``, which know their replica.

Values of a metric that is made in a replica have the tags ``deployment``, ``replica``, ``application``. A tag
``route`` that a value lacks is the request's. ``skate metrics`` prints them.
"""

from __future__ import annotations

from collections.abc import Sequence

from skate.engine.metrics import Tags
from skate.serve.context import request, this_replica
from skate.util import metrics

__all__ = ["Counter", "Gauge", "Histogram"]

#: Tags that a replica adds.
_RESERVED = ("deployment", "replica", "application")
_ROUTE = "route"


class _OfReplica(metrics.Metric):
    """Adds the tags of the replica in which a metric is made."""

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        super().__init__(name, description, tag_keys)
        self._add_tags()

    def _add_tags(self) -> None:
        replica = this_replica()
        self._own: tuple[str, ...] = ()
        if replica is None:
            return
        for key in self._tag_keys:
            _check(key)
        self._own = (replica.deployment, replica.replica_tag, replica.app_name)
        self._tag_keys = (*_RESERVED, *self._tag_keys)
        self._default_tags = dict(zip(_RESERVED, self._own, strict=True))

    def set_default_tags(self, default_tags: dict[str, str]) -> metrics.Metric:
        """Set the tags of values that are recorded without them, besides those of the replica.

        Raises:
            ValueError: a key is none of ``tag_keys``, or the replica's own.
            TypeError: a value is no string.
        """
        if not self._own:
            return super().set_default_tags(default_tags)
        for key in default_tags:
            _check(key)
        return super().set_default_tags({**default_tags, **dict(zip(_RESERVED, self._own, strict=True))})

    def _tags(self, tags: dict[str, str] | None) -> Tags:
        if _ROUTE in self._tag_keys and _ROUTE not in {**self._default_tags, **(tags or {})}:
            tags = {**(tags or {}), _ROUTE: request.get().route}
        return super()._tags(tags)

    def _made_with(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the tag keys and default tags without the replica's: another one adds its own."""
        keys = tuple(key for key in self._tag_keys if not self._own or key not in _RESERVED)
        return keys, {key: value for key, value in self._default_tags.items() if key in keys}


class Counter(_OfReplica, metrics.Counter):
    """A number that only grows.

    Example:
        >>> class Model:
        ...     def __init__(self):
        ...         self.odd = serve.metrics.Counter("odd", description="Requests with odd numbers")
    """


class Gauge(_OfReplica, metrics.Gauge):
    """A number that goes up and down."""


class Histogram(_OfReplica, metrics.Histogram):
    """A count of values by size.

    Args:
        boundaries: upper ends of the buckets, above 0.
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        metrics.Histogram.__init__(self, name, description, boundaries, tag_keys)
        self._add_tags()


def _check(key: str) -> None:
    if key in _RESERVED:
        raise ValueError(f"'{key}' tag is reserved for Ray Serve metrics: the replica sets it")
