"""Which replica the requests of a session prefer. Decisions only: no I/O, no clock.

Rendezvous hashing: each pair of session and replica has a score, and the replica with the highest wins. All
processes agree without a message, and a replica that comes or goes moves only the sessions that it wins or
won.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def home_of(session: str, replicas: Iterable[str]) -> str | None:
    """Return the replica of a session; None: there are no replicas."""
    return max(replicas, key=lambda name: (_score(session, name), name), default=None)


def ranked(name: str, replicas: Iterable[str]) -> list[str]:
    """Return replicas in the order in which a session, or a model, prefers them."""
    return sorted(replicas, key=lambda replica: (_score(name, replica), replica), reverse=True)


def _score(session: str, replica: str) -> bytes:
    return blake2b(f"{len(session)}:{session}{replica}".encode(), digest_size=8).digest()
