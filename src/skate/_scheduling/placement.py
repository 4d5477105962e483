"""Decides which nodes may serve a task or an actor, the best first. Decisions only.

The same function will choose among many nodes; on a single machine it decides whether the one node may serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from skate._base.resources import describe as amounts
from skate._base.resources import fits
from skate._scheduling.labels import describe, matches
from skate._wire.specs import Requirement


class NodeView(NamedTuple):
    """Holds the facts about a node that placement needs."""

    #: In hex.
    id: str
    labels: Mapping[str, str]
    total: Mapping[str, int]
    free: Mapping[str, int]


class Eligible(NamedTuple):
    """Names the nodes that may serve a request, the best first; the request waits for one of them if none has
    room."""

    nodes: list[NodeView]


class Infeasible(NamedTuple):
    """Says why no node may serve a request: the request waits for a node to come, or (``fatal``) fails."""

    reason: str
    fatal: bool


def place(
    requirement: Requirement | None, resources: Mapping[str, int], nodes: Sequence[NodeView]
) -> Eligible | Infeasible:
    """Return the nodes that may serve a task or an actor of these resources.

    Of the alternatives, the first counts for which a node exists that could ever have the resources. If there
    is none, the nodes with the right labels are returned; their daemons report which resources they lack.
    """
    if requirement is None:
        return Eligible(_sorted(None, resources, nodes))
    if requirement.node:
        there = next((one for one in nodes if one.id == requirement.node), None)
        lacks = _lacks(requirement, resources, there)
        if not lacks:
            assert there is not None
            return Eligible([there])
        if not requirement.soft:
            return Infeasible(
                f"it must run on node {requirement.node} (NodeAffinitySchedulingStrategy), {lacks}", True
            )
    best: list[NodeView] = []
    for conditions in requirement.alternatives:
        matching = [one for one in nodes if matches(conditions, one.labels)]
        feasible = [one for one in matching if fits(resources, one.total)]
        if feasible:
            return Eligible(_sorted(requirement, resources, feasible))
        best = best or matching
    if best:
        return Eligible(_sorted(requirement, resources, best))
    wanted = " or else ".join(describe(one) for one in requirement.alternatives)
    return Infeasible(f"it needs a node with {wanted}, and {_labels_of(nodes)}", False)


def _lacks(requirement: Requirement, resources: Mapping[str, int], node: NodeView | None) -> str:
    """Return why the required node cannot serve the request; empty: it can."""
    if node is None:
        return "which is not in this cluster (any more)"
    if not any(matches(one, node.labels) for one in requirement.alternatives):
        return f"which does not have the required labels ({describe(requirement.alternatives[0])})"
    if not fits(resources, node.total):
        has = amounts({name: node.total.get(name, 0) for name in resources})
        return f"which can never give it {amounts(resources)}: it has {has} in all"
    return ""


def _sorted(
    requirement: Requirement | None, resources: Mapping[str, int], nodes: Sequence[NodeView]
) -> list[NodeView]:
    preferred = requirement.preferred if requirement is not None else []
    spread = requirement is not None and requirement.spread

    def rank(node: NodeView) -> tuple[bool, bool, float]:
        use = _use(node)
        return (
            bool(preferred) and not matches(preferred, node.labels),
            not fits(resources, node.free),
            use if spread else 0.0,
        )

    return sorted(nodes, key=rank)


def _use(node: NodeView) -> float:
    """Return how much of the node's scarcest resource is in use: 0 to 1."""
    return max(
        (1 - node.free.get(name, 0) / units for name, units in node.total.items() if units), default=0.0
    )


def _labels_of(nodes: Sequence[NodeView]) -> str:
    if len(nodes) != 1:
        return f"none of the {len(nodes)} nodes is one"
    found = ", ".join(f"{key}={value}" for key, value in sorted(nodes[0].labels.items()))
    return f"the only node has {found or 'no labels'}"
