"""Numbers cut into bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data.aggregate import Max, Min
from skate.data.preprocessors._base import ColumnPreprocessor
from skate.data.preprocessors._numbers import numbers

if TYPE_CHECKING:
    from skate.data.dataset import Dataset

_DUPLICATES = ("raise", "drop")
#: Part of the range by which the outer edge is moved so that the least (or greatest) number is inside.
_WIDENED = 0.001


class _Discretizer(ColumnPreprocessor):
    """Base of those that cut numbers into bins.

    Args:
        columns: names of columns of numbers.
        bins: for all columns, or by column.
        right: bins include their right edge; otherwise the left one.
        include_lowest: the first bin includes its left edge as well.
        duplicates: an edge that is there twice is an error ("raise") or counts once ("drop").
        dtypes: by column: numpy's or Arrow's type of integers, or ``pandas.CategoricalDtype``, whose
            categories name the bins; others are int64.
        output_columns: names of the results; None: in place of the columns. Numbers in no bin are null.
    """

    def __init__(
        self,
        columns: Sequence[str],
        bins: Any,
        *,
        right: bool = True,
        include_lowest: bool = False,
        duplicates: str = "raise",
        dtypes: Mapping[str, Any] | None = None,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, output_columns)
        owner = type(self).__name__
        if duplicates not in _DUPLICATES:
            raise ValueError(f"{owner}(duplicates={duplicates!r}) must be 'raise' or 'drop'")
        if isinstance(bins, Mapping) and sorted(bins) != sorted(self.columns):
            raise ValueError(f"{owner}(bins=) has bins for {sorted(bins)}, but columns={self.columns}")
        if dtypes is not None and not set(dtypes) <= set(self.columns):
            raise ValueError(f"{owner}(dtypes=) names {sorted(dtypes)}, but columns={self.columns}")
        self.bins = bins
        self.right = right
        self.include_lowest = include_lowest
        self.duplicates = duplicates
        self.dtypes = dict(dtypes) if dtypes else None

    def _bins_of(self, name: str) -> Any:
        return self.bins[name] if isinstance(self.bins, Mapping) else self.bins

    def _edges(self, name: str) -> Sequence[float] | None:
        """Return the edges of a column's bins in order; None: the column has no numbers."""
        raise NotImplementedError

    def _column(self, table: pa.Table, name: str) -> Any:
        import numpy as np

        values = numbers(table, name, type(self).__name__)
        given = self._edges(name)
        if given is None:
            return pa.nulls(len(values), pa.int64())
        edges = np.asarray(given, np.float64)
        array = np.asarray(values.to_numpy())  # null is NaN
        places = np.searchsorted(edges, array, side="left" if self.right else "right") - 1
        outside = np.isnan(array) | (places < 0) | (places >= len(edges) - 1)
        if self.include_lowest and self.right:
            is_lowest = array == edges[0]
            places[is_lowest] = 0
            outside &= ~is_lowest
        return self._typed(name, pa.array(places, pa.int64(), mask=outside))

    def _typed(self, name: str, places: pa.Array) -> Any:
        dtype = (self.dtypes or {}).get(name)
        if dtype is None:
            return places
        categories = getattr(dtype, "categories", None)
        if categories is not None:
            return pa.DictionaryArray.from_arrays(places.cast(pa.int32()), pa.array(list(categories)))
        return places.cast(dtype if isinstance(dtype, pa.DataType) else pa.from_numpy_dtype(dtype))


class CustomKBinsDiscretizer(_Discretizer):
    """Cuts numbers into bins between given edges; the result is the number of the bin, from 0.

    Args:
        columns: names of columns of numbers.
        bins: the edges in order, or those of each column by its name.
        right: bins include their right edge; otherwise the left one.
        include_lowest: the first bin includes its left edge as well.
        duplicates: an edge that is there twice is an error ("raise") or counts once ("drop").
        dtypes: by column: a type of integers, or ``pandas.CategoricalDtype``, whose categories name the bins.
        output_columns: names of the results; None: in place of the columns. Numbers in no bin are null.

    Raises:
        ValueError: the edges are not in order, one is there twice, or there are fewer than two.

    Example:
        >>> CustomKBinsDiscretizer(columns=["age"], bins=[0, 18, 65, 120]).transform(ds)
    """

    _is_fittable = False

    def __init__(self, columns: Sequence[str], bins: Any, **more: Any) -> None:
        super().__init__(columns, bins, **more)
        for name in self.columns:
            self._edges(name)

    def _edges(self, name: str) -> Sequence[float]:
        edges = list(self._bins_of(name))
        if edges != sorted(edges):
            raise ValueError(f"CustomKBinsDiscretizer(bins=): edges of {name!r} are not in order: {edges}")
        once = list(dict.fromkeys(edges))
        if len(once) < len(edges) and self.duplicates == "raise":
            raise ValueError(
                f"CustomKBinsDiscretizer(bins=): {name!r} has an edge twice: {edges}; duplicates='drop' "
                "counts it once"
            )
        if len(once) < 2:
            raise ValueError(f"CustomKBinsDiscretizer(bins=): {name!r} needs two edges at least, got {edges}")
        return once


class UniformKBinsDiscretizer(_Discretizer):
    """Cuts numbers into bins of one width between the least and the greatest; the result is the bin's number.

    Args:
        columns: names of columns of numbers.
        bins: how many, or how many for each column by its name.
        right: bins include their right edge; otherwise the left one. The outer edge on the other side is a
            thousandth of the range further out, so that all numbers that were learned from are in a bin.
        include_lowest: the first bin includes its left edge as well.
        duplicates: without effect here: no edge is there twice.
        dtypes: by column: a type of integers, or ``pandas.CategoricalDtype``, whose categories name the bins.
        output_columns: names of the results; None: in place of the columns. Numbers in no bin are null.

    Raises:
        ValueError: a number of bins below 1.

    Example:
        >>> UniformKBinsDiscretizer(columns=["price"], bins=10).fit_transform(ds)
    """

    def __init__(self, columns: Sequence[str], bins: Any, **more: Any) -> None:
        super().__init__(columns, bins, **more)
        for name in self.columns:
            count = self._bins_of(name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(
                    f"UniformKBinsDiscretizer(bins=) must be numbers from 1, but {name!r} has {count!r}"
                )

    def _fit(self, dataset: Dataset) -> None:
        self.stats_ = dataset.aggregate(*(make(name) for name in self.columns for make in (Min, Max)))

    def _edges(self, name: str) -> Sequence[float] | None:
        least, most = self.stats_[f"min({name})"], self.stats_[f"max({name})"]
        if least is None:
            return None
        import numpy as np

        count = self._bins_of(name)
        if least == most:
            moved = _WIDENED * abs(least) if least else _WIDENED
            return list(np.linspace(least - moved, most + moved, count + 1))
        edges = np.linspace(least, most, count + 1)
        moved = (most - least) * _WIDENED
        if self.right:
            edges[0] -= moved
        else:
            edges[-1] += moved
        return list(edges)
