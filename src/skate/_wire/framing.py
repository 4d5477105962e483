"""Cuts streams into frames: ``u32 length (little endian) | body``. Sans I/O: bytes in, bodies out."""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<I")
HEADER_SIZE = _HEADER.size
unpack_header = _HEADER.unpack_from
pack_header_into = _HEADER.pack_into

#: A longer frame (bytes) counts as garbage: values above the inline limit go through shared memory.
MAX_FRAME = 1 << 30
#: The same limit before the hello, from an unknown peer (bytes). The largest hello is a driver's, with its
#: environment.
MAX_HELLO = 1 << 26


class FrameError(ValueError):
    """The peer sent bytes that cannot be a frame."""


def _too_long(length: int, limit: int) -> FrameError:
    return FrameError(f"a frame of {length} bytes was announced; the limit is {limit}")


class FrameReader:
    """Cuts a stream into bodies. Keeps only the bytes of a frame that is not complete."""

    __slots__ = ("limit", "rest", "_wanted")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        #: The most bytes of a body.
        self.limit = limit
        #: Of a frame that is not complete.
        self.rest = bytearray()
        self._wanted = 0  # size of the incomplete frame, header included, once its header is known

    def feed(self, data: bytes) -> list[bytes]:
        """Take received bytes; return the bodies now complete, in order.

        Raises:
            FrameError: a header announces more bytes than the limit.
        """
        rest = self.rest
        if not rest and len(data) > HEADER_SIZE and unpack_header(data)[0] == len(data) - HEADER_SIZE:
            return [data[HEADER_SIZE:]]  # the common case of a call that waits for its reply
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return []
            data = bytes(rest)
            rest.clear()
        bodies: list[bytes] = []
        position, end, limit = 0, len(data), self.limit
        while end - position >= HEADER_SIZE:
            (length,) = unpack_header(data, position)
            if length > limit:
                if not bodies:
                    raise _too_long(length, limit)
                break  # the bodies before it count; ``check`` raises
            start = position + HEADER_SIZE
            if end - start < length:
                self._wanted = HEADER_SIZE + length
                break
            position = start + length
            bodies.append(data[start:position])
        else:
            self._wanted = HEADER_SIZE
        if position < end:
            rest += data[position:]
        return bodies

    def check(self) -> None:
        """Raise if the bytes held back cannot become a frame.

        Raises:
            FrameError: its header announces more bytes than the limit.
        """
        if len(self.rest) >= HEADER_SIZE:
            (length,) = unpack_header(self.rest)
            if length > self.limit:
                raise _too_long(length, self.limit)
