"""WebDataset files: tar archives; the files of a row share their name up to the first dot."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.rows import iter_rows
from skate.data._io.files.errors import require
from skate.data._io.writers.file_sink import FileOptions, FileSink
from skate.data._io.writers.formats import BlockFormat, BlockWriter
from skate.data._io.writers.images import save_image
from skate.data._io.writers.json_lines import plain_json, without_nan

if TYPE_CHECKING:
    from typing_extensions import Unpack

Encoder = Callable[[dict[str, Any]], dict[str, Any]]

_IMAGES = {"jpg", "jpeg", "png", "webp", "ppm", "pgm", "tif", "tiff", "bmp", "gif"}
_NUMBERS = {"cls", "cls2", "class", "count", "index", "inx", "id"}
_TEXTS = {"txt", "text", "transcript", "key"}


class WebDatasetFormat(BlockFormat):
    """WebDataset: a column is the extension of its file (``jpg``, ``cls``, ``json``, ``seg.png``);
    ``__key__`` is the name of a row, made from its number if there is no such column. Other columns with two
    underscores around, and nulls, are left out.

    Args:
        encoder: how values become bytes: True by the last extension; False or None: they are bytes or text
            already; a function from row to row, or a list of functions and of these.
    """

    extension = "tar"
    has_schema = False

    def __init__(self, encoder: bool | str | Encoder | Sequence[Any] | None = True) -> None:
        self.encoder = encoder

    def open_writer(self, stream: Any, schema: pa.Schema, where: str) -> BlockWriter:
        return _WebDatasetWriter(stream, self.encoder, where)

    def write_empty(self, schema: pa.Schema | None, files: Any, names: Any) -> None:
        name = names.of_file(0, None)
        with files.file(name) as stream:
            self.open_writer(stream, pa.schema([]), name).close()


class _WebDatasetWriter(BlockWriter):
    def __init__(self, stream: Any, encoder: Any, where: str) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT)
        self._encoders = encoder if isinstance(encoder, (list, tuple)) else [encoder]
        self._prefix = where.rpartition("/")[2].partition(".")[0]
        self._rows = 0

    def write(self, block: pa.Table) -> None:
        for row in iter_rows(block):
            key = row.get("__key__")
            key = f"{self._prefix}-{self._rows:06}" if key is None else str(key)
            if "." in key.rpartition("/")[2]:
                raise ValueError(
                    f"__key__ {key!r} has a dot: readers would take what follows for an extension"
                )
            for encoder in self._encoders:
                row = _encoded(row, encoder, key)
            for name, value in row.items():
                if (name.startswith("__") and name.endswith("__")) or value is None:
                    continue
                data = value.encode() if isinstance(value, str) else value
                if not isinstance(data, (bytes, bytearray, memoryview)):
                    raise ValueError(
                        f"column {name!r} of row {key!r} is {type(value).__name__}, not bytes or text, "
                        "after encoding. "
                        "Name the column by a known extension (jpg, json, cls, npy, txt, pkl), or pass "
                        "encoder=."
                    )
                entry = tarfile.TarInfo(f"{key}.{name}")
                entry.size = len(data)  # times stay 0: the same rows give the same bytes
                self._tar.addfile(entry, io.BytesIO(data))
            self._rows += 1

    def close(self) -> None:
        self._tar.close()


def _encoded(row: dict[str, Any], encoder: Any, key: str) -> dict[str, Any]:
    if callable(encoder):
        found = encoder(row)
        if not isinstance(found, Mapping):
            raise TypeError(
                f"encoder returned {type(found).__name__} for row {key!r}; return a dict from name to bytes"
            )
        return dict(found)
    if not encoder:
        return row
    made = {}
    for name, value in row.items():
        special = value is None or (name.startswith("__") and name.endswith("__"))
        try:
            made[name] = value if special else _by_extension(name.rpartition(".")[2].lower(), value)
        except (TypeError, ValueError, OSError) as error:
            raise ValueError(f"column {name!r} of row {key!r} cannot be encoded: {error}") from error
    return made


def _by_extension(extension: str, value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview, str)) and extension not in (
        "json",
        "jsn",
        "pkl",
        "pickle",
    ):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return value
    if extension in _NUMBERS:
        return str(int(value))
    if extension in _TEXTS:
        return str(value)
    if extension in ("json", "jsn"):
        return json.dumps(without_nan(value), default=plain_json, allow_nan=False)
    if extension in _IMAGES:
        stream = io.BytesIO()
        save_image(value, extension, stream)
        return stream.getvalue()
    if extension in ("npy", "npz"):
        np = require("numpy", "write_webdataset with .npy columns", "data-all")
        stream = io.BytesIO()
        np.save(stream, np.asarray(value)) if extension == "npy" else np.savez(stream, **value)
        return stream.getvalue()
    if extension in ("pkl", "pickle"):
        return pickle.dumps(value)
    if extension in ("mp", "msg"):
        return require("msgpack", "write_webdataset with .mp columns", "data-all").packb(value)
    if extension in ("pt", "pth"):
        torch = require("torch", "write_webdataset with .pt columns", "data-all")
        stream = io.BytesIO()
        torch.save(value, stream)
        return stream.getvalue()
    return value if not isinstance(value, (int, float, bool)) else str(value)


class WebDatasetSink(FileSink):
    """The sink of ``write_webdataset``; parameters as there.

    Args:
        path: the folder.
        encoder: how values become bytes, see WebDatasetFormat.
    """

    def __init__(
        self,
        path: str,
        *,
        encoder: bool | str | Encoder | Sequence[Any] | None = True,
        **options: Unpack[FileOptions],
    ) -> None:
        super().__init__(path, WebDatasetFormat(encoder), **options)
