"""Columns and expressions as the verbs take them: the design's section 2.3."""

from __future__ import annotations

import warnings
from typing import Any

import pyarrow as pa
import pytest

import skate.data
from skate.data.expressions import col, lit

DS = skate.data.from_arrow(pa.table({"a": [1, 2, None], "b": ["x", "y", "z"], "c": [0.5, 1.5, 2.5]}))
#: A set whose columns nobody knows before it runs.
UNKNOWN = DS.map(lambda row: row)


def test_select() -> None:
    assert DS.select_columns("b").take(1) == [{"b": "x"}]
    assert DS.select_columns(["c", "a"]).columns() == ["c", "a"]
    assert UNKNOWN.select_columns(["c", "a"]).columns() == ["c", "a"]
    with pytest.raises(ValueError, match="'nothing'.*'a', 'b', 'c'"):
        DS.select_columns(["a", "nothing"])
    with pytest.raises(ValueError, match="nothing"):
        UNKNOWN.select_columns("nothing").take()
    with pytest.raises(ValueError, match="twice"):
        DS.select_columns(["a", "a"])
    with pytest.raises(TypeError, match="select_columns"):
        DS.select_columns([1])  # type: ignore[list-item]


def test_no_columns_keep_the_rows() -> None:
    for ds in (DS.select_columns([]), DS.drop_columns(["a", "b", "c"])):
        assert ds.take_all() == [{}, {}, {}]
        assert ds.columns() == []
        assert ds.count() == 3


def test_drop() -> None:
    assert DS.drop_columns("a").columns() == ["b", "c"]
    with pytest.raises(KeyError, match="nothing.*'a', 'b', 'c'"):
        DS.drop_columns(["nothing"])
    with pytest.raises(ValueError, match="twice"):
        DS.drop_columns(["a", "a"])


def test_rename() -> None:
    assert DS.rename_columns({"a": "d"}).columns() == ["d", "b", "c"]
    assert DS.rename_columns({"a": "b", "b": "a"}).take(1) == [{"b": 1, "a": "x", "c": 0.5}]
    assert DS.rename_columns(["p", "q", "r"]).columns() == ["p", "q", "r"]
    for wrong in ({"a": "b"}, ["p", "q"], {"nothing": "x"}, {"a": "x", "b": "x"}, {}):
        with pytest.raises(ValueError, match="rename_columns"):
            DS.rename_columns(wrong)
    with pytest.raises(ValueError, match="rename_columns"):
        UNKNOWN.rename_columns({"a": "b"}).take()


def test_with_column() -> None:
    ds = DS.with_column("d", col("a") * 2).with_column("a", lit(7))
    assert ds.columns() == ["a", "b", "c", "d"]
    assert ds.take(1) == [{"a": 7, "b": "x", "c": 0.5, "d": 2}]
    both = DS.with_columns({"d": col("a") + 1, "a": col("a") + 2}).take(1)
    assert both == [{"a": 3, "b": "x", "c": 0.5, "d": 2}], "all are made of the columns that are there"
    named = DS.with_columns((col("a") + 1).alias("d"), (col("c") * 2).alias("e"))
    assert named.columns() == ["a", "b", "c", "d", "e"]
    with pytest.raises(TypeError, match="expression"):
        DS.with_column("d", lambda row: 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name"):
        DS.with_column(3, lit(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing"):
        DS.with_column("d", col("nothing"))
    with pytest.raises(ValueError, match="at least one"):
        DS.with_columns({})
    with pytest.raises(ValueError, match="name"):
        DS.with_columns(col("a") + 1)


def test_add_column_is_an_old_spelling() -> None:
    with pytest.warns(DeprecationWarning, match="with_column"):
        ds = DS.add_column("d", lambda frame: frame["c"] * 2)
    assert [row["d"] for row in ds.take_all()] == [1.0, 3.0, 5.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = DS.add_column("a", lambda batch: batch["c"], batch_format="numpy")
    assert ds.columns() == ["a", "b", "c"]


def test_filter_by_expressions() -> None:
    assert DS.filter(expr=col("a") > 1).take_all() == [{"a": 2, "b": "y", "c": 1.5}]
    assert DS.filter(expr=col("a").is_null()).count() == 1
    with pytest.raises(ValueError, match="expr="):
        DS.filter(col("a") > 1)
    with pytest.raises(TypeError, match="expression"):
        DS.filter(expr=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fn_args"):
        DS.filter(expr=col("a") > 1, fn_args=[1])


def test_text_is_the_old_spelling_of_conditions() -> None:
    with pytest.warns(DeprecationWarning, match="col"):
        ds = DS.filter(expr="a > 1")
    assert ds.count() == 1


def test_columns_of_groups_by_an_expression() -> None:
    ds = skate.data.from_arrow(pa.table({"k": [1, 1, 2], "v": [1, 2, 3]}))
    made = ds.groupby("k").with_column("double", col("v") * 2)
    assert sorted(row["double"] for row in made.take_all()) == [2, 4, 6]


@pytest.mark.parametrize("verb", ["select_columns", "drop_columns"])
def test_options_of_tasks(verb: str) -> None:
    ds: Any = getattr(DS, verb)("a", compute=skate.data.TaskPoolStrategy(2), num_cpus=0.5)
    assert ds._plan.compute.size == 2
    assert ds._plan.resources.num_cpus == 0.5
    with pytest.raises(TypeError, match="numcpus"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(DS, verb)("a", numcpus=1)
