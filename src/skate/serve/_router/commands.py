"""The decisions of a router, as commands."""

from __future__ import annotations

from dataclasses import dataclass

from skate.serve._router.lines import Key

# Commands are values: those of two kinds differ, and nobody changes one. Frozen ones would cost four times as
# much.


@dataclass(slots=True, unsafe_hash=True)
class Send:
    """Send a request to a replica; one credit is used."""

    key: Key
    replica: str


@dataclass(slots=True, unsafe_hash=True)
class Report:
    """Report to a replica's lender, see ``Lender.report``. Its answer goes to ``Router.answered`` with this
    number."""

    replica: str
    number: int
    wanted: int
    held: int
    received: int


@dataclass(slots=True, unsafe_hash=True)
class Refuse:
    """The queue is full: it had so many requests."""

    key: Key
    queued: int


@dataclass(slots=True, unsafe_hash=True)
class Expire:
    """A request's deadline passed while it waited, or would pass before its end; it was never sent."""

    key: Key


@dataclass(slots=True, unsafe_hash=True)
class Lost:
    """A request was at a replica that is gone: it may have begun there."""

    key: Key
    replica: str


Command = Send | Report | Refuse | Expire | Lost
