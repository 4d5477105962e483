"""Keeps the key-value table: bytes by key, in namespaces. Decisions only.

Owner: the control store's loop. Every change comes with the records to write to storage.
"""

from __future__ import annotations

Writes = list[tuple[bytes, bytes | None]]
"""Storage keys and their new values; None: delete it."""


class KeyValues:
    """Holds the pairs of all namespaces."""

    def __init__(self) -> None:
        self._namespaces: dict[bytes, dict[bytes, bytes]] = {}

    def handle(
        self, operation: str, namespace: bytes, key: bytes, value: bytes, overwrite: bool
    ) -> tuple[object, Writes]:
        """Carry out one operation of ``control.KeyValue``; return its result and what to write.

        "get": the value or None; "exists": a bool; "put": whether the key was there already; "delete" and
        "delete_prefix": how many are gone; "list": the keys that begin with the given one, in order.
        """
        table = self._namespaces.get(namespace, {})
        if operation == "get":
            return table.get(key), []
        if operation == "exists":
            return key in table, []
        if operation == "list":
            return sorted(one for one in table if one.startswith(key)), []
        if operation == "put":
            existed = key in table
            if existed and not overwrite:
                return True, []
            self._namespaces.setdefault(namespace, {})[key] = value
            return existed, [(storage_key(namespace, key), value)]
        if operation == "delete":
            gone = [key] if key in table else []
        elif operation == "delete_prefix":
            gone = sorted(one for one in table if one.startswith(key))
        else:
            raise ValueError(f"the key-value table has no operation {operation!r}")
        for one in gone:
            del table[one]
        if not table:
            self._namespaces.pop(namespace, None)
        return len(gone), [(storage_key(namespace, one), None) for one in gone]

    def restore(self, stored: bytes, value: bytes) -> None:
        """Add a pair that was read from storage."""
        size = int.from_bytes(stored[:4], "big")
        self._namespaces.setdefault(stored[4 : 4 + size], {})[stored[4 + size :]] = value


def storage_key(namespace: bytes, key: bytes) -> bytes:
    """Return the key that a pair has in storage: no two pairs share one."""
    return len(namespace).to_bytes(4, "big") + namespace + key
