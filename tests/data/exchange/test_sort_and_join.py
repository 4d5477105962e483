"""Sort and join against Python's own sort and pandas, whatever the cuts."""

from __future__ import annotations

import math

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.kernels.sorting import sort_keys
from skate.data._block.tables import concat
from skate.data._operators.exchanges import JOIN_TYPES, Join, Sort, TopK, output_schema, run_exchange
from skate.data._task.exchange import ExchangeLimits
from skate.data._task.slices import Bundle

KEYS = st.sampled_from([None, 0, 1, 2, 3, -5, 7])
FLOATS = st.sampled_from([None, math.nan, 0.0, -0.0, 1.5, -2.0, math.inf])
TEXTS = st.sampled_from([None, "", "a", "b", "ab", "é", "z" * 200])


@st.composite
def cut_tables(draw, columns, max_rows=40):
    """A table, and the same rows cut into bundles of blocks, some empty."""
    rows = draw(st.integers(0, max_rows))
    types = {"k": pa.int64(), "f": pa.float64(), "s": pa.string()}
    data = {
        name: pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), types[name[0]])
        for name, values in columns.items()
    }
    table = pa.table({**data, "row": pa.array(range(rows), pa.int64())})
    return table, draw(cuts(table))


@st.composite
def cuts(draw, table):
    edges = sorted(draw(st.lists(st.integers(0, table.num_rows), max_size=4)))
    edges = [0, *edges, table.num_rows]
    blocks = [table.slice(a, b - a) for a, b in zip(edges, edges[1:], strict=False)]
    at = draw(st.integers(0, len(blocks)))
    return [bundle for bundle in (blocks[:at], blocks[at:]) if bundle] or [[table]]


LIMITS = st.builds(ExchangeLimits, st.sampled_from([64, 300, 1 << 20]), st.just(2))


def rows_of(parts):
    return [row for part in parts for block in part for row in block.to_pylist()]


def canonical(value):
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def python_sort(rows, keys):
    """Sort as the promise says: by one key after the other, from the last to the first."""
    for name, descending in reversed(keys):

        def kind(row, name=name):
            value = row[name]
            return 2 if value is None else 1 if isinstance(value, float) and math.isnan(value) else 0

        plain = [row for row in rows if kind(row) == 0]
        plain.sort(key=lambda row: row[name], reverse=False)
        if descending:  # reverse=True keeps the order of equal rows
            plain = sorted([row for row in rows if kind(row) == 0], key=lambda row: row[name], reverse=True)
        rows = plain + [row for row in rows if kind(row) == 1] + [row for row in rows if kind(row) == 2]
    return rows


@settings(max_examples=80, deadline=None)
@given(
    cut_tables({"k": KEYS, "f": FLOATS, "s": TEXTS}),
    st.lists(
        st.tuples(st.sampled_from(["k", "f", "s"]), st.booleans()),
        min_size=1,
        max_size=3,
        unique_by=lambda k: k[0],
    ),
    LIMITS,
)
def test_sort_is_stable_and_exact_whatever_the_cuts(tables, keys, limits):
    table, bundles = tables
    exchange = Sort(sort_keys([name for name, _ in keys], [descending for _, descending in keys]))
    found = rows_of(run_exchange(exchange, [bundles], limits))
    expected = python_sort(table.to_pylist(), keys)
    assert [row["row"] for row in found] == [row["row"] for row in expected]


@settings(max_examples=60, deadline=None)
@given(cut_tables({"k": KEYS}, max_rows=60), st.integers(0, 70), st.booleans())
def test_top_k_is_the_head_of_the_sort(tables, rows, descending):
    table, bundles = tables
    keys = sort_keys("k", descending)
    whole = rows_of(run_exchange(Sort(keys), [[[table]]]))
    assert rows_of(run_exchange(TopK(keys, rows), [bundles])) == whole[:rows]


def test_a_hot_key_spreads_over_bundles():
    table = pa.table({"k": [7] * 5_000, "row": range(5_000)})
    bundles = [[table.slice(start, 500)] for start in range(0, 5_000, 500)]
    parts = run_exchange(Sort(sort_keys("k")), [bundles], ExchangeLimits(10_000, 1))
    assert len(parts) > 4
    assert max(sum(block.num_rows for block in part) for part in parts) < 1_000
    assert [row["row"] for row in rows_of(parts)] == list(range(5_000))


def test_a_bundle_reads_little_more_than_it_keeps():
    table = pa.table({"k": [(number * 7919) % 100_003 for number in range(100_000)]})
    exchange = Sort(sort_keys("k"))
    read = []
    original = exchange.plan

    class Counted(Sort):
        def plan(self, sides, limits):
            planned = original(sides, limits)
            read.append(sum(bundle.num_rows for bundle in planned))
            return planned

    bundles = [[table.slice(start, 10_000)] for start in range(0, 100_000, 10_000)]
    parts = run_exchange(Counted(exchange.keys), [bundles], ExchangeLimits(100_000, 1))
    assert sum(block.num_rows for part in parts for block in part) == 100_000
    assert read[0] < 130_000


@pytest.mark.parametrize("descending", [False, True])
def test_boundaries_cut_the_output_at_values(descending):
    table = pa.table({"k": [5, None, 1, 3, 9, 4, 3]})
    exchange = Sort(sort_keys("k", descending), boundaries=(3, 5))
    parts = run_exchange(exchange, [[[table.slice(0, 3)], [table.slice(3)]]])
    assert [[row["k"] for block in part for row in block.to_pylist()] for part in parts] == (
        [[9, 5], [4, 3, 3], [1, None]] if descending else [[1], [3, 3, 4], [5, 9, None]]
    )


def test_sort_errors_name_the_column():
    with pytest.raises(ValueError, match="no column 'x'.*'k'"):
        run_exchange(Sort(sort_keys("x")), [[[pa.table({"k": [1]})]]])
    with pytest.raises(TypeError, match="'k' are list"):
        run_exchange(Sort(sort_keys("k")), [[[pa.table({"k": [[1]]})]]])
    with pytest.raises(ValueError, match="names of columns"):
        sort_keys([None])
    with pytest.raises(ValueError, match="2 directions"):
        sort_keys("k", [True, False])


def test_sort_takes_blocks_whose_types_differ():
    blocks = [pa.table({"k": [2, 1]}), pa.table({"k": pa.nulls(1)}), pa.table({"k": [1.5]})]
    found = rows_of(run_exchange(Sort(sort_keys("k")), [[[block] for block in blocks]], ExchangeLimits(8, 1)))
    assert [row["k"] for row in found] == [1, 1.5, 2, None]


# Join.


def python_join(left, right, how, on):
    def matches(a, b):
        return all(a[k] is not None and b[k] is not None and canonical(a[k]) == canonical(b[k]) for k in on)

    def joined(a, b):
        row = dict.fromkeys(("k", "f", "row", "right"))
        if b is not None:
            row.update({name: b[name] for name in (*on, "right")})
        if a is not None:
            row.update({name: a[name] for name in (*on, "row")})
        return row

    pairs = [(a, b) for a in left for b in right if matches(a, b)]
    lefts = [a for a in left if any(matches(a, b) for b in right)]
    rights = [b for b in right if any(matches(a, b) for a in left)]
    lone_left = [a for a in left if a not in lefts]
    lone_right = [b for b in right if b not in rights]
    return {
        "inner": [joined(a, b) for a, b in pairs],
        "left_outer": [joined(a, b) for a, b in pairs] + [joined(a, None) for a in lone_left],
        "right_outer": [joined(a, b) for a, b in pairs] + [joined(None, b) for b in lone_right],
        "full_outer": [joined(a, b) for a, b in pairs]
        + [joined(a, None) for a in lone_left]
        + [joined(None, b) for b in lone_right],
        "left_semi": lefts,
        "left_anti": lone_left,
        "right_semi": rights,
        "right_anti": lone_right,
    }[how]


def as_multiset(rows):
    return sorted(
        tuple(sorted((name, repr(canonical(value))) for name, value in row.items() if value is not None))
        for row in rows
    )


@pytest.mark.parametrize("how", JOIN_TYPES)
@settings(max_examples=25, deadline=None)
@given(
    left=cut_tables({"k": KEYS, "f": FLOATS}, max_rows=25),
    right=cut_tables({"k": KEYS, "f": FLOATS}, max_rows=25),
    on=st.sampled_from([("k",), ("f",), ("k", "f")]),
    limits=LIMITS,
    broadcast_bytes=st.sampled_from([0, 1 << 20]),
)
def test_join_is_that_of_the_definition(how, left, right, on, limits, broadcast_bytes):
    left_table, left_bundles = left
    right_table, right_bundles = right
    dropped = [name for name in ("k", "f") if name not in on]
    left_bundles = [[block.drop_columns(dropped) for block in bundle] for bundle in left_bundles]
    right_bundles = [
        [block.drop_columns(dropped).rename_columns([*on, "right"]) for block in bundle]
        for bundle in right_bundles
    ]
    exchange = Join(how, on, broadcast_bytes=broadcast_bytes)
    found = rows_of(run_exchange(exchange, [left_bundles, right_bundles], limits))
    expected = python_join(
        left_table.drop_columns(dropped).to_pylist(),
        right_table.drop_columns(dropped).rename_columns([*on, "right"]).to_pylist(),
        how,
        on,
    )
    assert as_multiset(found) == as_multiset(expected)


def test_join_equals_pandas_on_text_keys():
    left = pa.table({"s": [f"key{number % 37}" for number in range(500)], "a": range(500)})
    right = pa.table({"s": [f"key{number}" for number in range(20, 60)], "b": range(40)})
    found = concat(
        [b for part in run_exchange(Join("full_outer", ("s",)), [[[left]], [[right]]]) for b in part]
    ).to_pandas()
    expected = left.to_pandas().merge(right.to_pandas(), how="outer", on="s")
    order = ["s", "a", "b"]
    pd.testing.assert_frame_equal(
        found.sort_values(order).reset_index(drop=True), expected.sort_values(order).reset_index(drop=True)
    )


@pytest.mark.parametrize("how", ["inner", "left_outer", "right_outer", "right_anti"])
def test_a_bucket_above_the_target_is_merged_in_parts(how):
    left = pa.table({"k": [number % 50 for number in range(2_000)], "a": range(2_000)})
    right = pa.table({"k": [number % 60 for number in range(1_000)], "b": range(1_000)})
    whole = rows_of(run_exchange(Join(how, ("k",)), [[[left]], [[right]]]))
    parts = rows_of(
        run_exchange(Join(how, ("k",), bundles=1), [[[left]], [[right]]], ExchangeLimits(1_000, 1))
    )
    assert as_multiset(parts) == as_multiset(whole)


def test_the_plan_sends_a_small_side_everywhere():
    left = pa.table({"k": range(20_000), "a": range(20_000)})
    right = pa.table({"k": [5, 19_999], "b": [1, 2]})
    parts = run_exchange(Join("inner", ("k",)), [[[left]], [[right]]], ExchangeLimits(40_000, 1))
    assert len(parts) in (8, 9)  # pyarrow versions differ in bytes of validity
    expected = [{"k": 5, "a": 5, "b": 1}, {"k": 19_999, "a": 19_999, "b": 2}]
    assert as_multiset(rows_of(parts)) == as_multiset(expected)
    given_ = Join("inner", ("k",), broadcast="right")
    assert given_.partition(0) is None
    assert rows_of(run_exchange(given_, [[[left]], [[right]]], ExchangeLimits(40_000, 1))) == expected


def test_columns_names_suffixes_and_errors():
    left = pa.table({"id": [1], "v": [1]})
    right = pa.table({"rid": [1], "v": [2], "w": [[3]]})
    with pytest.raises(ValueError, match=r"\['v'\].*left_suffix"):
        output_schema(Join("inner", ("id",), ("rid",)), [left.schema, right.schema])
    joined = run_exchange(
        Join("inner", ("id",), ("rid",), left_suffix="_l", right_suffix="_r"), [[[left]], [[right]]]
    )
    assert rows_of(joined) == [{"id": 1, "v_l": 1, "v_r": 2, "w": [3]}]
    semi = run_exchange(Join("left_semi", ("id",), ("rid",)), [[[left]], [[right]]])
    assert rows_of(semi) == [{"id": 1, "v": 1}]
    with pytest.raises(ValueError, match="would be called"):
        output_schema(
            Join("inner", ("id",), ("rid",), right_suffix="x"),
            [pa.schema({"id": pa.int64(), "v": pa.int64(), "vx": pa.int64()}), right.schema],
        )
    with pytest.raises(ValueError, match="right side has no column 'id'|no column 'id'"):
        output_schema(Join("inner", ("id",)), [left.schema, right.schema])
    with pytest.raises(ValueError, match="'id' is int64.*'s' is string"):
        output_schema(Join("inner", ("id",), ("s",)), [left.schema, pa.schema({"s": pa.string()})])
    with pytest.raises(ValueError, match=r"join\(join_type=\) must be one of"):
        Join("outer", ("id",))
    with pytest.raises(ValueError, match="matched one by one"):
        Join("inner", ("id",), ("a", "b"))
    with pytest.raises(ValueError, match="broadcast"):
        Join("full_outer", ("id",), broadcast="left")


def test_keys_of_different_types_are_compared_by_value():
    left = pa.table({"k": pa.array([1, 2, None], pa.int8())})
    right = pa.table({"k": pa.array([2.0, 3.0, None]), "b": ["x", "y", "z"]})
    assert rows_of(run_exchange(Join("inner", ("k",)), [[[left]], [[right]]])) == [{"k": 2.0, "b": "x"}]
    null = pa.table({"k": pa.nulls(2), "b": [1, 2]})
    assert rows_of(run_exchange(Join("inner", ("k",)), [[[left]], [[null]]])) == []
    assert len(rows_of(run_exchange(Join("full_outer", ("k",)), [[[left]], [[null]]]))) == 5
    encoded = pa.table({"k": pa.array(["a", "b"]).dictionary_encode()})
    texts = pa.table({"k": pa.array(["b"], pa.large_string()), "b": [1]})
    assert rows_of(run_exchange(Join("inner", ("k",)), [[[encoded]], [[texts]]])) == [{"k": "b", "b": 1}]


def test_sides_without_blocks():
    left = pa.table({"k": [1], "a": [2]})
    assert rows_of(run_exchange(Join("left_outer", ("k",)), [[[left]], []])) == [{"k": 1, "a": 2}]
    assert rows_of(run_exchange(Join("right_outer", ("k",)), [[], [[left]]])) == [{"k": 1, "a": 2}]
    assert run_exchange(Join("inner", ("k",)), [[], []]) == []
    assert Join("inner", ("k",)).plan([[], []], ExchangeLimits(1, 1)) == []
    assert Sort(sort_keys("k")).plan([[]], ExchangeLimits(1, 1)) == []
    assert isinstance(Bundle(()), Bundle)
