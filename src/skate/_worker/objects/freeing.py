"""Values that are given up though refs to them are left (``ray._private.internal_api.free``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from skate._base import errors
from skate._serialize.exceptions import dump_error
from skate._wire import node
from skate._wire.worker import BUFFERS, ERROR, NONE, PICKLE, SHARED
from skate._worker.objects.object_ref import ObjectRef

if TYPE_CHECKING:
    from skate._worker.core import Core

_VALUES = (NONE, PICKLE, BUFFERS, SHARED)


def free_objects(core: Core, refs: Iterable[ObjectRef[Any]]) -> None:
    """Free owned values that are there and have no view here; their refs stand for ObjectFreedError then.

    What other processes have a view of stays valid there; the daemon frees it with the last view.
    """
    for ref in refs:
        entry = ref._entry
        freed_error = dump_error(
            errors.ObjectFreedError(
                entry.id.hex(), core.address, "free() gave its memory back while refs to it were left"
            )
        )
        with core.changing:
            if entry.owner_address is not None or entry.gone or entry.kind not in _VALUES:
                continue
            if entry.kind == SHARED:
                local = core.store.objects.get(entry.id)
                if local is not None and local.views:
                    continue
                freed = core.objects.free_value(entry)
                if freed is not None:
                    core.node.send(node.Free([freed[0]], freed[1]))
            contained, entry.contained = entry.contained, None
            entry.kind, entry.data = ERROR, freed_error
            for inner in contained or ():
                core.refs.unpin(inner)
            core.drain()
        core.reactor.request_turn()
