"""Shared buffers: taken, read in place, free when nothing refers to them; all in one process."""

from __future__ import annotations

import gc
import os

import numpy as np

from skate._serialize.values import deserialize, serialize
from skate._wire.worker import BUFFERS
from skate.dag._memory import PAGE, Segment, Segments, Windows, round_size


def put(segments: Segments, value: object, receivers: list[int]) -> tuple[Segment, int]:
    serialized = serialize(value)
    segment, _ = segments.take(serialized.laid_out_size, receivers)
    segment.write(serialized)
    return segment, serialized.laid_out_size


def attach(windows: Windows, segment: Segment) -> None:
    windows.attach(1, segment.number, segment.size, os.dup(segment.fd))


def test_a_value_is_read_in_place_and_frees_its_buffer_when_it_is_gone() -> None:
    segments, windows = Segments(1000), Windows(2)
    array = np.arange(1000)
    segment, size = put(segments, array, [2])
    attach(windows, segment)
    assert not segment.is_free
    value = deserialize(BUFFERS, windows.view(1, segment.number, size))
    assert (value == array).all()
    assert not value.flags.writeable
    part = value[10:20]
    del value
    gc.collect()
    assert not segment.is_free  # a slice keeps it
    assert part.tolist() == list(range(10, 20))
    del part
    gc.collect()
    assert segment.is_free


def test_every_receiver_counts() -> None:
    segments = Segments(1000)
    segment, size = put(segments, b"x" * 500, [2, 3])
    readers = [Windows(2), Windows(3)]
    for windows in readers:
        attach(windows, segment)
        assert not segment.is_free
        assert deserialize(BUFFERS, windows.view(1, segment.number, size)) == b"x" * 500
    assert segment.is_free


def test_free_buffers_are_used_again_and_held_ones_are_not() -> None:
    segments = Segments(1000)
    first, _ = put(segments, b"a" * 500, [2])
    second, _ = put(segments, b"b" * 500, [2])
    assert first is not second
    first.release()
    assert put(segments, b"c" * 400, [2])[0] is first
    assert segments.count == 2


def test_buffers_that_are_too_small_are_given_up_when_values_grow() -> None:
    segments = Segments(1000)
    first, _ = put(segments, b"a" * 500, [2])
    first.release()
    second, dropped = segments.take(1_000_000, [2])
    assert dropped == [first]
    assert second.size >= PAGE + 1_000_000
    assert segments.count == 1


def test_a_buffer_may_be_written_beyond_what_was_written_before() -> None:
    segments, windows = Segments(100_000), Windows(2)
    segment, size = put(segments, b"a" * 10, [2])
    attach(windows, segment)
    assert deserialize(BUFFERS, windows.view(1, segment.number, size)) == b"a" * 10
    for length in (50_000, 20, 90_000, 90_000):
        again, size = put(segments, bytes([length % 251]) * length, [2])
        assert again is segment
        value = deserialize(BUFFERS, windows.view(1, segment.number, size))
        assert value == bytes([length % 251]) * length


def test_views_outlive_the_buffers_and_the_windows() -> None:
    segments, windows = Segments(1000), Windows(2)
    segment, size = put(segments, np.ones(100), [2])
    attach(windows, segment)
    value = deserialize(BUFFERS, windows.view(1, segment.number, size))
    windows.forget(1, segment.number)
    segments.close()
    windows.close()
    del segment
    gc.collect()
    assert value.sum() == 100


def test_sizes_leave_some_room() -> None:
    for size in (1, PAGE, 100_000, 1_000_001, 123_456_789):
        assert size <= round_size(size) <= max(2 * PAGE, size * 1.15)
        assert round_size(round_size(size)) == round_size(size)
