"""Batches, as functions of users take and return them, to blocks and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from sys import getrefcount
from typing import Any

import pyarrow as pa

from skate.data._block import frames, ndarrays
from skate.data._block.columns import from_values
from skate.data._block.schemas import NO_COLUMNS
from skate.data._block.sources import without_sources
from skate.data._block.tables import combine, concat, slice_rows, without_views

#: Values of ``batch_format=``. None: the block as it is, a ``pyarrow.Table``.
BATCH_FORMATS: tuple[str | None, ...] = ("default", "numpy", "pandas", "pyarrow", None)


def check_batch_format(batch_format: Any) -> None:
    """Raise ValueError if there is no such format, and name those that there are."""
    if batch_format not in BATCH_FORMATS:
        names = ", ".join(repr(name) for name in BATCH_FORMATS)
        raise ValueError(f"batch_format={batch_format!r} is not supported: choose one of {names}")


def to_batch(block: pa.Table, batch_format: str | None, writable: bool = False) -> Any:
    """Return a block as a batch.

    Args:
        block: the rows.
        batch_format: ``"numpy"`` or ``"default"``: a dict of arrays, of which those of numbers, times and
            tensors refer to the block's memory; ``"pandas"``: a data frame whose columns are Arrow's, but
            arrays of objects for tensors; ``"pyarrow"`` or None: the table.
        writable: the arrays can be written to: they are copied where they refer to the block. Tables never
            can.

    Raises:
        ValueError: there is no such format.

    Example:
        >>> to_batch(pa.table({"x": [1, 2]}), "numpy")
        {'x': array([1, 2])}
    """
    check_batch_format(batch_format)
    if batch_format in ("numpy", "default"):
        block = _without_stand_in(block)
        return {
            name: ndarrays.to_ndarray(column, writable)
            for name, column in zip(block.column_names, block.columns, strict=True)
        }
    if batch_format == "pandas":
        return frames.to_frame(block, writable)
    return without_sources(_without_stand_in(block))


def _without_stand_in(block: pa.Table) -> pa.Table:
    position = block.schema.get_field_index(NO_COLUMNS)
    return block if position < 0 else block.remove_column(position)


def from_batch(batch: Any, producer: str) -> pa.Table:
    """Return a block of what a user's function returned.

    Args:
        batch: a dict from column to array or list, a data frame of pandas, a table or record batch of
            pyarrow, or a table of another library that speaks Arrow's C stream interface, such as polars.
        producer: name of the function, for errors.

    Raises:
        ValueError: it is none of these, a column is a scalar, or columns differ in length.

    Example:
        >>> from_batch({"x": [1, 2]}, "f").num_rows
        2
    """
    if isinstance(batch, pa.Table):
        _check_names(batch.column_names, producer)
        return _without_frame_metadata(batch)
    if isinstance(batch, Mapping):
        return _from_columns(batch, producer)
    if isinstance(batch, pa.RecordBatch):
        return from_batch(pa.Table.from_batches([batch]), producer)
    if frames.is_frame(batch):
        _check_names([str(name) for name in batch.columns], producer)
        return frames.from_frame(batch)
    if hasattr(batch, "__arrow_c_stream__") and hasattr(batch, "columns"):
        return without_views(from_batch(pa.table(batch), producer))
    raise ValueError(
        f"{producer} returned a value of type {type(batch).__name__}, but a batch is a dict of columns, "
        f"a DataFrame, a pyarrow.Table, or a generator of these{_advice(batch)}"
    )


def _without_frame_metadata(table: pa.Table) -> pa.Table:
    """Return a table without pandas' description of the frame that it was; it need not fit what follows."""
    metadata = table.schema.metadata
    if not metadata or b"pandas" not in metadata:
        return table
    left = {key: value for key, value in metadata.items() if key != b"pandas"}
    return table.replace_schema_metadata(left or None)


def _advice(batch: Any) -> str:
    if batch is None:
        return ". Does the function end without a return?"
    if isinstance(batch, (list, tuple)):
        return '. Return {"column": [...]} for one column, or use flat_map for a list of rows'
    return f': got {batch!r:.100}. Return {{"column": values}}'


def _from_columns(batch: Mapping[Any, Any], producer: str) -> pa.Table:
    """Return a block of a dict of columns."""
    columns = {}
    for name, values in batch.items():
        if _is_writable(values) and _is_shared(*_reference_counts(values)):
            values = values.copy()
        if not isinstance(name, str):
            raise ValueError(
                f"{producer} returned a batch with a column whose name, {name!r}, is not of type str "
                f"but {type(name).__name__}"
            )
        columns[name] = _column(values, name, producer)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise ValueError(f"{producer} returned a batch whose columns differ in length: {listed} rows")
    return pa.table(columns) if columns else pa.table({})


def _is_writable(values: Any) -> bool:
    """Tell whether values are an array of numpy that can be written to."""
    return bool(getattr(getattr(values, "flags", None), "writeable", False))


def _reference_counts(values: Any) -> tuple[int, int]:
    """Return the number of references to an array, and to what owns its memory if it does not."""
    return getrefcount(values), 0 if values.base is None else getrefcount(values.base)


@lru_cache(maxsize=1)
def _unshared_counts() -> tuple[int, int, int]:
    """Return the reference counts of an owning array, a view, and its base that only a batch refers to.

    Versions of Python count variables differently, so a loop like that of ``_from_columns`` counts them.
    """
    import numpy as np

    counts = []
    for _, values in {"array": np.zeros(2), "view": np.zeros(2)[:1]}.items():
        counts.append(_reference_counts(values))
    return counts[0][0], counts[1][0], counts[1][1]


def _is_shared(references: int, base_references: int) -> bool:
    """Tell whether somebody else may still write to an array of a batch.

    The block would refer to the array's memory. A function that fills the same array again and again would
    change blocks that it has returned before, so such an array is copied. The number of references shows it:
    an array that was made for the batch has no other.
    """
    array, view, base = _unshared_counts()
    if not base_references:
        return references > array
    return references > view or base_references > base


def _column(values: Any, name: str, producer: str) -> pa.Array | pa.ChunkedArray:
    """Return a column of what a dict of columns holds."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if isinstance(values, list):
        return from_values(values, name)
    if isinstance(values, (str, bytes, bytearray, Mapping)) or values is None:
        raise _scalar(values, name, producer)
    if frames.is_extension_array(values):
        return frames.from_series(values, name)
    if ndarrays.is_array_like(type(values)):
        made = ndarrays.from_ndarray(values, name)
        if made is None:
            raise _scalar(values, name, producer)
        return made
    if isinstance(values, Sequence):
        return from_values(list(values), name)
    raise _scalar(values, name, producer)


def _scalar(value: Any, name: str, producer: str) -> ValueError:
    return ValueError(
        f"{producer} returned a batch whose column {name!r} is a single value of type "
        f"{type(value).__name__} ({value!r:.60}), not one value for each row: return a list or an "
        f"array, such as [value] * rows"
    )


def _check_names(names: Sequence[str], producer: str) -> None:
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise ValueError(
            f"{producer} returned a batch with more than one column of the name {', '.join(map(repr, twice))}"
        )


def rebatch(
    blocks: Iterator[pa.Table],
    batch_size: int | None,
    drop_last: bool = False,
    on_conflict: str = "error",
) -> Iterator[pa.Table]:
    """Yield the rows of blocks in tables of an exact number of rows, across blocks.

    A batch that lies within a block is a slice of it; only those across blocks are joined. Blocks without
    rows are left out.

    Args:
        blocks: in order; one is taken only when the next batch needs it.
        batch_size: rows of each table; None: the blocks as they are.
        drop_last: leave out the last table if it has fewer rows.
        on_conflict: as for ``concat``.

    Example:
        >>> [b.num_rows for b in rebatch(iter([pa.table({"x": [1, 2]})] * 5), 4)]
        [4, 4, 2]
    """
    if batch_size is None:
        yield from (block for block in blocks if block.num_rows)
        return
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} is not a positive number of rows")
    pending: deque[pa.Table] = deque()
    rows = 0
    for block in blocks:
        start = 0
        if rows:
            start = min(batch_size - rows, block.num_rows)
            if start:
                pending.append(slice_rows(block, 0, start))
                rows += start
            if rows < batch_size:
                continue
            yield _joined(pending, on_conflict)
            rows = 0
        while block.num_rows - start >= batch_size:
            yield slice_rows(block, start, start + batch_size)
            start += batch_size
        if start < block.num_rows:
            pending.append(slice_rows(block, start, block.num_rows))
            rows = block.num_rows - start
    if rows and not drop_last:
        yield _joined(pending, on_conflict)


def _joined(pending: deque[pa.Table], on_conflict: str) -> pa.Table:
    """Return the pending tables as one, and forget them."""
    parts = list(pending)
    pending.clear()
    return parts[0] if len(parts) == 1 else combine(concat(parts, on_conflict))
