"""Defines what the control store needs of the place where its records are."""

from __future__ import annotations

from typing import Protocol


class Records(Protocol):
    """Keeps the records that must survive: see ``_control.storage``."""

    def put(self, kind: str, key: bytes, value: bytes) -> None:
        """Write one record."""

    def delete(self, kind: str, key: bytes) -> None:
        """Remove one record."""

    def commit(self) -> None:
        """Make everything written so far durable."""

    def all(self, kind: str) -> list[tuple[bytes, bytes]]:
        """Return every record of a kind."""

    def close(self) -> None:
        """Commit and close."""
