"""Shuffle, repartition, zip, groups and duplicates, whatever the cuts."""

from __future__ import annotations

import math
import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.kernels.hashing import hash_rows, random_numbers
from skate.data._block.kernels.sorting import sort_keys
from skate.data._block.tables import concat
from skate.data._operators.exchanges import (
    DropDuplicates,
    HashRepartition,
    MapGroups,
    Repartition,
    Shuffle,
    Sort,
    Zip,
    output_schema,
    run_exchange,
    unique,
)
from skate.data._task.exchange import ExchangeLimits

LIMITS = st.builds(ExchangeLimits, st.sampled_from([64, 300, 1 << 20]), st.integers(1, 4))
ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, 0, 1, 2, 7]),
        st.sampled_from([None, math.nan, 0.0, -0.0, 2.5]),
        st.sampled_from([None, "", "a", "b" * 130]),
    ),
    max_size=40,
)


def table_of(rows):
    columns = list(zip(*rows, strict=False)) or [(), (), ()]
    types = (pa.int64(), pa.float64(), pa.string())
    return pa.table(
        {
            **{
                name: pa.array(column, type_)
                for name, column, type_ in zip("kfs", columns, types, strict=False)
            },
            "row": pa.array(range(len(rows)), pa.int64()),
        }
    )


def cut(table, edges):
    edges = [0, *sorted(edge % (table.num_rows + 1) for edge in edges), table.num_rows]
    return [[table.slice(a, b - a)] for a, b in zip(edges, edges[1:], strict=False)]


def rows_of(parts):
    return [row for part in parts for block in part for row in block.to_pylist()]


def sizes_of(parts):
    return [block.num_rows for part in parts for block in part]


def canonical(value):
    return "nan" if isinstance(value, float) and math.isnan(value) else value


# Shuffle.


@settings(max_examples=40, deadline=None)
@given(ROWS, st.lists(st.integers(0, 100), max_size=4), st.integers(0, 5), LIMITS)
def test_a_seed_decides_the_order_whatever_the_plan(rows, edges, seed, limits):
    bundles = cut(table_of(rows), edges)
    once = run_exchange(Shuffle(seed), [bundles])
    again = run_exchange(Shuffle(seed), [bundles], limits)
    order = [row["row"] for row in rows_of(once)]
    assert order == [row["row"] for row in rows_of(again)]
    assert sorted(order) == list(range(len(rows)))
    for block in (block for part in again for block in part):
        assert block.column_names == ["k", "f", "s", "row"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.lists(st.integers(0, 60), max_size=3), st.lists(st.integers(0, 60), max_size=3))
def test_blocks_of_a_task_do_not_change_its_order(rows, edges, other_edges):
    table = pa.table({"row": pa.array(range(rows), pa.int64())})
    first = [[block for bundle in cut(table, edges) for block in bundle]]
    second = [[block for bundle in cut(table, other_edges) for block in bundle]]
    assert rows_of(run_exchange(Shuffle(1), [first], target_max_block_bytes=100)) == rows_of(
        run_exchange(Shuffle(1), [second])
    )


def test_another_seed_is_another_order_and_every_place_is_taken():
    table = pa.table({"row": range(1_000)})
    orders = [[row["row"] for row in rows_of(run_exchange(Shuffle(seed), [[[table]]]))] for seed in range(20)]
    assert len({tuple(order) for order in orders}) == 20
    mean = sum(order.index(0) for order in orders) / 20
    assert 250 < mean < 750
    assert Shuffle().seed != Shuffle().seed
    assert len(run_exchange(Shuffle(1, bundles=3), [[[table]]])) == 3


# Repartition.


def test_sizes_of_repartition():
    ten = pa.table({"x": range(10)})
    assert sizes_of(run_exchange(Repartition(3), [[[ten]]])) == [3, 3, 4]
    twelve = sizes_of(run_exchange(Repartition(12), [[[ten]]]))
    assert len(twelve) == 12
    assert sum(twelve) == 10
    blocks = [[ten.slice(0, 3), ten.slice(3, 3)], [ten.slice(6, 3), ten.slice(9)]]
    assert sizes_of(run_exchange(Repartition(target_rows=4), [blocks])) == [3, 3, 3, 1]
    assert sizes_of(run_exchange(Repartition(target_rows=4, strict=True), [blocks])) == [4, 4, 2]
    assert sizes_of(run_exchange(Repartition(target_rows=4), [[[ten]]])) == [4, 4, 2]
    assert sizes_of(run_exchange(Repartition(2), [[[ten.slice(0, 0)]]])) == [0, 0]
    assert run_exchange(Repartition(2), [[]]) == []
    for options in ({}, {"num_blocks": 1, "target_rows": 1}, {"num_blocks": 0}, {"target_rows": 0}):
        with pytest.raises(ValueError):
            Repartition(**options)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 50),
    st.lists(st.integers(0, 60), max_size=4),
    st.one_of(
        st.builds(Repartition, num_blocks=st.integers(1, 12)),
        st.builds(Repartition, target_rows=st.integers(1, 12), strict=st.booleans()),
    ),
    LIMITS,
)
def test_repartition_keeps_order(rows, edges, exchange, limits):
    table = pa.table({"row": pa.array(range(rows), pa.int64())})
    parts = run_exchange(exchange, [cut(table, edges)], limits)
    assert [row["row"] for row in rows_of(parts)] == list(range(rows))
    sizes = sizes_of(parts)
    if exchange.num_blocks:
        assert len(sizes) == exchange.num_blocks
        assert max(sizes) - min(sizes) <= 1
    elif exchange.strict and rows:
        assert set(sizes[:-1]) <= {exchange.target_rows}
    else:
        assert all(size <= exchange.target_rows for size in sizes)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.lists(st.integers(0, 100), max_size=4), st.sampled_from(["k", "f", "s"]), st.integers(1, 5))
def test_equal_keys_share_a_block(rows, edges, key, blocks):
    table = table_of(rows)
    parts = run_exchange(HashRepartition((key,), blocks), [cut(table, edges)])
    assert [len(part) for part in parts] == [1] * blocks
    homes = {}
    for number, part in enumerate(parts):
        for row in part[0].to_pylist():
            value = canonical(row[key])
            assert homes.setdefault(0.0 if value == 0 else value, number) == number
    assert sorted(row["row"] for row in rows_of(parts)) == list(range(len(rows)))


def test_hashes_are_those_of_every_run():
    """Resumed runs need the partitions of the run before: change these numbers only with the format of
    runs.
    """
    assert hash_rows([pa.array([1, 2, None])]).to_pylist() == [
        6238072747940578789,
        15839785061582574730,
        9202493588570546565,
    ]
    assert hash_rows([pa.array([1.5, math.nan, -0.0])]).to_pylist() == [
        16657480027015623784,
        5087927234000983963,
        0,
    ]
    assert hash_rows([pa.array(["a", "b" * 200, ""])]).to_pylist() == [
        6180898472891395133,
        16192939196938128893,
        0,
    ]
    assert random_numbers(7, "0.1", 2).to_pylist() == [16099654492847075935, 5351140455199101246]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=140)), max_size=30), st.integers(0, 30))
def test_hashes_of_text_do_not_depend_on_cuts_or_types(values, at):
    column = pa.array(values, pa.string())
    whole = hash_rows([column]).to_pylist()
    assert hash_rows([column[:at]]).to_pylist() + hash_rows([column[at:]]).to_pylist() == whole
    assert hash_rows([column.cast(pa.large_string())]).to_pylist() == whole
    assert hash_rows([column.dictionary_encode()]).to_pylist() == whole
    assert hash_rows([pa.chunked_array([column[:at], column[at:]])]).to_pylist() == whole
    assert len(set(whole)) == len(set(values))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)), max_size=30))
def test_hashes_of_numbers_do_not_depend_on_their_type(values):
    hashes = hash_rows([pa.array(values, pa.int32())]).to_pylist()
    for type_ in (pa.int64(), pa.float64(), pa.decimal128(22, 2)):
        assert hash_rows([pa.array(values, pa.int64()).cast(type_)]).to_pylist() == hashes
    assert len(set(hashes)) == len(set(values))


# Zip.


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 40),
    st.lists(st.integers(0, 50), max_size=3),
    st.lists(st.integers(0, 50), max_size=3),
    LIMITS,
)
def test_zip_aligns_rows(rows, edges, other_edges, limits):
    left = pa.table({"row": pa.array(range(rows), pa.int64())})
    right = pa.table({"row": pa.array(range(rows), pa.int64()), "row_1": pa.array(range(rows), pa.int64())})
    found = rows_of(run_exchange(Zip(), [cut(left, edges), cut(right, other_edges)], limits))
    assert found == [{"row": number, "row_1": number, "row_1_1": number} for number in range(rows)]


def test_zip_of_unequal_lengths():
    with pytest.raises(ValueError, match="2 and 1 rows"):
        run_exchange(Zip(), [[[pa.table({"a": [1, 2]})]], [[pa.table({"b": [1]})]]])
    assert output_schema(Zip(), [pa.schema({"a": pa.int64()})] * 2).names == ["a", "a_1"]


# Groups and duplicates.


@settings(max_examples=40, deadline=None)
@given(
    ROWS,
    st.lists(st.integers(0, 100), max_size=4),
    st.lists(st.sampled_from(["k", "f", "s"]), max_size=3, unique=True),
    LIMITS,
)
def test_a_group_function_sees_each_group_once_and_whole(rows, edges, keys, limits):
    table = table_of(rows)

    def function(group):
        yield pa.table({"rows": [group["row"].to_pylist()]})

    found = [
        row["rows"]
        for row in rows_of(run_exchange(MapGroups(tuple(keys), function), [cut(table, edges)], limits))
    ]
    expected = {}
    for row in table.to_pylist():
        key = tuple(0.0 if canonical(row[k]) == 0 else canonical(row[k]) for k in keys)
        expected.setdefault(key, []).append(row["row"])
    assert sorted(found) == sorted(expected.values())


def test_a_group_function_decides_the_schema():
    assert output_schema(MapGroups(("k",), iter), [pa.schema({"k": pa.int64()})]) is None


@settings(max_examples=40, deadline=None)
@given(
    ROWS,
    st.lists(st.integers(0, 100), max_size=4),
    st.one_of(st.none(), st.lists(st.sampled_from(["k", "f", "s"]), min_size=1, max_size=3, unique=True)),
    LIMITS,
)
def test_the_first_of_equal_rows_is_kept(rows, edges, on, limits):
    table = table_of(rows)
    exchange = DropDuplicates(None if on is None else tuple(on))
    if on is None:
        table = table.drop_columns(["row"]).append_column("row", pa.array([0] * len(rows), pa.int64()))
    found = rows_of(run_exchange(exchange, [cut(table, edges)], limits))
    expected = {}
    for row in table.to_pylist():
        key = tuple(0.0 if canonical(row[k]) == 0 else canonical(row[k]) for k in on or ("k", "f", "s"))
        expected.setdefault(key, row)
    assert sorted(map(repr, found)) == sorted(map(repr, expected.values()))


def test_unique_keeps_none_and_nothing_else():
    parts = run_exchange(
        unique("k"), [[[pa.table({"k": [2, None], "x": [1, 1]})], [pa.table({"k": [2, 3]})]]]
    )
    assert sorted(row["k"] or 0 for row in rows_of(parts)) == [0, 2, 3]
    assert all(row.keys() == {"k"} for row in rows_of(parts))


def test_blocks_of_one_input_may_differ_in_types_and_columns():
    blocks = [
        pa.table({"k": [1], "x": pa.nulls(1)}),
        pa.table({"k": [1.0]}),
        pa.table({"x": [None], "k": [1]}),
    ]
    parts = run_exchange(DropDuplicates(), [[[block] for block in blocks]], ExchangeLimits(1, 4))
    assert len(rows_of(parts)) == 1


@pytest.mark.parametrize(
    "exchange",
    [Shuffle(1), Repartition(2), HashRepartition(("k",)), Zip(), DropDuplicates(("k",)), unique("k")],
)
def test_exchanges_travel_and_have_keys_of_their_own(exchange):
    copy = pickle.loads(pickle.dumps(exchange))
    assert copy == exchange
    assert copy.key() == exchange.key()
    table = pa.table({"k": [1, 2]})
    sides = [[[table]], [[table]]] if isinstance(exchange, Zip) else [[[table]]]
    assert concat([b for part in run_exchange(copy, sides) for b in part]).num_rows == 2


@pytest.mark.parametrize(
    "exchange",
    [
        MapGroups(("k",), lambda group: iter([group.slice(0, 1)])),
        HashRepartition(("k",), 8),
        Repartition(8),
        Shuffle(1),
        Sort(sort_keys("k")),
        DropDuplicates(("k",)),
        Zip(),
    ],
    ids=lambda exchange: exchange.name,
)
def test_blocks_take_nothing_of_their_parents_along(exchange):
    """A slice that is pickled takes its parent's buffers along, once for each chunk."""
    table = pa.table({"k": range(40_000), "x": range(40_000)})
    bundles = [[table.slice(start, 5_000)] for start in range(0, 40_000, 5_000)]
    sides = [bundles, bundles] if isinstance(exchange, Zip) else [bundles]
    parts = run_exchange(exchange, sides, ExchangeLimits(100_000, 4), target_max_block_bytes=50_000)
    blocks = [block for part in parts for block in part]
    assert len(blocks) > 2
    sent = sum(len(pickle.dumps(block, 5)) for block in blocks)
    assert sent <= 2 * sum(block.nbytes for block in blocks) + 4_096 * len(blocks)
