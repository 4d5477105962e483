"""Makes the plan of a compiled graph from its nodes: the steps of each process, and their values. No I/O.

The steps are in the order in which their nodes were bound, as far as their needs allow. The order is the same
for all actors (see ``_schedule``).
"""

from __future__ import annotations

import heapq
from typing import Any

from skate._graph.class_node import ClassMethodNode, ClassNode
from skate._graph.constants import BIND_INDEX_KEY
from skate._graph.function_node import FunctionNode
from skate._graph.input_node import InputAttributeNode, InputNode
from skate._graph.node import DAGNode, nodes_in
from skate._graph.output_node import MultiOutputNode
from skate.dag._plan import Part, Plan, Slot, Source, Step

#: Options of a method that have an effect in a compiled graph.
_OPTIONS = frozenset({"num_returns"})


def plan_of(root: DAGNode, graph: bytes, buffer_size: int) -> Plan:
    """Return the plan of a graph.

    Args:
        root: its last node.
        graph: its id.
        buffer_size: bytes of a shared buffer at least.

    Raises:
        ValueError: something in it cannot be compiled.
        NotImplementedError: there are tasks in it.
    """
    return _Planner(root).plan(graph, buffer_size)


class _Planner:
    def __init__(self, root: DAGNode) -> None:
        self._is_list = isinstance(root, MultiOutputNode)
        self._outputs: list[DAGNode] = list(root.get_args()) if isinstance(root, MultiOutputNode) else [root]
        order = root._in_order()
        self._nodes = order[:-1] if self._is_list else order
        self._calls = _ordered([node for node in self._nodes if _is_call(node)])
        #: The nodes of single values of a call that returns several.
        self._values_of: dict[str, list[ClassMethodNode]] = {}
        for node in self._nodes:
            if isinstance(node, ClassMethodNode) and node.is_class_method_output:
                self._values_of.setdefault(node._bound_args[0]._stable_uuid, []).append(node)
        #: Handles by actor id, in the order of the members.
        self._actors: dict[bytes, Any] = {}
        #: The number of a node's value.
        self._numbers: dict[str, int] = {}
        self._last = -1
        #: By number of a value: the member that makes it, and the members that take it.
        self._makers: dict[int, int] = {}
        self._takers: dict[int, set[int]] = {}

    def plan(self, graph: bytes, buffer_size: int) -> Plan:
        for node in self._nodes:
            _check(node)
        for call in self._calls:
            self._actors.setdefault(call._actor._info.actor_id, call._actor)
        if not self._actors:
            raise ValueError("there is no actor's method in the graph, so there is nothing to compile")
        self._members = {actor_id: index + 1 for index, actor_id in enumerate(self._actors)}
        makes = {call._stable_uuid: self._number_call(call) for call in self._calls}
        begin = self._next_number(0)
        needs: dict[str, tuple[int, ...]] = {}
        for call in self._calls:
            arguments = nodes_in([call._bound_args, call._bound_kwargs])
            numbers = dict.fromkeys(self._number(node) for node in arguments)
            needs[call._stable_uuid] = tuple(numbers) or (begin,)
            for number in needs[call._stable_uuid]:
                self._takers[number].add(self._member(call))
        outputs = tuple(self._number(node) for node in self._outputs)
        for number in outputs:
            self._takers[number].add(0)
        steps: dict[int, list[Step]] = {member: [] for member in self._members.values()}
        for call in self._calls:
            steps[self._member(call)].append(self._step(call, needs, makes))
        return Plan(
            tuple(self._actors.values()),
            tuple(self._part(graph, member, own, buffer_size) for member, own in steps.items()),
            self._sources(begin),
            outputs,
            self._is_list,
            self._takes(),
        )

    # ------------------------------------------------------------------ numbers

    def _next_number(self, maker: int) -> int:
        self._last += 1
        self._makers[self._last] = maker
        self._takers[self._last] = set()
        return self._last

    def _number_call(self, call: ClassMethodNode) -> tuple[int, ...]:
        """Number the values that a call makes."""
        member = self._member(call)
        numbers = tuple(self._next_number(member) for _ in range(call.num_returns))
        if len(numbers) == 1:
            self._numbers[call._stable_uuid] = numbers[0]
        for node in self._values_of.get(call._stable_uuid, ()):
            self._numbers[node._stable_uuid] = numbers[node._bound_args[1]]
        return numbers

    def _number(self, node: DAGNode) -> int:
        """Return the number of a node's value; inputs get theirs at their first use."""
        number = self._numbers.get(node._stable_uuid)
        if number is None:
            if not isinstance(node, (InputNode, InputAttributeNode)):
                raise ValueError(
                    f"{node!r} returns several values: use the nodes that bind() returned for them"
                )
            number = self._numbers[node._stable_uuid] = self._next_number(0)
        return number

    def _member(self, call: ClassMethodNode) -> int:
        return self._members[call._actor._info.actor_id]

    # ------------------------------------------------------------------ parts

    def _step(
        self, call: ClassMethodNode, needs: dict[str, tuple[int, ...]], makes: dict[str, tuple[int, ...]]
    ) -> Step:
        member = self._member(call)
        made = makes[call._stable_uuid]
        args, kwargs, _ = call._substituted(
            lambda node: Slot(self._number(node)) if node._stable_uuid in self._numbers else node
        )
        return Step(
            call.get_method_name(),
            args,
            kwargs,
            needs[call._stable_uuid],
            made,
            tuple(tuple(sorted(self._takers[number] - {member})) for number in made),
            frozenset(number for number in made if member in self._takers[number]),
        )

    def _part(self, graph: bytes, member: int, steps: list[Step], buffer_size: int) -> Part:
        others: set[int] = {0}
        for number, maker in self._makers.items():
            takers = self._takers[number]
            if maker == member:
                others |= takers
            elif member in takers:
                others.add(maker)
        others.discard(member)
        dials = tuple(sorted(other for other in others if other > member))
        return Part(graph, member, tuple(steps), dials, len(others) - len(dials), buffer_size)

    def _sources(self, begin: int) -> tuple[Source, ...]:
        sources: list[Source] = []
        by_number = {number: uuid for uuid, number in self._numbers.items()}
        nodes = {node._stable_uuid: node for node in self._nodes}
        for number, maker in self._makers.items():
            takers = self._takers[number]
            if maker == 0 and takers:
                node = None if number == begin else nodes[by_number[number]]
                sources.append(Source(number, node, tuple(sorted(takers - {0})), 0 in takers))
        return tuple(sources)

    def _takes(self) -> str:
        used = [node for node in self._nodes if node._stable_uuid in self._numbers]
        if any(isinstance(node, InputNode) for node in used):
            return "one"
        return "parts" if any(isinstance(node, InputAttributeNode) for node in used) else "nothing"


def _is_call(node: DAGNode) -> bool:
    return isinstance(node, ClassMethodNode) and node.is_class_method_call


def _ordered(calls: list[DAGNode]) -> list[ClassMethodNode]:
    """Return calls in the order in which they were bound, but each after those that it needs."""
    nodes = [node for node in calls if isinstance(node, ClassMethodNode)]
    own = {node._stable_uuid for node in nodes}
    missing: dict[str, set[str]] = {}
    takers: dict[str, list[str]] = {uuid: [] for uuid in own}
    for node in nodes:
        found = set()
        for other in nodes_in([node._bound_args, node._bound_kwargs]):
            made = other.class_method_call if isinstance(other, ClassMethodNode) else None
            found.add((made or other)._stable_uuid)
        missing[node._stable_uuid] = found & own
        for uuid in missing[node._stable_uuid]:
            takers[uuid].append(node._stable_uuid)
    place = {
        node._stable_uuid: (node._bound_other_args_to_resolve.get(BIND_INDEX_KEY, -1), index)
        for index, node in enumerate(nodes)
    }
    by_uuid = {node._stable_uuid: node for node in nodes}
    ready = [(place[uuid], uuid) for uuid, needed in missing.items() if not needed]
    heapq.heapify(ready)
    ordered: list[ClassMethodNode] = []
    while ready:
        _, uuid = heapq.heappop(ready)
        ordered.append(by_uuid[uuid])
        for later in takers[uuid]:
            missing[later].discard(uuid)
            if not missing[later]:
                heapq.heappush(ready, (place[later], later))
    return ordered


def _check(node: DAGNode) -> None:
    """Raise if a node cannot be part of a compiled graph."""
    if isinstance(node, FunctionNode):
        raise NotImplementedError(
            f"the task {node._title} cannot be compiled: compiled graphs consist of methods of actors that "
            "run already. Make it a method, or execute the graph without compiling it"
        )
    if isinstance(node, ClassNode):
        raise ValueError(
            f"the actor {node._title} of the graph does not run yet (it was made by bind()): start it with "
            f"{node._title}.remote(...) and bind the handle's methods"
        )
    if isinstance(node, (InputNode, InputAttributeNode)):
        return
    if not isinstance(node, ClassMethodNode):
        raise ValueError(f"{node!r} cannot be a part of a compiled graph; MultiOutputNode is its last node")
    if node.is_class_method_output:
        return
    if isinstance(node._actor, ClassNode):
        _check(node._actor)
    given = node._actor._info.methods.get(node.get_method_name(), {})
    if given.get("is_generator") or not isinstance(node.get_options().get("num_returns", 1), int):
        raise ValueError(f"{node._title} is a generator, which cannot be compiled: return a list instead")
    if node.num_returns < 1:
        raise ValueError(f"{node._title} returns nothing (num_returns=0), so no program can wait for it")
    unknown = sorted(set(node.get_options()) - _OPTIONS)
    if unknown:
        raise ValueError(
            f"{node._title} was bound with {', '.join(unknown)}, which means nothing in a compiled graph: "
            "steps run in the order of the graph, and are not repeated"
        )
