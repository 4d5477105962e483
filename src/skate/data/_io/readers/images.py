"""Pictures: a row a file, decoded by Pillow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.errors import FileReadError, FileTooLargeError, require
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile
from skate.data._options import check_choice, check_positive, check_type

#: Pillow refuses larger pictures by default, as decompression bombs.
MAX_PIXELS = 178_956_970
_limit_lock = threading.Lock()


def check_size_option(name: str, size: Any) -> tuple[int, int] | None:
    """Return a size as (height, width); raise, naming the option, if it is none."""
    if size is None:
        return None
    wanted = "a pair (height, width) of positive integers"
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise ValueError(f"{name} must be {wanted}, not {size!r}")
    for side in size:
        check_type(name, side, int, wanted)
        if side <= 0:
            raise ValueError(f"{name} must be {wanted}, not {size!r}")
    return int(size[0]), int(size[1])


def decode_image(
    data: Any,
    path: str,
    mode: str | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Any:
    """Decode a picture.

    Args:
        data: a file to read and seek.
        path: names it in errors.
        mode: Pillow's name of the colours wanted: ``"RGB"``, ``"L"``, ...; None: as the file is.
        size: (height, width) wanted; None: as the file is.
        max_pixels: larger ones are refused before they are decoded.

    Returns:
        An array: (height, width) for pictures of one channel, else (height, width, channels).
    """
    import numpy as np
    from PIL import Image

    with _open(Image, data, path) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise FileTooLargeError(path, f"it has {width} x {height} pixels, max_pixels is {max_pixels}")
        made = image
        if size is not None:
            made = made.resize((size[1], size[0]), resample=Image.Resampling.BILINEAR)
        if mode is not None:
            made = made.convert(mode)
        return np.asarray(made)


def _open(image_module: Any, data: Any, path: str) -> Any:
    """Open a picture without Pillow's own limit, which is one for the whole process; ours follows."""
    with _limit_lock:
        kept = image_module.MAX_IMAGE_PIXELS
        image_module.MAX_IMAGE_PIXELS = None
        try:
            return image_module.open(data)
        except image_module.UnidentifiedImageError as error:
            raise FileReadError(path, "Pillow knows no picture that begins so") from error
        finally:
            image_module.MAX_IMAGE_PIXELS = kept


class ImageDatasource(FileBasedDatasource):
    """Pictures: a column ``image`` of arrays, a row for each file.

    A grey picture is (height, width), a coloured one (height, width, channels). Turns that EXIF asks for are
    not made.

    Args:
        paths: see ``FileBasedDatasource``.
        size: (height, width) that all are brought to; None: as they are.
        mode: Pillow's name of the colours: ``"RGB"``, ``"RGBA"``, ``"L"``, ...; None: as they are.
        max_pixels: larger pictures count as unreadable; they are refused before they take memory.
        **options: of ``FileBasedDatasource``.

    Raises:
        ImportError: Pillow is not installed.
    """

    default_extensions = ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif")
    is_decoding = True
    limits = BundleLimits(most_bytes=16 << 20, most_files=256, least_bytes=1 << 20)
    rows_per_file = 1
    memory_per_byte = 10.0

    def __init__(
        self,
        paths: Any,
        *,
        size: tuple[int, int] | None = None,
        mode: str | None = None,
        max_pixels: int = MAX_PIXELS,
        file_extensions: Any = default_extensions,
        **options: Any,
    ) -> None:
        require("PIL.Image", "read_images", "data-images")
        self._size = check_size_option("size", size)
        if mode is not None:
            check_type("mode", mode, str, "the name of a mode of Pillow's such as 'RGB'")
            check_choice("mode", mode, tuple(require("PIL.Image", "read_images", "data-images").MODES))
        check_positive("max_pixels", max_pixels)
        self._mode = mode
        self._max_pixels = max_pixels
        super().__init__(paths, file_extensions=file_extensions, **options)

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        with file.open() as data:
            yield {"image": decode_image(data, file.path, self._mode, self._size, self._max_pixels)}
