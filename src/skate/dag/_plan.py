"""What each process does in a compiled graph: plain data, sent to the actors once."""

from __future__ import annotations

from typing import Any, NamedTuple


class Slot(NamedTuple):
    """Stands in arguments for the value of that number."""

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
    #: Those of them that later steps of this actor take.
    keeps: frozenset[int]


class Part(NamedTuple):
    """What one actor does."""

    graph: bytes
    #: Its number; the driver is 0.
    member: int
    steps: tuple[Step, ...]
    #: Members that it dials.
    dials: tuple[int, ...]
    #: How many dial it.
    accepts: int
    #: Bytes of a shared buffer at least.
    buffer_size: int


class Source(NamedTuple):
    """A value that the driver makes of what ``execute`` is given."""

    number: int
    #: The InputNode (the whole input), an InputAttributeNode, or None: a value that nobody looks at,
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
    #: The number of the value that each output is.
    outputs: tuple[int, ...]
    #: Whether the graph has a MultiOutputNode: results are lists then.
    is_list: bool
    #: What ``execute`` takes: "nothing", "one" positional argument, or "parts": any arguments.
    takes: str
