"""Provides the base of all rows of the state API, and formats their columns for people."""

from __future__ import annotations

from dataclasses import asdict, field, fields
from typing import Any


def timestamp(milliseconds: float) -> str:
    """Format a time, given in milliseconds since 1970, in local time."""
    from datetime import datetime

    return str(datetime.fromtimestamp(milliseconds / 1000))  # noqa: DTZ006 - local time is meant


def launch_time(milliseconds: float) -> str:
    """Format a time as ``timestamp`` does, or return "" for -1, a time that is not known."""
    return "" if milliseconds == -1 else timestamp(milliseconds)


def memory(count: float) -> str:
    """Format a number of bytes."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.3f} {unit}"
    return f"{count:.3f} B"


def duration(milliseconds: float) -> str:
    """Format a duration."""
    from datetime import timedelta

    return str(timedelta(milliseconds=milliseconds))


def resources(amounts: dict[str, Any]) -> dict[str, Any]:
    """Return amounts of resources, with formatted bytes."""
    return {name: memory(amount) if "memory" in name else amount for name, amount in amounts.items()}


def events(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events of a task, with formatted times."""
    return [{**one, "created_ms": timestamp(one["created_ms"])} for one in found]


_REQUIRED: Any = object()


def column(
    default: Any = _REQUIRED,
    *,
    detail: bool = False,
    filterable: bool = True,
    shown: Any = None,
    factory: Any = None,
) -> Any:
    """Declare a column.

    Args:
        default: its value where none is given; without a default it is required.
        detail: Ray has it only with ``detail=True``; rows here always have it.
        filterable: Ray can filter by it; here one can filter by any.
        shown: formats the value for people.
        factory: makes the default.
    """
    metadata = {"detail": detail, "filterable": filterable, "shown": shown}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    if default is _REQUIRED and not detail:
        return field(metadata=metadata)
    return field(default=None if default is _REQUIRED else default, metadata=metadata)


class Row:
    """A row of a list. Its columns can be read as attributes and as ``row["name"]``."""

    def __getitem__(self, key: str) -> Any:
        if key not in self.columns():
            raise KeyError(key)
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a column, or the default if there is none of that name."""
        return getattr(self, key) if key in self.columns() else default

    def asdict(self) -> dict[str, Any]:
        """Return all columns as a dict."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def list_columns(cls, detail: bool = True) -> list[str]:
        """Return the names of the columns, in order, with or without those of details."""
        return [one.name for one in fields(cls) if detail or not one.metadata.get("detail")]  # type: ignore[arg-type]

    @classmethod
    def columns(cls) -> set[str]:
        """Return the names of all columns."""
        return set(cls.list_columns())

    @classmethod
    def base_columns(cls) -> set[str]:
        """Return the names of the columns that Ray has without ``detail=True``."""
        return set(cls.list_columns(detail=False))

    @classmethod
    def detail_columns(cls) -> set[str]:
        """Return the names of the columns that Ray has with ``detail=True``: all."""
        return set(cls.list_columns())

    @classmethod
    def filterable_columns(cls) -> set[str]:
        """Return the names of the columns that Ray can filter by."""
        return {one.name for one in fields(cls) if one.metadata.get("filterable")}  # type: ignore[arg-type]

    @classmethod
    def humanify(cls, state: dict[str, Any]) -> dict[str, Any]:
        """Format times, sizes and durations in a row's dict; return the dict."""
        for one in fields(cls):  # type: ignore[arg-type]
            shown, value = one.metadata.get("shown"), state.get(one.name)
            if shown is not None and value is not None:
                state[one.name] = shown(value)
        return state
