"""A process's side of the store: kept extents, and views that are never invalidated."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator

import pytest

from skate._store.allocator import PAGE, Extent
from skate._store.client import StoreClient

SEGMENT = 1
ID = b"object"


@pytest.fixture
def client() -> Iterator[StoreClient]:
    client = StoreClient(8 * PAGE)
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.ftruncate(fd, 16 * PAGE)
    client.attach(SEGMENT, 16 * PAGE, fd)
    yield client
    client.close()


def test_an_object_is_written_and_read_in_place(client: StoreClient) -> None:
    extent = Extent(SEGMENT, 2 * PAGE, PAGE)
    client.target(extent)[:5] = b"hello"
    local = client.sealed(ID, extent, 5, fresh=False)
    view = client.view(ID, local)
    assert bytes(view) == b"hello"
    assert view.readonly
    client.target(extent)[:5] = b"HELLO"
    assert bytes(view) == b"HELLO"  # no copy


def test_the_last_part_of_a_view_reports_its_end(client: StoreClient) -> None:
    calls: list[None] = []
    client.on_dead_view = lambda: calls.append(None)
    local = client.sealed(ID, Extent(SEGMENT, 0, PAGE), 100, fresh=False)
    view = client.view(ID, local)
    part = view[10:20]
    del view
    assert client.drain_dead() == []
    part_of_part = part[2:4]
    del part
    assert client.drain_dead() == []
    del part_of_part
    assert calls == [None]
    assert client.drain_dead() == [(ID, local)]
    assert client.drain_dead() == []


def test_each_view_counts(client: StoreClient) -> None:
    local = client.sealed(ID, Extent(SEGMENT, 0, PAGE), 100, fresh=False)
    one, other = client.view(ID, local), client.view(ID, local)
    del one
    assert client.drain_dead() == []
    del other
    assert client.drain_dead() == [(ID, local)]


def test_views_outlive_the_session(client: StoreClient) -> None:
    extent = Extent(SEGMENT, 0, PAGE)
    client.target(extent)[:5] = b"hello"
    view = client.view(ID, client.sealed(ID, extent, 5, fresh=False))
    client.close()
    assert bytes(view) == b"hello"


def test_the_rest_of_an_extent_is_kept_as_the_daemon_keeps_it(client: StoreClient) -> None:
    local = client.sealed(ID, Extent(SEGMENT, 0, 4 * PAGE), PAGE + 1, fresh=False)
    assert local.extent == Extent(SEGMENT, 0, 2 * PAGE)
    assert client.drain_cache() == [Extent(SEGMENT, 2 * PAGE, 2 * PAGE)]
    assert client.cached_bytes == 0


def test_the_tightest_kept_extent_is_taken(client: StoreClient) -> None:
    large, small = Extent(SEGMENT, 0, 4 * PAGE), Extent(SEGMENT, 4 * PAGE, 2 * PAGE)
    assert client.keep(large)
    assert client.keep(small)
    assert client.take_cached(PAGE + 1) == small
    assert client.take_cached(PAGE + 1) == large
    assert client.take_cached(1) is None
    assert client.cached_bytes == 0


def test_no_more_is_kept_than_there_is_room_for(client: StoreClient) -> None:
    assert client.keep(Extent(SEGMENT, 0, 8 * PAGE))
    assert not client.keep(Extent(SEGMENT, 8 * PAGE, PAGE))
    assert client.cached_bytes == 8 * PAGE


def test_a_fresh_extent_is_fresh_once(client: StoreClient) -> None:
    fresh, warm = Extent(SEGMENT, 0, PAGE), Extent(SEGMENT, PAGE, 2 * PAGE)
    client.keep(fresh, fresh=True)
    client.keep(warm)
    assert client.take_cached(PAGE) == fresh
    assert client.take_fresh(fresh)
    client.write_fresh(fresh, [b"hel", memoryview(b"lo")])
    assert bytes(client.target(fresh)[:5]) == b"hello"
    assert not client.take_fresh(fresh)
    client.keep(fresh)
    assert client.take_cached(PAGE) == fresh
    assert not client.take_fresh(fresh)
    assert not client.take_fresh(warm)


def test_what_an_object_leaves_of_a_fresh_extent_is_fresh(client: StoreClient) -> None:
    """Only the object's own pages were written; the others are as untouched as before."""
    client.keep(Extent(SEGMENT, 0, 4 * PAGE), fresh=True)
    extent = client.take_cached(PAGE)
    assert extent is not None
    assert client.take_fresh(extent)
    client.write_fresh(extent, [b"x" * PAGE])
    client.sealed(ID, extent, PAGE, fresh=True)
    rest = client.take_cached(PAGE)
    assert rest == Extent(SEGMENT, PAGE, 3 * PAGE)
    assert client.take_fresh(rest)


def test_a_segment_seen_twice_is_mapped_once(client: StoreClient) -> None:
    fd = os.memfd_create("again", os.MFD_CLOEXEC)
    client.attach(SEGMENT, 16 * PAGE, fd)
    with pytest.raises(OSError):
        os.fstat(fd)
    assert client.has_segment(SEGMENT)
    assert not client.has_segment(SEGMENT + 1)


def test_no_room_to_map_a_segment_is_a_shortage_of_memory(
    client: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    local = client.add(ID, Extent(SEGMENT, 0, PAGE), PAGE)
    with monkeypatch.context() as patched:
        patched.setattr(mmap, "mmap", refuse)
        with pytest.raises(MemoryError, match="no room to map"):
            client.view(ID, local)
        with pytest.raises(MemoryError, match="no room to map"):
            client.target(local.extent)
    assert local.views == 0
    assert len(client.view(ID, local)) == PAGE


def test_closing_unmaps_what_nobody_reads(client: StoreClient) -> None:
    mapping = client._map(SEGMENT)
    assert isinstance(mapping, mmap.mmap)
    client.close()
    assert mapping.closed


# ---------------------------------------------------------------------- pins that threads ask for


def test_a_pin_that_was_asked_for_in_vain_is_given_back() -> None:
    client = StoreClient(0)
    client.pin_asked(b"object")
    assert client.pin_answered(b"object"), "the thread was interrupted, or there is no such object"


def test_a_pin_is_kept_while_there_is_a_view_or_another_thread_waits_for_one() -> None:
    client = StoreClient(0)
    client.pin_asked(b"object")
    client.pin_asked(b"object")
    client.add(b"object", Extent(0, 0, PAGE), 1)
    assert not client.pin_answered(b"object"), "it has a view"
    assert not client.drop(b"object"), "the daemon's answer to the other one counts on this very pin"
    assert client.pin_answered(b"object")
    client.add(b"object", Extent(0, 0, PAGE), 1)
    assert client.drop(b"object")
