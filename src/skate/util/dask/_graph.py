"""Converts graphs of all versions of dask to one form. It makes no tasks of skate.

A *job* is a node of a graph: the keys that it needs, and a function that computes its value from theirs. It
is sent to the worker unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dask.core import flatten
from dask.utils import ensure_dict

try:
    from dask import _task_spec as spec
except ImportError:  # before 2024.12
    spec = None


class Value(NamedTuple):
    """A node with a known value."""

    value: Any


class Alias(NamedTuple):
    """A node whose value is that of another one."""

    key: Hashable


class Job(NamedTuple):
    """A node that is computed."""

    #: The keys that it needs; ``run`` gets their values in this order.
    needs: tuple[Hashable, ...]
    run: Callable[[Mapping[Hashable, Any]], Any]


Node = Value | Alias | Job


def unify(dsk: Any, keys: Any) -> dict[Hashable, Node]:
    """Return the nodes that the keys need, each after those that it needs.

    Args:
        dsk: the argument that dask gives to a scheduler: a mapping, a HighLevelGraph, or an expression.
        keys: a key, or nested lists of keys.

    Raises:
        KeyError: a key is not in the graph.
        ValueError: the graph has a circle.
    """
    if not isinstance(dsk, Mapping):
        dsk = dsk.__dask_graph__()
    graph = ensure_dict(dsk)
    wanted = list(flatten(keys)) if isinstance(keys, list) else [keys]
    nodes = _of_specs(graph) if spec is not None else _of_tuples(graph)
    return _in_order(nodes, wanted)


def _of_specs(graph: dict[Hashable, Any]) -> dict[Hashable, Node]:
    nodes: dict[Hashable, Node] = {}
    for key, node in spec.convert_legacy_graph(graph).items():
        if isinstance(node, spec.DataNode):
            nodes[key] = Value(node.value)
        elif isinstance(node, spec.Alias):
            nodes[key] = Alias(node.target)
        else:
            nodes[key] = Job(tuple(node.dependencies), node)
    return nodes


def _of_tuples(graph: dict[Hashable, Any]) -> dict[Hashable, Node]:
    nodes: dict[Hashable, Node] = {}
    for key, value in graph.items():
        needs = tuple(dict.fromkeys(_keys_in(value, graph)))
        if needs or _has_task(value):
            nodes[key] = Job(needs, _Legacy(value))
        else:
            nodes[key] = Value(value)
    return nodes


class _Legacy:
    """Computes a value of dask's older form: ``(function, argument, ...)``, lists of such, keys."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, values: Mapping[Hashable, Any]) -> Any:
        return _evaluate(self.value, values)


def _is_task(value: Any) -> bool:
    return type(value) is tuple and bool(value) and callable(value[0])


def _is_key(value: Any, known: Mapping[Hashable, Any]) -> bool:
    try:
        return value in known
    except TypeError:
        return False


def _has_task(value: Any) -> bool:
    return _is_task(value) or (isinstance(value, list) and any(map(_has_task, value)))


def _keys_in(value: Any, known: Mapping[Hashable, Any]) -> Iterator[Hashable]:
    if _is_task(value):
        for part in value[1:]:
            yield from _keys_in(part, known)
    elif isinstance(value, list):
        for part in value:
            yield from _keys_in(part, known)
    elif isinstance(value, dict):
        yield from _keys_in(list(value.values()), known)
    elif _is_key(value, known):
        yield value


def _evaluate(value: Any, values: Mapping[Hashable, Any]) -> Any:
    if isinstance(value, list):
        return [_evaluate(part, values) for part in value]
    if _is_task(value):
        return value[0](*[_evaluate(part, values) for part in value[1:]])
    if isinstance(value, dict):
        return {key: _evaluate(part, values) for key, part in value.items()}
    return values[value] if _is_key(value, values) else value


def needs_of(node: Node) -> Iterable[Hashable]:
    """Return the keys that a node needs."""
    if isinstance(node, Job):
        return node.needs
    return (node.key,) if isinstance(node, Alias) else ()


def _in_order(nodes: dict[Hashable, Node], wanted: Iterable[Hashable]) -> dict[Hashable, Node]:
    ordered: dict[Hashable, Node] = {}
    open_: set[Hashable] = set()
    for root in wanted:
        stack: list[tuple[Hashable, Iterator[Hashable]]] = []

        def enter(key: Hashable, stack: list[tuple[Hashable, Iterator[Hashable]]] = stack) -> None:
            if key not in ordered:
                if key in open_:
                    raise ValueError(f"the graph has a circle: {key!r} needs itself")
                open_.add(key)
                stack.append((key, iter(needs_of(nodes[key]))))

        enter(root)
        while stack:
            key, needs = stack[-1]
            for needed in needs:
                if needed not in ordered:
                    enter(needed)
                    break
            else:
                stack.pop()
                open_.discard(key)
                ordered[key] = nodes[key]
    return ordered


def options_by_key(dsk: Any) -> dict[Hashable, dict[str, Any]]:
    """Return the options of ``dask.annotate(ray_remote_args=...)`` by key, if the graph still has layers."""
    found: dict[Hashable, dict[str, Any]] = {}
    for layer in getattr(dsk, "layers", {}).values():
        given = getattr(layer, "annotations", None) or {}
        if "ray_remote_args" in given:
            for key in layer:
                options = given["ray_remote_args"]
                found[key] = options(key) if callable(options) else options
    return found
