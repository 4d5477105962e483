"""Loops over rows and batches: the design's section 2.6."""

from __future__ import annotations

import sys
import threading
import types
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skate.data
from skate.data._verbs import iteration
from skate.data.collate_fn import ArrowBatchCollateFn, NumpyBatchCollateFn, PandasBatchCollateFn

TEN = skate.data.range(10, override_num_blocks=5)


def test_rows() -> None:
    rows = TEN.iter_rows()
    assert [row["id"] for row in rows] == list(range(10))
    assert [row["id"] for row in rows] == list(range(10)), "each loop runs anew"


def test_batches_cross_blocks() -> None:
    assert [len(batch["id"]) for batch in TEN.iter_batches()] == [10]
    assert [batch["id"].tolist() for batch in TEN.iter_batches(batch_size=4)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert [len(batch["id"]) for batch in TEN.iter_batches(batch_size=4, drop_last=True)] == [4, 4]
    assert [len(batch["id"]) for batch in TEN.iter_batches(batch_size=None)] == [2, 2, 2, 2, 2]
    assert list(skate.data.range(0).iter_batches()) == []


@pytest.mark.parametrize(
    ("batch_format", "kind"),
    [("default", dict), ("numpy", dict), ("pandas", pd.DataFrame), ("pyarrow", pa.Table), (None, pa.Table)],
)
def test_formats(batch_format: str | None, kind: type) -> None:
    assert {type(batch) for batch in TEN.iter_batches(batch_format=batch_format)} == {kind}


def test_arrays_are_read_only() -> None:
    (batch,) = TEN.iter_batches()
    with pytest.raises(ValueError, match="read-only"):
        batch["id"][0] = 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": "4"}, TypeError, "batch_size"),
        ({"batch_format": "polars"}, ValueError, "batch_format"),
        ({"prefetch_batches": -1}, ValueError, "prefetch_batches"),
        ({"local_shuffle_buffer_size": 0}, ValueError, "local_shuffle_buffer_size"),
        ({"local_shuffle_buffer_size": 3, "batch_size": None}, ValueError, "batch_size"),
        ({"local_shuffle_seed": 3}, ValueError, "local_shuffle_buffer_size"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        TEN.iter_batches(**options)


def shuffled(**options: Any) -> list[int]:
    ds = skate.data.range(1000, override_num_blocks=13)
    batches = ds.iter_batches(batch_size=32, local_shuffle_buffer_size=100, **options)
    return [int(n) for batch in batches for n in batch["id"]]


def test_a_shuffle_buffer_mixes_and_loses_nothing() -> None:
    once = shuffled(local_shuffle_seed=1)
    assert once == shuffled(local_shuffle_seed=1) != shuffled(local_shuffle_seed=2)
    assert sorted(once) == list(range(1000)) != once
    assert shuffled() != shuffled()


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=20),
    buffer_size=st.integers(1, 60),
    batch_size=st.integers(1, 60),
)
def test_the_buffer_is_always_a_permutation(lengths: list[int], buffer_size: int, batch_size: int) -> None:
    blocks, start = [], 0
    for length in lengths:
        blocks.append(pa.table({"x": pa.array(range(start, start + length), pa.int64())}))
        start += length
    taken: list[int] = []
    for table in iteration.shuffled(iter(blocks), buffer_size, batch_size, 0):
        taken += table["x"].to_pylist()
    assert Counter(taken) == Counter(range(start))


def test_the_buffer_copies_each_row_a_few_times_whatever_its_size() -> None:
    copied = 0

    class Counting(list):  # type: ignore[type-arg]
        pass

    real = iteration.concat

    def counting(tables: Any, *more: Any, **named: Any) -> Any:
        nonlocal copied
        copied += sum(table.num_rows for table in tables)
        return real(tables, *more, **named)

    iteration.concat = counting
    try:
        blocks = [pa.table({"x": [n]}) for n in range(5000)]
        assert sum(t.num_rows for t in iteration.shuffled(iter(blocks), 1000, 10, 0)) == 5000
    finally:
        iteration.concat = real
    assert copied <= 4 * 5000


# ---------------------------------------------------------------------- leaving, errors, threads


def test_leaving_a_loop_stops_the_run() -> None:
    seen: list[int] = []

    def f(row: dict[str, Any]) -> dict[str, Any]:
        seen.append(row["id"])
        return row

    ds = skate.data.range(1000, override_num_blocks=100).map(f)
    assert len(list(islice(ds.iter_rows(), 3))) == 3
    for _ in ds.iter_batches(batch_size=2):
        break
    assert len(seen) < 1000
    assert threading.active_count() == len(threading.enumerate())


def test_an_error_arrives_in_the_loop() -> None:
    def f(row: dict[str, Any]) -> dict[str, Any]:
        return {"x": 1 // (7 - row["id"])}

    with pytest.raises(ZeroDivisionError):
        list(TEN.map(f).iter_rows())
    with pytest.raises(ZeroDivisionError):
        list(TEN.map(f).iter_batches(batch_size=1))


class Clocked:
    """Items whose making takes as long as they say, on a clock of their own."""

    def __init__(self, items: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.threads: list[str] = []
        self.closed = False
        self._items = items
        clock = types.SimpleNamespace(perf_counter=self.time)
        monkeypatch.setattr(iteration, "time", clock)

    def time(self) -> float:
        return self.now

    def make(self) -> Iterator[int]:
        try:
            for item in range(self._items):
                self.now += self.seconds
                self.threads.append(threading.current_thread().name)
                yield item
        finally:
            self.closed = True


def test_a_thread_works_ahead_when_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Clocked(5, 1.0, monkeypatch)
    seen = []
    for item in iteration.prefetched(source.make(), 2):
        seen.append(item)
        source.now += 1.0  # using it takes as long
    assert seen == [0, 1, 2, 3, 4]
    assert source.threads[0] != "skate-data-prefetch"
    assert set(source.threads[1:]) == {"skate-data-prefetch"}
    assert source.closed


@pytest.mark.parametrize(("seconds", "using", "depth"), [(0.0, 1.0, 2), (1.0, 0.0, 2), (1.0, 1.0, 0)])
def test_no_thread_otherwise(
    seconds: float, using: float, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Clocked(5, seconds, monkeypatch)
    for _ in iteration.prefetched(source.make(), depth):
        source.now += using
    assert set(source.threads) == {threading.current_thread().name}


def test_a_thread_that_works_ahead_ends_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Clocked(10**9, 1.0, monkeypatch)
    loop = iteration.prefetched(source.make(), 2)
    for _ in range(3):
        next(loop)
        source.now += 1.0
    assert [t for t in threading.enumerate() if t.name == "skate-data-prefetch"]
    loop.close()
    assert not [t for t in threading.enumerate() if t.name == "skate-data-prefetch"]
    assert source.closed


def test_its_errors_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Clocked(3, 1.0, monkeypatch)

    def failing() -> Iterator[int]:
        yield from source.make()
        raise KeyError("late")

    seen = []
    with pytest.raises(KeyError, match="late"):
        for item in iteration.prefetched(failing(), 1):
            seen.append(item)
            source.now += 1.0
    assert seen == [0, 1, 2]


# ---------------------------------------------------------------------- iterators


def test_an_iterator_is_a_dataset_for_loops() -> None:
    it = TEN.iterator()
    assert isinstance(it, skate.data.DataIterator)
    assert [row["id"] for row in it.iter_rows()] == list(range(10))
    assert it.schema() == TEN.schema()
    assert it.get_context() is TEN.context
    assert it.materialize().count() == 10
    assert "ReadRange" in it.stats()
    assert "DataIterator" in repr(it)
    with pytest.raises(NotImplementedError, match="tensorflow"):
        it.to_tf()


# ---------------------------------------------------------------------- torch


class Tensor:
    """As much of torch's class as is needed."""

    def __init__(self, array: Any, device: str = "cpu") -> None:
        self.array = np.asarray(array)
        self.device = types.SimpleNamespace(type=device)
        self.pinned = False

    def to(self, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Tensor:
        array = self.array if dtype is None else self.array.astype(dtype)
        return Tensor(array, self.device.type if device is None else device.type)

    def pin_memory(self) -> Tensor:
        made = Tensor(self.array, self.device.type)
        made.pinned = True
        return made


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for torch, which is not installed where the tests run."""
    made = types.ModuleType("torch")
    made.Tensor = Tensor  # type: ignore[attr-defined]
    made.as_tensor = Tensor  # type: ignore[attr-defined]
    made.device = lambda name: types.SimpleNamespace(type=name)  # type: ignore[attr-defined]
    made.cuda = types.SimpleNamespace(is_available=lambda: False)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", made)
    return made


def test_tensors(torch: Any) -> None:
    batches = list(TEN.iter_torch_batches(batch_size=4))
    assert [batch["id"].array.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    (batch,) = TEN.iter_torch_batches(dtypes="float32")
    assert batch["id"].array.dtype == np.float32
    (batch,) = TEN.iter_torch_batches(dtypes={"id": "int8"}, device="cuda")
    assert (batch["id"].array.dtype, batch["id"].device.type) == (np.dtype("int8"), "cuda")
    torch.cuda.is_available = lambda: True
    (batch,) = TEN.iter_torch_batches()
    assert batch["id"].device.type == "cuda"


def test_ragged_columns_become_lists_of_tensors(torch: Any) -> None:
    ds = skate.data.from_items([{"a": np.zeros((1, 2))}, {"a": np.zeros((2, 2))}])
    (batch,) = ds.iter_torch_batches()
    assert [one.array.shape for one in batch["a"]] == [(1, 2), (2, 2)]


def test_text_has_no_tensors(torch: Any) -> None:
    with pytest.raises(TypeError, match="column 'item'.*drop_columns"):
        list(skate.data.from_items(["a"]).iter_torch_batches())


def test_collate_functions(torch: Any) -> None:
    (found,) = TEN.iter_torch_batches(collate_fn=lambda batch: [Tensor(batch["id"])])
    assert found[0].array.tolist() == list(range(10))
    kinds = []
    for base in (ArrowBatchCollateFn, NumpyBatchCollateFn, PandasBatchCollateFn):

        class Collate(base):  # type: ignore[misc, valid-type]
            def __call__(self, batch: Any) -> Any:
                return type(batch)

        kinds += list(TEN.iter_torch_batches(collate_fn=Collate()))
    assert kinds == [pa.Table, dict, pd.DataFrame]
    with pytest.raises(ValueError, match="not both"):
        TEN.iter_torch_batches(collate_fn=dict, dtypes="int8")
    with pytest.raises(TypeError, match="collate_fn"):
        TEN.iter_torch_batches(collate_fn=5)  # type: ignore[arg-type]


def test_without_torch_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="install torch"):
        TEN.iter_torch_batches()
