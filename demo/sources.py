"""Pictures for a user who names no folder: GIMP's manual, or what scikit-image ships."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from demo.debian import UnavailableError, fetch
from demo.errors import DemoError

PACKAGE = "gimp-help-en"
SIZE = "50 MB"


def default_folder(say: Callable[[str], None]) -> Path:
    """Return a folder with pictures, fetched at the first use. `say` hears of every fallback, and why."""
    try:
        return fetch(PACKAGE, SIZE, say)
    except UnavailableError as error:
        say(f"No pictures from Debian's package {PACKAGE}: {error}; trying those that scikit-image ships.")
    try:
        return _scikit_image()
    except UnavailableError as error:
        raise DemoError(f"{error}: name your own pictures with --folder DIR") from error


def _scikit_image() -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError("scikit-image is not installed either")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    if not folder.is_dir():
        raise UnavailableError(f"this scikit-image has no folder {folder}")
    return folder
