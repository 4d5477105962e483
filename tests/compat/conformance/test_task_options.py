"""Options of remote functions: retries, resources, names, strategies, overrides, and what is refused."""

from __future__ import annotations

import os

import pytest
import ray
from ray.exceptions import RayTaskError, WorkerCrashedError

from compat.conformance.helpers import Gate, Record, needs_processes, until

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def fail_until(record, times, kind=ValueError):
    attempt = ray.get(record.add.remote("attempt"))
    if attempt < times:
        raise kind(f"attempt {attempt}")
    return attempt


@ray.remote
def crash_until(record, times):
    attempt = ray.get(record.add.remote(os.getpid()))
    if attempt < times:
        os._exit(7)
    return attempt


def attempts(record) -> int:
    return len(ray.get(record.all.remote()))


# ---------------------------------------------------------------------- retries


@needs_processes
def test_crashed_workers_are_retried_by_default() -> None:
    record = Record.remote()
    assert ray.get(crash_until.remote(record, 3)) == 3
    assert len(set(ray.get(record.all.remote()))) == 3


@needs_processes
def test_max_retries_limits_the_attempts() -> None:
    record = Record.remote()
    with pytest.raises(WorkerCrashedError):
        ray.get(crash_until.options(max_retries=1).remote(record, 5))
    assert attempts(record) == 2


@needs_processes
def test_max_retries_zero() -> None:
    record = Record.remote()
    with pytest.raises(WorkerCrashedError):
        ray.get(crash_until.options(max_retries=0).remote(record, 2))
    assert attempts(record) == 1


@needs_processes
def test_max_retries_minus_one_is_without_limit() -> None:
    record = Record.remote()
    assert ray.get(crash_until.options(max_retries=-1).remote(record, 6)) == 6


def test_exceptions_are_not_retried_by_default() -> None:
    record = Record.remote()
    with pytest.raises(ValueError, match="attempt 1"):
        ray.get(fail_until.remote(record, 2))
    assert attempts(record) == 1


def test_retry_exceptions_true() -> None:
    record = Record.remote()
    assert ray.get(fail_until.options(retry_exceptions=True).remote(record, 3)) == 3


def test_retry_exceptions_stops_at_max_retries() -> None:
    record = Record.remote()
    with pytest.raises(ValueError, match="attempt 3"):
        ray.get(fail_until.options(retry_exceptions=True, max_retries=2).remote(record, 9))
    assert attempts(record) == 3


def test_retry_exceptions_list() -> None:
    record = Record.remote()
    chosen = fail_until.options(retry_exceptions=[OSError, ValueError])
    assert ray.get(chosen.remote(record, 2)) == 2


def test_retry_exceptions_list_takes_subclasses() -> None:
    record = Record.remote()
    chosen = fail_until.options(retry_exceptions=[OSError])
    assert ray.get(chosen.remote(record, 2, FileNotFoundError)) == 2


def test_retry_exceptions_list_leaves_others_alone() -> None:
    record = Record.remote()
    with pytest.raises(ValueError, match="attempt 1"):
        ray.get(fail_until.options(retry_exceptions=[OSError]).remote(record, 2))
    assert attempts(record) == 1


def test_retry_exceptions_without_retries() -> None:
    record = Record.remote()
    with pytest.raises(ValueError, match="attempt 1"):
        ray.get(fail_until.options(retry_exceptions=True, max_retries=0).remote(record, 2))
    assert attempts(record) == 1


# ---------------------------------------------------------------------- max_calls


@needs_processes
def test_max_calls_ends_the_worker() -> None:
    @ray.remote(max_calls=1)
    def pid():
        return os.getpid()

    pids = [ray.get(pid.remote()) for _ in range(3)]
    assert len(set(pids)) == 3


@needs_processes
def test_results_outlive_the_worker_that_ends() -> None:
    @ray.remote(max_calls=1)
    def big():
        return b"x" * 500_000

    refs = [big.remote() for _ in range(3)]
    assert [len(value) for value in ray.get(refs)] == [500_000] * 3


# ---------------------------------------------------------------------- resources


@ray.remote(num_cpus=0)
class Room:
    """Counts who is inside, and the most there were."""

    def __init__(self):
        self.inside = self.most = 0

    def enter(self):
        self.inside += 1
        self.most = max(self.most, self.inside)

    def leave(self):
        self.inside -= 1

    def most_inside(self):
        return self.most


def body(gate, room):
    ray.get(room.enter.remote())
    ray.get(gate.wait.remote())
    ray.get(room.leave.remote())


def most_at_once(function, count: int, expected: int) -> int:
    """Return how many of so many calls were inside at a time; all that may, wait for each other."""
    gate, room = Gate.remote(), Room.remote()
    refs = [function.remote(gate, room) for _ in range(count)]
    ray.get(gate.until_arrived.remote(expected))
    ray.get(gate.open.remote())
    ray.get(refs)
    return ray.get(room.most_inside.remote())


@needs_processes
def test_custom_resources_limit_what_runs() -> None:
    chosen = ray.remote(num_cpus=0, resources={"token": 1})(body)
    assert most_at_once(chosen, 4, expected=2) == 2


@needs_processes
def test_fractions_of_resources() -> None:
    chosen = ray.remote(num_cpus=0, resources={"token": 0.5})(body)
    assert most_at_once(chosen, 6, expected=4) == 4


def test_zero_and_fractions_of_cpus() -> None:
    @ray.remote(num_cpus=0.25)
    def quarter(x):
        return x

    @ray.remote(num_cpus=0)
    def none(x):
        return x

    assert ray.get([quarter.remote(1), none.remote(2)]) == [1, 2]


def test_memory_is_a_resource() -> None:
    @ray.remote(memory=50_000_000)
    def held():
        return ray.get_runtime_context().get_assigned_resources().get("memory")

    assert ray.get(held.remote()) == 50_000_000


@needs_processes(reason="resources are counted, but nothing waits for them")
def test_a_demand_that_cannot_be_met_waits() -> None:
    @ray.remote(resources={"no-such-thing": 1})
    def never():
        return 1

    ref = never.remote()
    assert ray.wait([ref], timeout=0.3) == ([], [ref])
    ray.cancel(ref)


def test_resources_that_name_nodes() -> None:
    @ray.remote
    def one():
        return 1

    (node,) = ray.nodes()
    for name in ("node:__internal_head__", f"node:{node['NodeManagerAddress']}"):
        assert ray.cluster_resources()[name] == 1
        assert ray.get(one.options(resources={name: 0.001}).remote()) == 1


def test_cluster_resources() -> None:
    total = ray.cluster_resources()
    assert total["CPU"] == 4
    assert total["token"] == 2
    assert total["memory"] > 0
    assert total["object_store_memory"] > 0
    free = until(
        lambda: ray.available_resources().get("token") == 2 and ray.available_resources(), "all free"
    )
    assert free["CPU"] <= 4


# ---------------------------------------------------------------------- name, strategy


def test_name() -> None:
    @ray.remote
    def called():
        return ray.get_runtime_context().get_task_name()

    assert ray.get(called.options(name="by another name").remote()) == "by another name"


@pytest.mark.parametrize("strategy", ["DEFAULT", "SPREAD"])
def test_scheduling_strategies_by_name(strategy) -> None:
    @ray.remote(scheduling_strategy=strategy)
    def one():
        return 1

    assert ray.get(one.remote()) == 1
    assert ray.get(one.options(scheduling_strategy="SPREAD").remote()) == 1


# ---------------------------------------------------------------------- overrides


def test_options_override_the_decorator() -> None:
    @ray.remote(num_returns=2, num_cpus=2)
    def held():
        return ray.get_runtime_context().get_assigned_resources()["CPU"], "second"

    assert ray.get(held.remote()) == [2, "second"]
    assert ray.get(held.options(num_cpus=1).remote()) == [1, "second"]
    assert ray.get(held.options(num_returns=1).remote()) == (2, "second")


def test_options_do_not_change_the_original() -> None:
    @ray.remote
    def held():
        return ray.get_runtime_context().get_assigned_resources()["CPU"]

    two = held.options(num_cpus=2)
    assert ray.get([held.remote(), two.remote(), held.remote()]) == [1, 2, 1]


def test_no_options_at_all() -> None:
    @ray.remote
    def one():
        return 1

    assert ray.get(one.options().remote()) == 1


# ---------------------------------------------------------------------- what is refused

REFUSED = [
    ({"num_cpus": -1}, ValueError),
    ({"num_gpus": -1}, ValueError),
    ({"num_cpus": "one"}, TypeError),
    ({"memory": -5}, ValueError),
    ({"resources": {"CPU": 1}}, ValueError),
    ({"resources": {"GPU": 1}}, ValueError),
    ({"resources": [1]}, TypeError),
    ({"resources": {"token": -1}}, ValueError),
    ({"num_returns": -1}, ValueError),
    ({"num_returns": 1.5}, TypeError),
    ({"max_retries": -2}, ValueError),
    ({"max_retries": 1.5}, TypeError),
    ({"max_calls": -1}, ValueError),
    ({"retry_exceptions": ["ValueError"]}, ValueError),
    ({"retry_exceptions": ValueError}, TypeError),
    ({"name": 5}, TypeError),
    ({"runtime_env": 5}, TypeError),
    ({"num_cpu": 1}, ValueError),
    ({"max_restarts": 1}, ValueError),
    ({"lifetime": "detached"}, ValueError),
    ({"scheduling_strategy": "NEAREST"}, ValueError),
]


@pytest.mark.parametrize(("given", "kind"), REFUSED, ids=[str(given) for given, _ in REFUSED])
def test_wrong_options_are_refused(given, kind) -> None:
    def plain():
        pass

    with pytest.raises((TypeError, ValueError)) as by_decorator:
        ray.remote(**given)(plain).remote()
    with pytest.raises((TypeError, ValueError)) as by_options:
        ray.remote(plain).options(**given).remote()
    assert by_decorator.type is by_options.type is kind


def test_an_option_of_the_wrong_call_is_no_call() -> None:
    @ray.remote
    def one():
        return 1

    with pytest.raises((TypeError, ValueError)):
        one.options(1)
    with pytest.raises(RayTaskError):
        ray.get(ray.remote(num_cpus=1)(lambda: 1 / 0).remote())
