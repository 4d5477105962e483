"""Deals with segments of shared memory that this process cannot attach or write, because of a limit."""

from __future__ import annotations

import errno
from typing import TypeVar

from skate._base import descriptors, errors
from skate._store.allocator import DISK, Extent
from skate._store.client import StoreClient
from skate._transport.connection import Connection
from skate._wire import node

Message = TypeVar("Message", node.Extent, node.Pinned)


def attached(store: StoreClient, connection: Connection, message: Message) -> Message | node.Extent:
    """Take over the descriptor that came with an answer of the daemon, if one did. Under the lock.

    If it was lost on the way, the daemon is asked to send it again next time. An extent is given back, and
    the returned answer says why; the reader of a pinned object raises ``unreadable``.
    """
    if not message.has_fd:
        return message
    try:
        fd = connection.take_fd()
    except OSError as error:
        connection.send(node.SegmentMissed(message.segment))
        if isinstance(message, node.Extent):
            connection.send(node.ReturnExtents([(message.segment, message.offset)]))
            text = f"this process {descriptors.explain(error)}"
            return node.no_extent(message.request, text)
        return message
    store.attach(message.segment, message.segment_size, fd)
    return message


def unreadable(object_id: bytes, message: node.Pinned) -> OSError:
    """Return the error for an object that cannot be read, as the descriptor of its segment is missing."""
    who = "this process" if message.has_fd else "the node daemon"
    shortage = descriptors.explain(OSError(errno.EMFILE, ""))
    return OSError(errno.EMFILE, f"cannot read object {object_id.hex()}: {who} {shortage}")


def unwritable(extent: Extent, error: OSError) -> errors.ObjectStoreFullError:
    """Return the error for an extent that cannot be written."""
    if error.errno == errno.EFBIG:
        text = f"this process {descriptors.explain(error)}"
        return errors.ObjectStoreFullError(f"cannot store {extent.size} bytes: {text}")
    what = "memory" if extent.segment < DISK else "disk space"
    return errors.ObjectStoreFullError(
        f"the machine has no {what} left for {extent.size} bytes more: {error.strerror}"
    )
