"""Where this process looks for the modules of the user's."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def look_first_in(folders: Sequence[str]) -> None:
    """Look for modules in these folders first, in this order, but for those that are in the path already."""
    for folder in reversed(folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)
