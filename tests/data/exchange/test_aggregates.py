"""Aggregates against pandas and plain Python, whatever the cuts."""

from __future__ import annotations

import math
import pickle
import statistics

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.tables import concat
from skate.data._operators.exchanges import Aggregate, output_schema, run_exchange
from skate.data._task.exchange import ExchangeLimits
from skate.data.aggregate import (
    AbsMax,
    AggregateFn,
    AggregateFnV2,
    ApproximateQuantile,
    ApproximateTopK,
    AsList,
    Count,
    CountDistinct,
    Max,
    Mean,
    Min,
    MissingValuePercentage,
    Quantile,
    Std,
    Sum,
    Unique,
    ValueCounter,
    ZeroPercentage,
)

LIMITS = st.builds(ExchangeLimits, st.sampled_from([64, 300, 1 << 20]), st.integers(1, 4))
ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, "a", "b", ""]),
        st.sampled_from([None, math.nan, 0.0, -0.0, 1.0]),
        st.one_of(st.none(), st.integers(-100, 100)),
    ),
    max_size=40,
)


def table_of(rows):
    columns = list(zip(*rows, strict=False)) or [(), (), ()]
    types = (pa.string(), pa.float64(), pa.int64())
    return pa.table({n: pa.array(c, t) for n, c, t in zip(("s", "f", "v"), columns, types, strict=False)})


def cut(table, edges):
    edges = [0, *sorted(edge % (table.num_rows + 1) for edge in edges), table.num_rows]
    return [[table.slice(a, b - a)] for a, b in zip(edges, edges[1:], strict=False)]


def rows_of(parts):
    return [row for part in parts for block in part for row in block.to_pylist()]


def one(aggregates, table, edges=()):
    (row,) = rows_of(run_exchange(Aggregate((), tuple(aggregates)), [cut(table, edges)]))
    return row


def key_of(value):
    return "nan" if isinstance(value, float) and math.isnan(value) else 0.0 if value == 0 else value


def expected_of(values):
    """Every aggregate of a list of integers and Nones, in plain Python."""
    valid = [value for value in values if value is not None]
    has_null = len(valid) < len(values)
    return {
        "count()": len(values),
        "count(v)": len(values),
        "valid": len(valid),
        "sum(v)": sum(valid) if valid else None,
        "strict_sum": None if has_null or not valid else sum(valid),
        "min(v)": min(valid, default=None),
        "max(v)": max(valid, default=None),
        "strict_max": None if has_null else max(valid, default=None),
        "mean(v)": statistics.fmean(valid) if valid else None,
        "strict_mean": None if has_null or not valid else statistics.fmean(valid),
        "std(v)": None if not valid else math.nan if len(valid) == 1 else statistics.stdev(valid),
        "std0": None if not valid else statistics.pstdev(valid),
        "strict_std0": None if has_null or not valid else statistics.pstdev(valid),
        "abs_max(v)": max(map(abs, valid), default=None),
        "quantile(v)": float(np.quantile(valid, 0.5)) if valid else None,
        "p90": None if has_null or not valid else float(np.quantile(valid, 0.9)),
        "unique(v)": sorted(set(valid)) + ([None] if has_null else []),
        "count_distinct(v)": len(set(valid)),
        "distinct_with_null": len(set(values)),
        "list(v)": values,
        "valid_list": valid,
        "value_counter(v)": {value: values.count(value) for value in values},
        "missing_pct(v)": 100 * (len(values) - len(valid)) / len(values) if values else None,
        "zero_pct(v)": 100 * valid.count(0) / len(valid) if valid else None,
        "zero_of_all": 100 * valid.count(0) / len(values) if values else None,
    }


AGGREGATES = (
    Count(),
    Count("v"),
    Count("v", ignore_nulls=True, alias_name="valid"),
    Sum("v"),
    Sum("v", ignore_nulls=False, alias_name="strict_sum"),
    Min("v"),
    Max("v"),
    Max("v", ignore_nulls=False, alias_name="strict_max"),
    Mean("v"),
    Mean("v", ignore_nulls=False, alias_name="strict_mean"),
    Std("v"),
    Std("v", ddof=0, alias_name="std0"),
    Std("v", ddof=0, ignore_nulls=False, alias_name="strict_std0"),
    AbsMax("v"),
    Quantile("v"),
    Quantile("v", q=0.9, ignore_nulls=False, alias_name="p90"),
    Unique("v"),
    CountDistinct("v"),
    CountDistinct("v", ignore_nulls=False, alias_name="distinct_with_null"),
    AsList("v"),
    AsList("v", ignore_nulls=True, alias_name="valid_list"),
    ValueCounter("v"),
    MissingValuePercentage("v"),
    ZeroPercentage("v"),
    ZeroPercentage("v", ignore_nulls=False, alias_name="zero_of_all"),
)


def assert_row(row, expected):
    row = dict(row)
    counter = row["value_counter(v)"]
    row["value_counter(v)"] = dict(zip(counter["values"], counter["counts"], strict=False))
    found = row["unique(v)"]
    row["unique(v)"] = sorted(value for value in found if value is not None) + [None] * (None in found)
    for name, value in expected.items():
        if isinstance(value, float):
            assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), name
        else:
            assert row[name] == value, name


@settings(max_examples=80, deadline=None)
@given(
    ROWS,
    st.lists(st.integers(0, 100), max_size=4),
    st.lists(st.sampled_from(["s", "f"]), max_size=2, unique=True),
    LIMITS,
)
def test_aggregates_are_those_of_python_whatever_the_cuts(rows, edges, keys, limits):
    table = table_of(rows)
    found = rows_of(run_exchange(Aggregate(tuple(keys), AGGREGATES), [cut(table, edges)], limits))
    groups = {} if keys else {(): []}
    for row in table.to_pylist():
        groups.setdefault(tuple(key_of(row[key]) for key in keys), []).append(row["v"])
    assert len(found) == len(groups)
    for row in found:
        assert_row(row, expected_of(groups[tuple(key_of(row[key]) for key in keys)]))


def test_groups_are_those_of_pandas_on_many_rows():
    rng = np.random.default_rng(1)
    table = pa.table({"k": rng.integers(0, 5_000, 50_000), "v": rng.normal(1e6, 1.0, 50_000)})
    aggregates = (Count(), Sum("v"), Mean("v"), Std("v"), Min("v"), Max("v"), Quantile("v", q=0.25))
    found = concat(
        [
            block
            for part in run_exchange(
                Aggregate(("k",), aggregates),
                [cut(table, [10_000, 20_000])],
                ExchangeLimits(100_000, 2),
                200_000,
            )
            for block in part
        ]
    ).to_pandas()
    grouped = table.to_pandas().groupby("k")["v"]
    expected = pd.DataFrame(
        {
            "count()": grouped.count(),
            "sum(v)": grouped.sum(),
            "mean(v)": grouped.mean(),
            "std(v)": grouped.std(),
            "min(v)": grouped.min(),
            "max(v)": grouped.max(),
            "quantile(v)": grouped.quantile(0.25),
        }
    ).reset_index()
    pd.testing.assert_frame_equal(found.sort_values("k").reset_index(drop=True), expected, rtol=1e-9)


def test_a_spread_far_smaller_than_the_mean_keeps_its_digits():
    table = pa.table({"k": [0, 0, 0, 1, 1, 1], "v": [1e9, 1e9 + 1, 1e9 + 2, 0.0, 1.0, 2.0]})
    found = rows_of(run_exchange(Aggregate(("k",), (Std("v"),)), [cut(table, [1, 2, 4])]))
    assert [row["std(v)"] for row in found] == [1.0, 1.0]


def test_nothing_gives_one_row_of_nothing():
    expected = expected_of([])
    for sides in ([], [[table_of([])]], [[table_of([]), table_of([])], [table_of([])]]):
        (row,) = rows_of(run_exchange(Aggregate((), AGGREGATES), [sides]))
        assert_row(row, expected)
    assert rows_of(run_exchange(Aggregate(("s",), AGGREGATES), [[[table_of([])]]])) == []


def test_columns_without_any_value():
    table = pa.table({"k": [1, 1], "v": pa.nulls(2)})
    (row,) = rows_of(run_exchange(Aggregate(("k",), AGGREGATES), [[[table]]]))
    assert_row({**row}, expected_of([None, None]))
    blocks = [[pa.table({"k": pa.nulls(1), "v": pa.nulls(1)})], [pa.table({"k": ["a"], "v": [2.5]})]]
    found = rows_of(run_exchange(Aggregate(("k",), (Sum("v"), AsList("v"))), [blocks]))
    assert sorted(found, key=repr) == [
        {"k": "a", "sum(v)": 2.5, "list(v)": [2.5]},
        {"k": None, "sum(v)": None, "list(v)": [None]},
    ]


def test_text_dates_and_lists():
    table = pa.table(
        {"s": ["b", None, "a"], "l": [[1, 2], None, [2]], "t": pa.array([3, 1, 2], pa.timestamp("ms"))}
    )
    row = one([Min("s"), Max("t"), AsList("l"), Unique("l"), CountDistinct("l")], table, [1])
    assert row["min(s)"] == "a"
    assert row["max(t)"].microsecond == 3_000
    assert row["list(l)"] == row["unique(l)"] == [[1, 2], None, [2]]
    assert row["count_distinct(l)"] == 2
    assert sorted(one([Unique("l", encode_lists=True)], table, [1])["unique(l)"]) == [1, 2]
    assert len(one([Unique("l", encode_lists="hash")], table, [1])["unique(l)"]) == 3
    with pytest.raises(NotImplementedError, match="no sum of values of type string"):
        one([Sum("s")], table)


def test_nan_is_a_number_of_sums_and_missing_in_quantiles():
    table = pa.table({"v": [1.0, math.nan, 3.0]})
    row = one([Sum("v"), Max("v"), Quantile("v"), MissingValuePercentage("v"), Unique("v")], table, [1])
    assert math.isnan(row["sum(v)"])
    assert row["max(v)"] == 3.0
    assert row["quantile(v)"] == 2.0
    assert row["missing_pct(v)"] == pytest.approx(100 / 3)
    assert len(row["unique(v)"]) == 3


def test_names_clash_and_columns_are_missing():
    with pytest.raises(ValueError, match=r"called \['sum\(v\)'\].*alias_name"):
        Aggregate((), (Sum("v"), Sum("v")))
    with pytest.raises(ValueError, match="no column 'x'"):
        one([Sum("x")], table_of([("a", 1.0, 1)]))
    with pytest.raises(ValueError, match="Sum needs a column"):
        one([Sum()], table_of([("a", 1.0, 1)]))
    with pytest.raises(ValueError, match="groupby: there is no column 'x'"):
        run_exchange(Aggregate(("x",), (Count(),)), [[[table_of([])]]])
    with pytest.raises(ValueError, match="from 0 to 1"):
        Quantile("v", q=2)


def test_schema_without_rows():
    schema = output_schema(Aggregate(("s",), AGGREGATES), [table_of([]).schema])
    assert schema.names == ["s", *(aggregate.name for aggregate in AGGREGATES)]
    assert schema.field("mean(v)").type == pa.float64()
    assert schema.field("unique(v)").type == pa.list_(pa.int64())
    assert Sum("v").output_field(table_of([]).schema) == pa.field("sum(v)", pa.int64())


# Functions of users.


class Longest(AggregateFnV2):
    def __init__(self, ignore_nulls=True):
        super().__init__("longest(s)", lambda: 0, on="s", ignore_nulls=ignore_nulls)

    def aggregate_block(self, block):
        return max((len(text) for text in block["s"].to_pylist() if text is not None), default=None)

    def combine(self, current_accumulator, new):
        return max(current_accumulator, new)

    def finalize(self, accumulator):
        return f"{accumulator} letters"


def test_an_aggregate_of_a_user():
    table = pa.table({"k": [1, 1, 2, 3], "s": ["aa", "bbbb", None, "c"]})
    found = rows_of(run_exchange(Aggregate(("k",), (Longest(),)), [cut(table, [1])]))
    assert [row["longest(s)"] for row in found] == ["4 letters", None, "1 letters"]
    strict = rows_of(run_exchange(Aggregate(("k",), (Longest(ignore_nulls=False),)), [cut(table, [1])]))
    assert [row["longest(s)"] for row in strict] == ["4 letters", None, "1 letters"]


def test_an_aggregate_of_plain_functions():
    table = pa.table({"k": ["x", "y", "x"], "v": [1, 2, 3]})

    def take_in(accumulator, row):
        return [*accumulator, row["v"]]

    by_row = AggregateFn(lambda key: [key], lambda a, b: a + b[1:], accumulate_row=take_in, name="rows")
    by_block = AggregateFn(
        lambda key: 0,
        lambda a, b: a + b,
        accumulate_block=lambda a, block: a + sum(block["v"].to_pylist()),
        finalize=lambda a: -a,
        name="blocks",
    )
    found = rows_of(run_exchange(Aggregate(("k",), (by_block,)), [cut(table, [1])]))
    assert found == [{"k": "x", "blocks": -4}, {"k": "y", "blocks": -2}]
    text = AggregateFn(by_row._init, by_row._merge, accumulate_row=take_in, finalize=repr, name="rows")
    found = rows_of(run_exchange(Aggregate(("k",), (text,)), [cut(table, [1])]))
    assert found == [{"k": "x", "rows": "['x', 1, 3]"}, {"k": "y", "rows": "['y', 2]"}]
    with pytest.raises(TypeError, match="either accumulate_row or"):
        AggregateFn(lambda key: 0, max, name="x")
    with pytest.raises(TypeError, match="needs name="):
        AggregateFn(lambda key: 0, max, accumulate_row=max)


def test_built_in_aggregates_also_speak_the_protocol_of_one_group():
    block = pa.table({"v": [1, None, 4]})
    for aggregate, expected in ((Sum("v"), 10), (Mean("v"), 2.5), (Count("v"), 6), (Max("v"), 4)):
        one_block = aggregate.aggregate_block(block)
        assert aggregate.finalize(aggregate.combine(one_block, one_block)) == expected
        assert isinstance(aggregate, AggregateFnV2)
    assert Sum("v").get_agg_name() == "sum"
    assert Sum("v").get_target_column() == "v"


def test_aggregates_travel():
    for aggregate in AGGREGATES:
        pickle.loads(cloudpickle.dumps(aggregate))
    for sketch in (ApproximateQuantile("v", [0.5]), ApproximateTopK("v", 2)):
        assert pickle.loads(pickle.dumps(sketch)).name == sketch.name


# Sketches.


def test_quantiles_of_a_sketch_are_within_their_bound():
    rng = np.random.default_rng(2)
    values = rng.normal(size=200_000)
    table = pa.table({"v": values})
    quantiles = [0.0, 0.1, 0.5, 0.9, 0.999]
    found = one(
        [ApproximateQuantile("v", quantiles, quantile_precision=400)], table, range(0, 200_000, 7_000)
    )
    ordered = np.sort(values)
    for q, value in zip(quantiles, found["approx_quantile(v)"], strict=False):
        rank = np.searchsorted(ordered, value) / len(values)
        assert abs(rank - q) <= math.log2(len(values) / 400) / 400
    exact = one([ApproximateQuantile("v", [0.5])], pa.table({"v": [3.0, None, 1.0, 2.0, math.nan]}), [2])
    assert exact["approx_quantile(v)"] == [2.0]


def test_top_values_are_exact_while_they_fit_and_bounded_beyond():
    values = ["a"] * 500 + ["b"] * 300 + [f"x{number}" for number in range(200)]
    table = pa.table({"v": [values[(number * 7) % 1_000] for number in range(1_000)]})
    exact = one([ApproximateTopK("v", 2)], table, [100, 500])["approx_topk(v)"]
    assert exact == [{"v": "a", "count": 500}, {"v": "b", "count": 300}]
    small = one([ApproximateTopK("v", 2, log_capacity=4)], table, [100, 500])["approx_topk(v)"]
    assert [entry["v"] for entry in small] == ["a", "b"]
    assert all(
        true - 1_000 / 16 <= entry["count"] <= true for entry, true in zip(small, (500, 300), strict=False)
    )
    lists = pa.table({"v": [[1, 2], [1], None]})
    assert one([ApproximateTopK("v", 1, encode_lists=True)], lists)["approx_topk(v)"] == [
        {"v": 1, "count": 2}
    ]
