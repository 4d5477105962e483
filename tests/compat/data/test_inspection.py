"""Laziness, printing, schemas, counts."""

from __future__ import annotations

import pyarrow as pa
import pytest
import ray.data

from .helpers import blocks, boom, differs, ids, printed, settings


def test_a_read_prints_as_a_table_without_rows():
    assert repr(ray.data.range(10)) == (
        "shape: (10, 1)\n╭───────╮\n│ id    │\n│ ---   │\n│ int64 │\n╰───────╯\n(Dataset isn't materialized)"
    )


def test_a_materialized_data_set_prints_rows():
    text = repr(ray.data.range(10).materialize())
    assert text.startswith("shape: (10, 1)")
    assert "│ 9     │" in text
    assert text.endswith("(Showing 10 of 10 rows)")


def test_ten_rows_are_printed_of_many():
    assert repr(ray.data.from_items(list(range(50)))).endswith("(Showing 10 of 50 rows)")


def test_a_plan_of_known_columns_prints_as_a_table():
    table = "╭───────╮\n│ id    │\n│ ---   │\n│ int64 │\n╰───────╯\n(Dataset isn't materialized)"
    assert repr(ray.data.range(10).filter(lambda row: True)) == f"shape: (?, 1)\n{table}"
    assert repr(ray.data.range(10).limit(2)) == f"shape: (2, 1)\n{table}"
    assert repr(ray.data.range(10).sort("id").random_shuffle()) == f"shape: (10, 1)\n{table}"


def test_a_plan_of_unknown_columns_prints_as_a_tree():
    ds = ray.data.range(10).map(lambda row: row).filter(lambda row: True)
    assert repr(ds) == "Filter(<lambda>)\n+- Map(<lambda>)\n   +- Dataset(num_rows=10, schema={id: int64})"


def test_a_data_set_without_items_prints_as_a_line():
    assert repr(ray.data.from_items([])) == "MaterializedDataset(num_rows=0, schema=Unknown schema)"


def test_a_schema_prints_as_two_columns():
    assert str(ray.data.range(3).schema()) == "Column  Type\n------  ----\nid      int64"


def test_a_schema_has_names_types_and_the_schema_of_arrow():
    schema = ray.data.range(3).schema()
    assert schema.names == ["id"]
    assert schema.base_schema == pa.schema([("id", pa.int64())])
    assert schema == ray.data.range(9).schema()


def test_types_of_a_schema_are_those_of_pyarrow():
    assert ray.data.range(3).schema().types == [pa.int64()]


def test_the_schema_of_a_function_is_that_of_its_first_rows():
    ds = ray.data.range(10).map(lambda row: {"x": str(row["id"])})
    assert ds.schema(fetch_if_missing=False) is None
    assert ds.columns() == ["x"]
    assert ds.schema().base_schema == pa.schema([("x", pa.string())])


def test_a_filter_keeps_the_schema_and_does_not_run_for_it():
    assert ray.data.range(10).filter(boom).columns() == ["id"]


@differs(on="ray", reason="It has no schema. Here it keeps its columns.")
def test_an_empty_result_keeps_the_schema_of_a_filter():
    assert ray.data.range(10).filter(lambda row: False).materialize().columns() == ["id"]


def test_no_rows_of_a_function_have_no_schema():
    ds = ray.data.range(3).flat_map(lambda row: [])
    assert ds.schema() is None
    assert ds.columns() is None


def test_count_does_not_run_a_map():
    assert ray.data.range(10).map(boom).count() == 10


def test_count_runs_a_map_batches():
    def first(batch):
        return {"x": batch["id"][:1]}

    assert blocks({"id": list(range(10))}).map_batches(first, batch_size=5).count() == 2


def test_count_does_not_run_a_map_batches_that_keeps_the_number_of_rows():
    assert ray.data.range(10).map_batches(boom, udf_modifying_row_count=False).count() == 10


def test_len_says_to_call_count():
    with pytest.raises(AttributeError, match=r"count\(\)"):
        len(ray.data.range(3))


def test_iter_says_to_call_iter_rows():
    with pytest.raises(TypeError, match="iter_rows"):
        iter(ray.data.range(3))


def test_an_empty_data_set_is_true():
    assert bool(ray.data.range(0)) is True


def test_the_number_of_blocks_is_known_of_materialized_data_sets_alone():
    ds = ray.data.range(10, override_num_blocks=2)
    with pytest.raises(NotImplementedError):
        ds.num_blocks()
    assert ds.materialize().num_blocks() == 2


def test_take_of_no_rows():
    assert ray.data.range(3).take(0) == []


def test_take_gives_the_first_rows():
    assert ray.data.range(100).take(3) == [{"id": 0}, {"id": 1}, {"id": 2}]


def test_take_gives_twenty_rows_by_default():
    assert len(ray.data.range(100).take()) == 20


def test_take_all_refuses_more_rows_than_its_limit():
    with pytest.raises(ValueError, match="more than the given limit of 3"):
        ray.data.range(5).take_all(limit=3)


def test_to_pandas_refuses_more_rows_than_its_limit():
    with pytest.raises(ValueError, match="more than the given limit of 3"):
        ray.data.range(5).to_pandas(limit=3)


def test_take_batch_gives_the_rows_that_there_are():
    assert ray.data.range(5).take_batch(30)["id"].tolist() == [0, 1, 2, 3, 4]


def test_take_batch_of_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"The dataset is empty\."):
        ray.data.range(5).filter(lambda row: False).take_batch(3)


def test_take_batch_in_the_formats():
    ds = ray.data.range(5)
    assert type(ds.take_batch(2, batch_format="pandas")).__name__ == "DataFrame"
    assert isinstance(ds.take_batch(2, batch_format="pyarrow"), pa.Table)


def test_a_negative_limit_gives_nothing():
    assert ray.data.range(5).limit(-1).take_all() == []


def test_a_limit_stops_what_is_above_it():
    """Of 200 blocks, those far behind the first row do not run."""

    def check(row):
        if row["id"] >= 150:
            raise AssertionError("one row is enough")
        return row

    assert ray.data.range(200, override_num_blocks=200).map(check).take(1) == [{"id": 0}]


def test_explain_prints_plans():
    text = printed(lambda: ray.data.range(3).map(lambda row: row).explain())
    assert "Logical Plan" in text
    assert "Physical Plan" in text
    assert "Map(<lambda>)" in text


def test_materialize_makes_another_data_set_each_time():
    ds = ray.data.range(3).materialize()
    assert type(ds).__name__ == "MaterializedDataset"
    assert ds.materialize() is not ds
    assert isinstance(ds, ray.data.Dataset)


def test_a_materialized_data_set_does_not_run_again():
    ds = ray.data.range(4).map(lambda row: {"x": __import__("random").random()}).materialize()
    assert ds.take_all() == ds.take_all()


@differs(on="ray", reason="`[]`: its new reader of Parquet files does not say. Here: the files.")
def test_input_files_of_read_parquet(tmp_path):
    ray.data.range(3).write_parquet(str(tmp_path))
    assert [file.endswith(".parquet") for file in ray.data.read_parquet(str(tmp_path)).input_files()] == [
        True
    ]


def test_input_files_of_read_csv(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    (file,) = ray.data.read_csv(str(tmp_path)).input_files()
    assert file.endswith("a.csv")


def test_a_name_of_a_data_set():
    ds = ray.data.range(3).map(lambda row: row)
    assert ds.set_name("foo") is None
    assert ds.name == "foo"
    assert repr(ds) == "Map(<lambda>)\n+- Dataset(name=foo, num_rows=3, schema={id: int64})"
    ds = ray.data.range(3)
    ds.set_name("foo")
    assert repr(ds).startswith("name: foo\nshape: (3, 1)\n")


def test_show_prints_rows_as_dicts():
    assert printed(lambda: ray.data.range(3).show(2)) == "{'id': 0}\n{'id': 1}\n"


def test_stats_name_the_stages():
    ds = ray.data.range(3).map(lambda row: row).materialize()
    assert "Map(<lambda>)" in ds.stats()


def test_size_bytes_of_a_materialized_data_set():
    assert ray.data.range(1000).materialize().size_bytes() == 8000


def test_columns_of_a_data_set():
    assert blocks({"a": [1], "b": [2]}).columns() == ["a", "b"]


def test_an_unknown_setting_is_accepted():
    context = ray.data.DataContext.get_current()
    try:
        context.no_such_setting = 3
        assert context.no_such_setting == 3
        assert ids(ray.data.range(2)) == [0, 1]
    finally:
        del context.no_such_setting


@differs(
    on="ray",
    reason="Any value is accepted, and every later call fails with a TypeError from elsewhere. Here: a TypeError "
    "with the name of the setting, at once.",
)
def test_a_setting_of_a_wrong_type_is_an_error_where_it_is_set():
    with pytest.raises(TypeError, match="target_max_block_size"), settings(target_max_block_size="x"):
        pass


def test_the_current_settings_are_one_object():
    assert ray.data.DataContext.get_current() is ray.data.DataContext.get_current()


def test_a_data_set_keeps_the_settings_it_was_made_with():
    ds = ray.data.range(3)
    with settings(target_max_block_size=12345678):
        assert ds.context.target_max_block_size != 12345678
        assert ray.data.range(3).context.target_max_block_size == 12345678


def test_defaults_of_the_settings():
    context = ray.data.DataContext()
    assert context.target_max_block_size == 128 << 20
    assert context.target_min_block_size == 1 << 20
    assert context.read_op_min_num_blocks == 200
    assert context.max_errored_blocks == 0
    assert context.execution_options.preserve_order is False
