"""TFRecords of ``tf.train.Example``, without tensorflow.

A record is its length (8 bytes), a checksum of the length, the data, a checksum of the data. The data is a
protocol buffer: ``Example { Features { map<string, Feature> } }``, and a Feature is a list of bytes, floats
or integers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile
from skate.data._options import check_type

_ROWS_AT_A_TIME = 4096
_MOST_RECORD_BYTES = (1 << 31) - 1  # of a protocol buffer


class TFRecordDatasource(FileBasedDatasource):
    """Examples of TFRecord files: a row for each, a column for each feature.

    A feature that has at most one value in every row of a file's part is a column of values, any other of
    lists. Integers are int64, floats float32, bytes binary. Files may be compressed by gzip (``.gz``, or
    ``open_stream_args={"compression": "gzip"}``).

    Args:
        paths: see ``FileBasedDatasource``.
        tf_schema: a ``tensorflow_metadata`` Schema, or anything with ``feature``, whose items have ``name``:
            what it names is there in every row, null if a row lacks it; a feature with a ``shape`` is a list.
        check_data: check the checksum of data too. It takes about a second for 5 MB.
        **options: of ``FileBasedDatasource``.

    An example that cannot be parsed is one letter with ``on_error="dead_letter"``; a broken length ends its
    file.
    """

    limits = BundleLimits(most_bytes=64 << 20, most_files=256, least_bytes=1 << 20)
    reads_whole_files = False
    memory_per_byte = 2.0

    def __init__(
        self, paths: Any, *, tf_schema: Any = None, check_data: bool = False, **options: Any
    ) -> None:
        if tf_schema is not None and not hasattr(tf_schema, "feature"):
            raise TypeError(f"tf_schema must be a tensorflow_metadata Schema, not {tf_schema!r}")
        check_type("check_data", check_data, bool, "True or False")
        self._lists_by_name = None
        if tf_schema is not None:
            self._lists_by_name = {str(item.name): _has_shape(item) for item in tf_schema.feature}
        self._check_data = check_data
        super().__init__(paths, **options)

    def get_name(self) -> str:
        return "TFRecords"

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        examples: list[dict[str, list[Any]]] = []
        is_list: set[str] = set()
        with file.open_stream() as stream:
            for number, data in enumerate(records(stream, self._check_data)):
                try:
                    examples.append(parse_example(data))
                except ValueError as error:
                    described = ValueError(f"record {number}: {error}")
                    rejections.reject(described, file.path, {"record": data})
                if len(examples) >= _ROWS_AT_A_TIME:
                    yield self._table(examples, is_list)
                    examples = []
        if examples:
            yield self._table(examples, is_list)

    def _table(self, examples: list[dict[str, list[Any]]], is_list: set[str]) -> pa.Table:
        """Return a block; ``is_list`` has the features that are lists, and gets those that turn out to be."""
        names = dict.fromkeys(self._lists_by_name or ())
        for example in examples:
            names.update(dict.fromkeys(example))
        columns = {}
        for name in names:
            values = [example.get(name) for example in examples]
            if (self._lists_by_name or {}).get(name) or any(
                value is not None and len(value) > 1 for value in values
            ):
                is_list.add(name)
            kind = next((_type_of(value[0]) for value in values if value), pa.null())
            if name in is_list:
                columns[name] = pa.array(values, pa.list_(kind))
            else:
                columns[name] = pa.array([value[0] if value else None for value in values], kind)
        return pa.table(columns)


def _has_shape(item: Any) -> bool:
    try:
        return bool(item.HasField("shape")) and len(item.shape.dim) > 0
    except (AttributeError, ValueError):
        return False


def _type_of(value: Any) -> pa.DataType:
    if isinstance(value, bytes):
        return pa.binary()
    return pa.int64() if isinstance(value, int) else pa.float32()


def records(stream: Any, check_data: bool = False) -> Iterator[bytes]:
    """Yield the data of the records of a stream.

    Raises:
        ValueError: the stream ends within a record, or a checksum is wrong.
    """
    number = 0
    while True:
        head = stream.read(12)
        if not head:
            return
        if len(head) < 12:
            raise ValueError(f"it ends within the length of record {number}: it is cut, or no TFRecord file")
        length, checksum = struct.unpack("<QI", head)
        if masked_crc32c(head[:8]) != checksum:
            raise ValueError(
                f"the checksum of the length of record {number} is wrong: it is no TFRecord file, or broken"
            )
        if length > _MOST_RECORD_BYTES:
            raise ValueError(f"record {number} has {length} bytes, more than a protocol buffer can have")
        data = stream.read(length)
        tail = stream.read(4)
        if len(data) < length or len(tail) < 4:
            found, whole = len(data) + len(tail), length + 4  # with its checksum
            raise ValueError(f"it ends within record {number}: {found} of {whole} bytes are there")
        if check_data and masked_crc32c(data) != struct.unpack("<I", tail)[0]:
            raise ValueError(f"the checksum of record {number} is wrong")
        yield data
        number += 1


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of TFRecords: CRC-32C, turned by 15 bits, plus a constant."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    value ^= 0xFFFFFFFF
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def parse_example(data: bytes) -> dict[str, list[Any]]:
    """Return the values of each feature of a serialised ``tf.train.Example``.

    Raises:
        ValueError: it is none.
    """
    features: dict[str, list[Any]] = {}
    view = memoryview(data)
    for field, value in _fields(view):
        if field == 1:
            for inner, entry in _fields(_message(value)):
                if inner == 1:
                    name, values = _map_entry(_message(entry))
                    features[name] = values
    return features


def _map_entry(view: memoryview) -> tuple[str, list[Any]]:
    name, values = "", []
    for field, value in _fields(view):
        if field == 1:
            name = str(_message(value), "utf-8")
        elif field == 2:
            values = _feature(_message(value))
    return name, values


def _feature(view: memoryview) -> list[Any]:
    values: list[Any] = []
    for kind, content in _fields(view):
        for field, value in _fields(_message(content)):
            if field != 1:
                continue
            if kind == 1:
                values.append(bytes(_message(value)))
            elif kind == 2:  # floats: packed, or one by one
                part = _message(value)
                if len(part) % 4:
                    raise ValueError("a list of floats has a length that is no multiple of 4")
                values.extend(struct.unpack(f"<{len(part) // 4}f", part))
            elif kind == 3:
                if isinstance(value, int):
                    values.append(_signed(value))
                else:
                    position = 0
                    while position < len(value):
                        number, position = _varint(value, position)
                        values.append(_signed(number))
    return values


def _message(value: Any) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a number stands where a message should")
    return value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _fields(view: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield number and value of the fields of a message: int for varints, else a memoryview."""
    position, end = 0, len(view)
    while position < end:
        tag, position = _varint(view, position)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(view, position)
            yield field, value
            continue
        if wire == 2:
            length, position = _varint(view, position)
        elif wire == 5:
            length = 4
        elif wire == 1:
            length = 8
        else:
            raise ValueError(f"it is no tf.train.Example: wire type {wire}")
        if position + length > end:
            raise ValueError("it is no tf.train.Example, or cut: a field is longer than its message")
        yield field, view[position : position + length]
        position += length


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(view):
            raise ValueError("it is no tf.train.Example, or cut: a number has no end")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            raise ValueError("it is no tf.train.Example: a number is longer than 64 bits")
