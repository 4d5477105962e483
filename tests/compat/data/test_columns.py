"""Verbs on columns, and expressions."""

from __future__ import annotations

import pyarrow as pa
import pytest
import ray.data
import ray.exceptions
from ray.data.expressions import col, lit, star, udf

from .helpers import blocks, differs, ids


def two():
    return blocks({"a": [1, 2], "b": ["x", "y"]})


def column(ds, name):
    """Return the values of a column."""
    return [row[name] for row in ds.take_all()]


def test_select_columns_by_name_and_list():
    assert two().select_columns("b").take_all() == [{"b": "x"}, {"b": "y"}]
    assert list(two().select_columns(["b", "a"]).take(1)[0]) == ["b", "a"]


@differs(on="ray", reason="The error comes when it runs. Here at the call, for the columns are known.")
def test_selecting_a_column_that_is_not_there_is_an_error_at_the_call():
    with pytest.raises(ValueError, match="missing"):
        two().select_columns(["missing"])


def test_selecting_a_column_that_is_not_there_is_an_error():
    with pytest.raises((ValueError, ray.exceptions.RayTaskError), match="missing"):
        two().select_columns(["missing"]).take_all()


def test_selecting_a_column_twice_is_an_error():
    with pytest.raises(ValueError):
        two().select_columns(["a", "a"])


@differs(on="ray", reason="Rows are `{'__bsp_stub': None}`: a column of its own shows. Here `{}`.")
def test_selecting_no_columns_leaves_rows_without_columns():
    assert two().select_columns([]).take_all() == [{}, {}]


def test_drop_columns():
    assert two().drop_columns(["a"]).take_all() == [{"b": "x"}, {"b": "y"}]


def test_dropping_a_column_that_is_not_there_is_a_key_error():
    with pytest.raises(KeyError, match="missing"):
        two().drop_columns(["missing"])


@differs(on="ray", reason="The rows vanish. Here they stay, without columns: rows are not columns.")
def test_dropping_all_columns_keeps_the_rows():
    ds = two().drop_columns(["a", "b"])
    assert ds.take_all() == [{}, {}]
    assert ds.count() == 2


def test_rename_columns_by_dict_and_list():
    assert two().rename_columns({"a": "c"}).columns() == ["c", "b"]
    assert two().rename_columns(["c", "d"]).columns() == ["c", "d"]


def test_renaming_by_too_short_a_list_is_an_error():
    with pytest.raises(ValueError):
        two().rename_columns(["c"])


def test_renaming_a_column_that_is_not_there_is_an_error():
    with pytest.raises((ValueError, KeyError, ray.exceptions.RayTaskError), match="missing"):
        two().rename_columns({"missing": "c"}).take_all()


@differs(on="ray", reason="One of the two columns is lost without a word. Here a ValueError.")
def test_renaming_to_a_name_that_is_taken_is_an_error():
    with pytest.raises(ValueError, match="b"):
        two().rename_columns({"a": "b"}).take_all()


def test_with_column_adds_and_replaces():
    assert two().with_column("c", col("a") + 1).take(1) == [{"a": 1, "b": "x", "c": 2}]
    assert two().with_column("a", col("a") * 10).take(1) == [{"a": 10, "b": "x"}]


def test_with_column_of_a_constant():
    assert column(two().with_column("c", lit("k")), "c") == ["k", "k"]


def test_with_columns():
    assert two().with_columns({"c": col("a") + 1, "d": lit(0)}).take(1) == [
        {"a": 1, "b": "x", "c": 2, "d": 0}
    ]


def test_add_column_by_a_function_of_data_frames():
    assert column(two().add_column("c", lambda df: df["a"] * 2), "c") == [2, 4]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (col("a") + col("b"), [5, 7, 9]),
        (col("a") - 1, [0, 1, 2]),
        (2 * col("a"), [2, 4, 6]),
        (col("a") > 1, [False, True, True]),
        (col("a") == 2, [False, True, False]),
        (col("a") != 2, [True, False, True]),
        ((col("a") > 1) & (col("b") < 6), [False, True, False]),
        ((col("a") == 1) | (col("a") == 3), [True, False, True]),
        (~(col("a") > 1), [True, False, False]),
        (col("a").is_in([1, 3]), [True, False, True]),
        (col("a").not_in([1, 3]), [False, True, False]),
        (col("a").is_null(), [False, False, False]),
        (col("a").is_not_null(), [True, True, True]),
    ],
    ids=lambda value: "" if isinstance(value, list) else None,
)
def test_expressions_over_numbers(expression, expected):
    assert column(blocks({"a": [1, 2, 3], "b": [4, 5, 6]}).with_column("c", expression), "c") == expected


@differs(
    on="ray",
    reason="`/` of whole numbers truncates, 1/2 is 0, and 1/0 an ArrowInvalid. Here they are floats, as in Python "
    "and numpy.",
)
def test_division_gives_floats():
    assert column(blocks({"a": [1, 3]}).with_column("c", col("a") / 2), "c") == [0.5, 1.5]


def test_floor_division():
    assert column(blocks({"a": [1, 5]}).with_column("c", col("a") // 2), "c") == [0, 2]


def test_filter_by_an_expression():
    assert ids(ray.data.range(5).filter(expr=(col("id") > 1) & (col("id") < 4))) == [2, 3]


def test_an_expression_is_no_function_of_a_filter():
    with pytest.raises(ValueError):
        ray.data.range(5).filter(col("id") > 3)


def test_a_comparison_with_null_drops_the_row():
    assert column(blocks({"a": [1, None, 3]}).filter(expr=col("a") > 1), "a") == [3]


def test_methods_of_strings():
    ds = blocks({"b": ["ab", "cd"]})
    assert column(ds.with_column("c", col("b").str.upper()), "c") == ["AB", "CD"]
    assert column(ds.with_column("c", col("b").str.len()), "c") == [2, 2]
    assert column(ds.with_column("c", col("b").str.starts_with("a")), "c") == [True, False]


@differs(
    on="ray",
    reason="A block whose values are all null has no type, and the kernel fails. Here the result is null.",
)
def test_methods_of_strings_on_a_block_of_nulls():
    ds = ray.data.from_arrow([pa.table({"b": ["ab"]}), pa.table({"b": [None]})])
    assert column(ds.with_column("c", col("b").str.upper()), "c") == ["AB", None]


def test_an_alias():
    assert (col("a") + 1).alias("c").name == "c"


def test_the_names_of_all_columns():
    assert "star" in repr(star()).lower() or "*" in repr(star())


def test_a_function_as_an_expression():
    import pyarrow.compute as pc
    from ray.data.datatype import DataType

    @udf(return_dtype=DataType.int64())
    def plus(x):
        return pc.add(x, 1)

    assert column(blocks({"a": [1, 2]}).with_column("c", plus(col("a"))), "c") == [2, 3]


@differs(
    on="ray",
    reason="`bool(expression)` is True, so `a > 1 and b > 1` means `b > 1`. Here a TypeError that says to use `&`.",
)
def test_an_expression_has_no_truth():
    with pytest.raises(TypeError):
        bool(col("a") > 1)


def test_an_expression_prints_its_parts():
    text = repr((col("a") > 1) & (col("b") < 2))
    assert "AND" in text.upper()
    assert "a" in text
    assert "b" in text


def test_two_expressions_of_the_same_parts_are_the_same():
    assert (col("a") + 1).structurally_equals(col("a") + 1)
    assert not (col("a") + 1).structurally_equals(col("a") + 2)
