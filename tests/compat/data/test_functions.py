"""map, flat_map, filter and map_batches: what functions take, what they may return, and how they fail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray.data
import ray.exceptions
from ray.data import ActorPoolStrategy

from .helpers import blocks, differs, ids, settings, sizes


def rows_of_batches(ds, **options):
    """Return the number of rows of each batch."""
    return [row["n"] for row in ds.map_batches(lambda batch: {"n": [len(batch["id"])]}, **options).take_all()]


def kind(batch):
    """A batch that says of what type the one was."""
    return {"type": [f"{type(batch).__module__.split('.')[0]}.{type(batch).__name__}"]}


class Count:
    """Counts its calls."""

    def __init__(self, start=0, step=1):
        self.value, self.step = start, step

    def __call__(self, batch):
        self.value += self.step
        return {"calls": [self.value]}


class Double:
    """For rows."""

    def __call__(self, row):
        return {"id": row["id"] * 2}


# ---------------------------------------------------------------------- rows


def test_map_takes_and_returns_dicts():
    assert ids(ray.data.range(3).map(lambda row: {"id": row["id"] * 2})) == [0, 2, 4]


def test_map_of_a_class():
    assert ids(ray.data.range(3).map(Double, concurrency=1)) == [0, 2, 4]


def test_arguments_of_map():
    ds = ray.data.range(2).map(
        lambda row, a, b: {"id": row["id"] + a + b}, fn_args=[10], fn_kwargs={"b": 100}
    )
    assert ids(ds) == [110, 111]


def test_flat_map_of_lists():
    assert ids(ray.data.range(3).flat_map(lambda row: [row] * row["id"])) == [1, 2, 2]


def test_flat_map_of_generators():
    def repeat(row):
        for _ in range(row["id"]):
            yield row

    assert ids(ray.data.range(3).flat_map(repeat)) == [1, 2, 2]


def test_filter_by_anything_that_is_true():
    assert ids(ray.data.range(5).filter(lambda row: row["id"] % 2)) == [1, 3]


def test_filter_by_text():
    assert ids(ray.data.range(5).filter(expr="id > 2")) == [3, 4]


@pytest.mark.parametrize("value", [None, [1], 3])
def test_map_that_returns_no_dict_is_a_value_error(value):
    with pytest.raises(ValueError, match="dict"):
        ray.data.range(2).map(lambda row: value).take_all()


def test_flat_map_that_returns_a_dict_is_a_value_error():
    with pytest.raises(ValueError):
        ray.data.range(2).flat_map(lambda row: row).take_all()


def test_filter_needs_a_function_or_an_expression():
    with pytest.raises(ValueError):
        ray.data.range(2).filter()
    with pytest.raises(ValueError):
        ray.data.range(2).filter(lambda row: True, expr="id > 1")


# ---------------------------------------------------------------------- batches


def test_a_batch_is_a_dict_of_arrays():
    def check(batch):
        assert isinstance(batch, dict)
        assert isinstance(batch["id"], np.ndarray)
        return batch

    assert ids(ray.data.range(4).map_batches(check)) == [0, 1, 2, 3]


def test_a_batch_is_a_block_by_default():
    ds = blocks({"id": [1, 2, 3]}, {"id": [4, 5]})
    assert rows_of_batches(ds) == [3, 2]


def test_small_blocks_fill_a_batch():
    ds = blocks(*({"id": [n, n]} for n in range(5)))
    assert rows_of_batches(ds, batch_size=4) == [4, 4, 2]


def test_a_batch_size_above_the_rows_gives_one_batch():
    assert rows_of_batches(ray.data.range(9, override_num_blocks=3), batch_size=1024) == [9]


def test_batch_sizes_that_are_no_sizes():
    with pytest.raises(ValueError):
        ray.data.range(3).map_batches(kind, batch_size=0)
    with pytest.raises(TypeError):
        ray.data.range(3).map_batches(kind, batch_size="default").take_all()


@pytest.mark.parametrize(
    ("batch_format", "expected"),
    [
        ("default", "builtins.dict"),
        ("numpy", "builtins.dict"),
        ("pandas", "pandas.DataFrame"),
        ("pyarrow", "pyarrow.Table"),
        (None, "pyarrow.Table"),
    ],
)
def test_formats_of_batches(batch_format, expected):
    (row,) = ray.data.range(3, override_num_blocks=1).map_batches(kind, batch_format=batch_format).take_all()
    assert row["type"] == expected


def test_an_unknown_format_is_an_error_at_the_call():
    with pytest.raises(ValueError, match="polars"):
        ray.data.range(3).map_batches(kind, batch_format="polars")


def test_data_frames_have_types_of_arrow():
    ds = ray.data.range(1).map_batches(lambda df: {"type": [str(df["id"].dtype)]}, batch_format="pandas")
    assert ds.take_all() == [{"type": "int64[pyarrow]"}]


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"x": np.array([1, 2])},
        lambda: {"x": [1, 2]},
        lambda: pd.DataFrame({"x": [1, 2]}),
        lambda: pa.table({"x": [1, 2]}),
    ],
    ids=["arrays", "lists", "data frame", "table"],
)
def test_what_a_batch_function_may_return(make):
    assert ray.data.range(1).map_batches(lambda batch: make()).take_all() == [{"x": 1}, {"x": 2}]


def test_a_batch_function_may_yield():
    def twice(batch):
        yield {"x": batch["id"]}
        yield {"x": batch["id"] + 10}

    assert ray.data.range(2, override_num_blocks=1).map_batches(twice).take_all() == [
        {"x": 0},
        {"x": 1},
        {"x": 10},
        {"x": 11},
    ]


def test_an_empty_dict_is_no_rows():
    assert ray.data.range(3).map_batches(lambda batch: {}).take_all() == []


@pytest.mark.parametrize(
    "value",
    [3, [1, 2], {"x": 3}, {"x": [1], "y": [1, 2]}],
    ids=["number", "list", "dict of numbers", "uneven columns"],
)
def test_what_a_batch_function_may_not_return(value):
    with pytest.raises(ValueError):
        ray.data.range(2).map_batches(lambda batch: value).take_all()


def test_batches_are_read_only():
    def write(batch):
        batch["id"][0] = 7
        return batch

    with pytest.raises(Exception, match="read-only"):
        ray.data.range(2).map_batches(write).take_all()


@differs(
    on="ray",
    reason="Arrays of numpy stay read-only, against the documentation, which is followed here: they can be written to.",
)
def test_batches_that_are_copies_can_be_written_to():
    def write(batch):
        batch["id"][0] = 7
        return batch

    ds = ray.data.range(2, override_num_blocks=1).map_batches(write, zero_copy_batch=False)
    assert ids(ds) == [7, 1]


def test_data_frames_that_are_copies_can_be_written_to():
    def write(df):
        df.loc[0, "id"] = 7
        return df

    ds = ray.data.range(2, override_num_blocks=1)
    assert ids(ds.map_batches(write, batch_format="pandas", zero_copy_batch=False)) == [7, 1]


# ---------------------------------------------------------------------- classes


def test_a_class_needs_no_concurrency():
    assert ray.data.range(3, override_num_blocks=1).map_batches(Count).take_all() == [{"calls": 1}]


def test_an_instance_keeps_its_state():
    ds = blocks({"id": [1]}, {"id": [2]}).map_batches(Count, concurrency=1)
    assert sorted(row["calls"] for row in ds.take_all()) == [1, 2]


@differs(
    on="skate",
    reason="Instances of the last minute go on, with their state, for loading a model takes seconds; "
    "`DataContext.pool_linger_s = 0` makes new ones.",
)
def test_every_execution_has_new_instances():
    class Own(Count):
        pass

    with settings(**({"pool_linger_s": 60.0} if hasattr(ray.data.DataContext(), "pool_linger_s") else {})):
        ds = blocks({"id": [1]}, {"id": [2]}).map_batches(Own, concurrency=1)
    assert [sorted(row["calls"] for row in ds.take_all()) for _ in range(2)] == [[1, 2]] * 2


def test_arguments_of_a_constructor():
    ds = ray.data.range(1).map_batches(
        Count, compute=ActorPoolStrategy(size=1), fn_constructor_args=[10], fn_constructor_kwargs={"step": 5}
    )
    assert ds.take_all() == [{"calls": 15}]


def test_arguments_of_a_constructor_need_a_class():
    with pytest.raises(ValueError, match="fn_constructor_args"):
        ray.data.range(1).map_batches(kind, fn_constructor_args=[1])


@pytest.mark.parametrize("concurrency", [1, (1, 2), (1, 2, 1)])
def test_spellings_of_concurrency(concurrency):
    ds = ray.data.range(2, override_num_blocks=1).map_batches(Count, concurrency=concurrency)
    assert ds.take_all() == [{"calls": 1}]


def test_a_function_has_no_least_concurrency():
    with pytest.raises(ValueError):
        ray.data.range(1).map_batches(kind, concurrency=(1, 2))


def test_compute_wins_over_concurrency():
    ds = ray.data.range(1).map_batches(Count, compute=ActorPoolStrategy(size=1), concurrency=2)
    assert ds.take_all() == [{"calls": 1}]


def test_strategies_of_pools():
    with pytest.raises(ValueError):
        ActorPoolStrategy(size=2, min_size=1)
    with pytest.raises(ValueError):
        ActorPoolStrategy(min_size=2, max_size=1)
    assert ActorPoolStrategy(size=2) == ActorPoolStrategy(min_size=2, max_size=2)
    assert "min_size=1" in repr(ActorPoolStrategy(min_size=1, max_size=3))


@differs(on="ray", reason="A ValueError. Here a pool may shrink to nothing while it has no work.")
def test_a_pool_may_have_no_replicas():
    assert ActorPoolStrategy(min_size=0, max_size=2).min_size == 0


def test_gpus_need_a_batch_size():
    with pytest.raises(ValueError, match="batch_size"):
        ray.data.range(1).map_batches(kind, num_gpus=1)


def test_async_methods():
    class Slow:
        async def __call__(self, batch):
            import asyncio

            await asyncio.sleep(0)
            return {"id": batch["id"] + 1}

    assert ids(ray.data.range(3, override_num_blocks=1).map_batches(Slow, concurrency=1)) == [1, 2, 3]


def test_async_generators():
    class Slow:
        async def __call__(self, batch):
            for value in batch["id"]:
                yield {"id": [value]}

    assert ids(ray.data.range(3, override_num_blocks=1).map_batches(Slow, concurrency=1)) == [0, 1, 2]


@differs(on="ray", reason="A ValueError: async functions work as methods of classes alone. Here they work.")
def test_async_functions():
    async def plus(row):
        return {"id": row["id"] + 1}

    assert ids(ray.data.range(3).map(plus)) == [1, 2, 3]


# ---------------------------------------------------------------------- errors


def fail(row):
    if row["id"] == 1:
        raise KeyError("on purpose")
    return row


def test_an_error_of_a_function_is_a_task_error():
    with pytest.raises(ray.exceptions.RayTaskError, match="on purpose"):
        ray.data.range(3).map(fail).take_all()


def test_an_error_of_a_function_is_a_user_code_exception():
    with pytest.raises(ray.exceptions.UserCodeException):
        ray.data.range(3).map(fail).take_all()


@differs(
    on="ray",
    reason="The error is no KeyError, and `except KeyError` of the program does not catch it, unless "
    "`DataContext.raise_original_map_exception` is set. Here it always is one.",
)
def test_an_error_of_a_function_keeps_its_type():
    with pytest.raises(KeyError):
        ray.data.range(3).map(fail).take_all()


@differs(on="ray", reason="The message does not say which row failed. Here it does, with its values.")
def test_an_error_of_a_function_names_the_row():
    with pytest.raises(ray.exceptions.RayTaskError, match="row 1 "):
        ray.data.range(3, override_num_blocks=1).map(fail).take_all()


def test_an_error_of_a_function_calls_itself_by_a_module_of_ray():
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.data.range(3).map(fail).take_all()
    assert type(caught.value).__module__ in ("ray.exceptions", "ray.data.exceptions")
    assert "UserCodeException" in type(caught.value).__name__


def test_an_error_of_a_function_ends_the_run():
    done = ray.data.range(3).map(fail)
    for _ in range(2):
        with pytest.raises(ray.exceptions.RayTaskError):
            done.materialize()


@differs(
    on="ray",
    reason="An ActorDiedError with the traceback in its text. Here an instance of the class of the error, too.",
)
def test_an_error_of_a_constructor_keeps_its_type():
    class Broken:
        def __init__(self):
            raise KeyError("no model")

        def __call__(self, batch):
            return batch

    with pytest.raises(KeyError, match="no model"):
        ray.data.range(1).map_batches(Broken, concurrency=1).take_all()


@differs(
    on="ray",
    reason="`max_errored_blocks` loses the whole block of a row that fails. Here the row alone: its neighbours "
    "are good.",
)
def test_errored_blocks_lose_no_good_row():
    with settings(max_errored_blocks=1):
        assert ids(blocks({"id": [0, 1, 2]}).map(fail)) == [0, 2]


def test_a_function_may_give_blocks_of_any_size():
    ds = ray.data.range(1).map_batches(lambda batch: {"x": np.zeros(100_000)})
    assert sum(sizes(ds)) == 100_000
