"""CRC-32C (Castagnoli), which TFRecord files carry; long texts in lanes of numpy, short ones by a table."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_POLYNOMIAL = 0x82F63B78
#: Bytes from which lanes are faster than a loop.
_LONG = 2048


def _make_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """Return the check sum of bytes."""
    return (_lanes(data) if len(data) >= _LONG else _update(0xFFFFFFFF, data)) ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """Return the check sum as TFRecord files have it: rotated, with a constant added."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _update(state: int, data: bytes) -> int:
    table = _TABLE
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state


def _lanes(data: bytes) -> int:
    """Return the state after bytes, before its last inversion.

    The bytes are cut into equal lanes whose states advance together, a byte a step. The state of two
    neighbours is the left one's, advanced over as many zeros as the right one has bytes, xor the right one's;
    advancing over a number of zeros is linear, so it is four look-ups.
    """
    import numpy as np

    lanes = 1 << max(4, (len(data).bit_length() // 2))
    length = len(data) // lanes
    table = np.array(_TABLE, np.uint32)
    columns = np.frombuffer(data, np.uint8, lanes * length).reshape(lanes, length).T
    state = np.zeros(lanes, np.uint32)
    state[0] = 0xFFFFFFFF  # all others begin at zero: their part is linear
    for column in np.ascontiguousarray(columns):
        state = table[(state ^ column) & 0xFF] ^ (state >> np.uint32(8))
    while len(state) > 1:
        advance = _advance(length)
        left, right = state[0::2], state[1::2]
        for position in range(4):
            right = right ^ advance[position][(left >> np.uint32(8 * position)) & np.uint32(0xFF)]
        state = right
        length *= 2
    return _update(int(state[0]), data[lanes * (len(data) // lanes) :])


@lru_cache(maxsize=64)
def _advance(zeros: int) -> Any:
    """Return four tables: the state after a number of zero bytes, for each byte of the state before."""
    import numpy as np

    # The images of the 32 single bits; squaring the operator doubles the number of zeros.
    one = [_TABLE[bit & 0xFF] ^ (bit >> 8) for bit in (1 << position for position in range(32))]
    result, power = [1 << position for position in range(32)], one
    while zeros:
        if zeros & 1:
            result = [_apply(power, image) for image in result]
        power = [_apply(power, image) for image in power]
        zeros >>= 1
    return np.array(
        [[_apply(result, value << 8 * position) for value in range(256)] for position in range(4)], np.uint32
    )


def _apply(operator: list[int], value: int) -> int:
    found = 0
    for image in operator:
        if value & 1:
            found ^= image
        value >>= 1
    return found
