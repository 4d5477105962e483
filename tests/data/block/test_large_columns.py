"""Blocks of more text than 32-bit offsets reach: 3.3 GiB of memory at most, so only in ``make soak-data``."""

import os

import pyarrow as pa
import pytest

from skate.data._block.batches import rebatch
from skate.data._block.builder import BlockBuilder
from skate.data._block.rows import from_rows, iter_rows
from skate.data._block.tables import combine, concat, size_bytes, slice_rows, take_rows

pytestmark = pytest.mark.skipif(
    "SKATE_SOAK_DATA" not in os.environ,
    reason="takes 3.3 GiB of memory: set SKATE_SOAK_DATA=1, as make soak-data does",
)


@pytest.fixture(autouse=True)
def memory_given_back():
    yield
    pa.default_memory_pool().release_unused()


TEXT = "x" * (1 << 26)


def test_text_of_more_than_two_gib_in_one_column():
    part = pa.table({"x": [TEXT], "n": [1]})
    parts = [part] * 33
    whole = concat(parts)
    assert whole.schema.field("x").type == pa.large_string()
    assert size_bytes(whole) > 2 << 30
    assert take_rows(whole, [32, 0]).column("n").to_pylist() == [1, 1]
    assert [piece.num_rows for piece in rebatch(iter([whole]), 16)] == [16, 16, 1]
    assert next(iter_rows(slice_rows(whole, 32, 33)))["x"] == TEXT
    del whole
    (joined,) = rebatch(iter(parts), 33)
    assert combine(joined).column("x").num_chunks == 1
    assert len(joined.column("x")[32].as_py()) == len(TEXT)


def test_rows_of_more_than_two_gib():
    block = from_rows([{"x": TEXT}] * 33)
    assert block.num_rows == 33
    assert size_bytes(block) > 2 << 30
    assert block.column("x").num_chunks == 2


def test_rows_of_hundreds_of_megabytes_are_blocks_of_their_own():
    builder = BlockBuilder(64 << 20)
    for number in range(3):
        builder.add_row({"x": TEXT, "n": number})
        (block,) = builder.ready()
        assert block.column("n").to_pylist() == [number]
    assert list(builder.finish()) == []
