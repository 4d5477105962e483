"""The state of a session as plain rows, asked of its daemon and its control store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate._base.resources import to_float
from skate._wire import control, node
from skate._wire.codec import unpack


class SessionState:
    """The rows of one session, from its daemon and its control store. See ``skate.util.state``."""

    def __init__(
        self,
        ask_node: Callable[[Callable[[int], Any]], Any],
        ask_control: Callable[[Callable[[int], Any]], bytes],
        session_dir: str,
    ) -> None:
        self.session_dir = session_dir
        self._ask_node = ask_node
        self._ask_control = ask_control

    def state(self, what: str) -> tuple[list[tuple[int, str, list[dict[str, Any]]]], list[int]]:
        """Return the rows of each process (pid, kind, rows), and the pids that did not answer."""
        answer: node.StateAnswer = self._ask_node(lambda request: node.StateQuery(request, what))
        parts = [(pid, kind, unpack(rows, type=list[dict[str, Any]])) for _, pid, kind, rows in answer.parts]
        return parts, answer.silent

    def directory(self, what: str) -> list[Any]:
        """Return "actors", "jobs", "nodes", "groups" or "events" as the control store knows them."""
        if what == "nodes":
            nodes = unpack(self._ask_control(control.ListNodes), type=list[control.NodeInfo])
            return [
                {"node_id": one.node_id.hex(), "hostname": one.hostname, "total": to_float(one.resources),
                 "available": to_float(one.available), "labels": one.labels, "started": one.started}
                for one in nodes
            ]  # fmt: skip
        questions: dict[str, Callable[[int], Any]] = {
            "actors": control.ListActors, "jobs": control.ListJobs, "events": control.ListEvents,
            "groups": control.ListGroups,
        }  # fmt: skip
        return unpack(self._ask_control(questions[what]), type=list[Any])

    def kill_actor(self, actor_id: bytes, no_restart: bool, reason: str) -> None:
        """End an actor's process."""
        self._ask_control(lambda request: control.KillActor(request, actor_id, no_restart, reason))
