"""Tasks: arguments and results, graphs, recursion, resources, and that nothing waits behind the blocked."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

import skate
from skate import ObjectRef
from skate.api import RayContext as Session

from .waiting import AGES, first_time, meet, wait_for, wait_for_file


@skate.remote
def square(x: int) -> int:
    return x * x


@skate.remote
def add(*numbers: int) -> int:
    return sum(numbers)


@skate.remote
def identity(value: Any) -> Any:
    return value


@skate.remote
def wait_and_return(path: Path, value: Any) -> Any:
    wait_for_file(path)
    return value


# ---------------------------------------------------------------------- calls


def test_the_first_call_starts_the_runtime() -> None:
    assert not skate.is_initialized()
    ref = square.remote(3)
    assert skate.is_initialized()
    assert skate.get(ref) == 9


def test_many_calls_return_in_order(session: Session) -> None:
    assert skate.get([square.remote(i) for i in range(1000)]) == [i * i for i in range(1000)]


def test_arguments_of_every_kind(session: Session) -> None:
    @skate.remote
    def describe(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> tuple[Any, ...]:
        return a, b, rest, c, more

    assert skate.get(describe.remote(1, 2)) == (1, 2, (), 3, {})
    assert skate.get(describe.remote(1, b=2)) == (1, 2, (), 3, {})
    assert skate.get(describe.remote(1, 2, 3, 4, c=5, d=6)) == (1, 2, (3, 4), 5, {"d": 6})
    ref = skate.put(7)
    assert skate.get(describe.remote(ref, ref, ref, c=ref, d=ref)) == (7, 7, (7,), 7, {"d": 7})


def test_an_argument_of_any_size_arrives(session: Session) -> None:
    for size in (0, 1, 1000, 99_000, 100 * 1024, 101 * 1024, 5_000_000):
        value = os.urandom(size)
        assert skate.get(identity.remote(value)) == value
        assert skate.get(identity.remote(skate.put(value))) == value


def test_the_same_ref_counts_in_every_place(session: Session) -> None:
    one = square.remote(1)
    assert skate.get(add.remote(one, one, one)) == 3
    assert skate.get([one, one]) == [1, 1]


def test_a_ref_inside_an_argument_stays_a_ref(session: Session) -> None:
    @skate.remote
    def look(direct: int, nested: dict[str, list[ObjectRef[int]]]) -> tuple[str, str, int]:
        inner = nested["refs"][0]
        return type(direct).__name__, type(inner).__name__, skate.get(inner)

    ref = square.remote(4)
    assert skate.get(look.remote(ref, {"refs": [ref]})) == ("int", "ObjectRef", 16)


def test_several_returns(session: Session) -> None:
    @skate.remote(num_returns=3)
    def three() -> tuple[int, str, list[int]]:
        return 1, "two", [3]

    refs = three.remote()
    assert isinstance(refs, list)
    first, second, third = refs
    assert skate.get([third, second, first]) == [[3], "two", 1]
    assert skate.get(add.remote(first, first)) == 2

    @skate.remote
    def upto(n: int) -> Any:
        return (str(i) for i in range(n))

    assert skate.get(upto.options(num_returns=2).remote(2)) == ["0", "1"]
    assert upto.options(num_returns=0).remote(0) is None
    assert skate.get(identity.options(num_returns=1).remote((1, 2))) == (1, 2)


def test_a_call_without_returns_raises_what_holds_a_ref(session: Session) -> None:
    @skate.remote(num_returns=0, num_cpus=2)
    def fail(refs: list[ObjectRef[int]]) -> None:
        error = ValueError("no return has it")
        error.ref = refs[0]  # type: ignore[attr-defined]
        raise error

    fail.remote([skate.put(1)])
    assert skate.get(square.options(num_cpus=2).remote(3)) == 9, "the worker went on"


def test_a_wrong_number_of_returns_is_an_error_in_each(session: Session) -> None:
    @skate.remote(num_returns=2)
    def three() -> tuple[int, ...]:
        return 1, 2, 3

    for ref in three.remote():
        with pytest.raises(ValueError, match="Task returned 3 objects, but num_returns=2"):
            skate.get(ref)

    @skate.remote(num_returns=2)
    def one() -> int:
        return 1

    with pytest.raises(TypeError, match="num_returns=2"):
        skate.get(one.remote()[1])


def test_get_with_a_timeout(session: Session, tmp_path: Path) -> None:
    ref = wait_and_return.remote(tmp_path / "go", "late")
    with pytest.raises(
        skate.exceptions.GetTimeoutError, match="0.05 s; 1 of 1 .* what wait_and_return returns"
    ) as caught:
        skate.get(ref, timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(TimeoutError):
        skate.get([square.remote(1), ref], timeout=0)
    (tmp_path / "go").touch()
    assert skate.get(ref, timeout=AGES) == "late"
    assert skate.get(ref, timeout=0) == "late"
    assert skate.get([]) == []


def test_wait_splits_into_ready_and_not_ready(session: Session, tmp_path: Path) -> None:
    slow = wait_and_return.remote(tmp_path / "go", "slow")
    quick = [square.remote(i) for i in range(3)]
    skate.get(quick)
    refs = [slow, *quick]
    assert skate.wait(refs) == ([quick[0]], [slow, quick[1], quick[2]])
    assert skate.wait(refs, num_returns=3) == (quick, [slow])
    assert skate.wait(refs, num_returns=4, timeout=0.01) == (quick, [slow])
    assert skate.wait([slow], timeout=0) == ([], [slow])
    assert skate.wait([slow], timeout=0, fetch_local=False) == ([], [slow])
    assert skate.wait([]) == ([], [])
    (tmp_path / "go").touch()
    assert skate.wait(refs, num_returns=4) == (refs, [])


def test_wait_one_by_one(session: Session) -> None:
    waiting = [square.remote(i) for i in range(200)]
    found = []
    while waiting:
        ready, waiting = skate.wait(waiting)
        found += skate.get(ready)
    assert sorted(found) == [i * i for i in range(200)]


def test_the_task_knows_its_name(session: Session) -> None:
    @skate.remote
    def name() -> Any:
        context = skate.get_runtime_context()
        return context.get_task_name(), context.get_task_id(), context.get_job_id()

    plain, named = skate.get([name.remote(), name.options(name="a great task").remote()])
    assert plain[0] == "name"
    assert named[0] == "a great task"
    assert plain[1] != named[1]
    assert plain[2] == skate.get_runtime_context().get_job_id()


# ---------------------------------------------------------------------- graphs


def test_a_long_chain(session: Session) -> None:
    @skate.remote
    def increment(x: int) -> int:
        return x + 1

    ref = skate.put(0)
    for _ in range(500):
        ref = increment.remote(ref)
    assert skate.get(ref) == 500


def test_a_wide_graph(session: Session) -> None:
    level = [square.remote(1) for _ in range(128)]
    while len(level) > 1:
        level = [add.remote(*pair) for pair in zip(level[::2], level[1::2], strict=True)]
    assert skate.get(level[0]) == 128


def test_a_dependent_starts_when_its_last_argument_is_there(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def started(path: Path, *values: int) -> int:
        path.touch()
        return sum(values)

    slow = wait_and_return.remote(tmp_path / "go", 1)
    dependent = started.remote(tmp_path / "started", square.remote(2), slow)
    # Others submitted later run meanwhile: the dependent holds no worker.
    assert skate.get([square.remote(i) for i in range(20)]) == [i * i for i in range(20)]
    assert not (tmp_path / "started").exists()
    (tmp_path / "go").touch()
    assert skate.get(dependent) == 5


def test_thousand_dependents_of_one_task(session: Session, tmp_path: Path) -> None:
    root = wait_and_return.remote(tmp_path / "go", 2)
    dependents = [square.remote(root) for _ in range(1000)]
    (tmp_path / "go").touch()
    assert skate.get(dependents) == [4] * 1000


# ---------------------------------------------------------------------- nested and recursive


@skate.remote
def fib(n: int) -> int:
    if n < 2:
        return n
    return sum(skate.get([fib.remote(n - 1), fib.remote(n - 2)]))


@pytest.mark.parametrize("num_cpus", [1, 2])
def test_recursive_fibonacci(num_cpus: int) -> None:
    skate.init(num_cpus=num_cpus)
    assert skate.get(fib.remote(10)) == 55


@skate.remote
def descend(depth: int) -> int:
    return 1 + skate.get(descend.remote(depth - 1)) if depth else 0


@pytest.mark.time_limit(240)  # a thousand processes are started one after the other
def test_recursion_a_thousand_deep_on_one_cpu() -> None:
    skate.init(num_cpus=1)
    assert skate.get(descend.remote(1000)) == 1000
    assert skate.get(square.remote(5)) == 25


def test_two_deep_recursions_at_once() -> None:
    skate.init(num_cpus=1)
    assert skate.get([descend.remote(60), descend.remote(50)]) == [60, 50]


def test_recursion_beyond_the_limit_of_workers_is_an_error() -> None:
    skate.init(num_cpus=1, _system_config={"max_workers": 12})
    assert skate.get(descend.remote(8)) == 8
    with pytest.raises(skate.exceptions.RayError, match="12.*MAX_WORKERS") as caught:
        skate.get(descend.remote(100))
    assert isinstance(caught.value, skate.exceptions.TaskUnschedulableError)
    assert skate.get(descend.remote(8)) == 8


def test_nested_submitters_share_the_workers(session: Session) -> None:
    @skate.remote
    def submit(start: int) -> int:
        return sum(skate.get([square.remote(i) for i in range(start, start + 50)]))

    assert sum(skate.get([submit.remote(i * 50) for i in range(8)])) == sum(i * i for i in range(400))


def test_a_task_returns_the_ref_of_another(session: Session) -> None:
    @skate.remote
    def start(n: int) -> list[ObjectRef[int]]:
        return [square.remote(i) for i in range(n)]

    assert skate.get(skate.get(start.remote(5))) == [0, 1, 4, 9, 16]


def test_tasks_on_one_cpu_wait_for_each_other_through_refs() -> None:
    skate.init(num_cpus=1)

    @skate.remote
    def follow(refs: list[ObjectRef[int]]) -> int:
        return skate.get(refs[0]) + 1

    ref = square.remote(3)
    for _ in range(20):
        ref = follow.remote([ref])
    assert skate.get(ref) == 29


def test_wait_inside_a_task_lends_its_cpu() -> None:
    skate.init(num_cpus=1)

    @skate.remote
    def wait_for_all(n: int) -> int:
        waiting = [square.remote(i) for i in range(n)]
        while waiting:
            _, waiting = skate.wait(waiting)
        return n

    assert skate.get(wait_for_all.remote(5)) == 5


# ---------------------------------------------------------------------- nothing waits behind the blocked


@skate.remote
def step(kind: str, folder: Path, ref: list[ObjectRef[int]]) -> str:
    """Mostly short; the callers learn that, and send many at once to a worker."""
    if kind == "wait for a file":
        wait_for_file(folder / "go")
    elif kind == "get":
        skate.get(ref[0])
    elif kind == "make the file":
        (folder / "go").touch()
    return kind


def test_what_is_pipelined_behind_a_long_task_runs_elsewhere(session: Session, tmp_path: Path) -> None:
    skate.get([step.remote("short", tmp_path, []) for _ in range(300)])
    kinds = ["wait for a file"] + ["short"] * 200 + ["make the file"]
    assert skate.get([step.remote(kind, tmp_path, []) for kind in kinds]) == kinds


def test_what_is_pipelined_behind_a_get_runs_on_the_same_cpu(tmp_path: Path) -> None:
    skate.init(num_cpus=1)
    skate.get([step.remote("short", tmp_path, []) for _ in range(300)])
    slow = wait_and_return.options(num_cpus=0).remote(tmp_path / "go", 1)
    kinds = ["get"] + ["short"] * 200
    refs = [step.remote(kind, tmp_path, [slow]) for kind in kinds]
    assert skate.get(refs[1:]) == kinds[1:]
    (tmp_path / "go").touch()
    assert skate.get(refs[0]) == "get"


def test_a_blocked_task_waits_for_one_submitted_after_it(tmp_path: Path) -> None:
    skate.init(num_cpus=1)
    skate.get([step.remote("short", tmp_path, []) for _ in range(300)])

    @skate.remote
    class Board:
        def __init__(self) -> None:
            self.refs: list[ObjectRef[str]] = []

        def pin(self, refs: list[ObjectRef[str]]) -> None:
            self.refs = refs

        def read(self) -> list[ObjectRef[str]]:
            return self.refs

    @skate.remote
    def wait_for_later(board: Any) -> str:
        while not (refs := skate.get(board.read.remote())):
            time.sleep(0.001)
        return skate.get(refs[0])

    board = Board.remote()
    early = wait_for_later.remote(board)
    later = step.remote("short", tmp_path, [])
    skate.get(board.pin.remote([later]))
    assert skate.get(early) == "short"
    del later
    skate.get(board.pin.remote([]))


def test_a_new_function_does_not_wait_for_a_long_one_to_end(session: Session, tmp_path: Path) -> None:
    long = wait_and_return.remote(tmp_path / "go", 1)
    assert skate.get([square.remote(i) for i in range(100)]) == [i * i for i in range(100)]
    (tmp_path / "go").touch()
    assert skate.get(long) == 1


# ---------------------------------------------------------------------- resources


@skate.remote
def meet_others(folder: Path, name: int, count: int) -> int:
    return meet(folder, name, count)


@skate.remote
def alone(folder: Path) -> bool:
    """Tell whether nobody else was in here meanwhile."""
    mine = first_time(folder / "lock")
    time.sleep(0.005)
    if mine:
        (folder / "lock").unlink()
    return mine


def test_fractions_of_a_cpu(session: Session, tmp_path: Path) -> None:
    half = meet_others.options(num_cpus=0.5)
    assert skate.get([half.remote(tmp_path, i, 4) for i in range(4)]) == [4] * 4


def test_tenths_make_a_whole(session: Session, tmp_path: Path) -> None:
    tenth = meet_others.options(num_cpus=0.2)
    assert skate.get([tenth.remote(tmp_path, i, 10) for i in range(10)]) == [10] * 10


def test_no_more_tasks_than_cpus_at_once(tmp_path: Path) -> None:
    skate.init(num_cpus=4)
    big = alone.options(num_cpus=3)
    assert all(skate.get([big.remote(tmp_path) for _ in range(12)]))


def test_tasks_without_cpus_are_not_held_up(tmp_path: Path) -> None:
    skate.init(num_cpus=1)
    free = meet_others.options(num_cpus=0)
    assert skate.get([free.remote(tmp_path, i, 3) for i in range(3)]) == [3] * 3


def test_custom_resources(tmp_path: Path) -> None:
    skate.init(num_cpus=4, resources={"license": 1, "lane": 0.5})
    assert skate.cluster_resources()["license"] == 1
    licensed = alone.options(resources={"license": 1}, num_cpus=0)
    assert all(skate.get([licensed.remote(tmp_path) for _ in range(8)]))
    lanes = meet_others.options(resources={"lane": 0.25}, num_cpus=0)
    assert skate.get([lanes.remote(tmp_path / "meeting", i, 2) for i in range(2)]) == [2, 2]


def test_gpus_and_memory_are_counted(tmp_path: Path) -> None:
    skate.init(num_cpus=4, num_gpus=1)
    assert skate.cluster_resources()["GPU"] == 1
    on_gpu = alone.options(num_gpus=1)
    assert all(skate.get([on_gpu.remote(tmp_path) for _ in range(4)]))
    memory = skate.cluster_resources()["memory"]
    greedy = alone.options(memory=memory * 0.6)
    assert all(skate.get([greedy.remote(tmp_path) for _ in range(4)]))


def test_available_resources_fall_and_rise(session: Session, tmp_path: Path) -> None:
    assert skate.cluster_resources()["CPU"] == 2
    wait_for(lambda: skate.available_resources().get("CPU") == 2, "all CPUs to be free")
    ref = wait_and_return.options(num_cpus=1.5).remote(tmp_path / "go", 1)
    wait_for(lambda: skate.available_resources().get("CPU") == 0.5, "the task's CPUs to be taken")
    (tmp_path / "go").touch()
    skate.get(ref)
    wait_for(lambda: skate.available_resources().get("CPU") == 2, "the task's CPUs to come back")


def test_large_code_is_warned_of_once(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    table = b"x" * (11 << 20)

    @skate.remote
    def look_up(at: int) -> int:
        return table[at]

    @skate.remote
    class Table:
        def look_up(self, at: int) -> int:
            return table[at]

    assert skate.get([look_up.remote(0), look_up.remote(1), Table.remote().look_up.remote(2)]) == [120] * 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "the variable 'table' captured by look_up has 11 MiB" in said[0]
    assert "the variable 'table' captured by Table.look_up has 11 MiB" in said[1]


def test_what_nothing_can_satisfy_is_warned_of(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    impossible = square.options(num_cpus=64, resources={"unicorn": 1}).remote(1)
    said = ""

    def warned() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "unicorn" in said

    wait_for(warned, "a warning that names the demand")
    assert "square" in said
    assert re.search(r"CPU'?: 64", said)
    assert len(said.splitlines()) == 1
    with pytest.raises(TimeoutError):
        skate.get(impossible, timeout=0.01)
    assert skate.get(square.remote(2)) == 4
    del impossible


def test_an_actor_that_nothing_can_hold_is_warned_of(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    @skate.remote(num_gpus=3)
    class Greedy:
        def work(self) -> int:
            return 1

    greedy = Greedy.remote()
    said = ""

    def warned() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "Greedy" in said

    wait_for(warned, "a warning that names the actor")
    assert re.search(r"GPU'?: 3", said)
    assert len(said.splitlines()) == 1
    assert skate.get(square.remote(2)) == 4
    skate.kill(greedy)


def test_a_demand_beyond_the_node_does_not_hold_up_others(session: Session, tmp_path: Path) -> None:
    # Two CPUs are busy with one task: a task of two waits, and one of one runs meanwhile.
    half_busy = wait_and_return.remote(tmp_path / "go", "first")
    both = wait_and_return.options(num_cpus=2).remote(tmp_path / "go", "both")
    assert skate.get(square.remote(2)) == 4
    (tmp_path / "go").touch()
    assert skate.get([half_busy, both]) == ["first", "both"]


def test_omp_threads_follow_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    skate.init(num_cpus=4)

    @skate.remote
    def threads() -> str | None:
        return os.environ.get("OMP_NUM_THREADS")

    assert skate.get(threads.remote()) == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    skate.shutdown()
    skate.init(num_cpus=4)
    assert skate.get(threads.remote()) == "3"


def test_environment_variables_of_the_session() -> None:
    skate.init(num_cpus=1, runtime_env={"env_vars": {"MY_VARIABLE": "mine"}})

    @skate.remote
    def variable() -> str | None:
        return os.environ.get("MY_VARIABLE")

    assert skate.get(variable.remote()) == "mine"
    assert "MY_VARIABLE" not in os.environ


def test_every_worker_has_random_numbers_of_its_own(session: Session, tmp_path: Path) -> None:
    @skate.remote(num_cpus=0)
    def throw(name: int) -> tuple[int, float, float]:
        import random

        import numpy as np

        meet(tmp_path, name, 4)
        return os.getpid(), random.random(), float(np.random.random())

    found = skate.get([throw.remote(i) for i in range(4)])
    for numbers in zip(*found, strict=True):
        assert len(set(numbers)) == 4


def test_workers_have_the_drivers_surroundings(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def surroundings() -> tuple[str, int, str]:
        return os.getcwd(), os.getppid(), os.environ.get("HOME", "")

    folder, parent, home = skate.get(surroundings.remote())
    assert folder == os.getcwd()
    assert parent != os.getpid()
    assert home == os.environ.get("HOME", "")
