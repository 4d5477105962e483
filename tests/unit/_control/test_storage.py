"""What an answered client has seen is on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from skate._control.storage import Storage


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control.db")


def test_what_was_written_is_read(path: str) -> None:
    storage = Storage(path)
    storage.put("actor", b"\x00\xff", b"spec")
    storage.put("actor", b"a", b"")
    storage.put("job", b"a", b"other")
    assert storage.all("actor") == [(b"\x00\xff", b"spec"), (b"a", b"")]
    assert storage.all("job") == [(b"a", b"other")]
    assert storage.all("node") == []
    storage.close()


def test_others_see_it_after_the_commit_and_not_before(path: str) -> None:
    writer, reader = Storage(path), Storage(path)
    writer.put("actor", b"a", b"1")
    assert reader.all("actor") == []
    writer.commit()
    assert reader.all("actor") == [(b"a", b"1")]
    writer.put("actor", b"a", b"2")
    writer.delete("actor", b"b")
    assert reader.all("actor") == [(b"a", b"1")]
    writer.commit()
    assert reader.all("actor") == [(b"a", b"2")]
    writer.delete("actor", b"a")
    assert reader.all("actor") == [(b"a", b"2")]
    writer.commit()
    assert reader.all("actor") == []
    writer.close()
    reader.close()


def test_what_was_committed_is_there_after_a_restart_and_nothing_else(path: str) -> None:
    first = Storage(path)
    first.put("actor", b"a", b"1")
    first.commit()
    first.put("actor", b"b", b"2")
    first._database.close()  # it was killed
    again = Storage(path)
    assert again.all("actor") == [(b"a", b"1")]
    again.close()


def test_closing_commits(path: str) -> None:
    storage = Storage(path)
    storage.put("actor", b"a", b"1")
    storage.close()
    again = Storage(path)
    assert again.all("actor") == [(b"a", b"1")]
    again.close()


def test_committing_nothing_is_fine(path: str) -> None:
    storage = Storage(path)
    storage.commit()
    storage.put("actor", b"a", b"1")
    storage.commit()
    storage.commit()
    storage.close()


def test_writes_are_synced_to_the_disk(path: str) -> None:
    storage = Storage(path)
    (level,) = storage._database.execute("PRAGMA synchronous").fetchone()
    assert level == 2  # FULL
    storage.close()
