"""Types that were registered with skate, in Ray's pickler."""

from __future__ import annotations

from typing import Any

from skate._on_ray.serializers import Serializers


class Context:
    """Stands for Ray's class: notes what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def _register_cloudpickle_reducer(self, kind: type, reduce: Any) -> None:
        self.calls.append((kind, reduce("value")))

    def _unregister_cloudpickle_reducer(self, kind: type) -> None:
        self.calls.append((kind, "gone"))


def test_ray_gets_what_is_new_and_loses_what_is_gone() -> None:
    registered: dict[type, Any] = {int: lambda value: (int, value)}
    context = Context()
    serializers = Serializers(registered)
    serializers.update(context)
    serializers.update(context)
    assert context.calls == [(int, (int, "value"))]
    registered[str] = lambda value: (str, value)
    registered[int] = lambda value: ("other", value)
    serializers.update(context)
    assert sorted(map(str, context.calls[1:])) == sorted(
        map(str, [(str, (str, "value")), (int, ("other", "value"))])
    )
    del registered[str]
    serializers.update(context)
    assert context.calls[3:] == [(str, "gone")]
