"""Order, repartition, shuffles, samples, groups, joins, splits: each line of the design's section 2.5."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skate.data
from skate.data.aggregate import AsList, Count, CountDistinct, Max, Mean, Quantile, Std, Sum, Unique
from skate.data.seeds import RandomSeedConfig

TEN = skate.data.range(10, override_num_blocks=5)


def ids(ds: Any) -> list[int]:
    return [row["id"] for row in ds.take_all()]


def block_rows(ds: Any) -> list[int]:
    return [piece.num_rows for piece in ds.materialize()._plan.slices]


def table(**columns: Any) -> Any:
    return skate.data.from_arrow(pa.table(columns))


# ---------------------------------------------------------------------- order


def test_order_is_kept() -> None:
    ds = (
        skate.data.range(100)
        .map(lambda row: row)
        .filter(lambda row: row["id"] % 3)
        .map_batches(lambda batch: batch)
    )
    assert ids(ds) == [n for n in range(100) if n % 3]


def test_sort() -> None:
    ds = table(a=[3, None, 1, 2], b=[1.0, 2.0, math.nan, None])
    assert [row["a"] for row in ds.sort("a").take_all()] == [1, 2, 3, None]
    assert [row["a"] for row in ds.sort("a", descending=True).take_all()] == [3, 2, 1, None]
    last = [row["b"] for row in ds.sort("b", descending=True).take_all()]
    assert last[:2] == [2.0, 1.0]
    assert math.isnan(last[2])
    assert last[3] is None
    ds = table(a=[1, 1, 2, 2], b=[1, 2, 3, 4])
    rows = ds.sort(["a", "b"], descending=[True, False]).take_all()
    assert [row["b"] for row in rows] == [3, 4, 1, 2]
    assert block_rows(TEN.sort("id", boundaries=[3, 7])) == [3, 4, 3]


def test_a_sort_is_stable() -> None:
    ds = skate.data.range(200).map(lambda row: {"k": row["id"] % 3, "id": row["id"]})
    assert ids(ds.sort("k")) == sorted(range(200), key=lambda n: n % 3)


@pytest.mark.parametrize(
    ("key", "descending", "words"),
    [("x", False, "'x'"), (None, False, "key"), ([], False, "column"), (["id"], [True, False], "directions")],
)
def test_wrong_sorts(key: Any, descending: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TEN.sort(key, descending)


# ---------------------------------------------------------------------- blocks


def test_repartition() -> None:
    assert sorted(block_rows(TEN.repartition(3))) == [3, 3, 4]
    assert ids(TEN.repartition(3)) == list(range(10))
    assert len(block_rows(TEN.repartition(20))) >= 10
    uneven = TEN.repartition(3)
    assert sum(block_rows(uneven.repartition(target_num_rows_per_block=4, strict=True))) == 10
    assert block_rows(TEN.repartition(target_num_rows_per_block=4, strict=True)) == [4, 4, 2]
    assert block_rows(TEN.repartition(target_num_rows_per_block=4)) == [2, 2, 2, 2, 2]
    assert sorted(ids(TEN.repartition(3, shuffle=True))) == list(range(10))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_blocks": 3, "target_num_rows_per_block": 3},
        {"num_blocks": 0},
        {"target_num_rows_per_block": -1},
        {"num_blocks": 3, "sort": True},
        {"num_blocks": 3, "strict": True},
        {"target_num_rows_per_block": 3, "shuffle": True},
        {"keys": ["x"], "num_blocks": 3},
        {"keys": ["id"], "shuffle": True},
    ],
)
def test_wrong_repartitions(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="repartition"):
        TEN.repartition(**options)


def test_repartition_by_keys_brings_equal_keys_together() -> None:
    ds = skate.data.range(100).map(lambda row: {"k": row["id"] % 7, "id": row["id"]})
    made = ds.repartition(4, keys=["k"], sort=True).materialize()
    seen: list[set[int]] = []
    for bundle in made.iter_internal_ref_bundles():
        rows = skate.get(bundle.block_refs[0]).to_pylist()
        assert [row["k"] for row in rows] == sorted(row["k"] for row in rows)
        seen.append({row["k"] for row in rows})
    assert sum(map(len, seen)) == 7
    assert made.count() == 100


def test_block_order() -> None:
    ds = skate.data.range(100, override_num_blocks=20)
    once = ids(ds.randomize_block_order(seed=3))
    assert once == ids(ds.randomize_block_order(seed=3))
    assert once != list(range(100))
    assert sorted(once) == list(range(100))
    starts = once[::5]
    assert [n for start in starts for n in range(start, start + 5)] == once


# ---------------------------------------------------------------------- chance


def test_a_seed_gives_the_same_order_across_data_sets() -> None:
    ds = skate.data.range(1000, override_num_blocks=7)
    once = ids(ds.random_shuffle(seed=5))
    assert once == ids(ds.random_shuffle(seed=5))
    assert once != ids(ds.random_shuffle(seed=6))
    assert sorted(once) == list(range(1000))


def test_without_a_seed_each_execution_differs() -> None:
    ds = skate.data.range(1000).random_shuffle()
    assert ids(ds) != ids(ds)
    ds = skate.data.range(1000).random_shuffle(seed=RandomSeedConfig(seed=4))
    first, second = ids(ds), ids(ds)
    assert first != second
    again = skate.data.range(1000).random_shuffle(seed=RandomSeedConfig(seed=4))
    assert ids(again) == first
    fixed = skate.data.range(1000).random_shuffle(seed=RandomSeedConfig(seed=4, reseed_after_execution=False))
    assert ids(fixed) == ids(fixed)


def test_wrong_shuffles() -> None:
    with pytest.raises(DeprecationWarning, match="repartition"):
        TEN.random_shuffle(num_blocks=3)
    for seed in (-1, "x", True, 1.5):
        with pytest.raises(ValueError, match="seed"):
            TEN.random_shuffle(seed=seed)  # type: ignore[arg-type]


def test_a_sample_is_binomial() -> None:
    ds = skate.data.range(10_000)
    some = ids(ds.random_sample(0.1, seed=1))
    assert some == ids(ds.random_sample(0.1, seed=1)) == sorted(set(some))
    assert 800 < len(some) < 1200
    anew = ds.random_sample(0.1)
    assert ids(anew) != ids(anew)
    assert ds.random_sample(0).count() == 0
    assert ds.random_sample(1).count() == 10_000
    for fraction in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="fraction"):
            ds.random_sample(fraction)
    with pytest.raises(TypeError, match="fraction"):
        ds.random_sample("0.1")  # type: ignore[arg-type]


# ---------------------------------------------------------------------- splits


def counts(parts: Any) -> list[int]:
    return [part.count() for part in parts]


def test_split() -> None:
    assert counts(TEN.split(3)) == [4, 4, 2]
    assert counts(TEN.split(3, equal=True)) == [3, 3, 3]
    assert counts(skate.data.range(5, override_num_blocks=1).split(3)) == [2, 2, 1]
    assert sorted(n for part in TEN.split(3) for n in ids(part)) == list(range(10))
    assert counts(skate.data.range(0).split(2)) == [0, 0]
    with pytest.raises(ValueError, match="split"):
        TEN.split(0)
    with pytest.raises(ValueError, match="locality_hints"):
        TEN.split(2, locality_hints=[None])


def test_split_at_indices() -> None:
    parts = TEN.split_at_indices([2, 5, 12])
    assert [ids(part) for part in parts] == [[0, 1], [2, 3, 4], [5, 6, 7, 8, 9], []]
    for wrong in ([], [-1], [3, 2], [1.5]):
        with pytest.raises(ValueError, match="split_at_indices"):
            TEN.split_at_indices(wrong)  # type: ignore[arg-type]


def test_split_proportionately() -> None:
    assert counts(TEN.split_proportionately([0.2, 0.5])) == [2, 5, 3]
    assert counts(TEN.split_proportionately([0.01])) == [1, 9]
    assert counts(skate.data.range(3).split_proportionately([0.9, 0.05])) == [1, 1, 1]
    for wrong in ([], [0.0], [0.6, 0.4], [1.2]):
        with pytest.raises(ValueError, match="split_proportionately"):
            TEN.split_proportionately(wrong)
    with pytest.raises(ValueError, match="too few"):
        skate.data.range(1).split_proportionately([0.5])


def test_train_test_split() -> None:
    train, test = TEN.train_test_split(0.3)
    assert (ids(train), ids(test)) == ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
    assert counts(TEN.train_test_split(2)) == [8, 2]
    train, test = TEN.train_test_split(0.3, shuffle=True, seed=1)
    again, _ = TEN.train_test_split(0.3, shuffle=True, seed=1)
    assert ids(train) == ids(again) != [0, 1, 2, 3, 4, 5, 6]
    assert sorted(ids(train) + ids(test)) == list(range(10))
    for wrong in (0.0, 1.0, -0.5, 10, 0):
        with pytest.raises(ValueError, match="test_size"):
            TEN.train_test_split(wrong)
    with pytest.raises(TypeError, match="test_size"):
        TEN.train_test_split("0.3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shuffle"):
        TEN.train_test_split(0.3, seed=1)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_stratified_split_has_the_same_parts_of_each_value(shuffle: bool) -> None:
    ds = skate.data.range(100).map(lambda row: {"id": row["id"], "label": "ab"[row["id"] % 4 == 0]})
    train, test = ds.train_test_split(0.25, stratify="label", shuffle=shuffle)
    assert Counter(row["label"] for row in test.take_all()) == {"a": 19, "b": 6}
    assert sorted(ids(train) + ids(test)) == list(range(100))
    with pytest.raises(ValueError, match="'nothing'"):
        ds.train_test_split(0.25, stratify="nothing")


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["a", "b", None, "c"]), min_size=2, max_size=60),
    fraction=st.floats(0.05, 0.95),
    blocks=st.integers(1, 5),
)
def test_stratified_splits_lose_nothing(labels: list[Any], fraction: float, blocks: int) -> None:
    rows = pa.table({"id": list(range(len(labels))), "label": pa.array(labels, pa.string())})
    ds = skate.data.from_arrow(rows, override_num_blocks=blocks)
    train, test = ds.train_test_split(fraction, stratify="label")
    assert sorted(ids(train) + ids(test)) == list(range(len(labels)))
    assert test.count() == math.ceil(len(labels) * fraction - 1e-9)
    for label, part in Counter(row["label"] for row in test.take_all()).items():
        assert abs(part - labels.count(label) * fraction) <= 1


# ---------------------------------------------------------------------- several


def test_union_with_different_columns() -> None:
    ds = table(a=[1], b=["x"]).union(table(a=[2], c=[True]), [table(d=[0.5])])
    assert ds.columns() == ["a", "b", "c", "d"]
    assert [row["a"] for row in ds.take_all()][:2] == [1, 2]
    assert ds.count() == 3
    with pytest.raises(ValueError, match="'a'"):
        table(a=[1]).union(table(a=["x"]))
    unknown = table(a=[1]).map(lambda row: row).union(table(b=["x"]))
    assert unknown.take_all() == [{"a": 1}, {"b": "x"}]
    with pytest.raises(TypeError, match="union"):
        TEN.union([1, 2])


def test_zip() -> None:
    ds = table(a=[1, 2]).zip(table(a=[3, 4]), table(b=[5, 6]))
    assert ds.take(1) == [{"a": 1, "a_1": 3, "b": 5}]
    with pytest.raises(ValueError, match="zip"):
        table(a=[1]).zip(table(a=[1, 2]))
    late = table(a=[1]).zip(table(a=[1, 2]).filter(lambda row: True))
    with pytest.raises(ValueError):
        late.take_all()
    with pytest.raises(TypeError, match="zip"):
        TEN.zip(5)


LEFT = table(id=[1, 2, None, 4], a=["p", "q", "r", "s"])
RIGHT = table(id=[2, 4, 4, None], b=[1.5, 2.5, 3.5, 4.5])


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("inner", 3),
        ("left_outer", 5),
        ("right_outer", 4),
        ("full_outer", 6),
        ("left_semi", 2),
        ("left_anti", 2),
        ("right_semi", 3),
        ("right_anti", 1),
    ],
)
def test_joins(kind: str, rows: int) -> None:
    ds = LEFT.join(RIGHT, kind, 4)
    found = ds.take_all()
    assert len(found) == rows
    columns = {"left_semi": ["id", "a"], "left_anti": ["id", "a"], "right_semi": ["id", "b"]}
    if kind in columns:
        assert ds.columns() == columns[kind]
    elif kind in ("inner", "left_outer", "right_outer", "full_outer"):
        assert ds.columns() == ["id", "a", "b"]


def test_join_names() -> None:
    right = RIGHT.rename_columns({"b": "a", "id": "key"})
    with pytest.raises(ValueError, match="suffix"):
        LEFT.join(right, "inner", 1, on=("id",), right_on=("key",))
    ds = LEFT.join(right, "inner", 1, on="id", right_on="key", left_suffix="_l", right_suffix="_r")
    assert ds.columns() == ["id", "a_l", "a_r"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"join_type": "sideways"}, "sideways"),
        ({"join_type": "inner", "on": ("nothing",)}, "nothing"),
        ({"join_type": "inner", "on": ("id",), "right_on": ("nothing",)}, "nothing"),
        ({"join_type": "inner", "on": ("id",), "right_on": ("id", "b")}, "right_on"),
        ({"join_type": "inner", "on": ()}, "key"),
    ],
)
def test_wrong_joins(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LEFT.join(RIGHT, num_partitions=1, **options)


def test_keys_of_types_that_do_not_go_together() -> None:
    with pytest.raises((TypeError, ValueError)):
        LEFT.join(table(id=["x"]), "inner", 1).take_all()


# ---------------------------------------------------------------------- groups

GROUPS = table(k=["x", "y", "x", None, None], v=[1, 2, 3, None, 5], w=[1.0, 2.0, 3.0, 4.0, 5.0])


def by_key(ds: Any) -> dict[Any, dict[str, Any]]:
    return {row["k"]: row for row in ds.take_all()}


def test_names_of_results() -> None:
    groups = GROUPS.groupby("k")
    assert groups.count().columns() == ["k", "count()"]
    assert groups.sum("v").columns() == ["k", "sum(v)"]
    assert groups.std("v").columns() == ["k", "std(v)"]
    assert groups.sum().columns() == ["k", "sum(v)", "sum(w)"]
    ds = groups.aggregate(AsList("v"), CountDistinct("v"), Mean("w", alias_name="m"))
    assert ds.columns() == ["k", "list(v)", "count_distinct(v)", "m"]


def test_a_null_key_is_a_group() -> None:
    found = by_key(GROUPS.groupby("k").aggregate(Count(), Sum("v"), Std("w")))
    assert set(found) == {"x", "y", None}
    assert found[None] == {"k": None, "count()": 2, "sum(v)": 5, "std(w)": pytest.approx(0.7071067)}
    assert math.isnan(found["y"]["std(w)"]), "of one row"


def test_groups_without_a_key_and_by_several() -> None:
    assert GROUPS.groupby(None).count().take_all() == [{"count()": 5}]
    assert GROUPS.groupby(["k", "v"]).count().count() == 5
    with pytest.raises(ValueError, match="'nothing'"):
        GROUPS.groupby("nothing")
    with pytest.raises(ValueError, match="aggregate"):
        GROUPS.groupby("k").aggregate()
    with pytest.raises(TypeError, match="Sum"):
        GROUPS.groupby("k").aggregate("v")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'nothing'"):
        GROUPS.groupby("k").sum("nothing")


def test_aggregates_of_all_rows() -> None:
    ds = skate.data.range(5)
    assert (ds.sum("id"), ds.min("id"), ds.max("id"), ds.mean("id")) == (10, 0, 4, 2.0)
    assert ds.std("id") == pytest.approx(1.5811388)
    assert ds.std("id", ddof=0) == pytest.approx(1.4142135)
    assert ds.sum() == 10
    assert GROUPS.sum(["v", "w"]) == {"sum(v)": 11, "sum(w)": 15.0}
    assert GROUPS.sum("v", ignore_nulls=False) is None
    assert skate.data.range(0).sum("id") is None
    assert ds.aggregate(Count(), Max("id"), Quantile("id")) == {
        "count()": 5,
        "max(id)": 4,
        "quantile(id)": 2.0,
    }
    with pytest.raises(ValueError, match="'nothing'"):
        ds.sum("nothing")
    with pytest.raises((TypeError, ValueError, pa.ArrowException)):
        GROUPS.sum("k")


def test_unique_keeps_none() -> None:
    assert GROUPS.unique("k") == ["x", "y", None]
    assert GROUPS.unique("k", ignore_nulls=True) == ["x", "y"]
    assert set(GROUPS.aggregate(Unique("k")).popitem()[1]) >= {"x", "y"}
    with pytest.raises(ValueError, match="'nothing'"):
        GROUPS.unique("nothing")


def test_unique_values_are_in_order() -> None:
    """Whatever the blocks: a hash decides which partition a value comes from."""
    numbers = [number * 7919 % 5000 for number in range(10_000)]
    for blocks in (1, 7):
        ds = skate.data.from_items([*numbers, None], override_num_blocks=blocks)
        assert ds.unique("item") == [*range(5000), None]
    floats = skate.data.from_items([2.5, float("nan"), None, -1.0, 2.5]).unique("item")
    assert floats[:2] == [-1.0, 2.5] and math.isnan(floats[2]) and floats[3] is None
    lists = skate.data.from_items([{"x": [2]}, {"x": [1]}, {"x": [2]}]).unique("x")
    assert sorted(lists) == [[1], [2]]
    assert skate.data.from_items([{"x": 1}]).filter(lambda row: False).unique("x") == []
    things = skate.data.from_items([{"x": 2j}, {"x": 1j}, {"x": 2j}]).unique("x")
    assert sorted(map(str, things)) == ["1j", "2j"]


def test_map_groups_gives_frames_by_default() -> None:
    kinds: list[type] = []

    def largest(group: Any) -> Any:
        kinds.append(type(group))
        return group.nlargest(1, "w") if isinstance(group, pd.DataFrame) else group

    ds = GROUPS.groupby("k").map_groups(largest)
    assert {row["w"] for row in ds.take_all()} == {2.0, 3.0, 5.0}
    assert set(kinds) == {pd.DataFrame}
    kinds.clear()
    assert GROUPS.groupby("k").map_groups(largest, batch_format="numpy").count() == 5
    assert set(kinds) == {dict}
    many = GROUPS.groupby("k").map_groups(lambda group: ({"n": [1]} for _ in range(2)))
    assert many.count() == 6


def test_map_groups_takes_classes_and_arguments() -> None:
    class Size:
        def __init__(self, unit: int) -> None:
            self.unit = unit

        def __call__(self, group: Any, extra: int) -> Any:
            return {"n": [len(group) * self.unit + extra]}

    ds = GROUPS.groupby("k").map_groups(Size, fn_constructor_args=[10], fn_kwargs={"extra": 1})
    assert sorted(row["n"] for row in ds.take_all()) == [11, 21, 21]
    with pytest.raises(ValueError, match="batch_format"):
        GROUPS.groupby("k").map_groups(len, batch_format="polars")


def test_drop_duplicates() -> None:
    ds = table(a=[1, 2, 1, None, None], b=["p", "q", "r", "s", "t"])
    assert sorted(row["b"] for row in ds.drop_duplicates("a").take_all()) == ["p", "q", "s"]
    assert ds.drop_duplicates().count() == 5
    with pytest.raises(ValueError, match="'nothing'"):
        ds.drop_duplicates("nothing")
    with pytest.raises(ValueError, match="on="):
        ds.drop_duplicates([])


def test_near_duplicates() -> None:
    words = " ".join(f"w{n}" for n in range(60))
    ds = table(id=[1, 2, 3, 4], text=[words, words + " more", "something else entirely, of six words", None])
    assert ids(ds.near_duplicates("text", 0.7)) == [1, 3, 4]
    marked = ds.near_duplicates("text", 0.7, mark="like").take_all()
    assert [row["like"] for row in marked] == [None, 0, None, None]
    for options in (
        {"column": "nothing"},
        {"column": "text", "threshold": 0},
        {"column": "text", "kind": "x"},
    ):
        with pytest.raises(ValueError, match="near_duplicates"):
            ds.near_duplicates(**options)


@settings(max_examples=25, deadline=None)
@given(
    keys=st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=50),
    blocks=st.integers(1, 6),
)
def test_groups_agree_with_pandas(keys: list[int | None], blocks: int) -> None:
    rows = pa.table({"k": pa.array(keys, pa.int64()), "v": pa.array(range(len(keys)), pa.int64())})
    ds = skate.data.from_arrow(rows, override_num_blocks=blocks)
    found = by_key(ds.groupby("k").aggregate(Count(), Sum("v"), Max("v")))
    expected = rows.to_pandas(types_mapper=pd.ArrowDtype).groupby("k", dropna=False)["v"]
    assert len(found) == expected.ngroups
    for key, group in expected:
        one = found[None if pd.isna(key) else key]
        assert (one["count()"], one["sum(v)"], one["max(v)"]) == (len(group), group.sum(), group.max())
