"""Aggregates whose partial results are a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array
from skate.data._block.kernels.grouping import Groups
from skate.data.aggregate._base import VectorizedAggregateFnV2


def _as_float(column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    type_ = column.type
    if pa.types.is_floating(type_) or pa.types.is_null(type_):
        return column.cast(pa.float64())
    if pa.types.is_boolean(type_):
        return column.cast(pa.int8()).cast(pa.float64())
    if pa.types.is_integer(type_) or pa.types.is_decimal(type_):
        return column.cast(pa.float64(), safe=False)
    raise pa.ArrowNotImplementedError(f"{what}: there is no such aggregate of values of type {type_}")


class Count(VectorizedAggregateFnV2):
    """The number of rows, or of values of a column.

    Args:
        on: the column; None counts rows.
        ignore_nulls: leave nulls of the column out.
        alias_name: name of the result; ``"count()"`` or ``"count(<on>)"`` by default.

    Example:
        >>> ds.groupby("city").aggregate(Count(), Count("price", ignore_nulls=True))
    """

    def __init__(
        self, on: str | None = None, ignore_nulls: bool = False, alias_name: str | None = None
    ) -> None:
        super().__init__("count", on, ignore_nulls, alias_name)

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return counts."""
        if self._target_col_name is None:
            return [groups.sizes]
        column = self.column(block)
        return [groups.valid(column) if self._ignore_nulls else groups.sizes]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return sums of counts."""
        return [groups.total(columns[0])]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
        """Return counts."""
        return columns[0]


class Sum(VectorizedAggregateFnV2):
    """The sum of a column; None where there is no value.

    Args:
        on: the column.
        ignore_nulls: leave nulls out; otherwise one null makes the sum None.
        alias_name: name of the result; ``"sum(<on>)"`` by default.
    """

    def __init__(
        self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        super().__init__("sum", on, ignore_nulls, alias_name)

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return sums."""
        column = self.column(block)
        try:
            return [groups.sum(column, self._ignore_nulls)]
        except pa.ArrowNotImplementedError as error:
            raise pa.ArrowNotImplementedError(f"{self.name}: {error}") from None

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return sums of sums."""
        return [groups.sum(columns[0], self._ignore_nulls)]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
        """Return sums."""
        return columns[0]


class _Extreme(VectorizedAggregateFnV2):
    _function = "max"

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = True,
        alias_name: str | None = None,
        zero_factory: Callable[[], Any] | None = None,
    ) -> None:
        kind = {"Min": "min", "Max": "max", "AbsMax": "abs_max"}.get(type(self).__name__, self._function)
        super().__init__(kind, on, ignore_nulls, alias_name)

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return extremes."""
        return [groups.extreme(self.column(block), self._function, self._ignore_nulls)]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return extremes of extremes."""
        return [groups.extreme(columns[0], self._function, self._ignore_nulls)]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
        """Return extremes."""
        return columns[0]


class Min(_Extreme):
    """The smallest value of a column; NaN only where there is nothing else; None where there is no value.

    Args:
        on: the column: numbers, text, dates.
        ignore_nulls: leave nulls out; otherwise one null makes the result None.
        alias_name: name of the result; ``"min(<on>)"`` by default.
        zero_factory: accepted for Ray's sake, without effect: no values give None.
    """

    _function = "min"


class Max(_Extreme):
    """The largest value of a column; NaN only where there is nothing else; None where there is no value.

    Args:
        on: the column: numbers, text, dates.
        ignore_nulls: leave nulls out; otherwise one null makes the result None.
        alias_name: name of the result; ``"max(<on>)"`` by default.
        zero_factory: accepted for Ray's sake, without effect: no values give None.
    """


class AbsMax(_Extreme):
    """The largest absolute value of a column of numbers.

    Args:
        on: the column.
        ignore_nulls: leave nulls out; otherwise one null makes the result None.
        alias_name: name of the result; ``"abs_max(<on>)"`` by default.
        zero_factory: accepted for Ray's sake, without effect: no values give None.
    """

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return the largest absolute values."""
        return [groups.extreme(pc.abs(self.column(block)), self._function, self._ignore_nulls)]


class Mean(VectorizedAggregateFnV2):
    """The mean of a column, as a float; None where there is no value.

    Args:
        on: the column.
        ignore_nulls: leave nulls out; otherwise one null makes the result None.
        alias_name: name of the result; ``"mean(<on>)"`` by default.
    """

    def __init__(
        self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        super().__init__("mean", on, ignore_nulls, alias_name)

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return sums and counts."""
        column = _as_float(self.column(block), self.name)
        return [groups.sum(column, self._ignore_nulls), groups.valid(column)]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return sums of sums and of counts."""
        return [groups.sum(columns[0], self._ignore_nulls), groups.total(columns[1])]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
        """Return means."""
        return pc.divide(columns[0], columns[1].cast(pa.float64()))


class Std(VectorizedAggregateFnV2):
    """The standard deviation of a column.

    Args:
        on: the column.
        ddof: the divisor is the number of values less this; with no more than ``ddof`` values the result
            is NaN.
        ignore_nulls: leave nulls out; otherwise one null makes the result None.
        alias_name: name of the result; ``"std(<on>)"`` by default.
    """

    def __init__(
        self, on: str | None = None, ddof: int = 1, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        if isinstance(ddof, bool) or not isinstance(ddof, int):
            raise TypeError(f"Std(ddof=) must be a whole number, got {ddof!r}")
        super().__init__("std", on, ignore_nulls, alias_name)
        self._ddof = ddof

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return counts, means, and sums of squared distances from the mean."""
        column = _as_float(self.column(block), self.name)
        count = groups.valid(column)
        floats = count.cast(pa.float64())
        mean = pc.divide(groups.sum(column, self._ignore_nulls), floats)
        return [count, mean, pc.multiply(groups.variance(column, self._ignore_nulls), floats)]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Combine around each group's own mean, so that large means cost no digits."""
        skip = self._ignore_nulls
        counts = as_array(columns[0]).cast(pa.float64())
        means, squares = as_array(columns[1]), as_array(columns[2])
        total = groups.total(columns[0])
        mean = pc.divide(groups.sum(pc.multiply(counts, means), skip), total.cast(pa.float64()))
        distance = pc.subtract(means, groups.spread(mean))
        between = pc.multiply(counts, pc.multiply(distance, distance))
        return [total, mean, groups.sum(pc.add(squares, between), skip)]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
        """Return roots of the sums of squares over the counts less ddof."""
        degrees = pc.subtract(columns[0], self._ddof).cast(pa.float64())
        degrees = pc.if_else(pc.greater(degrees, 0.0), degrees, float("nan"))
        return pc.sqrt(pc.divide(columns[2], degrees))


class _Percentage(VectorizedAggregateFnV2):
    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return sums of both counts."""
        return [groups.total(columns[0]), groups.total(columns[1])]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
        """Return per cents; None of nothing."""
        parts, wholes = columns[0].cast(pa.float64()), columns[1].cast(pa.float64())
        share = pc.multiply(100.0, pc.divide(parts, wholes))
        return pc.if_else(pc.equal(wholes, 0.0), pa.scalar(None, pa.float64()), share)


class MissingValuePercentage(_Percentage):
    """The per cent of rows in which a column is null or NaN.

    Args:
        on: the column.
        alias_name: name of the result; ``"missing_pct(<on>)"`` by default.
    """

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        super().__init__("missing_pct", on, False, alias_name)

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return counts of missing values and of rows."""
        return [groups.total(pc.is_null(self.column(block), nan_is_null=True)), groups.sizes]


class ZeroPercentage(_Percentage):
    """The per cent of values of a column that are zero.

    Args:
        on: the column: numbers or booleans.
        ignore_nulls: nulls do not count as values.
        alias_name: name of the result; ``"zero_pct(<on>)"`` by default.
    """

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__("zero_pct", on, ignore_nulls, alias_name)

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return counts of zeros and of values."""
        column = _as_float(self.column(block), self.name)
        zeros = groups.total(pc.fill_null(pc.equal(column, 0.0), False))
        return [zeros, groups.valid(column) if self._ignore_nulls else groups.sizes]
