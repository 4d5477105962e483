"""Transformations of numbers that learn nothing: row by row, value by value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skate.data._block import arrow_compute as pc
from skate.data.preprocessors._base import ColumnPreprocessor
from skate.data.preprocessors._numbers import numbers

if TYPE_CHECKING:
    import pyarrow as pa

_NORMS = ("l1", "l2", "max")
_METHODS = ("yeo-johnson", "box-cox")


class Normalizer(ColumnPreprocessor):
    """Divides some numbers of each row by their norm, so that the norm is 1.

    A row of zeros stays; a row with a null becomes null in all these columns.

    Args:
        columns: names of columns of numbers, which together are one vector for each row.
        norm: ``"l2"``: the root of the sum of squares; ``"l1"``: the sum of absolute values; ``"max"``: the
            largest absolute value.
        output_columns: names of the results; None: in place of the columns.

    Raises:
        ValueError: there is no such norm.

    Example:
        >>> Normalizer(columns=["x", "y"]).transform(ds)
    """

    _is_fittable = False

    def __init__(
        self, columns: Sequence[str], norm: str = "l2", *, output_columns: Sequence[str] | None = None
    ) -> None:
        super().__init__(columns, output_columns)
        if norm not in _NORMS:
            raise ValueError(f"Normalizer(norm={norm!r}) must be one of {', '.join(map(repr, _NORMS))}")
        self.norm = norm

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        from skate.data.preprocessors._base import with_column

        columns = [numbers(table, name, "Normalizer") for name in self.columns]
        norms = self._norms(columns)
        divisors = pc.if_else(pc.equal(norms, 0.0), 1.0, norms)
        for output, column in zip(self.output_columns, columns, strict=True):
            table = with_column(table, output, pc.divide(column, divisors))
        return table

    def _norms(self, columns: list[pa.ChunkedArray]) -> Any:
        if self.norm == "max":
            return pc.max_element_wise(*map(pc.abs, columns), skip_nulls=False)
        parts = [pc.abs(one) if self.norm == "l1" else pc.multiply(one, one) for one in columns]
        total = parts[0]
        for part in parts[1:]:
            total = pc.add(total, part)
        return total if self.norm == "l1" else pc.sqrt(total)


class PowerTransformer(ColumnPreprocessor):
    """Raises numbers to a power so that they are spread more like a normal distribution.

    Args:
        columns: names of columns of numbers.
        power: the parameter lambda of the method; 1 leaves numbers as they are (box-cox: less 1).
        method: ``"yeo-johnson"``, for all numbers, or ``"box-cox"``, for positive ones.
        output_columns: names of the results; None: in place of the columns.

    Raises:
        ValueError: there is no such method. With box-cox, when it runs: a number is not positive.

    Example:
        >>> PowerTransformer(columns=["price"], power=0.5).transform(ds)
    """

    _is_fittable = False

    def __init__(
        self,
        columns: Sequence[str],
        power: float,
        method: str = "yeo-johnson",
        *,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, output_columns)
        if method not in _METHODS:
            raise ValueError(
                f"PowerTransformer(method={method!r}) must be one of {', '.join(map(repr, _METHODS))}"
            )
        if isinstance(power, bool) or not isinstance(power, (int, float)):
            raise TypeError(f"PowerTransformer(power={power!r}) must be a number")
        self.power = power
        self.method = method

    def _column(self, table: pa.Table, name: str) -> Any:
        column = numbers(table, name, "PowerTransformer")
        if self.method == "yeo-johnson":
            above = _powered(pc.add(pc.max_element_wise(column, 0.0, skip_nulls=False), 1.0), self.power)
            below = _powered(
                pc.subtract(1.0, pc.min_element_wise(column, 0.0, skip_nulls=False)), 2 - self.power
            )
            return pc.if_else(pc.greater_equal(column, 0.0), above, pc.negate(below))
        if pc.any(pc.less_equal(column, 0.0)).as_py():
            raise ValueError(
                f"PowerTransformer: the column {name!r} has numbers that are not positive, which box-cox "
                "cannot take: use method='yeo-johnson'"
            )
        return _powered(column, self.power)


def _powered(column: Any, power: float) -> Any:
    """Return ``(column ** power - 1) / power``, and its limit, the logarithm, for a power of 0."""
    if power == 0:
        return pc.ln(column)
    return pc.divide(pc.subtract(pc.power(column, float(power)), 1.0), float(power))
