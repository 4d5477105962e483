"""Serves shared memory to processes: extents to write to, seals, pins of readers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from skate._base import descriptors
from skate._base.ids import owner_of
from skate._node.clients import Client
from skate._node.context import NodeContext
from skate._node.events import WorkerEnded
from skate._node.objects.spilling import SpillService
from skate._store.admission import (
    Admission,
    Allocation,
    AskToTrim,
    Command,
    GrantExtent,
    GrantOnDisk,
    MakeRoom,
    Refuse,
)
from skate._store.allocator import Extent, Grant
from skate._store.segment import Segments
from skate._store.table import NotHeldError, StoreTable
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Timer
from skate._wire import node
from skate._wire.handshake import WRONG_STATE, WrongMessage

#: A pin of an object that is not sealed yet is answered "gone" after this time. Its seal is in a socket
#: already, or it never was: see StoreTable.
_SEAL_TIMEOUT_S = 1.0
#: Time that processes have to return the extents that they keep, or to prepare objects for a move.
_RECLAIM_TIMEOUT_S = 2.0


class ObjectService:
    """The shared-memory objects of this node."""

    def __init__(
        self, context: NodeContext, store: StoreTable, segments: Segments, spilling: SpillService
    ) -> None:
        self._context = context
        self._store = store
        self._segments = segments
        self._spilling = spilling
        self._admission = Admission(store)
        #: Runs while allocations wait.
        self._reclaim_timer: Timer | None = None
        #: Clients whose pin came before the seal, and their requests (0: no answer is wanted).
        self._early_pins: dict[bytes, list[tuple[Client, int]]] = {}
        self._cool: Timer | None = None
        self._busy = False

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.Allocate: self._allocate, node.Seal: self._seal, node.Free: self._free,
                node.Pin: self._pin, node.Unpin: self._unpin, node.ReturnExtents: self._return,
                node.SegmentMissed: self._missed}  # fmt: skip

    # ------------------------------------------------------------------ extents

    def _allocate(self, connection: Connection, message: node.Allocate) -> None:
        allocation = Allocation(connection.peer.id, message.request, message.size)
        self._run(self._admission.allocate(allocation, self._context.clients.ids()))

    def _run(self, commands: Sequence[Command]) -> None:
        """Carry out what admission decided."""
        pending = deque(commands)
        while pending:
            command = pending.popleft()
            if isinstance(command, GrantExtent):
                self._grant(command)
            elif isinstance(command, MakeRoom):
                self._spilling.relieve(command.size)
                pending.extend(self._admission.room_made(self._spilling.busy))
            elif isinstance(command, GrantOnDisk):
                self._grant_on_disk(command.allocation)
            elif isinstance(command, AskToTrim):
                for process in command.processes:
                    self._context.send(process, node.TrimExtents())
            elif isinstance(command, Refuse):
                self._refuse(command.allocation, "full")
            else:
                self._spilling.give_up()
        if self._admission.waiting and self._reclaim_timer is None:
            self._reclaim_timer = self._context.reactor.call_later(_RECLAIM_TIMEOUT_S, self._timed_out)

    def _timed_out(self) -> None:
        self._reclaim_timer = None
        self._run(self._admission.timed_out())

    def _grant(self, command: GrantExtent) -> None:
        """Hand an extent of memory over, or tell the process why that cannot be done."""
        allocation, grant = command
        segment, allocator = grant.extent.segment, self._store.allocator
        try:
            if not self._segments.has_segment(segment):
                self._segments.create(segment, grant.segment_size)
            if grant.fresh and allocator.used + allocator.warm_bytes > allocator.capacity:
                self._punch()  # or free pages elsewhere would add to what is in use
            self._hand_over(allocation, grant)
        except OSError as error:
            self._give_back(allocation, grant, error)

    def _grant_on_disk(self, allocation: Allocation) -> None:
        """Have the process write to a file, since memory has no room, whatever is moved; or refuse."""
        spilling, store = self._spilling, self._store
        spilling.look_for_room(insist=True)  # it may have been freed since; else the process is refused
        grant = store.allocate(allocation.process, allocation.size, on_disk=True)
        if grant is not None:
            segment = grant.extent.segment
            try:
                if not self._segments.has_segment(segment):
                    spilling.make_segment(segment, grant.segment_size)
            except OSError as error:
                self._context.log(f"cannot make a file in {spilling.folder}: {error}")
                store.give_back(allocation.process, segment, grant.extent.offset)
                grant = None
        if grant is None:
            self._refuse(allocation, store.describe_full(allocation.size, spilling.folder))
            return
        try:
            self._hand_over(allocation, grant)
        except OSError as error:
            self._give_back(allocation, grant, error)

    def _hand_over(self, allocation: Allocation, grant: Grant) -> None:
        """Send an extent to the process that wanted it.

        Raises:
            OSError: this process has no descriptor left to send it by.
        """
        client = self._context.clients.get(allocation.process)
        extent = grant.extent
        if client is None:  # it hung up
            self._store.give_back(allocation.process, extent.segment, extent.offset)
            return
        has_fd = extent.segment not in client.segments
        place = extent.segment, grant.segment_size, extent.offset, extent.size
        reply = node.Extent(allocation.request, *place, grant.fresh, has_fd)
        self._send(client, reply, extent.segment, has_fd)
        self._arm()

    def _give_back(self, allocation: Allocation, grant: Grant, error: OSError) -> None:
        self._store.give_back(allocation.process, grant.extent.segment, grant.extent.offset)
        self._arm()
        text = f"the object store cannot grow, because the node daemon {descriptors.explain(error)}"
        self._refuse(allocation, text)

    def _refuse(self, allocation: Allocation, text: str) -> None:
        self._context.send(allocation.process, node.no_extent(allocation.request, text))

    def _send(self, client: Client, message: node.Extent | node.Pinned, segment: int, has_fd: bool) -> None:
        """Answer, with the segment's descriptor if need be.

        Raises:
            OSError: this process has no descriptor left to send it by.
        """
        if has_fd:
            client.connection.send_with_fd(message, self._segments.fd(segment))
            client.segments.add(segment)
        else:
            client.connection.send(message)

    def room(self) -> None:
        """Serve waiting allocations: memory may have come free, or it is clear that none will."""
        self._arm()
        self._run(self._admission.freed())

    def _return(self, connection: Connection, message: node.ReturnExtents) -> None:
        for segment, offset in message.extents:
            self._store.give_back(connection.peer.id, segment, offset)
        self._arm()
        self._run(self._admission.returned(connection.peer.id))

    # ------------------------------------------------------------------ objects

    def _seal(self, connection: Connection, message: node.Seal) -> None:
        extent = Extent(message.segment, message.offset, message.size)
        owner = owner_of(message.object_id)
        try:
            self._store.seal(
                connection.peer.id, message.object_id, owner, extent, message.label, message.again
            )
        except NotHeldError:
            raise WrongMessage("for an extent that it does not hold", WRONG_STATE) from None
        for client, request in self._early_pins.pop(message.object_id, ()):
            self._answer_pin(client, request, message.object_id)

    def _free(self, connection: Connection, message: node.Free) -> None:
        new_holder = connection.peer.id if message.keep else None
        for object_id in message.object_ids:
            self._store.free(object_id, new_holder, message.creator)
        self.room()

    def _pin(self, connection: Connection, message: node.Pin) -> None:
        store = self._store
        if message.object_id in store.objects or store.reported(message.object_id):
            self._answer_pin(connection.peer, message.request, message.object_id)
            return
        store.pin_early(connection.peer.id, message.object_id)
        self._early_pins.setdefault(message.object_id, []).append((connection.peer, message.request))
        self._context.reactor.call_later(_SEAL_TIMEOUT_S, lambda: self._give_up_pin(message.object_id))

    def _give_up_pin(self, object_id: bytes) -> None:
        for client, request in self._early_pins.pop(object_id, ()):
            self._store.unpin(client.id, object_id)
            self._answer_pin(client, request, object_id)

    def _answer_pin(self, client: Client, request: int, object_id: bytes) -> None:
        if client.connection.closed:
            return
        stored = self._store.pin(client.id, object_id)
        if not request:
            return  # the owner reads it already and wants no answer
        if stored is None:
            error = "the node's store does not have it (any more)"
            client.connection.send(node.Pinned(request, 0, 0, 0, 0, False, error))
            return
        extent = stored.extent
        has_fd = extent.segment not in client.segments
        size = self._store.segment_size(extent.segment)
        reply = node.Pinned(request, extent.segment, size, extent.offset, stored.size, has_fd)
        try:
            self._send(client, reply, extent.segment, has_fd)
        except OSError:  # without the descriptor: the process tells its user why it cannot map the object
            client.connection.send(
                node.Pinned(request, extent.segment, size, extent.offset, stored.size, False)
            )

    def _missed(self, connection: Connection, message: node.SegmentMissed) -> None:
        connection.peer.segments.discard(message.segment)

    def _unpin(self, connection: Connection, message: node.Unpin) -> None:
        early = self._early_pins.get(message.object_id)
        if early is not None:
            # Its pin waits for the seal, which another socket brings; it is over before it began.
            self._early_pins[message.object_id] = [item for item in early if item[0] is not connection.peer]
        self._store.unpin(connection.peer.id, message.object_id)
        self.room()

    def worker_ended(self, ended: WorkerEnded) -> None:
        """Release what a dead worker held."""
        self.process_ended(ended.worker)

    def process_ended(self, process: bytes) -> None:
        """Release the pins, extents and objects of a process; tell the owners of objects that it created."""
        for owner, object_ids in self._store.created_by(process).items():
            self._context.send(owner, node.CreatorDied(process, object_ids))
        self._store.process_ended(process)
        self._spilling.owner_ended(process)
        self._arm()
        self._run(self._admission.ended(process))

    def disconnected(self, process: bytes) -> None:
        """Serve no allocation of a process that hung up."""
        self._run(self._admission.disconnected(process))

    # ------------------------------------------------------------------ idle memory

    def _arm(self) -> None:
        """Free memory goes back to the system when nothing was allocated or freed for a while."""
        self._busy = True
        if self._cool is None and not self._context.closing:
            delay = self._context.config.store_idle_ms / 1000
            self._cool = self._context.reactor.call_later(delay, self._cool_down)

    def _cool_down(self) -> None:
        self._cool = None
        if self._busy:
            self._busy = False
            delay = self._context.config.store_idle_ms / 1000
            self._cool = self._context.reactor.call_later(delay, self._cool_down)
            return
        self._punch()
        self._store.freed_early.clear()

    def _punch(self) -> None:
        """Give the pages of all free memory, and the blocks of free ranges in files, to the system."""
        store = self._store
        for extent in (*store.allocator.cool(), *store.disk.cool()):
            self._segments.punch(extent.segment, extent.offset, extent.size)
