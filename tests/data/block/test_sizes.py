"""The bytes of a block are those that it takes when it is sent; slices do not keep their parents alive."""

import datetime as dt
import decimal
import random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from skate.data._block import tensors
from skate.data._block.columns import from_values
from skate.data._block.tables import combine, compact, size_bytes

ROWS = 3000


def families():
    """Return a column of each family of types."""
    draw = random.Random(1)
    texts = [None if draw.random() < 0.1 else "x" * draw.randrange(50) for _ in range(ROWS)]
    numbers = range(ROWS)
    return {
        "int64": pa.array(numbers),
        "int8 with nulls": pa.array([draw.choice([None, 1]) for _ in numbers], pa.int8()),
        "bool": pa.array([draw.random() < 0.5 for _ in numbers]),
        "double": pa.array([draw.random() for _ in numbers]),
        "string": pa.array(texts),
        "large_string": pa.array(texts, pa.large_string()),
        "string_view": pa.array(texts, pa.string()).cast(pa.string_view()),
        "binary": pa.array([text and text.encode() for text in texts]),
        "fixed_size_binary": pa.array([b"abcd"] * ROWS, pa.binary(4)),
        "list": pa.array([list(range(draw.randrange(9))) for _ in numbers]),
        "large_list": pa.array([list(range(draw.randrange(9))) for _ in numbers], pa.large_list(pa.int64())),
        "list of strings": pa.array([["ab"] * draw.randrange(9) for _ in numbers]),
        "fixed_size_list": pa.array([[1, 2, 3]] * ROWS, pa.list_(pa.int32(), 3)),
        "struct": pa.array([{"a": number, "b": "s" * draw.randrange(20)} for number in numbers]),
        "map": pa.array([[("k", 1)] * draw.randrange(4) for _ in numbers], pa.map_(pa.string(), pa.int64())),
        "dictionary": pa.array([draw.choice(["aaaa", "b", "c" * 100]) for _ in numbers]).dictionary_encode(),
        "long dictionary": pa.array([f"value {number}" * 5 for number in numbers]).dictionary_encode(),
        "timestamp": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)] * ROWS),
        "date": pa.array([dt.date(2020, 1, 1)] * ROWS),
        "decimal": pa.array([decimal.Decimal("1.5")] * ROWS),
        "null": pa.nulls(ROWS),
        "run ends": pc.run_end_encode(pa.array([number // 100 for number in numbers])),
        "tensor": tensors.from_ndarray(np.random.default_rng(1).random((ROWS, 2, 3))),
        "tensor of booleans": tensors.from_ndarray(np.zeros((ROWS, 3), bool)),
        "ragged tensor": tensors.from_cells([np.zeros(draw.randrange(9)) for _ in numbers]),
        "object": from_values([draw.choice([1, "a", {1: 2}]) for _ in numbers]),
    }


FAMILIES = families()


def sent_bytes(block):
    """Return the bytes that a block takes as a stream of Arrow."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as writer:
        writer.write_table(block)
    return sink.getvalue().size


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cut", ["whole", "slice", "start", "chunks"])
def test_size_is_that_of_the_stream(family, cut):
    block = pa.table({"x": FAMILIES[family]})
    block = {
        "whole": block,
        "slice": block.slice(1003, 501),
        "start": block.slice(0, 10),
        "chunks": pa.concat_tables([block.slice(number * 100, 400) for number in range(8)]),
    }[cut]
    sent = sent_bytes(block)
    assert abs(size_bytes(block) - sent) <= 0.05 * sent + 4096


@pytest.mark.parametrize(
    "family", [name for name in FAMILIES if name not in ("string_view", "long dictionary")]
)
def test_slices_of_less_than_half_are_compacted(family):
    block = pa.table({"x": FAMILIES[family], "y": range(ROWS)})
    part = block.slice(1003, 501)
    made = compact(part)
    assert made.equals(part)
    assert made.get_total_buffer_size() <= size_bytes(made) * 1.1 + 128
    assert compact(block) is block
    assert compact(block.slice(0, ROWS * 3 // 4)).column("y").chunk(0).buffers()[1].address == (
        block.column("y").chunk(0).buffers()[1].address
    )


def test_a_dictionary_that_chunks_share_counts_once():
    block = pa.table({"x": FAMILIES["long dictionary"]})
    many = pa.concat_tables([block.slice(number, 1) for number in range(100)])
    assert size_bytes(many) < size_bytes(block)
    assert combine(many).num_rows == 100


def test_nothing():
    assert size_bytes(pa.table({})) == 0
    assert compact(pa.table({})).num_rows == 0
    assert compact(pa.table({"x": [1]}).slice(0, 0)).num_rows == 0
