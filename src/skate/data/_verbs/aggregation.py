"""Aggregates of a whole data set, and the way to groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from skate.data._block.kernels.sorting import SortKey, sort_indices
from skate.data._block.rows import iter_rows
from skate.data._block.tables import concat, take_rows
from skate.data._operators.exchanges.aggregate import Aggregate
from skate.data._operators.exchanges.duplicates import unique
from skate.data._plan.logical import Exchanged
from skate.data._verbs.core import Core, check_columns
from skate.data._verbs.grouped import GroupedData, check_aggregates, value_columns
from skate.data.aggregate import AggregateFn, Max, Mean, Min, Std, Sum


class Aggregation(Core):
    """``groupby``, ``aggregate``, ``sum``, ``min``, ``max``, ``mean``, ``std``, ``unique``."""

    def groupby(self, key: str | Sequence[str] | None, num_partitions: int | None = None) -> GroupedData:
        """Return the groups of rows that are equal in some columns.

        Args:
            key: a column or several; None: all rows are one group. Null is a key of its own.
            num_partitions: number of partitions; None: chosen by bytes.

        Returns:
            Groups, for ``count``, ``aggregate``, ``map_groups``, ...

        Raises:
            ValueError: no such column.

        Example:
            >>> ds.groupby("city").mean("price").show()
        """
        return GroupedData(self, key, num_partitions=num_partitions)

    def aggregate(self, *aggs: AggregateFn) -> dict[str, Any]:
        """Return aggregates of all rows.

        Args:
            aggs: aggregates of ``skate.data.aggregate``, or of your own.

        Returns:
            Results by name.

        Raises:
            ValueError: no aggregates, no such column, or two results with one name.

        Example:
            >>> ds.aggregate(Count(), Max("price"))
            {'count()': 120, 'max(price)': 9.5}
        """
        check_aggregates(self, aggs)
        plan = Exchanged((self._plan,), Aggregate((), tuple(aggs)))
        rows = [row for table in self._tables(plan) for row in iter_rows(table)]
        return rows[0]

    def _all(self, make: Callable[..., AggregateFn], on: str | Sequence[str] | None, **more: Any) -> Any:
        columns = value_columns(self, on)
        if not columns:
            return None
        results = self.aggregate(*(make(column, **more) for column in columns))
        return next(iter(results.values())) if len(results) == 1 else results

    def sum(self, on: str | Sequence[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Return the sum of a column; None if it has no values.

        Args:
            on: a column or several; None: all.
            ignore_nulls: leave nulls out; otherwise one null makes the result None.

        Returns:
            A value for one column; a dict with names such as ``sum(x)`` for several.

        Example:
            >>> skate.data.range(5).sum("id")
            10
        """
        return self._all(Sum, on, ignore_nulls=ignore_nulls)

    def min(self, on: str | Sequence[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Return the smallest value of a column; see ``sum``."""
        return self._all(Min, on, ignore_nulls=ignore_nulls)

    def max(self, on: str | Sequence[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Return the largest value of a column; see ``sum``."""
        return self._all(Max, on, ignore_nulls=ignore_nulls)

    def mean(self, on: str | Sequence[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Return the mean of a column; see ``sum``."""
        return self._all(Mean, on, ignore_nulls=ignore_nulls)

    def std(self, on: str | Sequence[str] | None = None, ddof: int = 1, ignore_nulls: bool = True) -> Any:
        """Return the standard deviation of a column; see ``sum``.

        Args:
            on: a column or several; None: all.
            ddof: delta degrees of freedom: 1 divides by one less than the number of values.
            ignore_nulls: leave nulls out.

        Returns:
            A value for one column, NaN for ``ddof`` values or less; a dict for several.
        """
        return self._all(Std, on, ddof=ddof, ignore_nulls=ignore_nulls)

    def unique(self, column: str, ignore_nulls: bool = False) -> list[Any]:
        """Return the distinct values of a column, None among them.

        Args:
            column: the column.
            ignore_nulls: leave None out.

        Returns:
            Values in ascending order, NaN and None last; those that have no order, such as lists, in the
            order of a hash.

        Raises:
            ValueError: no such column.
        """
        check_columns(self, "unique", [column])
        plan = Exchanged((self._plan,), unique(column))
        tables = _in_order(list(self._tables(plan)), column, self._context.on_conflict)
        values = [row[column] for table in tables for row in iter_rows(table)]
        return [value for value in values if value is not None] if ignore_nulls else values


def _in_order(tables: list[pa.Table], column: str, on_conflict: str) -> list[pa.Table]:
    """Return rows in the order of a column if its values have one; what an exchange makes comes by hashes."""
    try:
        whole = concat(tables, on_conflict)
        return [take_rows(whole, sort_indices(whole, [SortKey(column)]))]
    except (TypeError, ValueError, pa.ArrowNotImplementedError):
        return tables
