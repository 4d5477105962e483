"""Scalers: numbers moved and divided by what was learned of their column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skate.data.aggregate import AbsMax, ApproximateQuantile, Max, Mean, Min, Std
from skate.data.preprocessors._base import ColumnPreprocessor
from skate.data.preprocessors._numbers import numbers, scaled

if TYPE_CHECKING:
    import pyarrow as pa

    from skate.data.dataset import Dataset


class _Scaler(ColumnPreprocessor):
    """Base of scalers."""

    def _column(self, table: pa.Table, name: str) -> Any:
        return scaled(numbers(table, name, type(self).__name__), *self._centre_and_scale(name))

    def _centre_and_scale(self, name: str) -> tuple[float | None, float | None]:
        """Return what is subtracted from a column's numbers, and what they are divided by then."""
        raise NotImplementedError


class StandardScaler(_Scaler):
    """Subtracts the mean of a column and divides by its standard deviation (of the population, ddof=0).

    Nulls are left out and stay null; a column whose values are all equal becomes 0.

    Args:
        columns: names of columns of numbers.
        output_columns: names of the results; None: in place of the columns.

    Example:
        >>> StandardScaler(columns=["x"]).fit_transform(ds)
    """

    def _fit(self, dataset: Dataset) -> None:
        aggregates = [make for name in self.columns for make in (Mean(name), Std(name, ddof=0))]
        self.stats_ = dataset.aggregate(*aggregates)

    def _centre_and_scale(self, name: str) -> tuple[float | None, float | None]:
        return self.stats_[f"mean({name})"], self.stats_[f"std({name})"]


class MinMaxScaler(_Scaler):
    """Moves and divides a column so that its smallest value is 0 and its largest 1.

    Nulls are left out and stay null; a column whose values are all equal becomes 0. Values beyond those that
    were learned from lie below 0 or above 1.

    Args:
        columns: names of columns of numbers.
        output_columns: names of the results; None: in place of the columns.

    Example:
        >>> MinMaxScaler(columns=["x"]).fit_transform(ds)
    """

    def _fit(self, dataset: Dataset) -> None:
        aggregates = [make for name in self.columns for make in (Min(name), Max(name))]
        self.stats_ = dataset.aggregate(*aggregates)

    def _centre_and_scale(self, name: str) -> tuple[float | None, float | None]:
        least, most = self.stats_[f"min({name})"], self.stats_[f"max({name})"]
        return least, None if least is None else most - least


class MaxAbsScaler(_Scaler):
    """Divides a column by its largest absolute value: what is 0 stays 0.

    Args:
        columns: names of columns of numbers.
        output_columns: names of the results; None: in place of the columns.

    Example:
        >>> MaxAbsScaler(columns=["x"]).fit_transform(ds)
    """

    def _fit(self, dataset: Dataset) -> None:
        self.stats_ = dataset.aggregate(*(AbsMax(name) for name in self.columns))

    def _centre_and_scale(self, name: str) -> tuple[float | None, float | None]:
        return 0.0, self.stats_[f"abs_max({name})"]


class RobustScaler(_Scaler):
    """Subtracts the median of a column and divides by the distance of two quantiles: outliers count little.

    Quantiles are exact up to ``quantile_precision`` rows (the nearest rank, without interpolation), and
    estimated in bounded memory beyond.

    Args:
        columns: names of columns of numbers.
        quantile_range: the lower and the upper quantile, from 0 to 1.
        output_columns: names of the results; None: in place of the columns.
        quantile_precision: samples that an estimate keeps at each of its levels.

    Raises:
        ValueError: the quantiles are not from 0 to 1, or not in order.

    Example:
        >>> RobustScaler(columns=["x"], quantile_range=(0.1, 0.9)).fit_transform(ds)
    """

    DEFAULT_QUANTILE_PRECISION = 800

    def __init__(
        self,
        columns: Sequence[str],
        quantile_range: tuple[float, float] = (0.25, 0.75),
        output_columns: Sequence[str] | None = None,
        quantile_precision: int = DEFAULT_QUANTILE_PRECISION,
    ) -> None:
        super().__init__(columns, output_columns)
        low, high = quantile_range
        if not 0 <= low < high <= 1:
            raise ValueError(
                f"RobustScaler(quantile_range={quantile_range!r}) must be two numbers from 0 to 1, the "
                "smaller one first"
            )
        self.quantile_range = (low, high)
        self.quantile_precision = quantile_precision

    def _fit(self, dataset: Dataset) -> None:
        low, high = self.quantile_range
        found = dataset.aggregate(
            *(
                ApproximateQuantile(name, [low, 0.5, high], self.quantile_precision, alias_name=name)
                for name in self.columns
            )
        )
        for name in self.columns:
            for key, value in zip(_QUANTILES, found[name] or (None, None, None), strict=True):
                self.stats_[f"{key}({name})"] = value

    def _centre_and_scale(self, name: str) -> tuple[float | None, float | None]:
        low, median, high = (self.stats_[f"{key}({name})"] for key in _QUANTILES)
        return median, None if low is None or high is None else high - low


_QUANTILES = ("low_quantile", "median", "high_quantile")
