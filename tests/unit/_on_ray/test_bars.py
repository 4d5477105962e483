"""Bars of this process as Ray's."""

from __future__ import annotations

from typing import Any

from skate._on_ray.bars import Bars


class RaysBar:
    """Stands for Ray's bar: notes what it shows."""

    shown: list[tuple[Any, ...]]

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.desc, self.count, self.total = given["desc"], 0, None
        self.shown = []

    def _show(self) -> None:
        self.shown.append((self.desc, self.count, self.total))

    def set_description(self, desc: str) -> None:
        self.desc = desc
        self._show()

    def update(self, n: int) -> None:
        self.count += n
        self._show()

    def close(self) -> None:
        self.desc = "closed"
        self._show()


def state(id: str, n: int, closed: bool = False, **more: Any) -> dict[str, Any]:
    return {"id": id, "desc": id, "n": n, "total": 4, "unit": "step", "position": 1, "closed": closed, **more}


def test_each_bar_has_one_of_rays_until_it_is_closed() -> None:
    made: list[RaysBar] = []

    def make(**given: Any) -> RaysBar:
        made.append(RaysBar(**given))
        return made[-1]

    bars = Bars(make)
    for one in (state("a", 0), state("b", 1), state("a", 2, desc="renamed", total=5), state("a", 5, True)):
        bars.show(one)
    first, second = made
    assert first.given == {"desc": "a", "unit": "step", "position": 1, "flush_interval_s": 0}
    assert first.shown == [
        ("a", 0, 4), ("renamed", 0, 5), ("renamed", 2, 5), ("a", 2, 4), ("a", 5, 4), ("closed", 5, 4)
    ]  # fmt: skip
    assert second.shown == [("b", 1, 4)]
    bars.show(state("a", 0))
    assert len(made) == 3, "a closed bar is gone"
