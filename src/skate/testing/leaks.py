"""Finds calls, actors and objects that a test left behind in a session that later tests use, and names
each."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any, NamedTuple

#: Objects and actors that a test dropped are gone everywhere within this time (seconds).
GRACE = 10.0
#: The most rows that are requested (count); leaks beyond them are not named.
_MOST = 100_000
#: The most leaks of a kind that are named (count).
_NAMED = 10


class Living(NamedTuple):
    """Lists the living calls, actors and objects: ids to a line for people."""

    calls: dict[str, str]
    actors: dict[str, str]
    objects: dict[str, str]

    @classmethod
    def now(cls) -> Living:
        """Ask the session."""
        from skate.util import state

        calls = {
            one.task_id: f"{_kind(one)} {one.name} ({one.state}){_made(one.call_site, 'called')}"
            for one in state.list_tasks(limit=_MOST)
            if one.state not in ("FINISHED", "FAILED")
        }
        actors = {
            one.actor_id: f"actor {one.class_name}{_named(one)} ({one.state})"
            f"{_made(one.call_site, 'created')}"
            for one in state.list_actors(limit=_MOST)
            if one.state != "DEAD"
        }
        objects = {
            one.object_id: f"object {one.object_id} ({_size(one.object_size)}, {one.reference_type})"
            f"{_made(one.call_site, 'made')}"
            for one in state.list_objects(limit=_MOST)
            if one.reference_type != "ACTOR_HANDLE"
        }
        return cls(calls, actors, objects)

    def without(self, others: Living) -> Living:
        """Return what is here and not there."""
        return Living(*(_minus(mine, theirs) for mine, theirs in zip(self, others, strict=True)))

    def lines(self, *, objects: bool) -> list[str]:
        """Return a line for each."""
        found: list[str] = []
        for one in (self.calls, self.actors, self.objects if objects else {}):
            lines = list(one.values())
            found += lines[:_NAMED]
            if len(lines) > _NAMED:
                found.append(f"... and {len(lines) - _NAMED} more of the kind")
        return found


def left_since(before: Living, *, objects: bool, look: Callable[[], Living] = Living.now) -> list[str]:
    """Return a line for whatever came since and does not go: calls under way, actors, objects.

    Args:
        before: what was there.
        objects: whether objects count. (The report of a test that failed holds its variables.)
        look: asks the session; for tests of this module.
    """
    deadline = monotonic() + GRACE
    pause = 0.002
    while True:
        gc.collect()
        lines = look().without(before).lines(objects=objects)
        if not lines or monotonic() > deadline:
            return lines
        sleep(pause)  # a process that ends, a message on its way: nothing tells when all have arrived
        pause = min(pause * 2, 0.1)


def _minus(mine: dict[str, str], theirs: dict[str, str]) -> dict[str, str]:
    return {name: line for name, line in mine.items() if name not in theirs}


def _kind(task: Any) -> str:
    return "call" if task.type == "ACTOR_TASK" else "task"


def _named(actor: Any) -> str:
    return f" named {actor.name!r}" if actor.name else ""


def _made(site: str | None, how: str) -> str:
    return f", {how} at {site}" if site else ""


def _size(size: int | None) -> str:
    return f"{size:,} bytes" if size is not None and size >= 0 else "size unknown"
