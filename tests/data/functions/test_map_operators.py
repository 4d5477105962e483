"""MapRows, FlatMap, FilterRows, MapBatches: results, laziness, sizes, sources, instances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate import cloudpickle
from skate.data._block.rows import from_rows, iter_rows
from skate.data._block.sources import source_of, sources, with_sources
from skate.data._block.tables import concat
from skate.data._operators.dead_letters import ErrorPolicy
from skate.data._operators.functions import UserFunction
from skate.data._operators.map_operators import FilterRows, FlatMap, MapBatches, MapRows
from skate.data._task.operators import Replica, TaskContext

of = UserFunction.of


def cut(table, cuts):
    edges = sorted({0, table.num_rows, *(c % (table.num_rows + 1) for c in cuts)})
    return [table.slice(a, b - a) for a, b in zip(edges, edges[1:], strict=False)] or [table]


cells = st.one_of(st.none(), st.integers(-(2**31), 2**31), st.just(7))
texts = st.one_of(st.none(), st.text(max_size=4))
tables = st.lists(st.tuples(cells, texts), max_size=60).map(
    lambda rows: pa.table(
        {"n": pa.array([r[0] for r in rows], pa.int64()), "t": pa.array([r[1] for r in rows], pa.string())}
    )
)
cuts = st.lists(st.integers(0, 60), max_size=5)


# ---------------------------------------------------------------------- oracles


@settings(max_examples=40, deadline=None)
@given(tables, cuts)
def test_map_is_pythons(run, table, at):
    def change(row):
        return {"m": None if row["n"] is None else row["n"] + 1, "t": row["t"]}

    assert run(MapRows(of(change)), *cut(table, at)).rows == [change(row) for row in table.to_pylist()]


@settings(max_examples=40, deadline=None)
@given(tables, cuts)
def test_filter_is_pythons(run, table, at):
    def keep(row):
        return row["n"] and row["n"] % 2

    found = run(FilterRows(of(keep)), *cut(table, at))
    assert found.rows == [row for row in table.to_pylist() if keep(row)]
    assert found.tables[0].schema.equals(table.schema)


@settings(max_examples=40, deadline=None)
@given(tables, cuts, st.booleans())
def test_flat_map_is_pythons(run, table, at, lazily):
    def spread(row):
        return [{**row, "i": i} for i in range((row["n"] or 0) % 4)]

    def lazy(row):
        yield from spread(row)

    expected = [one for row in table.to_pylist() for one in spread(row)]
    assert run(FlatMap(of(lazy if lazily else spread)), *cut(table, at)).rows == expected


@settings(max_examples=40, deadline=None)
@given(tables, cuts, st.sampled_from([None, 1, 3, 100]), st.sampled_from(["pandas", "pyarrow", "numpy"]))
def test_map_batches_is_pandas(run, table, at, size, batch_format):
    seen = []

    def double(batch):
        if batch_format == "pyarrow":
            seen.append(batch.num_rows)
            return batch
        seen.append(len(batch["n"]))
        return batch

    found = run(MapBatches(of(double), size, batch_format), *cut(table, at))
    rows = [{"n": row["n"], "t": row["t"]} for row in table.to_pylist()]
    if batch_format != "numpy":  # where nulls of numbers become NaN
        assert found.rows == rows
    assert sum(seen) == table.num_rows
    if size is not None:
        assert all(n == size for n in seen[:-1])


# ---------------------------------------------------------------------- batches


def test_batches_go_across_blocks(run, make_numbers):
    sizes = []
    operator = MapBatches(of(lambda b: sizes.append(len(b["x"])) or b), 4)
    assert run(operator, *make_numbers(2, 2, 2, 2, 2)).column() == list(range(10))
    assert sizes == [4, 4, 2]


def test_one_batch_if_the_size_is_larger(run, make_numbers):
    sizes = []
    run(MapBatches(of(lambda b: sizes.append(len(b["x"])) or b), 1024), *make_numbers(4, 5))
    assert sizes == [9]


def test_default_is_a_block(run, make_numbers):
    kinds = []
    run(MapBatches(of(lambda b: kinds.append((type(b), len(b["x"]))) or b)), *make_numbers(4, 0, 5))
    assert kinds == [(dict, 4), (dict, 5)]


def test_numpy_is_read_only_by_default_and_writable_if_asked(run, make_numbers):
    def change(batch):
        batch["x"][0] = 7
        return batch

    (table,) = make_numbers(3)
    with pytest.raises(ValueError, match="read-only"):
        run(MapBatches(of(change)), table)
    assert run(MapBatches(of(change), zero_copy_batch=False), table).column() == [7, 1, 2]
    assert table["x"].to_pylist() == [0, 1, 2]


def test_changing_a_frame_leaves_the_block(run, make_numbers):
    def change(frame):
        frame.loc[0, "x"] = 7
        frame["y"] = 1
        return frame

    (table,) = make_numbers(3)
    assert run(MapBatches(of(change), None, "pandas", False), table).column() == [7, 1, 2]
    assert table.column_names == ["x", "s"] and table["x"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("made", "rows"),
    [
        ({}, []),
        ({"a": [1, 2]}, [{"a": 1}, {"a": 2}]),
        ({"a": np.arange(2)}, [{"a": 0}, {"a": 1}]),
        (pd.DataFrame({"a": [1]}), [{"a": 1}]),
        (pa.table({"a": [1]}), [{"a": 1}]),
        (pa.RecordBatch.from_pydict({"a": [1]}), [{"a": 1}]),
    ],
    ids=["empty", "lists", "arrays", "frame", "table", "batch"],
)
def test_what_a_function_may_return(run, make_numbers, made, rows):
    def gen(batch):
        yield made
        yield made

    assert run(MapBatches(of(lambda b: made)), *make_numbers(3)).rows == rows
    assert run(MapBatches(of(gen)), *make_numbers(3)).rows == rows * 2


@pytest.mark.parametrize("made", [None, 5, [1], "ab", {"a": 1}, {"a": [1], "b": [1, 2]}])
def test_what_it_may_not(run, make_numbers, made):
    with pytest.raises(ValueError, match=r"MapBatches\(wrong\)"):

        def wrong(batch):
            return made

        run(MapBatches(of(wrong)), *make_numbers(3))


@pytest.mark.parametrize("size", [0, -1])
def test_batch_size_below_one(size):
    with pytest.raises(ValueError, match="batch_size"):
        MapBatches(of(len), size)


@pytest.mark.parametrize("size", ["default", 2.5, True])
def test_batch_size_of_the_wrong_type(size):
    with pytest.raises(TypeError, match="batch_size"):
        MapBatches(of(len), size)


def test_batch_format_that_there_is_not():
    with pytest.raises(ValueError, match="batch_format"):
        MapBatches(of(len), batch_format="arrow")


def test_row_count_that_was_promised(run, make_numbers):
    operator = MapBatches(of(lambda b: {"x": b["x"][:1]}), udf_modifying_row_count=False)
    assert operator.preserves_rows
    with pytest.raises(ValueError, match="udf_modifying_row_count=False.*1 rows for a batch of 3"):
        run(operator, *make_numbers(3))
    assert not MapBatches(of(len)).preserves_rows
    skipping = ErrorPolicy.of("m", on_error="skip")
    assert not MapBatches(of(len), udf_modifying_row_count=False, errors=skipping).preserves_rows


def test_generator_output_comes_as_it_is_made(make_numbers):
    made = []

    def gen(batch):
        for i in range(50):
            made.append(i)
            yield {"image": np.zeros((1, 1 << 20), np.uint8)}

    task = TaskContext("0.0", target_max_block_bytes=8 << 20)
    output = MapBatches(of(gen)).process(iter(make_numbers(1)), task)
    first = next(output)
    assert first.num_rows <= 9
    assert len(made) <= 18
    assert first.num_rows + sum(table.num_rows for table in output) == 50


# ---------------------------------------------------------------------- rows


def test_rows_may_be_changed(run):
    table = from_rows([{"x": 1, "l": [1, 2], "d": {"a": 1}, "t": np.arange(3)}] * 3)

    def change(row):
        row["x"] = 9
        row["l"].append(5)
        row["d"]["a"] = 5
        row["t"] = row["t"] * 2
        return row

    found = run(MapRows(of(change)), table).rows
    assert [row["x"] for row in found] == [9] * 3
    assert found[0]["l"] == [1, 2, 5]
    assert found[2]["t"].tolist() == [0, 2, 4]
    assert next(iter_rows(table))["l"] == [1, 2]
    assert next(iter_rows(table))["t"].tolist() == [0, 1, 2]


def test_array_cells_are_arrays(run):
    table = from_rows([{"t": np.zeros((2, 3), np.uint8)}, {"t": np.ones((2, 3), np.uint8)}])
    shapes = run(MapRows(of(lambda row: {"s": list(row["t"].shape), "d": str(row["t"].dtype)})), table).rows
    assert shapes == [{"s": [2, 3], "d": "uint8"}] * 2


@pytest.mark.parametrize("made", [None, 5, [{"a": 1}], "ab", ("a", 1)])
def test_map_must_return_a_dict(run, make_numbers, made):
    def wrong(row):
        return made if row["x"] == 3 else row

    with pytest.raises(ValueError, match=r"wrong must return a dict.*returned") as caught:
        run(MapRows(of(wrong)), *make_numbers(5))
    assert caught.value.row_id == "0.0:3"


def test_map_takes_other_mappings(run, make_numbers):
    from collections import OrderedDict
    from types import MappingProxyType

    assert run(MapRows(of(lambda row: OrderedDict(row))), *make_numbers(2)).column() == [0, 1]
    assert run(MapRows(of(lambda row: MappingProxyType(row))), *make_numbers(2)).column() == [0, 1]


@pytest.mark.parametrize("made", [{"a": 1}, None, 5, "ab", [5], [{"a": 1}, None]])
def test_flat_map_must_return_rows(run, make_numbers, made):
    def wrong(row):
        return made if row["x"] == 3 else [row]

    with pytest.raises(ValueError, match=r"flat_map\(fn\): wrong must return a list of dicts") as caught:
        run(FlatMap(of(wrong)), *make_numbers(5))
    assert caught.value.row_id == "0.0:3"


def test_flat_map_of_nothing(run, make_numbers):
    assert run(FlatMap(of(lambda row: [])), *make_numbers(3)).rows == []


def test_filter_keeps_the_schema_if_nothing_is_left(run, make_numbers):
    (table,) = make_numbers(3)
    found = run(FilterRows(of(lambda row: False)), table)
    assert [t.num_rows for t in found.tables] == [0]
    assert found.tables[0].schema == table.schema


def test_values_that_no_column_can_hold_name_the_row(run, make_numbers):
    import threading

    def wrong(row):
        return {"a": threading.Lock() if row["x"] == 2 else None}

    with pytest.raises(TypeError) as caught:
        run(MapRows(of(wrong)), *make_numbers(5))
    assert caught.value.row_id == "0.0:2"


def test_a_row_becomes_many_pictures_lazily(make_numbers):
    made = []

    def frames(row):
        for i in range(200):
            made.append(i)
            yield {"i": i, "frame": np.zeros((1 << 20,), np.uint8)}

    task = TaskContext("0.0", target_max_block_bytes=8 << 20)
    output = FlatMap(of(frames)).process(iter(make_numbers(1)), task)
    first = next(output)
    assert first.num_rows < 20
    assert len(made) < 40
    rest = [row for table in output for row in table["i"].to_pylist()]
    assert first["i"].to_pylist() + rest == list(range(200))


def test_large_rows_are_not_gathered(make_numbers):
    made = []

    def large(row):
        made.append(row["x"])
        return {"b": bytes(6 << 20)}

    output = MapRows(of(large)).process(
        iter(make_numbers(200)), TaskContext("0.0", target_max_block_bytes=16 << 20)
    )
    assert next(output).num_rows <= 4
    assert len(made) <= 8


def test_input_is_taken_as_it_is_needed(make_numbers):
    taken = []

    def blocks():
        for table in make_numbers(*[1] * 100):
            taken.append(1)
            yield table

    slow = MapRows(of(lambda row: {"b": bytes(20 << 20)}))
    output = slow.process(blocks(), TaskContext("0.0"))
    next(output)
    assert len(taken) <= 2


# ---------------------------------------------------------------------- where rows come from


def located(make_numbers):
    one, two = make_numbers(3, 3)
    return concat([with_sources(one, [("a", 1), ("b", 2)]), with_sources(two, [("c", 3)])])


def names(tables):
    return [source_of(table, i) for table in tables for i in range(table.num_rows)]


def test_map_keeps_sources(run, make_numbers):
    found = run(MapRows(of(lambda row: {"y": row["x"]})), located(make_numbers))
    assert names(found.tables) == ["a", "b", "b", "c", "c", "c"]


def test_flat_map_and_filter_keep_sources(run, make_numbers):
    found = run(FlatMap(of(lambda row: [row] * (row["x"] % 3))), located(make_numbers))
    assert names(found.tables) == ["b", "b", "b", "c", "c", "c"]
    found = run(FilterRows(of(lambda row: row["x"] % 2)), located(make_numbers))
    assert names(found.tables) == ["b", "c", "c"]


def test_map_batches_keeps_sources_where_it_knows_them(run, make_numbers):
    table = located(make_numbers)
    assert names(run(MapBatches(of(lambda b: b)), table).tables) == ["a", "b", "b", "c", "c", "c"]
    assert sources(run(MapBatches(of(lambda b: {"n": [1]})), table).tables[0]) == []
    one = with_sources(make_numbers(2)[0], [("a", 2)])
    assert names(run(MapBatches(of(lambda b: {"n": [1]})), one).tables) == ["a"]


def test_error_names_the_file(run, make_numbers):
    def fails(row):
        return {"y": 1 // (row["x"] - 4)}

    with pytest.raises(ZeroDivisionError, match="from c .*x=4") as caught:
        run(MapRows(of(fails)), located(make_numbers))
    assert caught.value.path == "c"


# ---------------------------------------------------------------------- classes


class Counts:
    made = 0

    def __init__(self, start=0):
        type(self).made += 1
        self.n = start

    def __call__(self, row):
        self.n += 1
        return {"n": self.n}


def test_one_instance_a_replica(run, make_numbers):
    Counts.made = 0
    operator = MapRows(of(Counts, None, None, [10]))
    replica = Replica()
    operator.open(3, replica)
    operator.open(3, replica)
    assert Counts.made == 1
    for expected in ([11, 12], [13, 14]):
        assert (
            run(operator, *make_numbers(2), task=TaskContext("0.0", replica=replica)).column("n") == expected
        )
    assert run(operator, *make_numbers(1), task=TaskContext("0.1", replica=Replica())).column("n") == [11]


def test_unpickled_operator_makes_an_instance_of_its_own(run, make_numbers):
    """A process unpickles a stage once; equal operators are equal bytes, so a pickle names no instance."""
    replica = Replica()
    operator = MapRows(of(Counts))
    operator.open(0, replica)
    copy = cloudpickle.loads(cloudpickle.dumps(operator))
    for n in (1, 2):
        task = TaskContext("0.0", replica=replica)
        assert run(operator, *make_numbers(1), task=task).column("n") == [n]
        assert run(copy, *make_numbers(1), task=task).column("n") == [n]


def test_two_operators_of_one_class_have_instances_of_their_own(run, make_numbers):
    task = TaskContext("0.0")
    first, second = MapRows(of(Counts)), MapRows(of(Counts))
    output = second.process(first.process(iter(make_numbers(3)), task), task)
    assert [row["n"] for table in output for row in table.to_pylist()] == [1, 2, 3]
    assert len(task.replica.instances) == 2


def test_times_are_told(run, make_numbers):
    for operator in (MapRows(of(lambda r: r)), FlatMap(of(lambda r: [r])), MapBatches(of(lambda b: b))):
        task = run(operator, *make_numbers(10, 10)).task
        assert {"input", "run", "convert"} <= set(task.spent_s)
        assert all(seconds >= 0 for seconds in task.spent_s.values())


def test_keys():
    def f(row):
        return row

    assert MapRows(of(f)).key() == MapRows(of(f)).key()
    assert MapRows(of(f)).key() != FlatMap(of(f)).key()
    assert MapBatches(of(f), 3).key() != MapBatches(of(f), 4).key()
    assert MapRows(of(f)).name == "Map(f)"
