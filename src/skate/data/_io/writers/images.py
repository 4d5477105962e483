"""Image files: one for each row."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._io.files.errors import require
from skate.data._io.writers.file_sink import FileOptions, FileSink
from skate.data._io.writers.formats import RowFormat
from skate.data._options import check_type
from skate.data._previews import no_such_columns

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ImageFormat(RowFormat):
    """Images of one column: arrays (height, width) or (height, width, channels), or encoded images as bytes.

    Args:
        column: its name.
        file_format: a format that Pillow writes: ``"png"``, ``"jpeg"``, ``"webp"``, ...
    """

    def __init__(self, column: str, file_format: str) -> None:
        self.column = column
        self.file_format = file_format
        self.extension = file_format

    def check(self, schema: pa.Schema | None) -> None:
        image = require("PIL.Image", "write_images", "data-images")
        image.init()
        known = {extension[1:] for extension in image.registered_extensions()} | {
            name.lower() for name in image.SAVE
        }
        if self.file_format.lower() not in known:
            raise ValueError(
                f"file_format={self.file_format!r}: Pillow writes no such format; it writes "
                f"{', '.join(sorted(known))}"
            )
        if schema is not None and schema.get_field_index(self.column) < 0:
            raise ValueError(f"column=: {no_such_columns([self.column], schema.names)}")

    def encode(self, row: dict[str, Any], stream: Any, where: str) -> None:
        if self.column not in row:
            raise ValueError(f"column={self.column!r}: {where} has no such column, but {', '.join(row)}")
        encoded = io.BytesIO()
        try:
            save_image(row[self.column], self.file_format, encoded)
        except (TypeError, ValueError, OSError, KeyError) as error:
            raise ValueError(
                f"{where}: column {self.column!r} cannot be written as {self.file_format}: {error}"
            ) from error
        stream.write(encoded.getbuffer())


def save_image(value: Any, file_format: str, stream: Any) -> None:
    """Encode an image.

    Args:
        value: an array, an image of Pillow, or an encoded image as bytes.
        file_format: as Pillow calls it, or a file's extension.
        stream: gets the bytes.
    """
    from PIL import Image

    Image.init()
    found = Image.registered_extensions().get(f".{file_format.lower()}", file_format.upper())
    if value is None:
        raise ValueError("it is null")
    if isinstance(value, (bytes, bytearray, memoryview)):
        picture: Image.Image = Image.open(io.BytesIO(value))
        if picture.format == found:
            stream.write(value)
            return
    elif isinstance(value, Image.Image):
        picture = value
    else:
        import numpy as np

        array = np.asarray(value)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[:, :, 0]
        if array.ndim not in (2, 3) or 0 in array.shape:
            raise ValueError(
                f"an array of shape {array.shape} is no image; shapes are (h, w) and (h, w, channels)"
            )
        if array.dtype not in (np.uint8, np.bool_, np.uint16):
            raise ValueError(
                f"an array of {array.dtype} is no image; turn it into uint8: (array * "
                "255).astype('uint8') if it is "
                "from 0 to 1"
            )
        picture = Image.fromarray(np.ascontiguousarray(array))
    picture.save(stream, format=found)


class ImageSink(FileSink):
    """The sink of ``write_images``; parameters as there.

    Args:
        path: the folder.
        column: the column with the images.
        file_format: a format that Pillow writes.
    """

    def __init__(
        self,
        path: str,
        column: str,
        file_format: str = "png",
        **options: Unpack[FileOptions],
    ) -> None:
        check_type("column", column, str, "a column's name")
        check_type("file_format", file_format, str, "a format's name")
        super().__init__(path, ImageFormat(column, file_format), **options)
        self.name = "WriteImages"
