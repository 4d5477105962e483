"""Where tasks and actors run: labels, selectors, fallbacks, strategies; and small values that all share."""

from __future__ import annotations

import time

import pytest
import ray
from ray.exceptions import ActorUnschedulableError, TaskUnschedulableError
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_exists,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)
from ray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
)

from compat.conformance.conftest import CPUS
from compat.conformance.helpers import differs, needs_processes


@pytest.fixture(scope="module", autouse=True)
def in_zone_a(as_ray):
    ray.init(num_cpus=CPUS, labels={"zone": "a", "disk": "fast"}, include_dashboard=False)
    yield
    ray.shutdown()


@ray.remote
def where():
    return ray.get_runtime_context().get_node_id()


@ray.remote(num_cpus=0)
class Where:
    def where(self):
        return ray.get_runtime_context().get_node_id()


def here() -> str:
    return ray.get_runtime_context().get_node_id()


def waits(ref) -> None:
    """Check that what was called does not run while others do, and give it up."""
    assert ray.get([where.remote() for _ in range(20)]) == [here()] * 20
    assert ray.wait([ref], timeout=0) == ([], [ref])
    ray.cancel(ref)


def test_labels_are_told() -> None:
    labels = {"zone": "a", "disk": "fast", "ray.io/node-id": here()}
    assert ray.get_runtime_context().get_node_labels() == labels
    assert ray.nodes()[0]["Labels"] == labels


@pytest.mark.parametrize(
    "selector",
    [
        {}, {"zone": "a"}, {"zone": "!b"}, {"zone": "in(b,a)"}, {"zone": "!in(b, c)"}, {"nothing": "!a"},
        {"nothing": "!in(a, b)"}, {"zone": "a", "disk": "fast"},
    ],
)  # fmt: skip
def test_selectors_that_match(selector: dict[str, str]) -> None:
    assert ray.get(where.options(label_selector=selector).remote()) == here()
    assert ray.get(Where.options(label_selector=selector).remote().where.remote()) == here()


@differs(on="ray", reason="a value behind a space is another value: in(b, a) does not select a", run=False)
def test_spaces_between_values() -> None:
    assert ray.get(where.options(label_selector={"zone": "in(b, a)"}).remote()) == here()


@needs_processes(reason="nothing waits for labels or resources: it runs, with a warning")
@pytest.mark.parametrize(
    "selector",
    [{"zone": "b"}, {"zone": "!a"}, {"zone": "in(b, c)"}, {"nothing": "a"}, {"zone": "a", "disk": "slow"}],
)
def test_selectors_that_do_not_match_wait(selector: dict[str, str]) -> None:
    ref = where.options(label_selector=selector).remote()
    waits(ref)


@differs(on="ray", before="2.60", reason="Ray 2.50 has no option `fallback_strategy`: a ValueError says so.")
def test_fallbacks() -> None:
    fallback = [{"label_selector": {"zone": "c"}}, {"label_selector": {"disk": "fast"}}]
    options = {"label_selector": {"zone": "b"}, "fallback_strategy": fallback}
    assert ray.get(where.options(**options).remote()) == here()
    assert ray.get(Where.options(**options).remote().where.remote()) == here()


@pytest.mark.parametrize(
    ("hard", "soft"),
    [
        ({"zone": In("a", "b")}, None), ({"zone": NotIn("b")}, None), ({"nothing": NotIn("b")}, None),
        ({"disk": Exists()}, None), ({"nothing": DoesNotExist()}, None), ({}, {"zone": In("b")}),
    ],
)  # fmt: skip
def test_label_strategies(hard, soft) -> None:
    strategy = NodeLabelSchedulingStrategy(hard, soft=soft)
    assert ray.get(where.options(scheduling_strategy=strategy).remote()) == here()


@needs_processes(reason="nothing waits for labels or resources: it runs, with a warning")
def test_a_label_strategy_that_no_node_fulfils_waits() -> None:
    ref = where.options(scheduling_strategy=NodeLabelSchedulingStrategy({"zone": In("b")})).remote()
    waits(ref)


@pytest.mark.parametrize("strategy", ["DEFAULT", "SPREAD", None])
def test_strategies_by_name(strategy: str | None) -> None:
    assert ray.get(where.options(scheduling_strategy=strategy).remote()) == here()


@pytest.mark.parametrize("soft", [True, False])
def test_affinity_to_this_node(soft: bool) -> None:
    strategy = NodeAffinitySchedulingStrategy(here(), soft=soft)
    assert ray.get(where.options(scheduling_strategy=strategy).remote()) == here()
    assert ray.get(Where.options(scheduling_strategy=strategy).remote().where.remote()) == here()


def test_affinity_to_a_node_that_is_not_there() -> None:
    nowhere = "0" * len(here())
    hard = NodeAffinitySchedulingStrategy(nowhere, soft=False)
    with pytest.raises(TaskUnschedulableError):
        ray.get(where.options(scheduling_strategy=hard).remote())
    with pytest.raises(ActorUnschedulableError):
        ray.get(Where.options(scheduling_strategy=hard).remote().where.remote())
    soft = NodeAffinitySchedulingStrategy(nowhere, soft=True)
    assert ray.get(where.options(scheduling_strategy=soft).remote()) == here()


def test_affinity_to_a_node_that_could_never_serve_it() -> None:
    strategy = NodeAffinitySchedulingStrategy(here(), soft=False)
    with pytest.raises(TaskUnschedulableError):
        ray.get(where.options(num_cpus=CPUS + 1, scheduling_strategy=strategy).remote())


@pytest.mark.parametrize(
    "options",
    [
        {"label_selector": {"zone": "-a"}}, {"label_selector": {"-": "a"}}, {"label_selector": {"zone": "in(a"}},
        {"scheduling_strategy": "PACK"}, {"fallback_strategy": [{"label_selector": {"zone": "-"}}]},
    ],
)  # fmt: skip
def test_what_is_refused(options) -> None:
    with pytest.raises(ValueError):
        where.options(**options).remote()


def test_arguments_that_are_refused() -> None:
    for wrong in (lambda: NodeAffinitySchedulingStrategy("here", soft=False), lambda: In(), lambda: In(1),
                  lambda: NodeLabelSchedulingStrategy({}), lambda: NodeLabelSchedulingStrategy({"a": "b"})):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()


# ---------------------------------------------------------------------- small values that all share


def test_the_key_value_table() -> None:
    assert not _internal_kv_put("key", "1", namespace="conformance")
    assert _internal_kv_put("key", "2", namespace="conformance")
    assert _internal_kv_put("key", "3", overwrite=False, namespace="conformance")
    assert _internal_kv_get("key", namespace="conformance") == b"2"
    assert _internal_kv_get("key", namespace="other") is None
    assert _internal_kv_exists(b"key", namespace=b"conformance")
    _internal_kv_put("key-2", b"", namespace="conformance")
    assert sorted(_internal_kv_list("key", namespace="conformance")) == [b"key", b"key-2"]
    assert _internal_kv_del("key", namespace="conformance") == 1
    assert _internal_kv_del("key", namespace="conformance") == 0
    assert _internal_kv_del("k", del_by_prefix=True, namespace="conformance") == 1


def test_default_actors_start_though_every_cpu_is_held() -> None:
    """They need one to be placed, which says on which nodes they may be, and none to run."""

    @ray.remote(num_cpus=CPUS)
    class Holder:
        def ping(self):
            return 1

    @ray.remote
    class Default:
        def ping(self):
            return 2

    holder = Holder.remote()
    assert ray.get(holder.ping.remote()) == 1
    actors = [Default.remote() for _ in range(3)]
    assert ray.get([actor.ping.remote() for actor in actors], timeout=20) == [2] * 3
    ray.kill(holder)


@needs_processes(reason="tasks take no CPUs there")
def test_default_actors_start_though_tasks_hold_every_cpu(tmp_path) -> None:
    @ray.remote(num_cpus=CPUS)
    def hold(begun, end):
        begun.touch()
        while not end.exists():
            time.sleep(0.01)

    @ray.remote
    class Default:
        def ping(self):
            return 2

    held = hold.remote(tmp_path / "begun", tmp_path / "end")
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    actor = Default.remote()
    assert ray.get(actor.ping.remote(), timeout=20) == 2
    behind = where.remote()
    assert ray.wait([behind], timeout=0.5) == ([], [behind])
    (tmp_path / "end").touch()
    assert ray.get([held, behind]) == [None, here()]
