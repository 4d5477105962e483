"""Shared-memory objects: extents, seals, pins."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from skate._base import descriptors
from skate._base.ids import owner_of
from skate._store.allocator import Extent
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Timer
from skate._wire import node

if TYPE_CHECKING:
    from skate._node.daemon import Daemon
    from skate._node.workers.service import Client

#: A pin of an object that nobody sealed yet is answered "gone" after this time (seconds). Its seal
#: is in a socket already, or it never was: see StoreTable.
_UNSEALED = 1.0
#: Processes are given this long to return what they keep, or to prepare for a move (seconds).
_PATIENCE = 2.0


class _Waiting:
    """An allocation that found the store full, while others are asked for what they keep."""

    def __init__(self, client: Client, request: int, size: int, asked: set[bytes]) -> None:
        self.client = client
        self.request = request
        self.size = size
        self.asked = asked


class ObjectHandlers:
    """The daemon's part about objects."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._waiting: deque[_Waiting] = deque()
        self._patience: Timer | None = None
        #: Processes that did not answer in time; nobody waits for them before they do.
        self._silent: set[bytes] = set()
        #: Who waits for the answer to a pin that came before the seal (a request of 0 wants none).
        self._early_pins: dict[bytes, list[tuple[Client, int]]] = {}
        self._cool: Timer | None = None
        self._busy = False

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
        return {node.Allocate: self._allocate, node.Seal: self._seal, node.Free: self._free,
                node.Pin: self._pin, node.Unpin: self._unpin, node.ReturnExtents: self._return,
                node.StoreStatus: self._status, node.SegmentMissed: self._missed}  # fmt: skip

    # ------------------------------------------------------------------ extents

    def _allocate(self, connection: Connection, message: node.Allocate) -> None:
        client: Client = connection.peer
        store, spilling = self._daemon.store, self._daemon.spilling
        if not message.request:  # ahead of need: not at the expense of others
            if self._waiting or not self._grant(client, 0, message.size):
                client.connection.send(node.no_extent(0, "full"))
            return
        if message.size > store.allocator.capacity:
            self._grant_on_disk(client, message.request, message.size)
        elif self._waiting or not self._grant(client, message.request, message.size):
            # Everybody: who keeps no extents may still hold what it only has to notice it dropped.
            asked = set(self._daemon.clients) - self._silent
            for process in asked:
                self._daemon.clients[process].connection.send(node.TrimExtents())
            self._waiting.append(_Waiting(client, message.request, message.size, asked))
            self._retry(None)
            if self._waiting and self._patience is None:
                self._patience = self._daemon.reactor.call_later(_PATIENCE, self._lose_patience)
        else:
            spilling.relieve()

    def _grant(self, client: Client, request: int, size: int, *, on_disk: bool = False) -> bool:
        """Answer with an extent, if there is one, or with why it cannot be handed over.

        Raises:
            OSError: there would be one on disk, but it takes no new file.
        """
        daemon = self._daemon
        grant = daemon.store.allocate(client.id, size, on_disk=on_disk)
        if grant is None:
            return False
        extent = grant.extent
        try:
            if not daemon.segments.has_segment(extent.segment):
                if on_disk:
                    daemon.spilling.make_segment(extent.segment, grant.segment_size)
                else:
                    daemon.segments.create(extent.segment, grant.segment_size)
        except OSError as error:
            daemon.store.give_back(client.id, extent.segment, extent.offset)
            if on_disk:
                raise
            self._refuse(client, request, error)
            return True
        if grant.fresh and not on_disk:
            allocator = daemon.store.allocator
            if allocator.used + allocator.warm_bytes > allocator.capacity:
                self._punch()  # or free pages elsewhere would add to what is in use
        has_fd = extent.segment not in client.segments
        reply = node.Extent(
            request, extent.segment, grant.segment_size, extent.offset, extent.size, grant.fresh, has_fd
        )
        try:
            self._send(client, reply, extent.segment, has_fd)
        except OSError as error:
            daemon.store.give_back(client.id, extent.segment, extent.offset)
            self._refuse(client, request, error)
        self._arm()
        return True

    def _refuse(self, client: Client, request: int, error: OSError) -> None:
        text = f"the object store cannot grow, because the node daemon {descriptors.explain(error)}"
        client.connection.send(node.no_extent(request, text))

    def _grant_on_disk(self, client: Client, request: int, size: int) -> None:
        """Memory has no room, whatever is moved: let it be written to disk, or refuse."""
        spilling = self._daemon.spilling
        spilling.look_for_room(insist=True)  # it may have been freed since; else somebody is refused
        try:
            granted = self._grant(client, request, size, on_disk=True)
        except OSError as error:
            self._daemon.log(f"cannot make a file in {spilling.folder}: {error}")
            granted = False
        if not granted:
            error_text = self._daemon.store.describe_full(size, spilling.folder)
            client.connection.send(node.no_extent(request, error_text))

    def _send(self, client: Client, message: node.Extent | node.Pinned, segment: int, has_fd: bool) -> None:
        """Answer, with the segment's descriptor if need be.

        Raises:
            OSError: this process has no descriptor left to send it by.
        """
        if has_fd:
            client.connection.send_with_fd(message, self._daemon.segments.fd(segment))
            client.segments.add(segment)
        else:
            client.connection.send(message)

    def _retry(self, answered: bytes | None) -> None:
        """Somebody gave extents back (or ended, or objects were freed or moved): try who waits again.

        In their order: a large one must not wait for ever while small ones take what comes free.
        """
        spilling = self._daemon.spilling
        for item in self._waiting:
            if answered is not None:
                item.asked.discard(answered)
        while self._waiting:
            item = self._waiting[0]
            if not item.client.connection.closed and not self._grant(item.client, item.request, item.size):
                spilling.relieve(sum(one.size for one in self._waiting))
                if item.asked or spilling.busy:
                    return
                self._grant_on_disk(item.client, item.request, item.size)
            self._waiting.popleft()

    def _lose_patience(self) -> None:
        """Who has not answered by now may be stopped: others do not wait for it."""
        self._patience = None
        if not self._waiting:
            return
        for item in self._waiting:
            self._silent |= item.asked
            item.asked.clear()
        self._daemon.spilling.give_up()
        self._retry(None)
        if self._waiting:
            self._patience = self._daemon.reactor.call_later(_PATIENCE, self._lose_patience)

    def room(self) -> None:
        """Memory may have become free, or it is clear that none will."""
        self._arm()
        if self._waiting:
            self._retry(None)

    def _return(self, connection: Connection, message: node.ReturnExtents) -> None:
        self._silent.discard(connection.peer.id)
        for segment, offset in message.extents:
            self._daemon.store.give_back(connection.peer.id, segment, offset)
        self._arm()
        if self._waiting:
            self._retry(connection.peer.id)

    # ------------------------------------------------------------------ objects

    def _seal(self, connection: Connection, message: node.Seal) -> None:
        extent = Extent(message.segment, message.offset, message.size)
        owner = owner_of(message.object_id)
        self._daemon.store.seal(
            connection.peer.id, message.object_id, owner, extent, message.label, message.again
        )
        for client, request in self._early_pins.pop(message.object_id, ()):
            self._answer_pin(client, request, message.object_id)

    def _free(self, connection: Connection, message: node.Free) -> None:
        new_holder = connection.peer.id if message.keep else None
        for object_id in message.object_ids:
            self._daemon.store.free(object_id, new_holder, message.creator)
        self._arm()
        if self._waiting:
            self._retry(None)

    def _pin(self, connection: Connection, message: node.Pin) -> None:
        store = self._daemon.store
        if message.object_id in store.objects or store.reported(message.object_id):
            self._answer_pin(connection.peer, message.request, message.object_id)
            return
        store.pin_early(connection.peer.id, message.object_id)
        self._early_pins.setdefault(message.object_id, []).append((connection.peer, message.request))
        self._daemon.reactor.call_later(_UNSEALED, lambda: self._give_up_pin(message.object_id))

    def _give_up_pin(self, object_id: bytes) -> None:
        for client, request in self._early_pins.pop(object_id, ()):
            self._daemon.store.unpin(client.id, object_id)
            self._answer_pin(client, request, object_id)

    def _answer_pin(self, client: Client, request: int, object_id: bytes) -> None:
        if client.connection.closed:
            return
        stored = self._daemon.store.pin(client.id, object_id)
        if not request:
            return  # the owner reads it already and wants no answer
        if stored is None:
            error = "the node's store does not have it (any more)"
            client.connection.send(node.Pinned(request, 0, 0, 0, 0, False, error))
            return
        extent = stored.extent
        has_fd = extent.segment not in client.segments
        size = self._daemon.store.segment_size(extent.segment)
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
        self._daemon.store.unpin(connection.peer.id, message.object_id)
        self._arm()
        if self._waiting:
            self._retry(None)

    def process_ended(self, process: bytes) -> None:
        """A process is no more: its pins, extents and objects go; owners look after their own."""
        for owner, object_ids in self._daemon.store.created_by(process).items():
            client = self._daemon.clients.get(owner)
            if client is not None:
                client.connection.send(node.CreatorDied(process, object_ids))
        self._daemon.store.process_ended(process)
        self._daemon.spilling.owner_ended(process)
        self._silent.discard(process)
        self._arm()
        if self._waiting:
            self._retry(process)

    def _status(self, connection: Connection, message: node.StoreStatus) -> None:
        store = self._daemon.store
        connection.send(
            node.StoreReport(
                message.request,
                store.bytes_of_objects(on_disk=False),
                len(store.objects),
                store.allocator.capacity,
                store.bytes_of_objects(on_disk=True),
                [(worker.id, worker.pid) for worker in self._daemon.workers],
            )
        )

    # ------------------------------------------------------------------ idle memory

    def _arm(self) -> None:
        """Free memory goes back to the system when nothing was allocated or freed for a while."""
        self._busy = True
        if self._cool is None and not self._daemon.closing:
            delay = self._daemon.config.store_idle_ms / 1000
            self._cool = self._daemon.reactor.call_later(delay, self._cool_down)

    def _cool_down(self) -> None:
        self._cool = None
        if self._busy:
            self._busy = False
            delay = self._daemon.config.store_idle_ms / 1000
            self._cool = self._daemon.reactor.call_later(delay, self._cool_down)
            return
        self._punch()
        self._daemon.store.freed_early.clear()

    def _punch(self) -> None:
        """Give the pages of all free memory, and the blocks of free ranges in files, to the system."""
        store = self._daemon.store
        for extent in (*store.allocator.cool(), *store.disk.cool()):
            self._daemon.segments.punch(extent.segment, extent.offset, extent.size)
