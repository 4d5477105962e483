"""Rows and values in a few words, for errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Most cells of a row that a message shows (count), and most characters of each.
_MAX_CELLS = 4
_MAX_CELL_TEXT = 60


def preview(row: Mapping[str, Any]) -> str:
    """Return the first cells of a row, shortened.

    Example:
        >>> preview({"id": 7, "text": "x" * 100})
        "id=7, text='xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'"
    """
    cells = [f"{name}={cell(value)}" for name, value in list(row.items())[:_MAX_CELLS]]
    if len(row) > _MAX_CELLS:
        cells.append(f"{len(row) - _MAX_CELLS} more")
    return ", ".join(cells)


def cell(value: Any) -> str:
    """Return a value in a few words; never raises."""
    try:
        if isinstance(value, (bytes, bytearray)):
            return f"<{len(value)} bytes>"
        if isinstance(value, str):
            return (
                repr(value)
                if len(value) < _MAX_CELL_TEXT
                else f"{value[: _MAX_CELL_TEXT - 4]!r}"[:-1] + "...'"
            )
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape:
            return f"<{getattr(value, 'dtype', type(value).__name__)} array {'x'.join(map(str, shape))}>"
        if isinstance(value, (list, tuple, dict, set)):
            return f"<{type(value).__name__} of {len(value)}>" if len(value) > 4 else short(repr(value))
        return short(repr(value))
    except BaseException:
        return f"<{type(value).__name__}>"


def short(text: str) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= _MAX_CELL_TEXT else text[: _MAX_CELL_TEXT - 3] + "..."
