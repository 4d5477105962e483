"""Provides metrics of your own: counters, gauges and histograms, to be read while a program runs.

Each driver, task and actor records its metrics in its own process. ``skate metrics`` collects them and prints
them in the text format of Prometheus. A worker's values are kept when it ends, except those of the last
quarter of a second if it crashed or was killed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from skate.engine import engine
from skate.engine.metrics import Tags, registry

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Metric:
    """The base of Counter, Gauge and Histogram.

    Args:
        name: letters, digits and underscores.
        description: for people.
        tag_keys: the keys of the tags that every value has.

    Raises:
        ValueError: the name is empty or has other characters, or is another metric's.
        TypeError: ``tag_keys`` is no tuple of strings.
    """

    _kind = "untyped"

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"the name of a metric has letters, digits and '_' only, got {name!r}")
        if tag_keys is not None and not isinstance(tag_keys, tuple):
            raise TypeError(f"tag_keys takes a tuple of strings, got {tag_keys!r}")
        for key in tag_keys or ():
            if not isinstance(key, str):
                raise TypeError(f"tag_keys takes a tuple of strings, got {key!r} in it")
        self._name = name
        self._description = description
        self._tag_keys = tag_keys or ()
        self._default_tags: dict[str, str] = {}
        self._declare()

    def _declare(self) -> None:
        if type(self) is Metric:
            raise TypeError("use Counter, Gauge or Histogram")
        registry.declare(self._name, self._kind, self._description)

    def set_default_tags(self, default_tags: dict[str, str]) -> Metric:
        """Set the tags of values that are recorded without them; return the metric.

        Raises:
            ValueError: a key is none of ``tag_keys``.
            TypeError: a value is no string.
        """
        _check(default_tags)
        unknown = [key for key in default_tags if key not in self._tag_keys]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of the tag_keys of {self._name!r}: {self._tag_keys}")
        self._default_tags = default_tags
        return self

    @property
    def info(self) -> dict[str, Any]:
        """The arguments of the metric: "name", "description", "tag_keys", "default_tags"."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _tags(self, tags: dict[str, str] | None) -> Tags:
        """Return the tags of a value.

        Raises:
            ValueError: one of ``tag_keys`` has no value, or a key is none of them.
            TypeError: a value is no string.
        """
        found = self._default_tags
        if tags:
            _check(tags)
            found = {**found, **tags}
        missing = [key for key in self._tag_keys if key not in found]
        if missing:
            raise ValueError(f"the metric {self._name!r} needs a value of the tag(s) {', '.join(missing)}")
        if len(found) > len(self._tag_keys):
            unknown = ", ".join(key for key in found if key not in self._tag_keys)
            raise ValueError(f"the metric {self._name!r} was made without the tag(s) {unknown}")
        return tuple(sorted(found.items()))

    def _changed(self) -> None:
        found = engine()
        if found is not None:
            found.metrics_changed()

    def _made_with(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the tag keys and default tags that another process makes it with."""
        return self._tag_keys, self._default_tags

    def _arguments(self, tag_keys: tuple[str, ...]) -> tuple[Any, ...]:
        return self._name, self._description, tag_keys

    def __reduce__(self) -> tuple[Any, ...]:
        tag_keys, default_tags = self._made_with()
        return _rebuild, (type(self), self._arguments(tag_keys), default_tags)


class Counter(Metric):
    """A number that only grows: requests served, rows dropped.

    Example:
        >>> served = Counter("requests", description="Requests served", tag_keys=("route",))
        >>> served.inc(tags={"route": "/"})
    """

    _kind = "counter"

    def inc(self, value: int | float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Count ``value`` more, which is above 0.

        Raises:
            ValueError: the value or the tags are wrong.
            TypeError: they have the wrong type.
        """
        _check_number(value)
        if value <= 0:
            raise ValueError(f"a counter only grows: inc() takes a value above 0, got {value!r}")
        registry.add(self._name, self._tags(tags), value)
        self._changed()


class Gauge(Metric):
    """A number that goes up and down: a queue's length, a temperature.

    Example:
        >>> waiting = Gauge("waiting", description="Requests that wait")
        >>> waiting.set(3)
    """

    _kind = "gauge"

    def set(self, value: int | float | None, tags: dict[str, str] | None = None) -> None:
        """Set the value; None changes nothing.

        Raises:
            ValueError: the tags are wrong.
            TypeError: the value or a tag has the wrong type.
        """
        if value is None:
            return
        _check_number(value)
        registry.set(self._name, self._tags(tags), value)
        self._changed()


class Histogram(Metric):
    """A count of values by size: latencies, lengths.

    Args:
        boundaries: upper ends of the buckets, above 0.

    Example:
        >>> latency = Histogram("latency_s", boundaries=[0.01, 0.1, 1])
        >>> latency.observe(0.03)
    """

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        if not boundaries:
            raise ValueError("a Histogram needs boundaries: Histogram(name, boundaries=[0.01, 0.1, 1])")
        for one in boundaries:
            if one <= 0:
                raise ValueError(f"the boundaries of a Histogram are above 0, got {one!r}")
        self.boundaries = sorted(boundaries)
        super().__init__(name, description, tag_keys)

    def _declare(self) -> None:
        registry.declare(self._name, self._kind, self._description, self.boundaries)

    def observe(self, value: int | float, tags: dict[str, str] | None = None) -> None:
        """Count a value.

        Raises:
            ValueError: the tags are wrong.
            TypeError: the value or a tag has the wrong type.
        """
        _check_number(value)
        registry.observe(self._name, self._tags(tags), value)
        self._changed()

    @property
    def info(self) -> dict[str, Any]:
        """The arguments of the metric, also "boundaries"."""
        return {**super().info, "boundaries": self.boundaries}

    def _arguments(self, tag_keys: tuple[str, ...]) -> tuple[Any, ...]:
        return self._name, self._description, self.boundaries, tag_keys


def _rebuild(kind: type[Any], made_with: tuple[Any, ...], default_tags: dict[str, str]) -> Metric:
    metric: Metric = kind(*made_with)
    return metric.set_default_tags(default_tags)


def _check(tags: dict[str, str]) -> None:
    for key, value in tags.items():
        if not isinstance(value, str):
            raise TypeError(f"values of tags are strings, got {key!r}: {value!r}")


def _check_number(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a metric takes a number, got {value!r} ({type(value).__name__})")
