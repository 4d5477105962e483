"""The control store's key-value table, from all processes, and recorded; where objects are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skate
from skate.api import RayContext as Session
from skate.exceptions import RaySystemError
from skate.experimental import get_local_object_locations, get_object_locations, internal_kv
from skate.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_exists,
    _internal_kv_get,
    _internal_kv_initialized,
    _internal_kv_list,
    _internal_kv_put,
)


def test_put_get_list_and_delete(session: Session) -> None:
    assert _internal_kv_initialized()
    assert _internal_kv_put("a", "1") is False
    assert _internal_kv_put(b"a", b"2") is True
    assert _internal_kv_put("a", "3", overwrite=False) is True
    assert _internal_kv_get("a") == b"2"
    assert _internal_kv_put("a", "other", namespace="n") is False
    assert (_internal_kv_get("a"), _internal_kv_get("a", namespace=b"n")) == (b"2", b"other")
    for key in ("ab", "b", "ac"):
        _internal_kv_put(key, "")
    assert _internal_kv_list("a") == [b"a", b"ab", b"ac"]
    assert (_internal_kv_exists("b"), _internal_kv_exists("x"), _internal_kv_get("x")) == (True, False, None)
    assert _internal_kv_del("b") == 1 and _internal_kv_del("b") == 0
    assert _internal_kv_del("a", del_by_prefix=True) == 3
    assert _internal_kv_list("") == [] and _internal_kv_list("", namespace="n") == [b"a"]
    with pytest.raises(TypeError, match="key takes bytes or a string, got 3"):
        _internal_kv_get(3)  # type: ignore[arg-type]
    internal_kv._internal_kv_reset()


def test_all_processes_see_it(session: Session) -> None:
    @skate.remote
    def write(n: int) -> bytes | None:
        _internal_kv_put(f"key-{n}", str(n))
        return _internal_kv_get("from the driver")

    _internal_kv_put("from the driver", "hello")
    assert skate.get([write.remote(n) for n in range(3)]) == [b"hello"] * 3
    assert _internal_kv_list("key-") == [b"key-0", b"key-1", b"key-2"]


def test_it_is_on_disk_when_put_returns(session: Session) -> None:
    from skate._control.kv import KeyValues
    from skate._control.storage import Storage

    _internal_kv_put("a", b"\x00value", namespace="n")
    reader, table = Storage(f"{session['session_dir']}/control.db"), KeyValues()
    for key, value in reader.all("value"):
        table.restore(key, value)
    reader.close()
    assert table.handle("get", b"n", b"a", b"", False)[0] == b"\x00value"


def test_without_a_session() -> None:
    assert not _internal_kv_initialized()
    with pytest.raises(RaySystemError, match="not connected"):
        _internal_kv_get("a")


def test_where_objects_are(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def waits(path: Path) -> None:
        from .waiting import wait_for_file

        wait_for_file(path)

    large, small = skate.put(np.zeros(100_000)), skate.put(1)
    pending = waits.remote(tmp_path / "go")
    node = skate.get_runtime_context().get_node_id()
    found = get_object_locations([large, small, pending])
    assert found[large]["node_ids"] == [node] and found[large]["object_size"] >= 800_000
    assert not found[large]["did_spill"]
    assert found[small]["node_ids"] == found[pending]["node_ids"] == []
    assert get_local_object_locations([large]) == {large: found[large]}
    with pytest.raises(TypeError, match="takes a list of ObjectRefs"):
        get_object_locations(large)  # type: ignore[arg-type]
    (tmp_path / "go").touch()
    skate.get(pending)


def test_generators_can_be_closed(session: Session, tmp_path: Path) -> None:
    @skate.remote(_generator_backpressure_num_objects=1)
    def count(path: Path) -> Any:
        try:
            yield from range(1_000_000)
        finally:
            path.touch()

    items = count.remote(tmp_path / "closed")
    assert skate.get(next(items)) == 0
    items.close()
    items.close()
    with pytest.raises(StopIteration):
        next(items)
    assert items.is_finished() and items.next_ready()
    from .waiting import wait_for_file

    wait_for_file(tmp_path / "closed")
    for name in ("send", "throw"):
        with pytest.raises(NotImplementedError, match="come one way"):
            getattr(items, name)(None)


def test_the_commit_and_modes() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import skate; print(skate.__commit__, skate.SCRIPT_MODE, skate.WORKER_MODE)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    commit, *modes = made.stdout.split()
    assert modes == ["0", "1"] and (commit == "unknown" or len(commit) == 40)
