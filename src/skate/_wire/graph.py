"""Defines the messages between the processes of one compiled graph (see ``skate.dag.compiled_dag_node``).

The driver that compiled the graph and every actor in it are its *members*; the driver has number 0. Two
members that exchange values have one connection for this graph alone, which the member with the lower number
dialed. The connection ends with the graph. Values are numbered by execution and by the node that made them,
so the order between connections does not matter.
"""

from __future__ import annotations

from msgspec import Struct


class GraphHello(Struct, array_like=True, frozen=True, tag=130):
    """Dialing member to accepting member, first frame: its identity."""

    graph: bytes
    member: int
    protocol: int


class GraphValue(Struct, array_like=True, frozen=True, tag=131, gc=False):
    """Member to member: the value that one node made in one execution, or the error that stands for it."""

    execution: int
    number: int
    #: NONE, PICKLE, BUFFERS or ERROR: see ``worker``.
    kind: int
    data: bytes


class GraphLarge(Struct, array_like=True, frozen=True, tag=132, gc=False):
    """Member to member: a value in a segment of the sender, behind the first page, in the layout of BUFFERS.

    ``segment_size`` is not 0 when the receiver sees the segment for the first time; its descriptor
    comes along then. The receiver clears its byte in the first page when its last reference to the value is
    gone.
    """

    execution: int
    number: int
    segment: int
    size: int
    segment_size: int = 0


class GraphForget(Struct, array_like=True, frozen=True, tag=133):
    """Member to member: the sender will not use this segment again."""

    segment: int


class GraphBroken(Struct, array_like=True, frozen=True, tag=134):
    """Actor to driver: the connection to another actor ended, and this was no teardown."""

    member: int
    reason: str
