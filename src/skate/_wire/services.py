"""Lists for every service which messages each kind of peer may send, and how each connection begins.

A *service* is a role that accepts connections. ``hellos`` are the messages that may come first and the kind
of peer that each announces; ``said`` are the messages that each kind may send after its hello, ``heard``
those that the role sends back. Every role decodes and handles the messages that this table allows, and no
others; a unit test checks that every message and every handler is in the table.

The zygote has no entry: its socket pair is inherited from the daemon, so both ends know each other by
construction, and ``zygote`` has one decoder for each direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from skate._wire import control, debugger, graph, node, worker

Messages = frozenset[type]

#: In place of a kind: the hello itself names the kind.
IN_HELLO = None


class Service(NamedTuple):
    """Holds the messages of one service."""

    #: The role, for messages to people.
    role: str
    hellos: Mapping[type, str | None]
    said: Mapping[str, Messages]
    heard: Mapping[str, Messages]

    def kind_of(self, message: Any) -> str | None:
        """Return the kind of peer that a hello announces; None: the message is no hello of this service."""
        if type(message) not in self.hellos:
            return None
        kind = self.hellos[type(message)]
        if kind is not IN_HELLO:
            return kind
        named: str = message.kind
        return named


_PROCESS_TO_NODE: Messages = frozenset({
    node.LeaseDemand, node.LeaseReturned, node.LeaseBroken, node.KillTask, node.Allocate, node.Seal,
    node.Free, node.Pin, node.Unpin, node.ReturnExtents, node.SegmentMissed, node.Prepared,
    node.StateQuery, node.StateRows, node.LastRows, node.Counts, node.Metrics,
    node.Lose, node.Preload,
})  # fmt: skip
_NODE_TO_PROCESS: Messages = frozenset({
    node.LeaseGranted, node.DemandRefused, node.LeaseReclaim, node.WorkerDied, node.Extent, node.Pinned,
    node.StateAnswer, node.StateAsk, node.CreatorDied, node.PrepareMove, node.TrimExtents,
    node.Deadlocked,
})  # fmt: skip

NODE = Service(
    "the node daemon",
    {node.Hello: IN_HELLO},
    {
        "driver": _PROCESS_TO_NODE | {node.Shutdown},
        "worker": _PROCESS_TO_NODE | {
            node.Blocked, node.Waiting, node.ActorReady, node.ActorRefused, node.ActorAccepted,
            node.ExitRefused, node.Leaving, node.Stopped, node.Resumed,
        },
        "observer": frozenset({node.StateQuery, node.Shutdown}),
    },
    {
        "driver": _NODE_TO_PROCESS | {
            node.Welcome, node.LogLines, node.Stopped, node.Resumed, node.Shutdown,
        },
        "worker": _NODE_TO_PROCESS | {node.StartActor, node.Exit, node.OwnerLeft, node.EndActor},
        "observer": frozenset({node.StateAnswer}),
    },
)  # fmt: skip

_LISTS: Messages = frozenset({
    control.ListNodes, control.ListNames, control.ListActors, control.ListJobs, control.ListEvents,
    control.ListGroups,
})  # fmt: skip

CONTROL = Service(
    "the control store",
    {
        control.RegisterNode: "node",
        control.RegisterJob: "process",
        control.RegisterObserver: "observer",
    },
    {
        "node": frozenset({
            control.NodeUpdate, control.ActorStarted, control.ActorEnded, control.BundlesReserved,
            control.AskForGroup,
        }),
        "process": _LISTS | {
            control.CreateActor, control.WatchActor, control.KillActor, control.FindActor,
            control.ReleaseActor, control.KeyValue, control.CreateGroup, control.RemoveGroup,
            control.FindGroup, node.Shutdown,
        },
        "observer": _LISTS | {control.KillActor, node.Shutdown},
    },
    {
        "node": frozenset({
            control.PlaceActor, control.StopActor, control.ForgetJob, control.ReserveBundles,
            control.ReturnBundles,
        }),
        "process": frozenset({control.Answer, control.ActorUpdate}),
        "observer": frozenset({control.Answer}),
    },
)  # fmt: skip

_BETWEEN_PROCESSES: Messages = frozenset({
    worker.DefineFunction, worker.ForgetFunction, worker.Call, worker.Reply, worker.ReplyAck,
    worker.StreamItem,
    worker.StreamTaken, worker.StreamStop, worker.CancelCall, worker.CancelTask, worker.Returned,
    worker.GetObject, worker.ObjectValue, worker.ObjectLost, worker.AddBorrower, worker.BorrowAck,
    worker.RemoveBorrower,
})  # fmt: skip

#: Two processes use one connection in both directions: the listener may send its own calls back on it.
PROCESS = Service(
    "this process",
    {worker.PeerHello: "process"},
    {"process": _BETWEEN_PROCESSES},
    {"process": _BETWEEN_PROCESSES},
)

BREAKPOINT = Service(
    "this breakpoint",
    {debugger.Attach: "terminal"},
    {"terminal": frozenset({debugger.Line, debugger.Detach, debugger.Interrupt})},
    {"terminal": frozenset({debugger.Output, debugger.Ask})},
)

_BETWEEN_MEMBERS: Messages = frozenset({
    graph.GraphValue, graph.GraphLarge, graph.GraphForget, graph.GraphBroken,
})  # fmt: skip

GRAPH = Service(
    "this member of the graph",
    {graph.GraphHello: "member"},
    {"member": _BETWEEN_MEMBERS},
    {"member": _BETWEEN_MEMBERS},
)

SERVICES = (NODE, CONTROL, PROCESS, BREAKPOINT, GRAPH)
