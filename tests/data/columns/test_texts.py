"""Expressions as a person writes them, in names of stages; and keys by which a write knows that they changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import skate.data
from skate.data._operators.column_operators import (
    AddConstant,
    Drop,
    FilterExpr,
    Project,
    RandomSample,
    Select,
    WithColumns,
)
from skate.data.datasink import PlanChanged
from skate.data.expressions import (
    Expr,
    col,
    lit,
    random,
    row_id,
    udf,
    uuid,
)
from skate.data.expressions._texts import short_text

a, b, c = col("a"), col("b"), col("c")


@udf(pa.int64())
def plus_one(values: Any) -> Any:
    return values


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (a > 3, "a > 3"),
        ((a > 3) & (b != "x"), "a > 3 and b != 'x'"),
        (a & (b | c), "a and (b or c)"),
        ((a & b) | c, "a and b or c"),
        (a & (b & c), "a and b and c"),
        (~(a | b), "not (a or b)"),
        (~a & b, "not a and b"),
        ((a + 1) * 2 - b / (c - 1), "(a + 1) * 2 - b / (c - 1)"),
        (3 - (a - b), "3 - (a - b)"),
        ((3 - a) - b, "3 - a - b"),
        ((a > 1) == (b > 2), "(a > 1) == (b > 2)"),
        (-(a + 1), "-(a + 1)"),
        ((-a) ** 2, "(-a) ** 2"),
        (a.is_null() & b.is_not_null(), "a is null and b is not null"),
        (a.is_in([1, 2, 3, 4, 5]), "a in [1, 2, 3, ...]"),
        (a.not_in(["x"]), "a not in ['x']"),
        (a.fill_null(0).cast("float64") > 1.5, "cast(fill_null(a, 0), double) > 1.5"),
        (a.str.lower().str.contains("x", ignore_case=True), "contains(lower(a), 'x', ignore_case=True)"),
        (col("s").struct.field("p"), "field(s, 'p')"),
        (plus_one(a) > 1, "plus_one(a) > 1"),
        (col("two words") == 1, "col('two words') == 1"),
        ((a > 1).alias("name"), "a > 1"),
        (row_id() == "0:1", "row_id() == '0:1'"),
        (random(seed=3) < 0.5, "random(seed=3) < 0.5"),
    ],
)
def test_texts(expr: Expr, text: str) -> None:
    assert short_text(expr) == text


@given(st.recursive(
    st.sampled_from(["a", "b", "1", "2"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner, inner),
        st.tuples(st.just("-"), inner),
        st.tuples(st.just("**"), inner, inner),
    ),
    max_leaves=6,
))  # fmt: skip
def test_the_text_means_the_expression(tree: Any) -> None:
    """Written down again as Python, it is the same tree: brackets are where they are needed."""

    def built(node: Any) -> Expr:
        if isinstance(node, str):
            return col(node) if node.isalpha() else lit(int(node))
        parts = [built(part) for part in node[1:]]
        if len(parts) == 1:
            return -parts[0]
        left, right = parts
        return {
            "+": lambda: left + right,
            "-": lambda: left - right,
            "*": lambda: left * right,
            "/": lambda: left / right,
            "//": lambda: left // right,
            "%": lambda: left % right,
            "**": lambda: left**right,
        }[node[0]]()

    expr = built(tree)
    text = short_text(expr)
    if text.endswith("..."):
        return
    names = {"a": a, "b": b, **{f"n{number}": lit(number) for number in (1, 2)}}
    again = eval(text.replace("1", "n1").replace("2", "n2"), {}, names)
    assert expr.structurally_equals(again), text


def test_long_ones_are_cut() -> None:
    text = short_text(a.is_in(["x" * 50, "y" * 50]) & (b == "z" * 50))
    assert len(text) == 60 and text.endswith("...")
    columns = [f"column_{number}" for number in range(100)]
    for operator in (
        Select(columns),
        Drop(columns),
        WithColumns(dict.fromkeys(columns, 1)),
        Project(columns),
    ):
        assert len(operator.name) < 80 and "..." in operator.name


def test_names_of_stages(capsys: pytest.CaptureFixture[str]) -> None:
    ds = skate.data.range(100).filter(expr=(col("id") > 3) & (col("id") % 2 == 0)).map(lambda row: row)
    rows = ds.materialize()
    name = "Filter(id > 3 and id % 2 == 0)"
    ds.explain()
    assert name in capsys.readouterr().out
    for text in (repr(ds), rows.stats(), str(rows.why()), str(ds.predict())):
        assert name in text


# ---------------------------------------------------------------------- keys


def same(left: Any, right: Any) -> bool:
    return bool(left.key() == right.key())


def test_keys_tell_what_names_do_not() -> None:
    long = [f"column_{number}" for number in range(100)]
    assert not same(WithColumns({"x": a + 1}), WithColumns({"x": a + 2}))
    assert not same(AddConstant("x", 1), AddConstant("x", 2))
    assert not same(FilterExpr((a == "x" * 100) & (b > 1)), FilterExpr((a == "x" * 100) & (b > 2)))
    assert not same(Select(long), Select([*long, "more"]))
    assert not same(Select(long), Drop(long))
    assert not same(RandomSample(0.5, seed=1), RandomSample(0.5, seed=2))
    assert same(WithColumns({"x": a + 1}), WithColumns({"x": a + 1}))
    assert same(Project(["a", (b + 1).alias("x")]), Project(["a", (b + 1).alias("x")]))
    # Drawn anew in each run: that is no change of the plan.
    assert same(WithColumns({"x": random(), "y": uuid()}), WithColumns({"x": random(), "y": uuid()}))
    assert not same(WithColumns({"x": random(seed=1)}), WithColumns({"x": random(seed=2)}))


def test_keys_of_functions() -> None:
    def made(by: int) -> Any:
        return udf(pa.int64())(lambda values: values * by)

    assert same(WithColumns({"x": made(2)(a)}), WithColumns({"x": made(2)(a)}))
    assert not same(WithColumns({"x": made(2)(a)}), WithColumns({"x": made(3)(a)}))
    assert not same(WithColumns({"x": made(2)(a)}), WithColumns({"x": made(2)(b)}))


PROGRAM = """
from skate.data._operators.column_operators import WithColumns
from skate.data.expressions import col, udf

@udf()
def f(values):
    return values

print(WithColumns({"x": f(col("a")) + col("b").is_in({"p", "q", "r"}).cast("int64")}).key())
"""


def test_keys_are_the_same_in_every_process() -> None:
    keys = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(keys) == 1


def test_a_write_is_not_resumed_with_another_expression(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()

    def fail(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] > 15 and broken.exists():
            raise ValueError("not yet")
        return row

    def write(number: int) -> None:
        rows = skate.data.range(20, override_num_blocks=4).with_column("x", col("id") + number).map(fail)
        rows.write_parquet(str(tmp_path / "out"), resume=True)

    with pytest.raises(ValueError, match="not yet"):
        write(1)
    broken.unlink()
    with pytest.raises(PlanChanged, match="not the same"):
        write(2)
    write(1)
    assert skate.data.read_parquet(str(tmp_path / "out")).sum("x") == sum(range(20)) + 20
