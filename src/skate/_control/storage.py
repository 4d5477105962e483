"""Keeps the records that must survive the control store: a key-value log in SQLite, committed before any
answer.

Writes of one turn of the loop are one transaction (``commit`` runs between dispatch and flush), so a
burst of actors costs one sync, and every answer that a client has seen is on disk.
"""

from __future__ import annotations

import sqlite3


class Storage:
    """Holds tables of bytes by key in one file."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS records (kind TEXT, key BLOB, value BLOB, PRIMARY KEY (kind, key))"
        )
        self._open = False

    def put(self, kind: str, key: bytes, value: bytes) -> None:
        """Write one record; it counts from the next ``commit``."""
        self._begin()
        self._database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, key, value))

    def delete(self, kind: str, key: bytes) -> None:
        """Remove one record; it is gone from the next ``commit``."""
        self._begin()
        self._database.execute("DELETE FROM records WHERE kind = ? AND key = ?", (kind, key))

    def _begin(self) -> None:
        if not self._open:
            self._open = True
            self._database.execute("BEGIN")

    def commit(self) -> None:
        """Make everything written so far durable."""
        if self._open:
            self._open = False
            self._database.execute("COMMIT")

    def all(self, kind: str) -> list[tuple[bytes, bytes]]:
        """Return every record of a kind."""
        rows = self._database.execute("SELECT key, value FROM records WHERE kind = ? ORDER BY key", (kind,))
        return [(bytes(key), bytes(value)) for key, value in rows]

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self._database.close()
