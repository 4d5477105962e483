"""Decides on which nodes the bundles of a placement group go, by the group's strategy. Decisions only.

Nodes that have room now are preferred to those that only could have: there the group waits. On a single node
all that remains to decide is whether the group can ever be there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from skate._base.resources import Resources, add, describe, fits, subtract
from skate._scheduling.labels import describe as describe_labels
from skate._scheduling.labels import matches
from skate._scheduling.placement import Infeasible, NodeView
from skate._wire.specs import Condition

#: The strategies of placement groups: few nodes or many, if possible or else not at all.
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class _Try:
    """Assigns bundles to nodes, while some measure of their resources lasts."""

    def __init__(
        self,
        bundles: Sequence[Mapping[str, int]],
        selectors: Sequence[Sequence[Condition]],
        nodes: Sequence[NodeView],
        rooms: Sequence[Mapping[str, int]],
    ) -> None:
        self._bundles = bundles
        self._selectors = selectors
        self._nodes = nodes
        self._rooms: list[Resources] = [dict(room) for room in rooms]
        #: By bundle: the index of its node.
        self._places: dict[int, int] = {}

    def run(self, strategy: str) -> list[int] | None:
        """Return the index of the node of each bundle; None: they have no room."""
        done = self._together() if "PACK" in strategy else self._apart()
        if not done and not strategy.startswith("STRICT"):
            self._places = {}
            done = self._one_by_one(self._packed if strategy == "PACK" else self._spread)
        return [self._places[index] for index in range(len(self._bundles))] if done else None

    def _may(self, bundle: int, node: int) -> bool:
        return matches(self._selectors[bundle], self._nodes[node].labels) and fits(
            self._bundles[bundle], self._rooms[node]
        )

    def _put(self, bundle: int, node: int) -> None:
        self._places[bundle] = node
        subtract(self._rooms[node], self._bundles[bundle])

    def _together(self) -> bool:
        whole = sum_of(self._bundles)
        for node, room in enumerate(self._rooms):
            if fits(whole, room) and all(self._may(one, node) for one in range(len(self._bundles))):
                self._places = dict.fromkeys(range(len(self._bundles)), node)
                return True
        return False

    def _apart(self) -> bool:
        """Give each bundle a node of its own: bundles that came first make room if they can."""
        taken: dict[int, int] = {}

        def place(bundle: int, tried: set[int]) -> bool:
            for node in range(len(self._nodes)):
                if node in tried or not self._may(bundle, node):
                    continue
                tried.add(node)
                if node not in taken or place(taken[node], tried):
                    taken[node] = bundle
                    return True
            return False

        done = all(place(bundle, set()) for bundle in range(len(self._bundles)))
        self._places = {bundle: node for node, bundle in taken.items()}
        return done

    def _one_by_one(self, choose: Callable[[Collection[int]], int]) -> bool:
        for bundle in sorted(range(len(self._bundles)), key=lambda one: -max(self._bundles[one].values())):
            able = [node for node in range(len(self._nodes)) if self._may(bundle, node)]
            if not able:
                return False
            self._put(bundle, choose(able))
        return True

    def _packed(self, able: Collection[int]) -> int:
        used = set(self._places.values())
        return min(able, key=lambda node: node not in used)

    def _spread(self, able: Collection[int]) -> int:
        used = list(self._places.values())
        return min(able, key=used.count)


def place_bundles(
    bundles: Sequence[Mapping[str, int]],
    strategy: str,
    selectors: Sequence[Sequence[Condition]],
    nodes: Sequence[NodeView],
    preferred: str = "",
) -> list[str] | Infeasible:
    """Return the id of the node of each bundle, or why they can be on no nodes of this cluster.

    Args:
        bundles: their resources, in fixed point.
        strategy: one of ``STRATEGIES``.
        selectors: the conditions on labels of each bundle's node.
        nodes: all of them.
        preferred: the id of a node to try first.
    """
    nodes = sorted(nodes, key=lambda node: node.id != preferred)
    for rooms in ([node.free for node in nodes], [node.total for node in nodes]):
        found = _Try(bundles, selectors, nodes, rooms).run(strategy)
        if found is not None:
            return [nodes[index].id for index in found]
    return Infeasible(_why(bundles, strategy, selectors, nodes), False)


def _why(
    bundles: Sequence[Mapping[str, int]],
    strategy: str,
    selectors: Sequence[Sequence[Condition]],
    nodes: Sequence[NodeView],
) -> str:
    if not nodes:
        return "no node has joined the cluster yet"
    where = "the only node" if len(nodes) == 1 else f"any of the {len(nodes)} nodes"
    for index, (resources, conditions) in enumerate(zip(bundles, selectors, strict=True)):
        matching = [node for node in nodes if matches(conditions, node.labels)]
        if not matching:
            return f"bundle {index} needs a node with {describe_labels(conditions)}, which {where} is not"
        if not any(fits(resources, node.total) for node in matching):
            has = describe({name: max(node.total.get(name, 0) for node in matching) for name in resources})
            return f"bundle {index} needs {describe(resources)}, and {where} has {has} in all"
    if strategy == "STRICT_SPREAD" and len(bundles) > len(nodes):
        have = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
        return (
            f"its strategy STRICT_SPREAD puts each of its {len(bundles)} bundles on a node of its own, and "
            f"this cluster has {have}; PACK, SPREAD and STRICT_PACK may share one"
        )
    together = "on one node (STRICT_PACK)" if strategy == "STRICT_PACK" else "together"
    has = describe(sum_of([{name: node.total.get(name, 0) for name in sum_of(bundles)} for node in nodes]))
    return f"its bundles need {describe(sum_of(bundles))} {together}, and the cluster has {has} in all"


def sum_of(bundles: Collection[Mapping[str, int]]) -> Resources:
    """Return the resources of all bundles together."""
    total: Resources = {}
    for resources in bundles:
        add(total, resources)
    return total
