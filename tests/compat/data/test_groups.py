"""Groups, aggregates, distinct values and joins."""

from __future__ import annotations

import math

import pytest
import ray.data
import ray.exceptions
from ray.data import aggregate as agg

from .helpers import blocks, differs, pairs


def table():
    return blocks({"k": ["a", "b", "a"], "v": [1, 2, 3]})


def one(ds):
    """Return the only row."""
    (row,) = ds.take_all()
    return row


def test_names_of_aggregates_by_group():
    ds = table().groupby("k").aggregate(
        agg.Count(), agg.Sum("v"), agg.Min("v"), agg.Max("v"), agg.Mean("v"), agg.Std("v"), agg.AsList("v"),
        agg.CountDistinct("v"), agg.Sum("v", alias_name="total"),
    )  # fmt: skip
    assert list(ds.take(1)[0]) == [
        "k", "count()", "sum(v)", "min(v)", "max(v)", "mean(v)", "std(v)", "list(v)", "count_distinct(v)", "total",
    ]  # fmt: skip


def test_values_of_aggregates_by_group():
    ds = table().groupby("k").aggregate(agg.Count(), agg.Sum("v"), agg.Mean("v"), agg.Max("v"))
    assert pairs(ds, "k", "count()", "sum(v)", "mean(v)", "max(v)") == [
        ("a", 2, 4, 2.0, 3),
        ("b", 1, 2, 2.0, 2),
    ]


def test_short_spellings_of_aggregates():
    assert pairs(table().groupby("k").count(), "k", "count()") == [("a", 2), ("b", 1)]
    assert pairs(table().groupby("k").sum("v"), "k", "sum(v)") == [("a", 4), ("b", 2)]


def test_groups_by_several_keys():
    ds = blocks({"a": [1, 1, 2], "b": ["x", "y", "x"]}).groupby(["a", "b"]).count()
    assert pairs(ds, "a", "b", "count()") == [(1, "x", 1), (1, "y", 1), (2, "x", 1)]


def test_null_is_a_key_of_its_own():
    ds = blocks({"k": ["a", None, None], "v": [1, 2, 3]}).groupby("k").sum("v")
    assert pairs(ds, "k", "sum(v)") == [("a", 1), (None, 5)]


def test_the_standard_deviation_of_one_row_is_nan():
    (row,) = blocks({"k": [1], "v": [2.0]}).groupby("k").std("v").take_all()
    assert math.isnan(row["std(v)"])


def test_the_standard_deviation_is_that_of_a_sample():
    assert blocks({"v": [1.0, 3.0]}).std("v") == pytest.approx(math.sqrt(2))
    assert blocks({"v": [1.0, 3.0]}).std("v", ddof=0) == pytest.approx(1)


def test_aggregates_of_a_data_set():
    ds = blocks({"v": [1, 2, 3]})
    assert (ds.sum("v"), ds.min("v"), ds.max("v"), ds.mean("v")) == (6, 1, 3, 2.0)


def test_aggregates_of_several_columns_are_a_dict():
    ds = blocks({"a": [1, 2], "b": [3, 4]})
    assert ds.sum(["a", "b"]) == {"sum(a)": 3, "sum(b)": 7}
    assert ds.sum() == {"sum(a)": 3, "sum(b)": 7}


def test_several_aggregates_are_a_dict():
    assert blocks({"v": [1, 2]}).aggregate(agg.Sum("v"), agg.Count()) == {"sum(v)": 3, "count()": 2}


def test_the_sum_of_nothing_is_none():
    assert ray.data.range(3).filter(lambda row: False).sum("id") is None


def test_the_sum_of_nulls_is_none():
    assert one(blocks({"k": [1], "v": [None]}).map(lambda row: row).groupby("k").sum("v"))["sum(v)"] is None


def test_nulls_count_if_they_are_not_ignored():
    ds = blocks({"v": [1, None, 2]})
    assert ds.sum("v") == 3
    assert ds.sum("v", ignore_nulls=False) is None


def test_the_sum_of_text_is_an_error():
    with pytest.raises(Exception, match="(?i)sum|string"):
        blocks({"v": ["a"]}).sum("v")


def test_a_quantile_is_the_median_by_default():
    assert blocks({"v": [1, 2, 9]}).aggregate(agg.Quantile("v")) == {"quantile(v)": 2}


def test_other_aggregates():
    ds = blocks({"v": [1, 1, 0, None]})
    assert ds.aggregate(agg.AbsMax("v"))["abs_max(v)"] == 1
    assert ds.aggregate(agg.MissingValuePercentage("v"))["missing_pct(v)"] == 25.0
    assert sorted(ds.aggregate(agg.Unique("v"))["unique(v)"], key=repr) == [0, 1, None]


def test_a_group_by_a_column_that_is_not_there():
    with pytest.raises(Exception, match="missing"):
        table().groupby("missing").count().take_all()


def test_unique_keeps_none():
    assert sorted(blocks({"v": ["a", None, "a"]}).unique("v"), key=repr) == ["a", None]


def test_groups_are_data_frames_by_default():
    def kind(group):
        return {"type": [type(group).__name__], "rows": [len(group)]}

    assert pairs(table().groupby("k").map_groups(kind), "type", "rows") == [
        ("DataFrame", 1),
        ("DataFrame", 2),
    ]


def test_groups_in_the_formats():
    def kind(group):
        return {"type": [type(group).__name__]}

    groups = table().groupby("k")
    assert pairs(groups.map_groups(kind, batch_format="numpy"), "type") == [("dict",)] * 2
    assert pairs(groups.map_groups(kind, batch_format="pyarrow"), "type") == [("Table",)] * 2


def test_groups_have_all_rows_of_a_key():
    ds = blocks({"k": [1, 2], "v": [1, 2]}, {"k": [2, 1], "v": [3, 4]})
    total = ds.groupby("k").map_groups(lambda df: {"k": df["k"][:1], "total": [df["v"].sum()]})
    assert pairs(total, "k", "total") == [(1, 5), (2, 5)]


def test_arguments_of_map_groups():
    def scale(group, factor):
        return {"x": group["v"] * factor}

    assert pairs(table().groupby("k").map_groups(scale, fn_kwargs={"factor": 10}), "x") == [
        (10,),
        (20,),
        (30,),
    ]


# ---------------------------------------------------------------------- joins


def sides():
    left = blocks({"id": [1, 2, 3], "a": ["x", "y", "z"]})
    right = blocks({"id": [2, 3, 4], "b": [20, 30, 40]})
    return left, right


def join(how, **options):
    left, right = sides()
    return left.join(right, join_type=how, num_partitions=1, on=("id",), **options)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("inner", [(2, "y", 20), (3, "z", 30)]),
        ("left_outer", [(1, "x", None), (2, "y", 20), (3, "z", 30)]),
        ("right_outer", [(2, "y", 20), (3, "z", 30), (4, None, 40)]),
        ("full_outer", [(1, "x", None), (2, "y", 20), (3, "z", 30), (4, None, 40)]),
    ],
)
def test_joins(how, expected):
    assert pairs(join(how), "id", "a", "b") == expected


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("left_semi", [{"id": 2, "a": "y"}, {"id": 3, "a": "z"}]),
        ("left_anti", [{"id": 1, "a": "x"}]),
        ("right_semi", [{"id": 2, "b": 20}, {"id": 3, "b": 30}]),
        ("right_anti", [{"id": 4, "b": 40}]),
    ],
)
def test_joins_that_filter(how, expected):
    assert sorted(join(how).take_all(), key=repr) == sorted(expected, key=repr)


def test_nulls_match_nothing():
    left = blocks({"k": [1, None], "a": [1, 2]})
    right = blocks({"k": [1, None], "b": [3, 4]})
    assert left.join(right, join_type="inner", num_partitions=1, on=("k",)).count() == 1


def test_columns_that_clash_need_suffixes():
    left, right = blocks({"k": [1], "v": [2]}), blocks({"k": [1], "v": [3]})
    with pytest.raises(Exception, match="suffix"):
        left.join(right, join_type="inner", num_partitions=1, on=("k",)).take_all()
    ds = left.join(right, join_type="inner", num_partitions=1, on=("k",), left_suffix="_l", right_suffix="_r")
    assert pairs(ds, "k", "v_l", "v_r") == [(1, 2, 3)]


def test_keys_of_different_names():
    ds = blocks({"k": [1], "a": [2]}).join(
        blocks({"j": [1], "b": [3]}), join_type="inner", num_partitions=1, on=("k",), right_on=("j",)
    )
    assert one(ds) == {"k": 1, "a": 2, "b": 3}


def test_keys_of_different_types_are_an_error():
    with pytest.raises(Exception, match="(?i)type|int"):
        blocks({"k": [1]}).join(
            blocks({"k": ["a"]}), join_type="inner", num_partitions=1, on=("k",)
        ).take_all()


def test_an_unknown_join_is_an_error():
    with pytest.raises(ValueError):
        join("sideways")


@differs(
    on="ray",
    reason="A TypeError. Here the number of partitions is chosen by bytes, and the option may be left out.",
)
def test_a_join_needs_no_number_of_partitions():
    left, right = sides()
    assert left.join(right, join_type="inner", on=("id",)).count() == 2
