"""The manifest of a resumable write: a line for each part of the source that is written."""

from __future__ import annotations

import os
import time
from typing import Any

from skate.data._io.commit_plan import frame
from skate.data._io.commit_points import crash_point
from skate.data._io.commit_store import Store

#: Seconds for which records may wait to be synced, together.
_SYNC_EVERY_S = 0.05


class Manifest:
    """Records of one driver; synced in groups.

    Args:
        store: the target.
        name: of the manifest's file, without its extension.
        staged: the folder whose names the records mention.
    """

    def __init__(self, store: Store, name: str, staged: str) -> None:
        self._store = store
        self._name = name
        self._staged = staged
        self._synced = time.monotonic()
        self._waiting: list[bytes] = []
        self._objects = 0
        self._descriptor: int | None = None
        if store.is_local:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(store.path(f"{name}.jsonl"), flags, 0o666)
            store.sync(name.rpartition("/")[0])

    def append(self, record: Any) -> None:
        """Add a record; it survives a power cut a moment later, with those that follow it."""
        line = frame(record)
        if self._descriptor is not None:
            half = len(line) // 2
            _write_all(self._descriptor, line[:half])
            crash_point("half_manifest_line")
            _write_all(self._descriptor, line[half:])
        self._waiting.append(line)
        if time.monotonic() - self._synced >= _SYNC_EVERY_S:
            self._sync()
        crash_point("after_record")

    def _sync(self) -> None:
        if self._waiting:
            if self._descriptor is not None:
                self._store.sync(self._staged)  # the folders that the records name
                os.fsync(self._descriptor)
            else:
                # Remote files cannot grow: each group of records is a file.
                self._store.write(f"{self._name}-{self._objects:06}.jsonl", b"".join(self._waiting))
                self._objects += 1
            self._waiting.clear()
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync what is not yet synced; a second call does nothing."""
        self._sync()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
