"""Laziness, printing, schemas, counts: each line of the design's section 2.1."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skate.data
from skate.data.dataset import MaterializedDataset


def boom(row: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("the function ran")


def test_a_read_plan_prints_as_a_table() -> None:
    assert repr(skate.data.range(10)) == (
        "shape: (10, 1)\n╭───────╮\n│ id    │\n│ ---   │\n│ int64 │\n╰───────╯\n(Dataset isn't materialized)"
    )


def test_a_materialised_set_prints_its_first_rows() -> None:
    text = repr(skate.data.range(10).materialize())
    assert text.startswith("shape: (10, 1)")
    assert text.endswith("(Showing 10 of 10 rows)")
    assert "│ 9     │" in text
    text = repr(skate.data.from_items(list(range(50))))
    assert text.endswith("(Showing 10 of 50 rows)")


def test_a_plan_of_unknown_columns_prints_as_a_tree() -> None:
    ds = skate.data.range(10).map(lambda row: row).filter(lambda row: True)
    assert repr(ds) == ("Filter(<lambda>)\n+- Map(<lambda>)\n   +- Dataset(num_rows=10, schema={id: int64})")
    both = skate.data.range(1).union(skate.data.range(2).map(boom).limit(1))
    both.set_name("foo")
    assert str(both).splitlines() == [
        "Union",
        "+- Dataset(name=foo, num_rows=1, schema={id: int64})",
        "+- limit=1",
        "   +- Map(boom)",
        "      +- Dataset(name=foo, num_rows=2, schema={id: int64})",
    ]


def test_a_plan_of_known_columns_prints_as_a_table() -> None:
    assert repr(skate.data.range(10).filter(boom)).splitlines()[0] == "shape: (?, 1)"
    assert repr(skate.data.range(10).limit(3)).splitlines()[0] == "shape: (3, 1)"
    counted = repr(skate.data.range(10).groupby("id").count())
    assert "count()" in counted
    assert counted.endswith("(Dataset isn't materialized)")


def test_nothing_prints_as_a_line() -> None:
    assert repr(skate.data.from_items([])) == "MaterializedDataset(num_rows=0, schema=Unknown schema)"
    assert repr(skate.data.range(0)) == "Dataset(num_rows=0, schema={id: int64})"


def test_many_columns_and_long_cells_are_cut() -> None:
    text = repr(skate.data.from_arrow(pa.table({f"c{n}": ["x" * 100] for n in range(30)})))
    assert max(map(len, text.splitlines())) < 500
    assert "..." in text


def test_the_schema_prints_as_two_columns() -> None:
    schema = skate.data.range(3).schema()
    assert str(schema) == "Column  Type\n------  ----\nid      int64"
    assert schema is not None
    assert schema.names == ["id"]
    assert schema.base_schema == pa.schema([("id", pa.int64())])
    assert schema == skate.data.range(9).schema()


def test_types_of_a_schema_are_those_of_pyarrow() -> None:
    schema = skate.data.range(3).schema()
    assert schema is not None
    assert schema.types == [pa.int64()]


def test_the_schema_of_a_function_is_that_of_its_first_block() -> None:
    seen: list[int] = []

    def f(row: dict[str, Any]) -> dict[str, Any]:
        seen.append(row["id"])
        return {"x": str(row["id"])}

    ds = skate.data.range(200).map(f)
    assert ds.schema(fetch_if_missing=False) is None
    assert ds.columns() == ["x"]
    assert len(seen) < 200
    ran = len(seen)
    assert ds.schema() is not None
    assert len(seen) == ran, "the answer is remembered"


def test_a_filter_keeps_the_schema_without_running() -> None:
    ds = skate.data.range(10).filter(boom)
    assert ds.columns() == ["id"]
    assert skate.data.range(10).filter(lambda row: False).columns() == ["id"]


def test_no_rows_of_an_unknown_kind_have_no_schema() -> None:
    ds = skate.data.range(3).flat_map(lambda row: [])
    assert ds.schema() is None
    assert ds.columns() is None


def test_schemas_of_exchanges_are_known_without_running() -> None:
    ds = skate.data.range(10).filter(boom)
    assert ds.sort("id").columns() == ["id"]
    assert ds.random_shuffle().columns() == ["id"]
    assert ds.repartition(2).columns() == ["id"]
    assert ds.groupby("id").count().columns() == ["id", "count()"]
    assert ds.zip(ds).columns() == ["id", "id_1"]
    assert ds.union(skate.data.from_arrow(pa.table({"a": ["x"]}))).columns() == ["id", "a"]


def test_count_skips_functions_that_keep_the_number_of_rows() -> None:
    ds = skate.data.range(10)
    assert ds.map(boom).count() == 10
    assert ds.map(boom).sort("id").limit(3).count() == 3
    assert ds.union(ds).count() == 20
    assert ds.map_batches(boom, udf_modifying_row_count=False).count() == 10
    for ran in (ds.map_batches(boom), ds.flat_map(boom), ds.filter(boom)):
        with pytest.raises(ZeroDivisionError):
            ran.count()
    with pytest.raises(ZeroDivisionError):
        ds.map(boom).count(exact=True)
    assert ds.map(lambda row: row).count(exact=True) == 10


def test_count_runs_where_rows_may_be_left_out() -> None:
    ds = skate.data.range(10).map(lambda row: {"x": 1 // (row["id"] % 2)}, on_error="skip")
    assert ds.count() == 5


def test_count_is_remembered() -> None:
    calls: list[int] = []

    def odd(row: dict[str, Any]) -> bool:
        calls.append(1)
        return bool(row["id"] % 2)

    ds = skate.data.range(10).filter(odd)
    assert (ds.count(), ds.count()) == (5, 5)
    assert len(calls) == 10


def test_length_iteration_and_truth() -> None:
    ds = skate.data.range(3)
    with pytest.raises(AttributeError, match="count"):
        len(ds)
    with pytest.raises(TypeError, match="iter_rows"):
        iter(ds)
    assert bool(skate.data.range(0)) is True


def test_blocks_are_counted_when_they_are_there() -> None:
    ds = skate.data.range(10, override_num_blocks=4)
    with pytest.raises(NotImplementedError, match="materialize"):
        ds.num_blocks()
    assert ds.materialize().num_blocks() == 5  # of 2 rows, as Ray cuts them
    assert skate.data.range(3, override_num_blocks=7).materialize().num_blocks() == 3


def test_take() -> None:
    ds = skate.data.range(5)
    assert ds.take(0) == []
    assert ds.take(-1) == []
    assert ds.take(2) == [{"id": 0}, {"id": 1}]
    assert len(ds.take()) == 5
    with pytest.raises(TypeError, match="limit"):
        ds.take("2")  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ["take_all", "to_pandas"])
def test_a_limit_refuses_more_rows(verb: str) -> None:
    ds = skate.data.range(5)
    with pytest.raises(ValueError, match="more than the given limit of 3"):
        getattr(ds, verb)(limit=3)
    assert len(getattr(ds, verb)(limit=5)) == 5


def test_too_many_bytes_for_this_process_are_refused_with_their_size() -> None:
    context = skate.data.DataContext.get_current()
    context.memory_limit_bytes = 8 << 20
    context.target_max_block_size = 1 << 20
    ds = skate.data.range(2_000_000, override_num_blocks=32)
    with pytest.raises(MemoryError, match=r"take_all\(\).* MiB .*write_parquet"):
        ds.take_all()


def test_take_batch() -> None:
    ds = skate.data.range(5)
    assert ds.take_batch(30)["id"].tolist() == [0, 1, 2, 3, 4]
    assert list(ds.take_batch(2, batch_format="pandas")["id"]) == [0, 1]
    with pytest.raises(ValueError, match="The dataset is empty"):
        skate.data.range(0).take_batch()
    with pytest.raises(ValueError, match="batch_size"):
        ds.take_batch(0)
    with pytest.raises(ValueError, match="batch_format"):
        ds.take_batch(1, batch_format="polars")


def test_limit() -> None:
    assert skate.data.range(5).limit(-1).take_all() == []
    assert skate.data.range(5).limit(3).count() == 3
    with pytest.raises(TypeError, match="limit"):
        skate.data.range(5).limit(1.5)  # type: ignore[arg-type]


def test_take_one_of_two_hundred_blocks_calls_the_function_once() -> None:
    seen: list[int] = []

    def f(row: dict[str, Any]) -> dict[str, Any]:
        seen.append(row["id"])
        return row

    assert skate.data.range(1000, override_num_blocks=200).map(f).take(1) == [{"id": 0}]
    assert seen == [0]


def test_show_prints_rows(printed: Callable[[Callable[[], Any]], str]) -> None:
    assert printed(lambda: skate.data.range(3).show(2)) == "{'id': 0}\n{'id': 1}\n"


def test_explain_prints_four_plans(printed: Callable[[Callable[[], Any]], str]) -> None:
    ds = skate.data.range(3).map(boom)
    text = printed(ds.explain)
    for title in ("Logical Plan", "Logical Plan (Optimized)", "Physical Plan", "Physical Plan (Optimized)"):
        assert f"-------- {title} --------\n" in text
    assert "ReadRange->Map(boom)" in text
    assert "Prediction" not in text


def test_explain_of_a_sample_prints_what_all_rows_need(printed: Callable[[Callable[[], Any]], str]) -> None:
    ds = skate.data.range(100_000).map(lambda row: row)
    text = printed(lambda: ds.explain(sample=10))
    assert "-------- Physical Plan (Optimized) --------\n" in text
    assert re.search(r"-------- Prediction --------\nFrom [\d,]+ rows:\n  100,000 rows will take about", text)
    with pytest.raises(ValueError, match=r"explain\(sample=0\)"):
        ds.explain(sample=0)
    with pytest.raises(ValueError, match=r"explain\(sample=\) takes a data set with one source"):
        ds.union(skate.data.range(5)).explain(sample=5)


def test_materialize_makes_a_new_set_each_time() -> None:
    made = skate.data.range(3).materialize()
    assert isinstance(made, MaterializedDataset)
    assert made.materialize() is not made
    assert made.take_all() == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert type(made.map(lambda row: row)) is skate.data.Dataset


def test_input_files_are_those_that_are_read(tmp_path: Path) -> None:
    for number in range(3):
        pq.write_table(pa.table({"a": [number]}), tmp_path / f"{number}.parquet")
    ds = skate.data.read_parquet(str(tmp_path))
    assert [Path(file).name for file in ds.map(boom).input_files()] == [f"{n}.parquet" for n in range(3)]
    assert skate.data.range(3).input_files() == []


def test_names() -> None:
    ds = skate.data.range(3)
    assert ds.name is None
    assert ds.set_name("foo") is None  # type: ignore[func-returns-value]
    assert ds.name == "foo"
    assert "foo" in repr(ds)
    assert ds.get_dataset_id().startswith("foo_")
    assert repr(skate.data.from_items([])).startswith("MaterializedDataset(num_rows=0")
    empty = skate.data.range(0)
    empty.set_name("foo")
    assert repr(empty).startswith("Dataset(name=foo, ")


def test_sizes() -> None:
    assert skate.data.range(10).size_bytes() == 80
    assert skate.data.range(10).materialize().size_bytes() == 80
    assert skate.data.range(10).map(lambda row: row).size_bytes() == 80


def test_stats_of_the_last_execution() -> None:
    ds = skate.data.range(10)
    assert ds.stats() == ""
    assert ds.get_stats_summary() == {}
    ds.take_all()
    assert "ReadRange" in ds.stats()
    assert ds.get_stats_summary()["stages"][0]["rows_in"] == 10
    assert "ReadRange" in ds.materialize().stats()


def test_a_dataset_travels() -> None:
    ds = skate.data.range(10).map(lambda row: {"x": row["id"] + 1})
    again = skate.cloudpickle.loads(skate.cloudpickle.dumps(ds))
    assert again.take(1) == [{"x": 1}]
    made = pickle.loads(pickle.dumps(skate.data.range(3).materialize()))
    assert made.count() == 3
    assert skate.data.Dataset.copy(ds).take(1) == [{"x": 1}]
