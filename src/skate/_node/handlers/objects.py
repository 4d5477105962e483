"""Shared-memory objects: extents, seals, pins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate._base.ids import owner_of
from skate._store.allocator import Extent
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Timer
from skate._wire import node

if TYPE_CHECKING:
    from skate._node.daemon import Daemon
    from skate._node.handlers.processes import Client

#: A pin of an object that nobody sealed yet is answered "gone" after this time (seconds). Its seal
#: is in a socket already, or it never was: see StoreTable.
_UNSEALED = 1.0


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
        self._waiting: list[_Waiting] = []
        self._early_pins: dict[bytes, list[tuple[Client, int]]] = {}
        self._cool: Timer | None = None
        self._busy = False

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
        return {node.Allocate: self._allocate, node.Seal: self._seal, node.Free: self._free,
                node.Pin: self._pin, node.Unpin: self._unpin, node.ReturnExtents: self._return,
                node.StoreStatus: self._status}  # fmt: skip

    # ------------------------------------------------------------------ extents

    def _allocate(self, connection: Connection, message: node.Allocate) -> None:
        client: Client = connection.peer
        if self._grant(client, message.request, message.size):
            return
        if not message.request:
            client.connection.send(node.Extent(0, 0, 0, 0, 0, False, False, "full"))
        else:
            # Everybody: who keeps no extents may still hold what it only has to notice it dropped.
            asked = set(self._daemon.clients)
            for process in asked:
                self._daemon.clients[process].connection.send(node.TrimExtents())
            self._waiting.append(_Waiting(client, message.request, message.size, asked))
            self._retry(None)

    def _grant(self, client: Client, request: int, size: int) -> bool:
        daemon = self._daemon
        grant = daemon.store.allocate(client.id, size)
        if grant is None:
            return False
        extent = grant.extent
        if grant.new_segment:
            daemon.segments.create(extent.segment, grant.segment_size)
        has_fd = extent.segment not in client.segments
        reply = node.Extent(
            request, extent.segment, grant.segment_size, extent.offset, extent.size, grant.fresh, has_fd
        )
        self._send(client, reply, extent.segment, has_fd)
        self._arm()
        return True

    def _send(self, client: Client, message: node.Extent | node.Pinned, segment: int, has_fd: bool) -> None:
        if has_fd:
            client.segments.add(segment)
            client.connection.send_with_fd(message, self._daemon.segments.fd(segment))
        else:
            client.connection.send(message)

    def _retry(self, answered: bytes | None) -> None:
        """Somebody gave extents back (or ended, or objects were freed): try who waits again."""
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if answered is not None:
                item.asked.discard(answered)
            if item.client.connection.closed or self._grant(item.client, item.request, item.size):
                continue
            if item.asked:
                self._waiting.append(item)
            else:
                error = self._daemon.store.describe_full(item.size)
                item.client.connection.send(node.Extent(item.request, 0, 0, 0, 0, False, False, error))

    def _return(self, connection: Connection, message: node.ReturnExtents) -> None:
        for segment, offset in message.extents:
            self._daemon.store.give_back(connection.peer.id, segment, offset)
        self._arm()
        if self._waiting:
            self._retry(connection.peer.id)

    # ------------------------------------------------------------------ objects

    def _seal(self, connection: Connection, message: node.Seal) -> None:
        extent = Extent(message.segment, message.offset, message.size)
        owner = owner_of(message.object_id)
        self._daemon.store.seal(connection.peer.id, message.object_id, owner, extent, message.label)
        for client, request in self._early_pins.pop(message.object_id, ()):
            self._answer_pin(client, request, message.object_id)

    def _free(self, connection: Connection, message: node.Free) -> None:
        keeper = connection.peer.id if message.keep else None
        for object_id in message.object_ids:
            self._daemon.store.free(object_id, keeper, message.creator)
        self._arm()
        if self._waiting:
            self._retry(None)

    def _pin(self, connection: Connection, message: node.Pin) -> None:
        if message.object_id in self._daemon.store.objects:
            self._answer_pin(connection.peer, message.request, message.object_id)
            return
        self._early_pins.setdefault(message.object_id, []).append((connection.peer, message.request))
        self._daemon.reactor.call_later(_UNSEALED, lambda: self._give_up_pin(message.object_id))

    def _give_up_pin(self, object_id: bytes) -> None:
        for client, request in self._early_pins.pop(object_id, ()):
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
        size = self._daemon.store.allocator.segment_size(extent.segment)
        reply = node.Pinned(request, extent.segment, size, extent.offset, stored.size, has_fd)
        self._send(client, reply, extent.segment, has_fd)

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
        self._arm()
        if self._waiting:
            self._retry(process)

    def _status(self, connection: Connection, message: node.StoreStatus) -> None:
        store = self._daemon.store
        connection.send(
            node.StoreReport(
                message.request,
                store.used_by_objects,
                len(store.objects),
                store.allocator.capacity,
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
        for extent in self._daemon.store.allocator.cool():
            self._daemon.segments.punch(extent.segment, extent.offset, extent.size)
        self._daemon.store.freed_early.clear()
