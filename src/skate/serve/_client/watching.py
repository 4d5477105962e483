"""Finds the requests of this process as a caller: those that wait here, and where the others are."""

from __future__ import annotations

import time

from skate.serve._client.client import Client
from skate.serve._observing.metrics import Snapshot
from skate.serve._observing.why import Fact, Queued, Sent


def facts(client: Client, process: str, request_id: str) -> list[Fact]:
    """Return the calls of a request that have not ended. Any thread.

    Args:
        client: of this process.
        process: its name.
        request_id: the request.
    """
    now = time.monotonic()
    found: list[Fact] = []
    for port in client.ports():
        for call in port.calls():
            if call.context.request_id != request_id:
                continue
            name, table, replica = port.name, port.table, port.at(call)
            ahead = port.router.ahead_of(call.key)
            if replica is not None:
                found.append(Sent(process, name.name, name.app_name, replica, now - call.since))
            elif ahead is not None:
                replicas = table.replicas.items() if table is not None else ()
                slots = tuple((one, count) for one, (count, _) in replicas)
                unavailable = table.unavailable if table is not None else ""
                found.append(
                    Queued(process, name.name, name.app_name, ahead, now - call.since, slots, unavailable)
                )
    return found


def gauges(client: Client, process: str) -> Snapshot:
    """Return how many requests of this process wait, and how many are at replicas. Any thread.

    Args:
        client: of this process.
        process: its name.
    """
    found: Snapshot = {}
    for port in client.ports():
        labels = (port.name.name, port.name.app_name, process)
        for family, count in (
            ("ray_serve_deployment_queued_queries", port.router.queued),
            ("ray_serve_num_ongoing_requests_at_replicas", port.ongoing),
        ):
            before = found.get((family, labels), 0)
            assert not isinstance(before, tuple)
            found[family, labels] = before + count
    return found
