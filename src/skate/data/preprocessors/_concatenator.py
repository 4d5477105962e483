"""Several columns as one column of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.kernels.arrays import MissingColumnError
from skate.data._block.ndarrays import to_ndarray
from skate.data._block.sources import without_sources
from skate.data.preprocessors._base import Preprocessor, checked_names
from skate.data.preprocessors._numbers import numbers, vectors

if TYPE_CHECKING:
    import numpy as np


class Concatenator(Preprocessor):
    """Makes one column of vectors of columns of numbers, which it removes.

    Args:
        columns: names of columns, in the order of the vector's elements.
        output_column_name: name of the result.
        dtype: numpy's type of the elements; None: the type that holds all columns.
        raise_if_missing: a column that is not there is an error; otherwise it is left out.
        flatten: columns of vectors give all their elements; otherwise they are an error.

    Example:
        >>> Concatenator(columns=["x", "y"], output_column_name="features").transform(ds)
    """

    _is_fittable = False

    def __init__(
        self,
        columns: Sequence[str],
        output_column_name: str = "concat_out",
        dtype: Any = None,
        raise_if_missing: bool = False,
        flatten: bool = False,
    ) -> None:
        self.columns = checked_names("Concatenator", "columns", columns)
        [self.output_column_name] = checked_names("Concatenator", "output_column_name", [output_column_name])
        self.dtype = dtype
        self.raise_if_missing = raise_if_missing
        self.flatten = flatten

    def get_output_columns(self) -> list[str]:
        """Return the name of the result."""
        return [self.output_column_name]

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        import numpy as np

        present = [name for name in self.columns if name in table.column_names]
        missing = [name for name in self.columns if name not in present]
        if missing and (self.raise_if_missing or not present):
            raise MissingColumnError(missing[0], table.column_names, "Concatenator")
        parts = [self._part(table, name) for name in present]
        joined = np.concatenate(parts, axis=1)
        made = vectors(joined if self.dtype is None else joined.astype(self.dtype))
        rest = without_sources(table).drop_columns(present)
        if self.output_column_name in rest.column_names:
            rest = rest.drop_columns([self.output_column_name])
        return rest.append_column(self.output_column_name, made)

    def _part(self, table: pa.Table, name: str) -> np.ndarray[Any, Any]:
        import numpy as np

        column = table[name]
        if not isinstance(column.type, pa.BaseExtensionType) and not pa.types.is_nested(column.type):
            is_plain = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            if not is_plain or column.null_count:
                column = numbers(table, name, "Concatenator")
            return np.asarray(column.to_numpy()).reshape(-1, 1)
        if not self.flatten:
            raise ValueError(
                f"Concatenator: the column {name!r} has vectors ({column.type}): flatten=True takes all "
                "their elements"
            )
        array = to_ndarray(column)
        if array.dtype == object:
            cells = [None if cell is None else np.asarray(cell).reshape(-1) for cell in array]
            lengths = {None if cell is None else len(cell) for cell in cells}
            if len(lengths) > 1 or None in lengths:
                raise ValueError(
                    f"Concatenator: the vectors of the column {name!r} are null or differ in length, so the "
                    "results would, too"
                )
            present = [cell for cell in cells if cell is not None]
            array = np.stack(present) if present else np.empty((0, 1))
        made: np.ndarray[Any, Any] = array.reshape(len(array), -1)
        return made
