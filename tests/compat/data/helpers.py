"""What the tests share. Nothing here is skate's or Ray's own: the public API alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from ray.data import DataContext, from_arrow

from compat.markers import differs

__all__ = ["blocks", "boom", "differs", "ids", "pairs", "printed", "settings", "sizes"]


def boom(row: Any) -> Any:
    """A function that must not run."""
    raise ZeroDivisionError("the function ran")


def ids(ds: Any) -> list[int]:
    """Return the column ``id``."""
    return [row["id"] for row in ds.take_all()]


def pairs(ds: Any, *columns: str) -> list[tuple[Any, ...]]:
    """Return some columns of the rows, sorted: exchanges give them in any order."""
    return sorted((tuple(row[name] for name in columns) for row in ds.take_all()), key=repr)


def blocks(*columns: dict[str, Any]) -> Any:
    """Return a data set with a block for each dict of columns."""
    return from_arrow([pa.table(one) for one in columns])


def sizes(ds: Any) -> list[int]:
    """Return the rows of each block."""
    return [meta.num_rows for bundle in ds.iter_internal_ref_bundles() for meta in bundle.metadata]


def printed(call: Callable[[], Any]) -> str:
    """Return what a call prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        call()
    return out.getvalue()


@contextlib.contextmanager
def settings(**values: Any) -> Iterator[None]:
    """Change attributes of the DataContext for a while."""
    context = DataContext.get_current()
    before = {name: getattr(context, name) for name in values}
    try:
        for name, value in values.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
