"""map, map_batches, flat_map, filter: each line of the design's section 2.2 that is the verbs' own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import skate.data
from skate.data import ActorPoolStrategy, TaskPoolStrategy
from skate.data._plan.logical import ActorPool, Apply, Resources, TaskPool


class Add:
    """Adds a number to the ids of a batch, or of a row."""

    def __init__(self, number: int = 1) -> None:
        self.number = number

    def __call__(self, data: Any) -> Any:
        return {"x": data["id"] + self.number}


def same(row: Any, *args: Any, **kwargs: Any) -> Any:
    return row


def node(ds: Any) -> Apply:
    assert isinstance(ds._plan, Apply)
    return ds._plan


TEN = skate.data.range(10, override_num_blocks=5)
VERBS = ("map", "map_batches", "flat_map", "filter")


# ---------------------------------------------------------------------- batches


def sizes(batch_size: Any, blocks: int = 5, rows: int = 10) -> list[int]:
    seen: list[int] = []

    def note(batch: dict[str, Any]) -> dict[str, Any]:
        seen.append(len(batch["id"]))
        return batch

    skate.data.range(rows, override_num_blocks=blocks).map_batches(note, batch_size=batch_size).take_all()
    return seen


def test_batches_are_packed_across_blocks() -> None:
    assert sizes(4) == [4, 4, 2]
    assert sizes(1024, rows=9) == [9]
    assert sum(sizes(None)) == sum(sizes("auto")) == 10


@pytest.mark.parametrize(
    ("size", "error"),
    [("default", TypeError), (0, ValueError), (-1, ValueError), (2.5, TypeError), (True, TypeError)],
)
def test_wrong_batch_sizes(size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="batch_size"):
        TEN.map_batches(same, batch_size=size)


@pytest.mark.parametrize("size", [None, "auto"])
def test_gpus_need_a_batch_size(size: Any) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        TEN.map_batches(same, batch_size=size, num_gpus=1)


@pytest.mark.parametrize(
    ("batch_format", "kind"),
    [("default", dict), ("numpy", dict), ("pandas", pd.DataFrame), ("pyarrow", pa.Table), (None, pa.Table)],
)
def test_formats(batch_format: str | None, kind: type) -> None:
    seen: list[type] = []

    def note(batch: Any) -> Any:
        seen.append(type(batch))
        if isinstance(batch, pd.DataFrame):
            assert str(batch["id"].dtype) == "int64[pyarrow]"
        return batch

    rows = TEN.map_batches(note, batch_format=batch_format).take_all()
    assert rows == [{"id": n} for n in range(10)]
    assert set(seen) == {kind}


def test_an_unknown_format_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="polars"):
        TEN.map_batches(same, batch_format="polars")


@pytest.mark.parametrize(
    "result",
    [
        lambda b: {"x": b["id"]},
        lambda b: {"x": b["id"].tolist()},
        lambda b: pd.DataFrame({"x": b["id"]}),
        lambda b: pa.table({"x": b["id"]}),
        lambda b: ({"x": b["id"][i : i + 1]} for i in range(len(b["id"]))),
    ],
)
def test_what_a_function_may_return(result: Any) -> None:
    assert TEN.map_batches(result).take_all() == [{"x": n} for n in range(10)]


@pytest.mark.parametrize("result", [{"x": 1}, [1, 2], {"x": [1], "y": [1, 2]}, None, 5])
def test_what_it_may_not_return(result: Any) -> None:
    with pytest.raises(ValueError):
        TEN.map_batches(lambda batch: result).take_all()


def test_no_columns_are_no_rows() -> None:
    assert TEN.map_batches(lambda batch: {}).take_all() == []


@pytest.mark.parametrize("batch_format", ["numpy", "pandas"])
def test_batches_without_zero_copy_can_be_written_to(batch_format: str) -> None:
    def change(batch: Any) -> Any:
        if isinstance(batch, pd.DataFrame):
            batch.loc[batch.index[0], "id"] = 7  # pandas 3 forbids chained assignment
        else:
            batch["id"][0] = 7
        return batch

    rows = TEN.map_batches(change, batch_format=batch_format, zero_copy_batch=False).take_all()
    assert rows[0] == {"id": 7}
    if batch_format == "numpy":
        with pytest.raises(ValueError, match="read-only"):
            TEN.map_batches(change, batch_format=batch_format).take_all()


# ---------------------------------------------------------------------- arguments


def test_arguments_reach_the_function() -> None:
    ds = TEN.map(lambda row, a, b: {"x": row["id"] + a + b}, fn_args=[1], fn_kwargs={"b": 2})
    assert ds.take(1) == [{"x": 3}]
    ds = TEN.map_batches(lambda batch, *a, **k: {"x": [a[0] + k["b"]]}, fn_args=(1,), fn_kwargs={"b": 2})
    assert ds.take(1) == [{"x": 3}]


@pytest.mark.parametrize("verb", VERBS)
def test_constructor_arguments_need_a_class(verb: str) -> None:
    with pytest.raises(ValueError, match="fn_constructor_args"):
        getattr(TEN, verb)(same, fn_constructor_args=[1])
    with pytest.raises(ValueError, match="fn_constructor_kwargs"):
        getattr(TEN, verb)(same, fn_constructor_kwargs={"a": 1})


@pytest.mark.parametrize("verb", VERBS)
def test_something_that_cannot_be_called_is_refused(verb: str) -> None:
    with pytest.raises((TypeError, ValueError), match=verb):
        getattr(TEN, verb)(5)


# ---------------------------------------------------------------------- pools


@pytest.mark.parametrize("verb", VERBS)
def test_classes_run_on_a_pool_without_a_word(verb: str) -> None:
    ds = getattr(TEN, verb)(Add, fn_constructor_args=[1])
    assert node(ds).compute == ActorPool(min_size=1, max_size=None, initial_size=None)
    assert node(getattr(TEN, verb)(same)).compute == TaskPool()


def test_strategies_become_pools() -> None:
    ds = TEN.map(Add, compute=ActorPoolStrategy(size=3, max_tasks_in_flight_per_actor=5))
    assert node(ds).compute == ActorPool(3, 3, 3, in_flight=5)
    ds = TEN.map(Add, compute=ActorPoolStrategy(min_size=0, max_size=4, max_concurrent_calls_per_actor=8))
    assert node(ds).compute == ActorPool(0, 4, None, max_concurrency=8)
    assert node(TEN.map(same, compute=TaskPoolStrategy(2))).compute == TaskPool(2)
    assert node(TEN.map(Add, compute="actors")).compute == ActorPool()


@pytest.mark.parametrize(
    ("concurrency", "pool"),
    [(2, ActorPool(2, 2, 2)), ((1, 2), ActorPool(1, 2)), ((1, 3, 2), ActorPool(1, 3, 2))],
)
def test_the_old_spelling_of_pools_warns_once(concurrency: Any, pool: ActorPool) -> None:
    with pytest.warns(DeprecationWarning, match=r"map_batches\(concurrency=\).*ActorPoolStrategy") as caught:
        ds = TEN.map_batches(Add, concurrency=concurrency)
    assert caught[0].filename == __file__
    assert node(ds).compute == pool
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert node(TEN.map_batches(Add, concurrency=concurrency)).compute == pool


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrong_old_spellings() -> None:
    assert node(TEN.map(same, concurrency=4)).compute == TaskPool(4)
    for wrong in ((1, 2), 0, -1, "2"):
        with pytest.raises(ValueError, match="concurrency"):
            TEN.map(same, concurrency=wrong)
    for wrong in ((1,), (1, 2, 3, 4), ("a", "b")):
        with pytest.raises(ValueError, match="concurrency"):
            TEN.map(Add, concurrency=wrong)


def test_compute_wins_over_concurrency() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = TEN.map_batches(Add, compute=ActorPoolStrategy(size=3), concurrency=1)
    assert node(ds).compute == ActorPool(3, 3, 3)


def test_strategies_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="TaskPoolStrategy"):
        TEN.map(Add, compute=TaskPoolStrategy())
    with pytest.raises(TypeError, match="compute"):
        TEN.map(Add, compute=3)
    with pytest.raises(ValueError, match="threads"):
        TEN.map(Add, compute="threads")


# ---------------------------------------------------------------------- resources


def test_resources() -> None:
    ds = TEN.map_batches(same, batch_size=2, num_cpus=0.5, num_gpus=0.25, memory=100, resources={"a": 1})
    assert node(ds).resources == Resources(0.5, 0.25, 100, {"resources": {"a": 1}})
    assert node(ds).batch_rows == 2


def test_free_options_are_the_old_spelling() -> None:
    with pytest.warns(DeprecationWarning, match="ray_remote_args"):
        ds = TEN.map(same, scheduling_strategy="SPREAD", max_restarts=1)
    assert node(ds).resources.others == {"scheduling_strategy": "SPREAD", "max_restarts": 1}
    with pytest.warns(DeprecationWarning, match="ray_remote_args_fn"):
        ds = TEN.map(same, ray_remote_args_fn=lambda: {"num_cpus": 2})
    assert node(ds).resources.num_cpus == 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_cpus": -1}, ValueError, "num_cpus"),
        ({"num_gpus": "1"}, TypeError, "num_gpus"),
        ({"memory": True}, TypeError, "memory"),
        ({"batchsize": 3}, TypeError, "batchsize"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrong_resources(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        TEN.map(same, **options)


# ---------------------------------------------------------------------- errors


def test_the_users_type_of_error_arrives() -> None:
    def f(row: dict[str, Any]) -> Any:
        return {"x": row["nothing"]}

    with pytest.raises(KeyError, match="nothing") as caught:
        TEN.map(f).take_all()
    assert isinstance(caught.value, skate.exceptions.RayTaskError)
    assert isinstance(caught.value, skate.exceptions.UserCodeException)
    assert caught.value.row == {"id": 0}


@pytest.mark.parametrize("result", [None, 5, [1]])
def test_a_row_is_a_dict(result: Any) -> None:
    with pytest.raises(ValueError, match="dict"):
        TEN.map(lambda row: result).take_all()


def test_flat_map_takes_lists_and_generators() -> None:
    assert TEN.flat_map(lambda row: [row, row]).count() == 20
    assert TEN.flat_map(lambda row: ({"x": n} for n in range(row["id"]))).count() == 45
    with pytest.raises(ValueError, match="flat_map"):
        TEN.flat_map(lambda row: row).take_all()


def test_filter_takes_what_is_true() -> None:
    assert TEN.filter(lambda row: row["id"] % 2).count() == 5
    assert TEN.filter(lambda row: "").take_all() == []
    with pytest.raises(ValueError, match="neither"):
        TEN.filter()
    with pytest.raises(ValueError, match="both"):
        TEN.filter(same, expr="id > 1")


def test_rows_that_fail_are_skipped_or_kept() -> None:
    def f(row: dict[str, Any]) -> Any:
        return {"x": 1 // (row["id"] % 5)}

    assert TEN.map(f, on_error="skip").count() == 8
    made = TEN.map(f, on_error="dead_letter").materialize()
    letters = made.dead_letters()
    assert made.count() == 8
    assert [row["row"]["id"] for row in letters.take_all()] == [0, 5]
    assert set(letters.unique("error_type")) == {"ZeroDivisionError"}
    fixed = TEN.map(lambda row: {"x": -1})
    fixed._plan.operator.name = "Map(f)"  # type: ignore[attr-defined]
    assert fixed.retry(letters).take_all() == [{"x": -1}, {"x": -1}]
    with pytest.raises(ValueError, match="Map"):
        TEN.flat_map(f).retry(letters)


def test_dead_letters_need_a_run() -> None:
    with pytest.raises(RuntimeError, match="run the data set first"):
        skate.data.range(3).dead_letters()


def test_the_contexts_options_of_errors_count() -> None:
    context = skate.data.DataContext.get_current()
    context.max_errored_blocks = -1
    ds = skate.data.range(10).map(lambda row: {"x": 1 // (row["id"] % 5)})
    assert ds.count() == 8
    context.max_errored_blocks = 1
    ds = skate.data.range(10).map(lambda row: {"x": 1 // (row["id"] % 5)})
    with pytest.raises(skate.data.exceptions.TooManyErrorsError):
        ds.count()


def test_max_errors_needs_on_error() -> None:
    with pytest.raises(ValueError, match="on_error"):
        TEN.map(same, max_errors=3)
    with pytest.raises(ValueError, match="on_error"):
        TEN.map(same, on_error="ignore")


def test_tries_again() -> None:
    calls: list[int] = []

    def flaky(row: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("once")
        return row

    assert skate.data.range(3).map(flaky, retry_on=OSError).count(exact=True) == 3
    assert len(calls) == 4


def test_tensors_stay_arrays() -> None:
    ds = skate.data.range(3).map(lambda row: {"a": np.full((2, 3), row["id"])})
    assert ds.take(2)[1]["a"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert ds.take_batch()["a"].shape == (3, 2, 3)
