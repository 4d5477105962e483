"""Options of failing rows, the budget of errors, letters as a table and back."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.rows import from_rows, iter_rows
from skate.data._operators.dead_letters import ErrorBudget, ErrorPolicy, letters_to_table, rows_of
from skate.data._task.operators import Letter
from skate.data.exceptions import TooManyErrorsError, wrap


def letter(row, n=0, error=None, stage="Map(f)", **more):
    made = wrap(error or KeyError(f"k{n}"), stage, row, "a.csv", f"0.0:{n}")
    return Letter(row, made, made.traceback_str, stage, "a.csv", f"0.0:{n}", **more)


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("given", "kind", "name"),
    [
        ({"on_error": "ignore"}, ValueError, "on_error='ignore'.*dead_letter"),
        ({"max_errors": 3}, ValueError, "max_errors"),
        ({"on_error": "skip", "max_errors": -1}, ValueError, "max_errors"),
        ({"on_error": "skip", "max_errors": "3"}, TypeError, "max_errors"),
        ({"on_error": "skip", "max_errors": True}, TypeError, "max_errors"),
        ({"timeout_per_row": 0}, ValueError, "timeout_per_row"),
        ({"timeout_per_row": "1s"}, TypeError, "timeout_per_row"),
        ({"retry_on": "OSError"}, TypeError, "retry_on"),
        ({"retry_on": [5]}, TypeError, "retry_on"),
        ({"retry_on": int}, TypeError, "retry_on"),
        ({"max_retries": -1}, ValueError, "max_retries"),
        ({"max_retries": 1.5}, ValueError, "max_retries"),
        ({"backoff_s": -1}, ValueError, "backoff_s"),
    ],
)
def test_options_that_are_wrong(given, kind, name):
    with pytest.raises(kind, match=name):
        ErrorPolicy.of("map", **given)


def test_options():
    policy = ErrorPolicy.of("map", on_error="skip", max_errors=0.5, retry_on=OSError)
    assert policy.retry_on == (OSError,) and policy.max_retries == 3
    assert ErrorPolicy.of("map", retry_on=[OSError, KeyError], max_retries=0).max_retries == 0
    assert ErrorPolicy.of("map", max_retries=2).retry_on == (Exception,)
    assert ErrorPolicy.of("map").is_raising
    assert pickle.loads(pickle.dumps(policy)) == policy


# ---------------------------------------------------------------------- the budget


def taken(budget, failed, seen, stage="Map(f)"):
    budget.take([letter({"x": i}, i, stage=stage) for i in range(failed)], {f"rows_seen:{stage}": seen})
    return budget


def test_count():
    assert taken(ErrorBudget({"Map(f)": 3}), 3, 10).exceeded() is None
    error = taken(ErrorBudget({"Map(f)": 3}), 4, 10).exceeded()
    assert isinstance(error, TooManyErrorsError)
    assert "4 of 10 rows failed" in str(error) and "max_errors allows (3)" in str(error)
    assert taken(ErrorBudget({"Map(f)": 0}), 1, 10).exceeded() is not None
    assert taken(ErrorBudget({"Map(f)": 1}), 1, 10).exceeded() is None
    assert taken(ErrorBudget({"Map(f)": None}), 1000, 1000).exceeded() is None
    assert taken(ErrorBudget({}), 1000, 1000).exceeded() is None


def test_rate_counts_when_enough_rows_are_seen_or_at_the_end():
    budget = taken(ErrorBudget({"Map(f)": 0.01}), 1, 1)
    assert budget.exceeded() is None
    assert budget.exceeded(is_finished=True) is not None
    taken(budget, 0, 999)
    assert budget.exceeded(is_finished=True) is None
    assert "0.01 of its rows" in str(taken(budget, 100, 100).exceeded())


def test_stages_have_limits_of_their_own():
    budget = ErrorBudget({"Map(f)": 1, "Map(g)": 100})
    taken(taken(budget, 1, 10), 50, 100, "Map(g)")
    assert budget.exceeded() is None
    assert budget.failed() == 51 and budget.failed("Map(g)") == 50
    assert "Map(f)" in str(taken(budget, 1, 1).exceeded())


def test_message_has_the_ten_commonest_errors():
    budget = ErrorBudget({"Map(f)": 1})
    letters = [letter({}, i, ValueError(f"e{i}")) for i in range(20) for _ in range(i + 1)]
    budget.take(letters, {})
    text = str(budget.exceeded())
    assert [f"ValueError: e{i}\n" in text for i in range(20)] == [i >= 10 for i in range(20)]
    assert "20 x ValueError: e19" in text


def test_table_of_errors_stays_small():
    budget = ErrorBudget({})
    budget.take((letter({}, i, ValueError(f"row {i} " + "x" * 5000)) for i in range(3000)), {})
    assert budget.failed() == 3000
    assert len(budget._errors["Map(f)"]) <= 1001
    assert budget.commonest()[0] == ("ValueError", 2000)


def test_skipped_rows_count():
    budget = ErrorBudget({"Map(f)": 1})
    budget.take([letter(None, i, is_kept=False) for i in range(2)], {})
    assert budget.exceeded() is not None


# ---------------------------------------------------------------------- the table


def test_columns():
    table = letters_to_table([letter({"x": 1, "s": "a"}, 3, attempts=2), letter({"x": 2, "s": None}, 4)])
    assert table.column_names == [
        "row", "error_type", "error", "traceback", "stage", "path", "row_id", "attempts", "operation",
    ]  # fmt: skip
    first = table.slice(0, 1).to_pylist()[0]
    assert first["row"] == {"x": 1, "s": "a"}
    assert first["error_type"] == "KeyError" and first["error"] == "KeyError: 'k3'"
    assert (first["stage"], first["path"], first["row_id"], first["attempts"]) == (
        "Map(f)",
        "a.csv",
        "0.0:3",
        2,
    )
    assert pa.types.is_struct(table.schema.field("row").type)


def test_skipped_rows_are_left_out():
    assert letters_to_table([letter({"x": 1}), letter(None, 1, is_kept=False)]).num_rows == 1


def test_no_letters():
    table = letters_to_table([])
    assert table.num_rows == 0 and rows_of(table) == []


def test_type_of_the_user():
    class Mine(Exception):
        pass

    name = letters_to_table([letter({}, 0, Mine("x"))])["error_type"][0].as_py()
    assert name.endswith("test_type_of_the_user.<locals>.Mine")


scalars = st.one_of(
    st.none(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=3), st.binary(max_size=3)
)
some_rows = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from("abc"), st.one_of(scalars, st.lists(st.integers(0, 3), max_size=2)), max_size=3
    ),
)


def equal(a, b):
    return type(a) is type(b) and (a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)))


@settings(max_examples=60, deadline=None)
@given(st.lists(some_rows, max_size=8), st.integers(0, 8))
def test_rows_come_back(rows, start):
    table = letters_to_table([letter(row, i) for i, row in enumerate(rows)]).slice(start)
    expected = [row for row in rows[start:] if row is not None]
    found = rows_of(table)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(equal(one[name], other[name]) for name in one)


def test_rows_of_blocks_come_back_through_files(tmp_path):
    import pyarrow.parquet as pq

    block = from_rows(
        [
            {"b": b"\x00" * n, "t": np.full((2, n), n), "d": {"k": [n]}, "n": None if n == 2 else n}
            for n in (1, 2, 3)
        ]
    )
    rows = list(iter_rows(block))
    table = letters_to_table([letter(row, i) for i, row in enumerate(rows)])
    found = rows_of(table)
    for one, other in zip(found, rows, strict=True):
        assert (one["t"] == other["t"]).all() and one["t"].dtype == other["t"].dtype
        assert {k: one[k] for k in "bdn"} == {k: other[k] for k in "bdn"}
    simple = letters_to_table(
        [letter({"x": 1, "s": "a"}, 1), letter(None, 2), letter({"x": 2, "s": None}, 3)]
    )
    pq.write_table(simple, tmp_path / "letters.parquet")
    assert rows_of(pq.read_table(tmp_path / "letters.parquet")) == [{"x": 1, "s": "a"}, {"x": 2, "s": None}]


def test_tables_that_are_no_letters():
    with pytest.raises(ValueError, match="column 'row'.*a"):
        rows_of(pa.table({"a": [1]}))
    with pytest.raises(ValueError, match="struct or binary"):
        rows_of(pa.table({"row": [1]}))
