"""Numbers of this process as Ray's metrics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from skate._on_ray.metrics import Forwarder
from skate._worker.reporting.metrics import Registry


class Recorded:
    """Stands for Ray's module: notes what it is given."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []
        self.given: list[tuple[Any, ...]] = []

    def _maker(self, kind: str) -> Any:
        def make(name: str, *arguments: Any) -> Any:
            self.made.append((kind, name, *arguments))

            def note(verb: str) -> Any:
                return lambda value, tags: self.given.append((name, verb, value, tags))

            return SimpleNamespace(inc=note("inc"), set=note("set"), observe=note("observe"))

        return make

    def __getattr__(self, kind: str) -> Any:
        return self._maker(kind)


def test_each_change_is_passed_on_once() -> None:
    registry, ray = Registry(), Recorded()
    forwarder = Forwarder(registry.rows, ray)
    registry.declare("rows", "counter", "Rows.")
    registry.declare("length", "gauge", "Length.")
    registry.declare("time", "histogram", "Time.", [0.1, 1.0])
    registry.add("rows", (("file", "a"),), 2.0)
    registry.set("length", (), 5.0)
    registry.observe("time", (), 0.3)
    forwarder.forward()
    assert ray.made == [
        ("Counter", "rows", "Rows.", ("file",)),
        ("Gauge", "length", "Length.", ()),
        ("Histogram", "time", "Time.", [0.1, 1.0], ()),
    ]
    assert ray.given == [
        ("rows", "inc", 2.0, {"file": "a"}), ("length", "set", 5.0, {}), ("time", "observe", 0.3, {}),
    ]  # fmt: skip
    ray.given.clear()
    forwarder.forward()
    assert ray.given == []
    registry.add("rows", (("file", "a"),), 3.0)
    registry.set("length", (), 4.0)
    forwarder.forward()
    assert ray.given == [("rows", "inc", 3.0, {"file": "a"}), ("length", "set", 4.0, {})]


def test_several_observations_keep_their_number_and_sum() -> None:
    registry, ray = Registry(), Recorded()
    registry.declare("time", "histogram", "", [1.0])
    for value in (1.0, 2.0, 6.0):
        registry.observe("time", (), value)
    Forwarder(registry.rows, ray).forward()
    assert [one[2] for one in ray.given] == [3.0, 3.0, 3.0]
