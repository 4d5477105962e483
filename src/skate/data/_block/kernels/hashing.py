"""A hash of rows that is the same in every process, on every machine, in every version.

Resumed runs put rows into the same partitions as the run before, so neither Python's salted hash nor that
of a library will do. Equal values hash equal whatever their type's width: 1 as int8, int64 or float; a
time in seconds or nanoseconds; text with 32-bit or 64-bit offsets, or in a dictionary. Thus blocks of one
stage may differ in types.

Numbers go through the finaliser of splitmix64. Text up to ``_LONG`` bytes is a polynomial over its bytes
modulo 2**64, computed for all rows at a time: a running sum of ``byte * P**position`` gives every value's
polynomial as the difference of two of its entries, times the inverse of ``P**start``. Longer text costs a
call of zlib a value.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array, counter, is_nested, plain

_U64 = pa.uint64()
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_BASE = 0xD1342543DE82EF95
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_NULL_HASH = 0x7FB5D329728EA185
_LONG = 48
_WINDOW = 1 << 18
"""Bytes of text that are hashed at a time; their powers stay in the processor's cache."""

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def _u64(value: int) -> pa.Scalar:
    return pa.scalar(value & _MASK, _U64)


def mix(values: pa.Array) -> pa.Array:
    """Spread the bits of uint64 numbers (the finaliser of splitmix64)."""
    values = pc.bit_wise_xor(values, pc.shift_right(values, _u64(30)))
    values = pc.multiply(values, _u64(0xBF58476D1CE4E5B9))
    values = pc.bit_wise_xor(values, pc.shift_right(values, _u64(27)))
    values = pc.multiply(values, _u64(0x94D049BB133111EB))
    return pc.bit_wise_xor(values, pc.shift_right(values, _u64(31)))


def mix_one(value: int) -> int:
    """Spread the bits of one number, as ``mix`` does."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def hash_text(text: str) -> int:
    """Return a stable 64-bit hash of one text."""
    data = text.encode()
    return mix_one(zlib.crc32(data) | zlib.adler32(data) << 32 ^ len(data) * _GOLDEN)


def fresh_seed() -> int:
    """Return a seed nobody chose, small enough to be typed in again."""
    return int.from_bytes(os.urandom(4), "little")


def random_numbers(seed: int, name: str, length: int, start: int = 0) -> pa.Array:
    """Return the random uint64 numbers that belong to rows ``start`` to ``start + length`` of a task.

    A number depends on the seed, the task's name and the row alone, so every run of a plan draws the
    same, however many workers it has and in which order they run.
    """
    stream = mix_one(mix_one(seed) ^ hash_text(name))
    steps = pc.multiply(counter(length, start), _u64(_GOLDEN))
    return mix(pc.add(steps, _u64(stream)))


def hash_rows(columns: Sequence[pa.Array | pa.ChunkedArray], salt: int = 0) -> pa.Array:
    """Return a uint64 hash for each row of some columns.

    Args:
        columns: columns of one length, at least one.
        salt: another salt gives an independent hash.
    """
    hashes: pa.Array | None = None
    for column in columns:
        one = hash_column(column)
        hashes = one if hashes is None else mix(pc.add(pc.multiply(hashes, _u64(_BASE)), one))
    if hashes is None:
        raise ValueError("hash_rows needs a column")
    return hashes if salt == 0 else mix(pc.bit_wise_xor(hashes, _u64(mix_one(salt * _GOLDEN))))


def bucket_of(hashes: pa.Array, buckets: int) -> pa.Array:
    """Return numbers of buckets in ``range(buckets)``, as uint32, from the high bits of hashes."""
    high = pc.shift_right(hashes, _u64(32))
    return pc.shift_right(pc.multiply(high, _u64(buckets)), _u64(32)).cast(pa.uint32())


def hash_column(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a uint64 hash for each value of a column; all nulls have one hash."""
    column = plain(column)
    type_ = column.type
    if pa.types.is_null(type_):
        return pa.repeat(_u64(_NULL_HASH), len(column))
    if is_nested(type_):
        texts = [None if v is None else repr(v).encode() for v in column.to_pylist()]
        column = pa.array(texts, pa.binary())
        type_ = column.type
    if _is_text(type_):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        hashed = [_hash_text_array(chunk) for chunk in chunks]
        values = hashed[0] if len(hashed) == 1 else pa.concat_arrays(hashed or [pa.array([], _U64)])
    else:
        column = as_array(column)
        values = mix(_bits(column, type_))
        if column.null_count:
            values = pc.if_else(column.is_valid(), values, _u64(_NULL_HASH))
    return values


def _is_text(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_fixed_size_binary(type_)
    )


def _bits(column: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return 64 bits for each number, date or time: equal for values that are equal across types."""
    if pa.types.is_boolean(type_):
        return column.cast(pa.uint8()).cast(_U64)
    if pa.types.is_unsigned_integer(type_):
        return column.cast(_U64)
    if pa.types.is_signed_integer(type_):
        return column.cast(pa.int64()).view(_U64)
    if pa.types.is_decimal(type_) or pa.types.is_floating(type_):
        return _float_bits(column.cast(pa.float64(), safe=False))
    if pa.types.is_date32(type_):
        return pc.multiply(column.cast(pa.int32()).cast(pa.int64()).view(_U64), _u64(86_400 * 10**9))
    if pa.types.is_date64(type_):
        return pc.multiply(column.cast(pa.int64()).view(_U64), _u64(10**6))
    if pa.types.is_temporal(type_) and not pa.types.is_interval(type_):
        width = pa.int32() if pa.types.is_time32(type_) else pa.int64()
        ticks = column.cast(width).cast(pa.int64()).view(_U64)
        return pc.multiply(ticks, _u64(_NANOSECONDS[type_.unit]))
    text = pa.array([None if v is None else repr(v) for v in column.to_pylist()], pa.string())
    return _hash_text_array(text)


def _float_bits(column: pa.Array) -> pa.Array:
    """Whole numbers hash as integers, so that a key may be int in one block and float in the next."""
    column = pc.add(column, 0.0)  # -0.0 becomes 0.0
    whole = pc.fill_null(
        pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), float(2**63))), False
    )
    as_int = pc.if_else(whole, column, 0.0).cast(pa.int64(), safe=False).view(_U64)
    as_bits = pc.if_else(pc.is_nan(column), float("nan"), column).view(_U64)
    return pc.if_else(whole, as_int, as_bits)


@lru_cache(maxsize=1)
def _powers() -> tuple[pa.Array, pa.Array]:
    """Return P**1, P**2, ... and P**0, P**-1, ...: one more than a window has bytes."""
    up = pc.cumulative_prod(pa.repeat(_u64(_BASE), _WINDOW + _LONG + 1))
    down = pc.cumulative_prod(pa.repeat(_u64(_BASE_INVERSE), _WINDOW + _LONG))
    return up, pa.concat_arrays([pa.array([1], _U64), down])


def _hash_text_array(array: pa.Array) -> pa.Array:
    if len(array) == 0:
        return pa.array([], _U64)
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    as_bytes = pa.large_binary() if large else pa.binary()
    array = array.view(as_bytes) if array.type != as_bytes else array
    lengths = pc.fill_null(pc.binary_length(array), 0)
    is_long = pc.greater(lengths, _LONG)
    long_rows = pc.indices_nonzero(is_long)
    if len(long_rows):
        long_values = array.take(long_rows).to_pylist()
        long_hashes = pa.array([zlib.crc32(v) | zlib.adler32(v) << 32 for v in long_values], _U64)
        array = pc.if_else(is_long, pa.scalar(b"", as_bytes), array)
    values = _polynomials(array, large)
    if len(long_rows):
        values = pc.replace_with_mask(values, is_long, long_hashes)
    values = mix(pc.add(values, pc.multiply(lengths.cast(_U64), _u64(_GOLDEN))))
    return pc.if_else(array.is_valid(), values, _u64(_NULL_HASH)) if array.null_count else values


def _polynomials(array: pa.Array, large: bool) -> pa.Array:
    """Return the polynomial of each value's bytes; no value is longer than ``_LONG``."""
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = pa.Array.from_buffers(
        pa.int64() if large else pa.int32(), len(array) + 1, [None, offsets_buffer], offset=array.offset
    )
    end = offsets[-1].as_py()
    if data_buffer is None or end == offsets[0].as_py():
        return pa.repeat(_u64(0), len(array))
    data = pa.Array.from_buffers(pa.uint8(), end, [None, data_buffer])
    parts = []
    row = 0
    while row < len(array):
        base = offsets[row].as_py()
        stop = _last_row_within(offsets, row, base + _WINDOW)
        parts.append(_window(data, offsets.slice(row, stop - row + 1), base))
        row = stop
    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)


def _last_row_within(offsets: pa.Array, row: int, limit: int) -> int:
    """Return the largest row number after ``row`` whose offset is at most ``limit``; at least ``row +
    1``.
    """
    low, high = row + 1, len(offsets) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if offsets[middle].as_py() <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _window(data: pa.Array, offsets: pa.Array, base: int) -> pa.Array:
    length = offsets[-1].as_py() - base
    if length == 0:
        return pa.repeat(_u64(0), len(offsets) - 1)
    up, down = _powers()
    if length >= len(up):  # a null value may own bytes that nobody reads, more than any real one
        up = pc.cumulative_prod(pa.repeat(_u64(_BASE), length + 1))
        inverse = pc.cumulative_prod(pa.repeat(_u64(_BASE_INVERSE), length + 1))
        down = pa.concat_arrays([pa.array([1], _U64), inverse])
    terms = pc.multiply(data.slice(base, length).cast(_U64), up.slice(0, length))
    sums = pa.concat_arrays([pa.array([0], _U64), pc.cumulative_sum(terms)])
    edges = pc.subtract(offsets, base).cast(_U64)
    at_edges = sums.take(edges)
    starts = edges.slice(0, len(edges) - 1)
    difference = pc.subtract(at_edges.slice(1), at_edges.slice(0, len(edges) - 1))
    return pc.multiply(difference, down.take(starts))


def hash_named(table: pa.Table, names: Sequence[str], salt: int = 0) -> pa.Array:
    """Return a uint64 hash for each row that depends neither on the order of columns nor on columns of
    nulls.

    A row of a block that lacks a column equals one whose value there is null, so both need one hash.
    """
    total = pa.repeat(_u64(mix_one(salt * _GOLDEN)), table.num_rows)
    for name in names:
        if name not in table.column_names:
            continue
        column = table[name]
        one = mix(pc.bit_wise_xor(hash_column(column), _u64(hash_text(name))))
        if column.null_count:
            one = pc.if_else(as_array(column.is_valid()), one, _u64(0))
        total = pc.add(total, one)
    return mix(total)
