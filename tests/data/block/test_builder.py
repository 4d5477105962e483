"""Blocks of about a size, whatever rows weigh, and in the order in which they came."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.builder import BlockBuilder, weigh_row
from skate.data._block.objects import is_pickled
from skate.data._block.rows import from_rows, iter_rows
from skate.data._block.sources import sources, with_sources
from skate.data._block.tables import size_bytes


def build(target, rows=(), blocks=()):
    """Return the blocks that are made of rows, then of blocks."""
    builder = BlockBuilder(target)
    made = []
    for row in rows:
        builder.add_row(row)
        made.extend(builder.ready())
    for block in blocks:
        builder.add_block(block)
        made.extend(builder.ready())
    made.extend(builder.finish())
    return made


def test_rows_are_cut_by_bytes():
    rows = [{"x": "a" * 1000} for _ in range(1000)]
    made = build(100_000, rows)
    assert sum(block.num_rows for block in made) == 1000
    assert all(100_000 <= size_bytes(block) <= 150_000 for block in made[:-1])
    assert [row["x"] for block in made for row in iter_rows(block)] == [row["x"] for row in rows]


@pytest.mark.parametrize(
    "value", [b"x" * 200_000, np.zeros(25_000), "x" * 200_000, [0.5] * 25_000, {"a": b"x" * 200_000}]
)
def test_a_big_row_among_small_ones_is_noticed_at_once(value):
    builder = BlockBuilder(100_000)
    for _ in range(5):
        builder.add_row({"x": None})
    builder.add_row({"x": value})
    assert len(list(builder.ready())) == 2
    builder.add_row({"x": value})
    (block,) = builder.ready()
    assert block.num_rows == 1


def test_a_row_that_expands_is_a_block_of_its_own():
    made = build(1000, [{"x": np.zeros(10_000)} for _ in range(3)])
    assert [block.num_rows for block in made] == [1, 1, 1]


def test_big_tables_are_cut_and_small_ones_joined():
    big = pa.table({"x": list(range(100_000))})
    made = build(100_000, blocks=[big])
    assert len(made) == 8
    assert all(size_bytes(block) <= 150_000 for block in made)
    assert pa.concat_tables(made).equals(big)
    small = [pa.table({"x": [number]}) for number in range(1000)]
    (block,) = build(100_000, blocks=small)
    assert block.column("x").to_pylist() == list(range(1000))
    assert block.column("x").num_chunks == 1


def test_tables_of_uneven_rows_are_cut_by_their_bytes():
    block = from_rows([{"x": "a" * (100_000 if number >= 8 else 10)} for number in range(16)])
    made = build(200_000, blocks=[block])
    assert all(size_bytes(part) <= 300_000 for part in made)
    assert [len(row["x"]) for part in made for row in iter_rows(part)] == [10] * 8 + [100_000] * 8


def test_blocks_do_not_keep_what_they_were_cut_from():
    made = build(1000, blocks=[pa.table({"x": list(range(100_000))})])
    assert all(block.get_total_buffer_size() < 3000 for block in made)


def test_rows_and_tables_keep_their_order():
    builder = BlockBuilder(1 << 20)
    builder.add_row({"x": 1})
    builder.add_block(pa.table({"x": [2.5], "y": ["a"]}))
    builder.add_row({"x": None, "y": "b"})
    (block,) = builder.finish()
    assert list(iter_rows(block)) == [{"x": 1.0, "y": None}, {"x": 2.5, "y": "a"}, {"x": None, "y": "b"}]


def test_what_does_not_mix_is_kept_as_it_is():
    (block,) = build(1 << 20, [{"x": 1 if number < 5000 else "a"} for number in range(6000)])
    assert is_pickled(block.schema.field("x").type)
    assert [row["x"] for row in iter_rows(block)] == [1] * 5000 + ["a"] * 1000


def test_schema_of_tables_without_rows_is_kept():
    empty = pa.table({"x": pa.array([], pa.string())})
    assert [block.schema for block in build(1000, blocks=[pa.table({}), empty])] == [empty.schema]
    assert build(1000) == []
    full = pa.table({"x": ["a"]})
    assert [block.num_rows for block in build(1000, blocks=[empty, full, empty])] == [1]
    assert [block.num_rows for block in build(1, blocks=[empty, full])] == [1]


def test_rows_without_columns():
    (block,) = build(1000, [{}] * 10)
    assert list(iter_rows(block)) == [{}] * 10


def test_notes_of_files_are_kept():
    parts = [with_sources(pa.table({"x": list(range(100))}), [(path, 100)]) for path in "abc"]
    made = build(600, blocks=parts)
    assert [path for block in made for path, rows in sources(block) for _ in range(rows)] == ["a"] * 100 + [
        "b"
    ] * 100 + ["c"] * 100


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.5,
        None,
        True,
        "text" * 100,
        b"x" * 1000,
        [1] * 1000,
        ["ab"] * 1000,
        {"a": "x" * 500},
        np.zeros(100),
        {1, 2},
    ],
)
def test_weights_are_close_to_bytes(value):
    made = from_rows([{"x": value}] * 10)
    assert weigh_row({"x": value}) * 10 >= size_bytes(made) * 0.6
    assert weigh_row({"x": value}) * 10 <= size_bytes(made) * 2 + 200


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.one_of(st.lists(st.text(max_size=30), max_size=9), st.text(max_size=30)), max_size=30),
    st.integers(1, 300),
)
def test_any_parts_come_back_in_order(parts, target):
    builder = BlockBuilder(target)
    made = []
    expected = []
    for part in parts:
        if isinstance(part, str):
            builder.add_row({"x": part})
            expected.append(part)
        else:
            builder.add_block(from_rows([{"x": value} for value in part]))
            expected.extend(part)
        made.extend(builder.ready())
    made.extend(builder.finish())
    assert [row["x"] for block in made for row in iter_rows(block)] == expected
    assert all(size_bytes(block) <= 1.5 * target or block.num_rows == 1 for block in made)
    assert all(block.num_rows for block in made) or not expected
