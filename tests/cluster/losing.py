"""Makes objects lost, as if the memory or disk that held them had gone."""

from __future__ import annotations

import skate
from cluster.stored import stored
from cluster.waiting import wait_for
from skate._wire import node
from skate._worker.process import current


def lose(*refs: skate.ObjectRef) -> None:
    """Lose these objects of the calling process; return when they are gone."""
    core = current.require_core("lose objects")
    before = stored().objects
    with core.context.lock:
        core.garbage.drain()
        core.daemon.send(node.Lose([ref.binary() for ref in refs]))
        core.context.reactor.flush()
    wait_for(lambda: stored().objects <= before - len(refs), "the objects to be lost")
