"""Find picture files, choose some, and decode them to arrays."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from demo.errors import DemoError

#: Height x width x 3, blue first: the order in which the model was trained.
Pixels: TypeAlias = NDArray[np.uint8]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


class UndecodableError(Exception):
    """The file is no picture that Pillow can decode. The message is one line for the output."""


def find(folder: Path) -> list[Path]:
    """Return the absolute path of every picture file below `folder`, sorted."""
    if not folder.exists():
        raise DemoError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise DemoError(f"{folder} is not a folder")
    root = folder.resolve()
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DemoError(
            f"no pictures in {folder}: looked for {', '.join(sorted(SUFFIXES))} files, also in its subfolders"
        )
    return found


def choose(paths: Sequence[Path], count: int | None, seed: int) -> list[Path]:
    """Return `count` of the paths (all if None or too many), the same ones for the same seed, sorted."""
    if count is None or count >= len(paths):
        return list(paths)
    return sorted(random.Random(seed).sample(list(paths), count))


def decode(path: str) -> Pixels:
    """Decode the first frame, upright, with transparency laid on white; raise UndecodableError."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                rgba = upright.convert("RGBA")
                upright = Image.new("RGBA", rgba.size, "white")
                upright.alpha_composite(rgba)
            rgb = np.asarray(upright.convert("RGB"))
    except Exception as error:  # broken files make Pillow raise anything, SyntaxError and struct.error too
        raise UndecodableError(f"cannot be decoded: {_reason(error)}") from error
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _reason(error: Exception) -> str:
    """One line, without the path, which the output has beside it anyway."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in any format that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
