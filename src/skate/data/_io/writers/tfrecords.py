"""TFRecord files of ``tf.train.Example`` messages, without tensorflow.

A record is its length (8 bytes), a check sum of these, the message and a check sum of it. The message is a
map from column to a list of bytes, floats or integers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.rows import iter_rows
from skate.data._io.writers.crc32c import masked
from skate.data._io.writers.file_sink import FileOptions, FileSink
from skate.data._io.writers.formats import BlockFormat, BlockWriter

if TYPE_CHECKING:
    from typing_extensions import Unpack


class TFRecordFormat(BlockFormat):
    """TFRecords: integers and booleans become ``int64_list``, floats ``float_list`` (32 bits), text and bytes
    ``bytes_list``; lists and arrays give several values, in the order of memory; null gives a feature without
    values.
    """

    extension = "tfrecords"
    has_schema = False

    def check(self, schema: pa.Schema | None) -> None:
        for field in schema or ():
            _kind(field.name, field.type)

    def open_writer(self, stream: Any, schema: pa.Schema, where: str) -> BlockWriter:
        return _TFRecordWriter(stream)

    def write_empty(self, schema: pa.Schema | None, files: Any, names: Any) -> None:
        with files.file(names.of_file(0, None)):
            pass


def _kind(name: str, kind: pa.DataType) -> str:
    """Return which list of a feature holds a type, "" for nulls."""
    if isinstance(kind, pa.FixedShapeTensorType):
        kind = kind.value_type
    elif isinstance(kind, pa.BaseExtensionType):
        kind = getattr(kind, "value_type", kind)
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return "int64"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_null(kind):
        return ""
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if any(is_kind(kind) for is_kind in texts):
        return "bytes"
    raise ValueError(
        f"column {name!r} has type {kind}; TFRecords hold integers, floats, text, bytes, and lists of "
        "these. Turn it "
        "into one of them, or write Parquet."
    )


class _TFRecordWriter(BlockWriter):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, block: pa.Table) -> None:
        kinds = {field.name: _kind(field.name, field.type) for field in block.schema}
        parts: list[bytes] = []
        size = 0
        for row in iter_rows(block):
            record = frame(encode_example(row, kinds))
            parts.append(record)
            size += len(record)
            if size > 1 << 22:
                self._stream.write(b"".join(parts))
                parts, size = [], 0
        self._stream.write(b"".join(parts))


def frame(message: bytes) -> bytes:
    """Return a message as a record."""
    length = struct.pack("<Q", len(message))
    return length + struct.pack("<I", masked(length)) + message + struct.pack("<I", masked(message))


def encode_example(row: Mapping[str, Any], kinds: Mapping[str, str]) -> bytes:
    """Return a row as a ``tf.train.Example`` message; ``kinds`` says which list holds each column."""
    features = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(value, kinds[name])))
        for name, value in row.items()
    )
    return _field(1, features)


def _feature(value: Any, kind: str) -> bytes:
    values = _flat(value)
    if kind == "int64":
        packed = b"".join(_varint(int(item) & 0xFFFFFFFFFFFFFFFF) for item in values)
        return _field(3, _field(1, packed) if packed else b"")
    if kind == "float":
        packed = struct.pack(f"<{len(values)}f", *values)
        return _field(2, _field(1, packed) if packed else b"")
    if kind == "bytes":
        return _field(
            1, b"".join(_field(1, item.encode() if isinstance(item, str) else bytes(item)) for item in values)
        )
    return b""


def _flat(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if hasattr(value, "ravel"):
        flat: list[Any] = value.ravel().tolist()
        return flat
    if isinstance(value, (list, tuple)):
        return [item for part in value for item in _flat(part)]
    return (value,)


def _field(number: int, data: bytes) -> bytes:
    """Return a length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


class TFRecordSink(FileSink):
    """The sink of ``write_tfrecords``; parameters as there.

    Args:
        path: the folder.
        tf_schema: must be None: the types of the columns say everything.
    """

    def __init__(
        self,
        path: str,
        *,
        tf_schema: Any = None,
        **options: Unpack[FileOptions],
    ) -> None:
        if tf_schema is not None:
            raise NotImplementedError(
                "tf_schema needs tensorflow_metadata and is left out; cast the columns to int64, "
                "float32, text or "
                "bytes before write_tfrecords"
            )
        super().__init__(path, TFRecordFormat(), **options)
        self.name = "WriteTFRecords"
