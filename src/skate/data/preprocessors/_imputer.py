"""Values in place of missing ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import column_of, plain
from skate.data.aggregate import Mean, ValueCounter
from skate.data.preprocessors._base import ColumnPreprocessor

if TYPE_CHECKING:
    from skate.data.dataset import Dataset

_STRATEGIES = ("mean", "most_frequent", "constant")


class SimpleImputer(ColumnPreprocessor):
    """Puts a value in place of nulls; in columns of floats, in place of NaN too.

    Args:
        columns: names of columns.
        strategy: ``"mean"`` of the column; ``"most_frequent"`` value, the smallest of several; or
            ``"constant"``.
        fill_value: the constant.
        output_columns: names of the results; None: in place of the columns.

    Raises:
        ValueError: there is no such strategy, a constant is missing, or a value is given to another strategy.
            From ``fit``: a column has no value at all.

    Example:
        >>> SimpleImputer(columns=["age"], strategy="most_frequent").fit_transform(ds)
    """

    def __init__(
        self,
        columns: Sequence[str],
        strategy: str = "mean",
        fill_value: Any = None,
        *,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, output_columns)
        if strategy not in _STRATEGIES:
            raise ValueError(
                f"SimpleImputer(strategy={strategy!r}) must be one of {', '.join(map(repr, _STRATEGIES))}"
            )
        if strategy == "constant" and fill_value is None:
            raise ValueError("SimpleImputer(strategy='constant') needs fill_value=")
        if strategy != "constant" and fill_value is not None:
            raise ValueError(f"SimpleImputer(strategy={strategy!r}) takes no fill_value")
        self.strategy = strategy
        self.fill_value = fill_value
        self._is_fittable = strategy != "constant"

    def _fit(self, dataset: Dataset) -> None:
        if self.strategy == "mean":
            self.stats_ = dataset.map_batches(
                self._without_nan, batch_format="pyarrow", udf_modifying_row_count=False
            ).aggregate(*map(Mean, self.columns))
        else:
            counters = [ValueCounter(name, alias_name=name) for name in self.columns]
            for name, found in dataset.aggregate(*counters).items():
                self.stats_[f"most_frequent({name})"] = _most_frequent(found)
        for name in self.columns:
            if self._value(name) is None:
                raise ValueError(
                    f"SimpleImputer: the column {name!r} has no value to learn from: use "
                    "strategy='constant' and fill_value="
                )

    def _without_nan(self, table: pa.Table) -> pa.Table:
        names = dict.fromkeys(self.columns)
        columns = [_nan_as_null(plain(column_of(table, name, "SimpleImputer"))) for name in names]
        return pa.table(columns, names=list(names))

    def _value(self, name: str) -> Any:
        return self.fill_value if self.strategy == "constant" else self.stats_[f"{self.strategy}({name})"]

    def _column(self, table: pa.Table, name: str) -> Any:
        column = _nan_as_null(plain(column_of(table, name, "SimpleImputer")))
        value = self._value(name)
        type_ = column.type
        if pa.types.is_null(type_):
            return pa.array([value] * len(column))
        if isinstance(value, float) and not value.is_integer() and pa.types.is_integer(type_):
            column = pc.cast(column, pa.float64(), safe=False)
        try:
            scalar = pa.scalar(value, column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise TypeError(
                f"SimpleImputer: the value {value!r} does not fit into the column {name!r} of type {type_}"
            ) from error
        return pc.fill_null(column, scalar)


def _nan_as_null(column: Any) -> Any:
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)


def _most_frequent(found: dict[str, list[Any]] | None) -> Any:
    """Return the commonest value that is none of None and NaN; the smallest of several."""
    if not found:
        return None
    counts = [
        (value, count)
        for value, count in zip(found["values"], found["counts"], strict=True)
        if value is not None and value == value
    ]
    most = max((count for _, count in counts), default=0)
    return min((value for value, count in counts if count == most), default=None)
