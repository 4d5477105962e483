"""Several jobs on one session, consumers that stop, and pipelines inside of tasks and actors."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster.stored import stored
from cluster.waiting import first_time, meet, wait_for_file

import skate
import skate.data
from skate.data import ActorPoolStrategy, DataContext
from skate.data._exec import spill_folder

ROWS = 40
BLOCKS = 8
#: Larger than what travels inside of messages: blocks of such rows are in shared memory.
PAYLOAD = 100_000


def numbers(rows: int = ROWS) -> Any:
    return skate.data.range(rows, override_num_blocks=BLOCKS)


def in_threads(*jobs: Callable[[], Any]) -> list[Any]:
    """Run jobs at once; return what each returned or raised."""
    found: list[Any] = [None] * len(jobs)

    def run(index: int) -> None:
        try:
            found[index] = jobs[index]()
        except Exception as error:
            found[index] = error

    # A thread has the settings of its process.
    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(jobs))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return found


class Doubling:
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"id": row["id"] * 2}


# ---------------------------------------------------------------------- two jobs


@pytest.mark.parametrize("where", ["near", "far"])
def test_one_of_two_jobs_fails_and_the_other_finishes(
    where: str, session: Any, settings: DataContext, tmp_path: Path
) -> None:
    if where == "far":
        settings.local_limit_bytes = 0

    def good(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == ROWS // 2:
            wait_for_file(tmp_path / "failed")
        return row

    def bad(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == 3:
            raise ValueError(f"bad row {row['id']}")
        return row

    def failing() -> Any:
        try:
            return numbers().map(bad).take_all()
        finally:
            (tmp_path / "failed").touch()

    failed, rows = in_threads(failing, lambda: numbers().map(good).sort("id").take_all())
    assert isinstance(failed, ValueError)
    assert "bad row 3" in str(failed)
    assert [row["id"] for row in rows] == list(range(ROWS))


def test_two_jobs_go_on_at_the_same_time(far: DataContext, tmp_path: Path) -> None:
    """A task of each waits for one of the other: neither job keeps all CPUs until it is done."""

    def job(name: str) -> Any:
        def together(row: dict[str, Any]) -> dict[str, Any]:
            if row["id"] == 0:
                meet(tmp_path, name, 2)
            return row

        return numbers().map(together).materialize().count()

    assert in_threads(lambda: job("a"), lambda: job("b")) == [ROWS, ROWS]


def test_two_jobs_share_the_class_of_a_pool(far: DataContext) -> None:
    def job(step: int) -> Any:
        made = numbers().map(Doubling, compute=ActorPoolStrategy(size=1))
        return [row["id"] for row in made.map(lambda row: {"id": row["id"] + step}).take_all()]

    far.pool_linger_s = 60
    first, second = in_threads(lambda: job(0), lambda: job(1))
    skate.data.free_pools()
    assert first == [2 * number for number in range(ROWS)]
    assert second == [2 * number + 1 for number in range(ROWS)]


def test_a_data_set_that_two_threads_run(far: DataContext) -> None:
    ds = numbers().map(lambda row: {"id": row["id"] + 1}).random_shuffle(seed=1)
    first, second = in_threads(ds.take_all, ds.take_all)
    assert first == second
    assert sorted(row["id"] for row in first) == list(range(1, ROWS + 1))


# ---------------------------------------------------------------------- consumers that stop


class Stop(Exception):
    pass


def breaking(items: Any) -> None:
    for _ in items:
        break


def closing(items: Any) -> None:
    iterator = iter(items)
    next(iterator)
    iterator.close()


def dropping(items: Any) -> None:
    next(iter(items))


def interrupted(items: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in items:
            raise KeyboardInterrupt


def failing(items: Any) -> None:
    with pytest.raises(Stop):
        for _ in items:
            raise Stop


CONSUMERS: dict[str, Callable[[Any], Any]] = {
    "rows": lambda ds: ds.iter_rows(),
    "batches": lambda ds: ds.iter_batches(batch_size=1),
    "no prefetching": lambda ds: ds.iter_batches(batch_size=1, prefetch_batches=0),
    "iterator": lambda ds: ds.iterator().iter_rows(),
    "references": lambda ds: ds.iter_internal_ref_bundles(),
}


def is_empty() -> bool:
    """Tell whether nothing of a job is left: running calls, blocks, files, threads."""
    gc.collect()
    return (
        skate.available_resources().get("CPU") == 2
        and stored().objects == 0
        and not Path(spill_folder.root()).exists()
        and not any(one.name.startswith("skate-data") for one in threading.enumerate())
    )


def large(tmp_path: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function of large rows; that of the last rows waits for something that never comes."""

    def make(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] >= ROWS - 10:
            (tmp_path / "waits").touch()
            wait_for_file(tmp_path / "never")
        return {**row, "payload": b"x" * PAYLOAD}

    return make


@pytest.mark.parametrize("how", [breaking, closing, dropping, interrupted, failing])
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_consumer_that_stops_leaves_nothing(
    consumer: str, how: Callable[[Any], None], far: DataContext, tmp_path: Path, wait_until: Any
) -> None:
    assert numbers(2).count(exact=True) == 2  # the session is warm
    wait_until(is_empty)
    far.target_max_block_size = 2 * PAYLOAD
    how(CONSUMERS[consumer](numbers().map(large(tmp_path))))
    wait_until(is_empty)
    assert numbers().take(1) == [{"id": 0}], "the session goes on"


@pytest.mark.parametrize("how", [breaking, interrupted])
def test_an_exchange_in_files_that_is_left_early_leaves_nothing(
    how: Callable[[Any], None], far: DataContext, wait_until: Any
) -> None:
    far.memory_limit_bytes = 4 << 20
    made = numbers(200).map(lambda row: {**row, "payload": b"x" * PAYLOAD}).random_shuffle(seed=1)
    rows = iter(made.iter_rows())
    next(rows)
    assert any(path.is_dir() for path in Path(spill_folder.root()).iterdir()), "blocks are in files"
    how(rows)
    rows.close()
    wait_until(is_empty)


def test_a_pool_of_a_job_that_is_left_early_ends(far: DataContext, tmp_path: Path, wait_until: Any) -> None:
    class Waiting:
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            (number,) = batch["id"]
            if number >= ROWS // 2:
                wait_for_file(tmp_path / "never")
            return {**batch, "payload": [b"x" * PAYLOAD]}

    far.target_max_block_size = PAYLOAD
    pool = ActorPoolStrategy(size=2)
    breaking(numbers().map_batches(Waiting, batch_size=1, compute=pool).iter_rows())
    wait_until(is_empty)
    assert skate.data.pools() == {}


@contextmanager
def interrupt_when(path: Path) -> Iterator[None]:
    """Interrupt this process once a file exists, as Ctrl-C does."""

    def work() -> None:
        wait_for_file(path)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_job_that_is_interrupted_while_it_waits(far: DataContext, tmp_path: Path, wait_until: Any) -> None:
    def waiting(row: dict[str, Any]) -> dict[str, Any]:
        (tmp_path / "waits").touch()
        wait_for_file(tmp_path / "never")
        return row

    with interrupt_when(tmp_path / "waits"), pytest.raises(KeyboardInterrupt):
        numbers().map(waiting).write_parquet(str(tmp_path / "out"))
    wait_until(is_empty)
    assert not (tmp_path / "out").exists()


def test_a_failed_job_leaves_nothing(far: DataContext, wait_until: Any) -> None:
    far.target_max_block_size = PAYLOAD

    def fail(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == ROWS - 1:
            raise Stop("at the end")
        return {**row, "payload": b"x" * PAYLOAD}

    with pytest.raises(Stop):
        numbers().map(fail).sort("id").take_all()
    wait_until(is_empty)


# ---------------------------------------------------------------------- inside of tasks and actors


def pipeline(local_limit_bytes: int) -> int:
    context = skate.data.DataContext.get_current()
    context.local_limit_bytes = local_limit_bytes
    made = skate.data.range(100, override_num_blocks=4).map(lambda row: {"id": row["id"] + 1})
    total: int = made.sum("id")
    return total


@pytest.mark.parametrize("local_limit_bytes", [0, 1 << 20])
def test_inside_of_tasks_that_need_all_cpus(session: Any, local_limit_bytes: int) -> None:
    """A task that waits lends its CPUs to those it waits for."""
    job = skate.remote(num_cpus=2)(pipeline)
    assert skate.get([job.remote(local_limit_bytes) for _ in range(3)]) == [5050] * 3


@pytest.mark.parametrize("num_cpus", [0, 1])
def test_inside_of_an_actor_that_leaves_a_cpu(session: Any, num_cpus: int) -> None:
    class Job:
        def run(self) -> int:
            return pipeline(0)

    actor = skate.remote(num_cpus=num_cpus)(Job).remote()
    assert skate.get(actor.run.remote()) == 5050
    skate.kill(actor)


def test_inside_of_an_actor_that_holds_all_cpus(session: Any) -> None:
    """Small data needs none of the session's; other data would wait for them for ever, and says so at once."""

    class Job:
        def small(self) -> int:
            return pipeline(1 << 20)

        def slow(self) -> int:
            from skate.data._exec import hybrid_port

            hybrid_port.PATIENCE_S = 0.0
            return pipeline(1 << 20)

        def large(self) -> int:
            return pipeline(0)

    actor = skate.remote(num_cpus=2)(Job).remote()
    assert skate.get(actor.small.remote()) == 5050
    assert skate.get(actor.slow.remote()) == 5050
    with pytest.raises(skate.data.exceptions.DataError, match="an actor that holds all 2 CPUs"):
        skate.get(actor.large.remote())
    skate.kill(actor)


def test_small_data_stays_here_if_its_function_cannot_travel(
    session: Any, settings: DataContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a function that holds a lock works must not depend on the time that it takes."""
    monkeypatch.setattr("skate.data._exec.hybrid_port.PATIENCE_S", 0.0)
    lock, pids = threading.Lock(), set()

    def locked(row: dict[str, Any]) -> dict[str, Any]:
        with lock:
            pids.add(os.getpid())
            return {"id": row["id"], "pid": os.getpid()}

    rows = (
        skate.data.range(100).map(locked).sort("id").map(lambda row: {**row, "end": os.getpid()}).take_all()
    )
    assert [row["id"] for row in rows] == list(range(100))
    assert {row["pid"] for row in rows} == pids == {os.getpid()}
    assert {row["end"] for row in rows} - pids, "the other function went to the session"


def test_a_data_set_goes_into_a_task(far: DataContext, tmp_path: Path) -> None:
    ds = numbers().map(lambda row: {"id": row["id"] * 2})

    @skate.remote
    def count(given: Any) -> int:
        first_time(tmp_path / "called")
        return sum(row["id"] for row in given.iter_rows())

    assert skate.get(count.remote(ds)) == sum(range(0, 2 * ROWS, 2))
