"""Which nodes may serve what: labels, affinity, resources, the order among them."""

from __future__ import annotations

from typing import Any

import pytest

from skate._scheduling import requirements
from skate._scheduling.placement import Eligible, Infeasible, NodeView, place
from skate._scheduling.strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
)

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32
CPU = {"CPU": 10_000}


def node(name: str, cpus: int = 4, free: int | None = None, **labels: str) -> NodeView:
    return NodeView(name, labels, {"CPU": cpus * 10_000}, {"CPU": (cpus if free is None else free) * 10_000})


NODES = [node(ONE, zone="a"), node(TWO, zone="b", disk="fast"), node(THREE, zone="b", cpus=8, free=1)]


def placed(nodes: list[NodeView] = NODES, resources: dict[str, int] = CPU, **options: Any) -> Any:
    found = place(requirements.decode(requirements.encode(options)), resources, nodes)
    return [one.id for one in found.nodes] if isinstance(found, Eligible) else found


def test_without_requirement_any_node_will_do() -> None:
    assert requirements.encode({}) == b""
    assert requirements.encode({"scheduling_strategy": "DEFAULT", "label_selector": {}}) == b""
    assert placed() == [ONE, TWO, THREE]
    assert placed([]) == []


def test_a_selector_leaves_what_matches() -> None:
    assert placed(label_selector={"zone": "b"}) == [TWO, THREE]
    assert placed(label_selector={"zone": "!b"}) == [ONE]
    found = placed(label_selector={"zone": "c"})
    assert found == Infeasible("it needs a node with zone = 'c', and none of the 3 nodes is one", fatal=False)


def test_the_only_node_says_what_it_has() -> None:
    found = placed([NODES[1]], label_selector={"zone": "c"})
    assert found.reason == "it needs a node with zone = 'c', and the only node has disk=fast, zone=b"


def test_fallbacks_are_tried_in_order() -> None:
    fallback = [{"label_selector": {"disk": "fast"}}, {"label_selector": {}}]
    assert placed(label_selector={"zone": "a"}, fallback_strategy=fallback) == [ONE]
    assert placed(label_selector={"zone": "c"}, fallback_strategy=fallback) == [TWO]
    assert placed(NODES[:1], label_selector={"zone": "c"}, fallback_strategy=fallback) == [ONE]


def test_a_fallback_is_taken_when_the_first_choice_could_never_serve_it() -> None:
    fallback = [{"label_selector": {"zone": "b"}}]
    assert placed(resources={"CPU": 80_000}, label_selector={"zone": "a"}, fallback_strategy=fallback) == [
        THREE
    ]
    # Nobody could: those with the labels tell what they lack.
    assert placed(resources={"CPU": 990_000}, label_selector={"zone": "a"}, fallback_strategy=fallback) == [
        ONE
    ]


def test_affinity_is_to_one_node_or_fails() -> None:
    def to(node_id: str, *, soft: bool, **more: Any) -> Any:
        return placed(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft), **more)

    assert to(THREE, soft=False) == [THREE]
    assert to(THREE, soft=True) == [THREE]
    gone = "f" * 31 + "0"
    assert to(gone, soft=True) == [ONE, TWO, THREE]
    found = to(gone, soft=False)
    assert found.fatal
    assert gone in found.reason and "not in this cluster" in found.reason
    found = to(ONE, soft=False, resources={"CPU": 80_000})
    assert found.fatal and "can never give it {CPU: 8}: it has {CPU: 4} in all" in found.reason
    assert to(ONE, soft=True, resources={"CPU": 80_000}) == [THREE]
    found = to(ONE, soft=False, label_selector={"zone": "b"})
    assert found.fatal and "zone = 'b'" in found.reason


def test_node_labels_hard_and_soft() -> None:
    def by(hard: dict[str, Any], soft: dict[str, Any] | None = None) -> Any:
        return placed(scheduling_strategy=NodeLabelSchedulingStrategy(hard, soft=soft))

    assert by({"zone": In("b", "c")}) == [TWO, THREE]
    assert by({"zone": NotIn("b")}) == [ONE]
    assert by({"disk": Exists()}) == [TWO]
    assert by({"disk": DoesNotExist()}) == [ONE, THREE]
    assert by({}, {"zone": In("b")}) == [TWO, THREE, ONE]
    assert by({"zone": In("b")}, {"disk": DoesNotExist()}) == [THREE, TWO]
    assert by({"zone": In("z")}).fatal is False


def test_free_nodes_first_and_spread_prefers_the_idle() -> None:
    nodes = [node(ONE, free=0), node(TWO, free=1), node(THREE, free=3)]
    assert placed(nodes) == [TWO, THREE, ONE]
    assert placed(nodes, scheduling_strategy="SPREAD") == [THREE, TWO, ONE]


def test_what_is_no_strategy() -> None:
    def check(value: Any) -> None:
        requirements.check_strategy("scheduling_strategy", value)

    with pytest.raises(
        ValueError, match="Invalid .* value 'PACK'. Valid values are 'DEFAULT', 'SPREAD', a NodeAffinity"
    ):
        check("PACK")
    with pytest.raises(TypeError, match="value 3"):
        check(3)
    with pytest.raises(ValueError, match="node_id takes the id of a node in hex, got 'here'"):
        NodeAffinitySchedulingStrategy("here", soft=False)
    with pytest.raises(ValueError, match="needs soft=True"):
        NodeAffinitySchedulingStrategy(ONE, soft=False, _spill_on_unavailable=True)
    with pytest.raises(ValueError, match="not supported"):
        NodeAffinitySchedulingStrategy(ONE, soft=False, _fail_on_unavailable=True)
    with pytest.raises(ValueError, match="at least one condition"):
        NodeLabelSchedulingStrategy({})
    with pytest.raises(ValueError, match=r"hard\['zone'\] takes In"):
        NodeLabelSchedulingStrategy({"zone": "a"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="In takes at least one value"):
        In()
    with pytest.raises(ValueError, match="NotIn takes strings, got 3 in position 1"):
        NotIn("a", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{}, [{}], [{"label_selector": {}, "CPU": 1}], ["zone"], [{"label_selector": {"a": "-"}}]]
)
def test_what_is_no_fallback(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="option 'fallback_strategy'"):
        requirements.check_fallbacks("fallback_strategy", wrong)
