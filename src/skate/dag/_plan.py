"""Describes the work of each process in a compiled graph: plain data, sent to the actors once."""

from __future__ import annotations

from typing import Any, NamedTuple


class Slot(NamedTuple):
    """Takes the place of the value of that number in arguments."""

    number: int


class Step(NamedTuple):
    """A call of a method in every execution."""

    method: str
    #: Arguments with a Slot, also inside lists, tuples and dictionaries, wherever a value belongs.
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: Numbers of the values that it takes.
    needs: tuple[int, ...]
    #: Numbers of the values that it makes: one, or as many as the call returns.
    makes: tuple[int, ...]
    #: For each of these, the members that get it.
    receivers: tuple[tuple[int, ...], ...]
    #: The numbers of made values that later steps of this actor take.
    keeps: frozenset[int]


class Part(NamedTuple):
    """The work of one actor."""

    graph: bytes
    #: Its number; the driver is 0.
    member: int
    steps: tuple[Step, ...]
    #: Members that it dials.
    dials: tuple[int, ...]
    #: The number of members that dial it.
    accepts: int
    #: Bytes of a shared buffer at least.
    buffer_size: int


class Source(NamedTuple):
    """A value that the driver makes from the arguments of ``execute``."""

    number: int
    #: The InputNode (the whole input), an InputAttributeNode, or None: a value without meaning,
    #: which begins steps that take nothing else.
    node: Any
    receivers: tuple[int, ...]
    #: An output of the graph.
    kept: bool


class Plan(NamedTuple):
    """A whole graph."""

    #: The actors' handles; the first is member 1.
    actors: tuple[Any, ...]
    parts: tuple[Part, ...]
    sources: tuple[Source, ...]
    #: The number of each output's value.
    outputs: tuple[int, ...]
    #: Whether the graph has a MultiOutputNode: results are lists then.
    is_list: bool
    #: The arguments of ``execute``: "nothing", "one" positional argument, or "parts": any arguments.
    takes: str
