"""What the processes of one compiled graph say to each other (see ``skate.dag.compiled_dag_node``).

The driver that compiled it and every actor in it are its *members*: the driver is number 0. Two that
exchange values have one connection for this graph alone, which the one with the lower number dialed.
It ends with the graph; values are numbered by execution and by the node that made them, so an order
between connections matters to nobody.
"""

from __future__ import annotations

from msgspec import Struct


class GraphHello(Struct, array_like=True, frozen=True, tag=130):
    """First frame, by the member that dialed."""

    graph: bytes
    member: int
    protocol: int


class GraphValue(Struct, array_like=True, frozen=True, tag=131, gc=False):
    """The value that one node made in one execution, or the error that stands for it."""

    execution: int
    number: int
    #: NONE, PICKLE, BUFFERS or ERROR: see ``worker``.
    kind: int
    data: bytes


class GraphLarge(Struct, array_like=True, frozen=True, tag=132, gc=False):
    """A value in a segment of the sender's: behind its first page, in the layout of BUFFERS.

    ``segment_size`` is not 0 when the receiver sees the segment for the first time; its descriptor
    comes along then. The receiver clears its byte in the first page when nothing refers to the value
    any more.
    """

    execution: int
    number: int
    segment: int
    size: int
    segment_size: int = 0


class GraphForget(Struct, array_like=True, frozen=True, tag=133):
    """The sender will not use this segment again."""

    segment: int


class GraphBroken(Struct, array_like=True, frozen=True, tag=134):
    """Actor to driver: the connection to another actor ended, and this was no teardown."""

    member: int
    reason: str
