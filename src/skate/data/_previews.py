"""Rows, values and names of columns in a few words, for errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Most cells of a row that a message shows (count), and most characters of each.
_MAX_CELLS = 4
_MAX_CELL_TEXT = 60
#: Most columns that a message names (count).
_MAX_COLUMNS = 40


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


def kind(value: Any) -> str:
    """Return what a value is, with its article: ``"an int"``, ``"a list"``, ``"None"``.

    Example:
        >>> kind(3), kind(None)
        ('an int', 'None')
    """
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def no_such_columns(missing: Sequence[str], columns: Sequence[str]) -> str:
    """Return what an error says of columns that are not there: which, what may be meant, and which there are.

    Example:
        >>> no_such_columns(["nam"], ["id", "name"])
        "there is no column 'nam' (did you mean 'name'?); the columns are ['id', 'name']"
    """
    words = ", ".join(f"{name!r}{meant(name, columns)}" for name in missing)
    if len(columns) <= _MAX_COLUMNS:
        return f"there is no column {words}; the columns are {list(columns)}"
    return (
        f"there is no column {words}; the first of {len(columns)} columns are {list(columns[:_MAX_COLUMNS])}"
    )


def doubled(names: Sequence[str]) -> str:
    """Return the names that come more than once, for an error; nothing if there are none.

    Example:
        >>> doubled(["a", "b", "a"])
        "'a'"
    """
    if len(set(names)) == len(names):
        return ""
    return ", ".join(repr(name) for name in dict.fromkeys(names) if list(names).count(name) > 1)


def meant(name: str, columns: Sequence[str]) -> str:
    """Return a question with the name that a wrong one is probably meant to be, or nothing."""
    import difflib  # errors alone need it

    lower = {column.lower(): column for column in reversed(columns)}
    near = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return f" (did you mean {lower[near[0]]!r}?)" if near else ""
