"""What a process keeps of the memory of its tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from skate.data._exec.resident import IDLE_BYTES, Heap, Resident

MIB = 1 << 20


class RecordingHeap(Heap):
    """Notes what it is asked for, and does it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[int] = []
        self.trims = 0
        self.was_trimmed = threading.Event()

    def keep(self, kept_bytes: int) -> None:
        """Note the amount."""
        self.kept.append(kept_bytes)

    def trim(self) -> None:
        """Count it."""
        super().trim()
        self.trims += 1
        self.was_trimmed.set()


@pytest.fixture
def held() -> Iterator[list[bytearray]]:
    """Memory that a task leaves in the process."""
    found: list[bytearray] = []
    yield found
    found.clear()


def used(size: int) -> bytearray:
    memory = bytearray(size)
    memory[::4096] = b"x" * len(range(0, size, 4096))
    return memory


def test_a_process_keeps_what_it_may(held: list[bytearray]) -> None:
    heap = RecordingHeap()
    resident = Resident(heap, idle_s=3600)
    for _ in range(3):
        resident.begin(256 * MIB)
        held.append(used(40 * MIB))
        resident.end()
    assert heap.trims == 0
    assert heap.kept == [256 * MIB]


def test_a_process_gives_back_what_is_more(held: list[bytearray]) -> None:
    heap = RecordingHeap()
    resident = Resident(heap, idle_s=3600)
    resident.begin(32 * MIB)
    held.append(used(80 * MIB))
    resident.end()
    assert heap.trims == 1


def test_an_idle_process_keeps_nothing(held: list[bytearray]) -> None:
    heap = RecordingHeap()
    resident = Resident(heap, idle_s=0.01)
    resident.begin(1024 * MIB)
    held.append(used(2 * IDLE_BYTES))
    assert not heap.trims  # while it runs, however long
    resident.end()
    assert heap.was_trimmed.wait(60)
    heap.was_trimmed.clear()
    resident.begin(1024 * MIB)
    resident.end()
    assert heap.was_trimmed.wait(60), "after each pause"


def test_a_peak_between_two_looks_is_seen() -> None:
    resident = Resident(RecordingHeap(), idle_s=3600)
    resident.begin(32 * MIB)
    del (memory := [used(64 * MIB)])[:]
    assert memory == []
    assert resident.peak() > 60 * MIB
    assert resident.peak() < 60 * MIB
    resident.end()
