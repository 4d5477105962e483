"""Builds an instance of any message from the annotations of its fields."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import strategies as st

from skate._wire import control, debugger, graph, handshake, node, specs, worker, zygote
from skate._wire.codec import MESSAGES

Struct = msgspec.Struct

#: Structs that travel inside of messages, as bytes of their own.
NESTED: list[type[Struct]] = [
    control.ActorSpec,
    control.FoundActor,
    control.GroupSpec,
    control.NodeInfo,
    specs.Condition,
    specs.Requirement,
]
ZYGOTE: list[type[Struct]] = [zygote.Spawn, zygote.Spawned, zygote.Exited, zygote.Preload]


def all_of(table: Mapping[str, frozenset[type]]) -> frozenset[type]:
    """Return the messages of every kind of peer: of a service, what they may send or get."""
    return frozenset().union(*table.values())


def framed() -> list[type[Struct]]:
    """Return every message that travels in frames, in the order of the tags."""
    return [MESSAGES[tag] for tag in sorted(MESSAGES)]


def declared() -> list[type[Struct]]:
    """Return every struct that the modules of messages declare, found without the table."""
    return [
        kind
        for module in (worker, node, control, debugger, graph, specs, handshake)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Struct) and kind.__module__ == module.__name__
    ]


def name_of(kind: type[Struct]) -> str:
    """Return ``worker.Call``."""
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def sample(kind: type[Struct]) -> Struct:
    """Return one instance in which every field has a value of its own, none a default."""
    fields = typing.get_type_hints(kind)
    return kind(*[_value(fields[name], index + 1) for index, name in enumerate(kind.__struct_fields__)])


def _value(kind: Any, number: int) -> Any:
    simple = {int: number, str: f"text {number}", bytes: bytes([number] * 3), bool: True, float: number / 2}
    if kind in simple:
        return simple[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _value(next(part for part in parts if part is not types.NoneType), number)
    if origin is list:
        return [_value(parts[0], number), _value(parts[0], number + 1)]
    if origin is dict:
        return {_value(parts[0], number): _value(parts[1], number)}
    if origin is tuple:
        return tuple(_value(part, number + index) for index, part in enumerate(parts))
    if isinstance(kind, type) and issubclass(kind, Struct):
        return sample(kind)
    raise AssertionError(f"no sample of {kind} is known; teach this function one")


def instances(kind: type[Struct]) -> st.SearchStrategy[Struct]:
    """Return a strategy for all instances of a message."""
    fields = typing.get_type_hints(kind)
    return st.tuples(*[_strategy(fields[name]) for name in kind.__struct_fields__]).map(
        lambda values: kind(*values)
    )


def _strategy(kind: Any) -> st.SearchStrategy[Any]:
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**63 - 1),
        str: st.text(max_size=20),
        bytes: st.binary(max_size=20),
        bool: st.booleans(),
        float: st.floats(allow_nan=False),
        types.NoneType: st.none(),
    }
    if kind in simple:
        return simple[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_strategy(part) for part in parts])
    if origin is list:
        return st.lists(_strategy(parts[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_strategy(parts[0]), _strategy(parts[1]), max_size=3)
    if origin is tuple:
        return st.tuples(*[_strategy(part) for part in parts])
    if isinstance(kind, type) and issubclass(kind, Struct):
        return instances(kind)
    raise AssertionError(f"no strategy for {kind} is known; teach this function one")
