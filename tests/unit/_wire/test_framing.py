"""Frames: however a stream is cut, the same bodies come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._wire.framing import HEADER_SIZE, MAX_FRAME, FrameError, FrameReader

bodies = st.lists(st.binary(max_size=300), max_size=8)


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in zip(edges, edges[1:], strict=False)]


@given(bodies, st.lists(st.integers(0, 5000), max_size=12))
def test_any_cut_of_the_stream_gives_the_same_frames(sent: list[bytes], places: list[int]) -> None:
    reader = FrameReader()
    received: list[bytes] = []
    for chunk in cut(b"".join(map(frame, sent)), places):
        received += reader.feed(chunk)
    assert received == sent
    assert not reader.rest


@given(bodies)
def test_byte_by_byte(sent: list[bytes]) -> None:
    reader = FrameReader()
    received: list[bytes] = []
    for byte in b"".join(map(frame, sent)):
        received += reader.feed(bytes([byte]))
    assert received == sent
    assert not reader.rest


@given(bodies, st.binary(min_size=1, max_size=300), st.data())
def test_an_incomplete_frame_is_held_back_and_nothing_else(
    sent: list[bytes], last: bytes, data: st.DataObject
) -> None:
    part = data.draw(st.integers(0, HEADER_SIZE + len(last) - 1))
    reader = FrameReader()
    assert reader.feed(b"".join(map(frame, sent)) + frame(last)[:part]) == sent
    assert len(reader.rest) == part
    assert reader.feed(frame(last)[part:]) == [last]
    assert not reader.rest


def test_bodies_are_bytes_of_their_own() -> None:
    data = bytearray(frame(b"abc") + frame(b"def"))
    received = FrameReader().feed(bytes(data))
    data[:] = bytes(len(data))
    assert received == [b"abc", b"def"]


@pytest.mark.parametrize("before", [b"", frame(b"x")], ids=["first", "second"])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_an_oversized_header_is_garbage(before: bytes, chunk: int) -> None:
    stream = before + (MAX_FRAME + 1).to_bytes(4, "little")
    reader = FrameReader()
    with pytest.raises(FrameError, match=f"{MAX_FRAME + 1} bytes was announced; the limit is {MAX_FRAME}"):
        for start in range(0, len(stream), chunk):
            reader.feed(stream[start : start + chunk])
            reader.check()  # as a connection does, after it has dispatched what came before


def test_the_largest_frame_is_waited_for() -> None:
    reader = FrameReader()
    assert reader.feed(MAX_FRAME.to_bytes(4, "little")) == []
    assert reader.feed(b"x") == []
    assert len(reader.rest) == HEADER_SIZE + 1
