"""What must be empty once a program holds nothing any more."""

from __future__ import annotations

from typing import Any

from .session import Session


def left_in(session: Session) -> dict[str, Any]:
    """Return what is left in the tables of all processes, by name."""
    core, daemon = session.core, session.daemon
    found = {
        "entries of the driver": list(core.refs.entries),
        "calls of the driver": list(core.tasks.unfinished),
        "waits of the driver": list(core.waiting.waits),
        "stored objects": list(daemon.store.objects),
        "leases": list(daemon.lease_table.leases),
        "demands": list(daemon.lease_table._demands),
        "actors": [one.id for one in session.control._actors.records.values() if one.state.value != "DEAD"],
    }
    for worker in session.workers:
        if worker.alive:
            found[f"entries of {worker.name}"] = list(worker.core.refs.entries)
            found[f"objects of {worker.name}"] = list(worker.core.store.objects)
    return {name: str(things) for name, things in found.items() if things}
