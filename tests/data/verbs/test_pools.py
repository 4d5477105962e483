"""Classes on pools of a session, and what a session materialised."""

from __future__ import annotations

from typing import Any

import skate
import skate.data
from skate.data import ActorPoolStrategy, DataContext


class Count:
    """Counts its calls."""

    def __init__(self, first: int = 0) -> None:
        self.calls = first

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return {"id": batch["id"], "call": [self.calls] * len(batch["id"])}


def test_an_instance_is_kept_through_an_execution(session: Any) -> None:
    DataContext.get_current().pool_linger_s = 0
    ds = skate.data.range(40).map_batches(
        Count, batch_size=10, fn_constructor_args=[100], compute=ActorPoolStrategy(size=1)
    )
    for _ in range(2):
        calls = {row["call"] for row in ds.take_all()}
        assert min(calls) == 101
        assert len(calls) >= 2
    assert [row["id"] for row in ds.take_all()] == list(range(40))


def test_rows_of_classes(session: Any) -> None:
    class Add:
        def __init__(self, number: int) -> None:
            self.number = number

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return {"x": row["id"] + self.number}

    ds = skate.data.range(5).map(Add, fn_constructor_kwargs={"number": 3})
    assert [row["x"] for row in ds.take_all()] == [3, 4, 5, 6, 7]


def test_blocks_in_shared_memory_serve_small_plans_too(session: Any) -> None:
    context = DataContext.get_current()
    context.local_limit_bytes = 0
    made = skate.data.range(100_000, override_num_blocks=2).map_batches(lambda batch: batch).materialize()
    made.context.local_limit_bytes = 32 << 20
    assert made.limit(3).take_all() == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert made.sum("id") == sum(range(100_000))


@skate.remote(num_cpus=0)
def count(ds: Any) -> int:
    return int(ds.filter(lambda row: row["id"] % 2).count())


def test_a_dataset_is_used_in_a_task(session: Any) -> None:
    assert skate.get(count.remote(skate.data.range(10))) == 5
    assert skate.get(count.remote(skate.data.range(10).materialize())) == 5
