"""Aggregates: what ``ds.aggregate`` and ``ds.groupby(...).aggregate`` compute.

Each is three steps: partial results of a block, their combination, and the final value. Partial results
are made before rows are exchanged, so the rows of a frequent key never travel.

Example:
    >>> ds.groupby("city").aggregate(Count(), Mean("price"), Quantile("price", q=0.9, alias_name="p90"))
"""

from skate.data.aggregate._approximate import ApproximateQuantile, ApproximateTopK
from skate.data.aggregate._base import AggregateFn, AggregateFnV2, VectorizedAggregateFnV2
from skate.data.aggregate._collections import AsList, CountDistinct, Quantile, Unique, ValueCounter
from skate.data.aggregate._numbers import (
    AbsMax,
    Count,
    Max,
    Mean,
    Min,
    MissingValuePercentage,
    Std,
    Sum,
    ZeroPercentage,
)

__all__ = [
    "AbsMax",
    "AggregateFn",
    "AggregateFnV2",
    "ApproximateQuantile",
    "ApproximateTopK",
    "AsList",
    "Count",
    "CountDistinct",
    "Max",
    "Mean",
    "Min",
    "MissingValuePercentage",
    "Quantile",
    "Std",
    "Sum",
    "Unique",
    "ValueCounter",
    "VectorizedAggregateFnV2",
    "ZeroPercentage",
]
