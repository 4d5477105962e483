"""``as_callable`` does to rows what a run does."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import skate
import skate.data
from skate import cloudpickle
from skate.data import ActorPoolStrategy
from skate.data.expressions import col, udf

ROWS = [{"id": number, "text": "ab"[: number % 3]} for number in range(10)]


class Scaler:
    made = 0

    def __init__(self, factor: int) -> None:
        type(self).made += 1
        self.factor = factor
        self.thread: int | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        assert self.thread is None, "one call at a time"
        self.thread = threading.get_ident()
        made = {**batch, "scaled": batch["id"] * self.factor}
        self.thread = None
        return made


class Later:
    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"later": row["id"]}


def halves(batch: pa.Table) -> Any:
    middle = batch.num_rows // 2
    yield batch.slice(0, middle)
    yield batch.slice(middle)


VERBS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda ds: ds,
    "map": lambda ds: ds.map(lambda row: {**row, "more": row["id"] + 1}),
    "flat_map": lambda ds: ds.flat_map(lambda row: [row] * (row["id"] % 3)),
    "filter": lambda ds: ds.filter(lambda row: row["id"] % 2),
    "filter(expr=)": lambda ds: ds.filter(expr=col("id") > 3),
    "columns": lambda ds: ds.with_column("twice", col("id") * 2).rename_columns({"text": "t"}),
    "no columns": lambda ds: ds.select_columns([]),
    "udf": lambda ds: ds.with_column("n", udf()(lambda ids: pa.array([len(ids)] * len(ids)))(col("id"))),
    "batches of three": lambda ds: ds.map_batches(lambda b: {"n": [len(b["id"])]}, batch_size=3),
    "pandas": lambda ds: ds.map_batches(lambda frame: frame[frame["id"] > 4], batch_format="pandas"),
    "generator": lambda ds: ds.map_batches(halves, batch_size=4, batch_format="pyarrow"),
    "class": lambda ds: ds.map_batches(Scaler, fn_constructor_args=[3], compute=ActorPoolStrategy(size=1)),
    "async class": lambda ds: ds.map(Later),
    "twice": lambda ds: ds.map(same).map(same).drop_columns("text"),
    "skip": lambda ds: ds.map(lambda row: {"x": 1 // (row["id"] % 2)}, on_error="skip"),
    "tensors": lambda ds: ds.map(lambda row: {"x": np.full((2, row["id"]), 1.5)}),
}


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row


def plain(rows: list[dict[str, Any]]) -> str:
    return repr(rows)


@pytest.mark.parametrize("verb", VERBS)
def test_it_does_what_a_run_does(verb: str) -> None:
    made = VERBS[verb](skate.data.from_items(ROWS).repartition(1).materialize())
    call = made.as_callable()
    expected = made.take_all()
    assert plain(call.rows(ROWS)) == plain(expected)
    assert plain(list(pa_rows(call.batch(pa.Table.from_pylist(ROWS), "pyarrow")))) == plain(expected)
    assert call.rows([]) == []


def pa_rows(table: pa.Table) -> Any:
    from skate.data._block.rows import iter_rows

    return iter_rows(table)


def test_one_row() -> None:
    ds = skate.data.range(3)
    call = ds.filter(lambda row: row["id"] > 1).map(lambda row: {"x": row["id"] * 2}).as_callable()
    assert call({"id": 5}) == {"x": 10}
    assert call({"id": 0}) is None
    with pytest.raises(
        ValueError, match=r"one row became 2 rows in RowPipeline\(FlatMap\(.*\.rows\(\[row\]\)"
    ):
        ds.flat_map(lambda row: [row, row]).as_callable()({"id": 1})
    with pytest.raises(TypeError, match="not a dict of columns"):
        call(5)


@pytest.mark.parametrize("on_error", ["raise", "skip", "dead_letter"])
def test_the_error_of_one_row_is_raised(on_error: str) -> None:
    call = skate.data.range(3).map(lambda row: {"x": 1 // row["id"]}, on_error=on_error).as_callable()
    with pytest.raises(ZeroDivisionError, match=r"Map\(<lambda>\) failed at row 0 \(id=0\)"):
        call({"id": 0})
    assert call({"id": 1}) == {"x": 1}
    with pytest.raises(KeyError):
        call({"other": 1})


def test_a_letter_is_run_again_where_it_failed() -> None:
    made = skate.data.range(9).map(lambda row: {"x": row["id"] - 3}).map(same)
    made = made.map(lambda row: {"y": 1 // row["x"]}, on_error="dead_letter")
    assert len(made.take_all()) == 8
    (letter,) = made.dead_letters().take_all()
    again = made.as_callable().since(letter["stage"])
    with pytest.raises(ZeroDivisionError):
        again(letter["row"])
    assert again({"x": 1}) == {"y": 1}
    assert repr(made.as_callable().since("Map(same)")) == "RowPipeline(Map(same) -> Map(<lambda>)#2)"
    with pytest.raises(ValueError, match=r"no operation 'Map\(foo\)'; they are \['Map\(<lambda>\)', "):
        made.as_callable().since("Map(foo)")


def test_formats_of_batches() -> None:
    call = skate.data.range(3).map_batches(lambda batch: {"x": batch["id"] * 2}).as_callable()
    found = call.batch({"id": np.array([1, 2])})
    assert found["x"].tolist() == [2, 4]
    found["x"][0] = 7  # a copy
    assert call.batch(pd.DataFrame({"id": [3]}), "pandas")["x"].tolist() == [6]
    with pytest.raises(ValueError, match="batch_format"):
        call.batch({"id": [1]}, "foo")


def test_instances_are_made_once_and_calls_one_at_a_time() -> None:
    Scaler.made = 0
    call = skate.data.range(3).map_batches(Scaler, fn_constructor_args=[2]).as_callable()
    assert Scaler.made == 0
    call.load()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: call({"id": number}), range(100)))
    assert found == [{"id": number, "scaled": 2 * number} for number in range(100)]
    assert Scaler.made == 1
    copied = pickle.loads(cloudpickle.dumps(call))
    assert copied({"id": 4}) == {"id": 4, "scaled": 8}
    assert repr(copied) == "RowPipeline(MapBatches(Scaler))"


def test_a_constructor_that_fails_is_called_again() -> None:
    class Fails:
        left = 1

        def __init__(self) -> None:
            if type(self).left:
                type(self).left -= 1
                raise OSError("no weights")

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return row

    call = skate.data.range(3).map(Fails).as_callable()
    with pytest.raises(OSError, match="no weights"):
        call.load()
    assert call({"id": 1}) == {"id": 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda ds: ds.sort("id").map(same),
        lambda ds: ds.limit(3),
        lambda ds: ds.union(ds),
        lambda ds: ds.groupby("id").count(),
    ],
)
def test_what_needs_all_rows_is_refused(make: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match="as_callable: .* needs all rows of the data set"):
        make(skate.data.range(9)).as_callable()


def test_in_an_actor(session: Any) -> None:
    call = skate.data.range(3).map_batches(Scaler, fn_constructor_args=[5]).as_callable()

    @skate.remote
    class Service:
        def __init__(self, call: Any) -> None:
            self.call = call

        def answer(self, row: dict[str, Any]) -> Any:
            return self.call(row)

    assert skate.get(Service.remote(call).answer.remote({"id": 2})) == {"id": 2, "scaled": 10}
