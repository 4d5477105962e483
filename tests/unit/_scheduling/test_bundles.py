"""Where the bundles of placement groups go, by their strategy."""

from __future__ import annotations

from collections import Counter
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from skate._base.resources import UNIT, fits
from skate._scheduling.bundles import STRATEGIES, place_bundles, sum_of
from skate._scheduling.placement import Infeasible, NodeView
from skate._wire.specs import Condition

CPU = {"CPU": UNIT}


def node(name: str, cpus: int, free: int | None = None, **labels: str) -> NodeView:
    return NodeView(name, labels, {"CPU": cpus * UNIT}, {"CPU": (cpus if free is None else free) * UNIT})


def place(
    count: int,
    strategy: str,
    *nodes: NodeView,
    selectors: list[list[Condition]] | None = None,
    preferred: str = "",
) -> list[str] | Infeasible:
    return place_bundles([CPU] * count, strategy, selectors or [[]] * count, nodes, preferred)


def reason(found: list[str] | Infeasible) -> str:
    assert isinstance(found, Infeasible)
    return found.reason


def test_strategies() -> None:
    nodes = node("a", 4), node("b", 4)
    assert place(3, "PACK", *nodes) == ["a", "a", "a"]
    assert place(3, "STRICT_PACK", *nodes) == ["a", "a", "a"]
    assert sorted(place(3, "SPREAD", *nodes)) == ["a", "a", "b"]  # type: ignore[type-var]
    assert sorted(place(2, "STRICT_SPREAD", *nodes)) == ["a", "b"]  # type: ignore[type-var]
    assert place(5, "PACK", *nodes) == ["a", "a", "a", "a", "b"]
    assert place(3, "STRICT_PACK", *nodes, preferred="b") == ["b", "b", "b"]


def test_a_bundle_makes_room_for_one_that_fits_nowhere_else() -> None:
    bundles = [CPU, {"CPU": 3 * UNIT}]
    nodes = node("a", 4), node("b", 1)
    assert place_bundles(bundles, "STRICT_SPREAD", [[], []], nodes) == ["b", "a"]
    assert place_bundles(bundles, "SPREAD", [[], []], nodes) == ["b", "a"]


def test_nodes_with_room_are_preferred_to_those_that_could_have_it() -> None:
    assert place(2, "PACK", node("a", 4, free=1), node("b", 4)) == ["b", "b"]
    assert place(2, "PACK", node("a", 4, free=0), node("b", 2, free=1)) == ["a", "a"], "it waits there"


def test_labels() -> None:
    north = [Condition("zone", "in", ["north"])]
    assert place(2, "PACK", node("a", 4), node("b", 4, zone="north"), selectors=[[], north]) == ["b", "b"]
    assert "bundle 0 needs a node with zone = 'north', which the only node is not" in reason(
        place(1, "PACK", node("a", 4), selectors=[north])
    )


def test_reasons() -> None:
    assert reason(place(1, "PACK")) == "no node has joined the cluster yet"
    assert "bundle 0 needs {CPU: 1}, and the only node has {CPU: 0} in all" in reason(
        place(1, "PACK", node("a", 0))
    )
    assert "need {CPU: 3} together, and the cluster has {CPU: 2} in all" in reason(
        place(3, "SPREAD", node("a", 2))
    )
    assert "this cluster has 1 node" in reason(place(2, "STRICT_SPREAD", node("a", 4)))
    assert "on one node (STRICT_PACK)" in reason(place(3, "STRICT_PACK", node("a", 2), node("b", 2)))


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.sampled_from(STRATEGIES),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
)
def test_what_is_placed_has_room(units: list[int], strategy: str, sizes: list[int]) -> None:
    bundles = [{"CPU": one * UNIT} for one in units]
    nodes = [node(str(index), size) for index, size in enumerate(sizes)]
    found = place_bundles(bundles, strategy, [[]] * len(bundles), nodes)
    if isinstance(found, Infeasible):
        if strategy.startswith("STRICT"):  # these are decided exactly, the others by a good order
            for choice in product(range(len(nodes)), repeat=len(bundles)):
                assert not _holds(choice, bundles, strategy, nodes)
        return
    assert _holds([int(one) for one in found], bundles, strategy, nodes)


def _holds(choice: object, bundles: list[dict[str, int]], strategy: str, nodes: list[NodeView]) -> bool:
    chosen = list(choice)  # type: ignore[call-overload]
    spread = Counter(chosen)
    if (strategy == "STRICT_PACK" and len(spread) > 1) or (
        strategy == "STRICT_SPREAD" and max(spread.values()) > 1
    ):
        return False
    return all(
        fits(
            sum_of([one for one, where in zip(bundles, chosen, strict=True) if where == index]),
            nodes[index].free,
        )
        for index in spread
    )
