"""Operators on columns: their output, their schemas without rows, and their errors."""

from __future__ import annotations

import pickle

import cloudpickle
import pyarrow as pa
import pytest

from skate.data._block.kernels.arrays import MissingColumnError
from skate.data._block.rows import iter_rows
from skate.data._block.sources import sources, with_sources
from skate.data._operators.column_operators import (
    AddConstant,
    AddRowIds,
    Drop,
    FilterExpr,
    Project,
    RandomSample,
    Rename,
    Select,
    UniqueOfBlock,
    WithColumns,
)
from skate.data._task.operators import TaskContext
from skate.data.expressions import col, lit, star, udf, unnest

TABLE = pa.table({"a": [1, None, 3], "b": ["x", "y", None], "st": [{"p": 1, "q": 2}, None, {"p": 3, "q": 4}]})


def run(operator, *tables, task="0.0"):
    return list(operator.process(iter(tables or (TABLE,)), TaskContext(task)))


def rows(operator, *tables):
    return [row for block in run(operator, *tables) for row in iter_rows(block)]


def test_select():
    assert run(Select(["b", "a"]))[0].column_names == ["b", "a"]
    assert run(Select("a"))[0].column_names == ["a"]
    assert rows(Select([])) == [{}, {}, {}]
    assert Select([]).schema(TABLE.schema) == pa.schema({})
    assert Select("a").schema(TABLE.schema) == pa.schema({"a": pa.int64()})
    with pytest.raises(
        ValueError, match=r"select_columns: there is no column 'z'; the columns are \['a', 'b', 'st'\]"
    ):
        run(Select(["z"]))
    with pytest.raises(ValueError, match="named twice"):
        Select(["a", "a"])
    with pytest.raises(TypeError, match="names of columns"):
        Select([1])


def test_drop():
    assert run(Drop("a"))[0].column_names == ["b", "st"]
    assert rows(Drop(["a", "b", "st"])) == [{}, {}, {}]
    with pytest.raises(KeyError, match="no column 'z'"):
        run(Drop("z"))


def test_rename():
    assert run(Rename({"a": "b", "b": "a"}))[0].column_names == ["b", "a", "st"]
    assert run(Rename(["x", "y", "z"]))[0].column_names == ["x", "y", "z"]
    with pytest.raises(ValueError, match=r"several columns would be called \['b'\]"):
        run(Rename({"a": "b"}))
    with pytest.raises(ValueError, match=r"called \['x'\]"):
        Rename({"a": "x", "b": "x"})
    with pytest.raises(ValueError, match="got 2 names for 3 columns"):
        run(Rename(["x", "y"]))
    with pytest.raises(ValueError, match="no column 'z'"):
        Rename({"z": "y"}).schema(TABLE.schema)
    for wrong in ({}, [], "abc"):
        with pytest.raises(ValueError, match="takes"):
            Rename(wrong)


def test_with_columns():
    operator = WithColumns({"a": col("a") + 1, "c": lit("k"), "d": col("a")})
    assert rows(operator, TABLE.slice(0, 1)) == [{"a": 2, "b": "x", "st": {"p": 1, "q": 2}, "c": "k", "d": 1}]
    assert operator.schema(TABLE.schema).names == ["a", "b", "st", "c", "d"]
    assert rows(AddConstant("k", 5), TABLE.select(["a"])) == [{"a": v, "k": 5} for v in (1, None, 3)]
    assert rows(AddRowIds(), TABLE.select(["a"]), TABLE.select(["a"]))[3] == {"a": 1, "row_id": "0.0:3"}
    assert rows(WithColumns({"x": lit(1)}), run(Select([]))[0]) == [{"x": 1}] * 3

    @udf()
    def anything(x):
        return x

    assert WithColumns({"c": anything(col("a"))}).schema(TABLE.schema) is None


def test_project():
    operator = Project([star(), (col("a") * 2).alias("twice"), unnest(col("st"))])
    assert run(operator)[0].column_names == ["a", "b", "st", "twice", "p", "q"]
    assert rows(operator)[1] == {"a": None, "b": "y", "st": None, "twice": None, "p": None, "q": None}
    with pytest.raises(ValueError, match="needs a name"):
        run(Project([col("a") * 2]))
    with pytest.raises(ValueError, match="would be called 'a'"):
        run(Project([star(), "a"]))
    with pytest.raises(TypeError, match="takes structs"):
        run(Project([unnest(col("a"))]))


def test_filter():
    assert [row["a"] for row in rows(FilterExpr(col("a") > 1))] == [3]
    assert rows(FilterExpr(~(col("a") > 1)))[0]["a"] == 1
    assert rows(FilterExpr(lit(None) == 1)) == []
    assert FilterExpr(col("a") > 1).schema(TABLE.schema) == TABLE.schema
    assert FilterExpr(col("a") > 1).name == "Filter(a > 1)"
    assert Select([f"column_{number}" for number in range(100)]).name == (
        "Select(column_0, column_1, column_2, column_3, column_4, column_...)"
    )
    with pytest.raises(TypeError, match="values of type int64"):
        run(FilterExpr(col("a") + 1))
    with pytest.raises(TypeError, match="takes an expression"):
        FilterExpr("a > 1")
    assert not FilterExpr(col("a") > 1).preserves_rows
    assert WithColumns({}).preserves_rows


def test_random_sample():
    table = pa.table({"x": range(10_000)})
    sample = rows(RandomSample(0.1, seed=3), table)
    assert 850 < len(sample) < 1_150
    halves = rows(RandomSample(0.1, seed=3), table.slice(0, 4_321), table.slice(4_321))
    assert halves == sample
    assert rows(RandomSample(0.1, seed=4), table) != sample
    assert len(rows(RandomSample(1), table)) == 10_000
    assert rows(RandomSample(0), table) == []
    larger = rows(RandomSample(0.3, seed=3), table)
    assert {row["x"] for row in sample} <= {row["x"] for row in larger}
    drawn = RandomSample(0.5)
    assert rows(RandomSample(0.5, seed=drawn.seed), table) == rows(drawn, table)
    with pytest.raises(ValueError, match="from 0 to 1"):
        RandomSample(1.1)


def test_unique_of_a_block():
    table = pa.table({"x": [1, 1, None, None, 2], "y": range(5)})
    assert rows(UniqueOfBlock("x"), table) == [{"x": 1}, {"x": None}, {"x": 2}]


def test_notes_of_files_are_kept():
    table = with_sources(TABLE, [("one", 2), ("two", 1)])
    for operator in (Select("a"), Drop("a"), Rename({"a": "z"}), WithColumns({"c": lit(1)}), Project(["a"])):
        assert sources(run(operator, table)[0]) == [("one", 2), ("two", 1)]
        assert not operator.schema(table.schema).metadata
    assert sources(run(FilterExpr(col("a") == 3), table)[0])[-1] == ("two", 1)


def test_operators_travel():
    for operator in (
        Select("a"),
        WithColumns({"c": col("a") + 1}),
        FilterExpr(col("a") > 1),
        RandomSample(0.5, 1),
    ):
        copy = pickle.loads(cloudpickle.dumps(operator))
        assert run(copy) == run(operator)
        assert repr(copy) == repr(operator)


def test_the_error_of_a_missing_column_travels():
    error = MissingColumnError("z", ["a"], "sort")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.column, copy.columns, copy.verb) == ("z", ["a"], "sort")
    assert str(copy) == "sort: there is no column 'z'; the columns are ['a']"
    assert isinstance(copy, KeyError)
    assert isinstance(copy, ValueError)
