"""Where tasks and actors may run, on one machine: labels, selectors, affinity, and what is said when nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.exceptions import ActorUnschedulableError, TaskUnschedulableError
from skate.util.scheduling_strategies import (
    DoesNotExist,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
)
from skate.util.state import list_actors, list_nodes, list_tasks, why

from .waiting import AGES, wait_for

NOWHERE = "0" * 32


@pytest.fixture(autouse=True)
def in_zone_a(leak_check: None) -> Iterator[None]:
    skate.init(num_cpus=2, labels={"zone": "a", "disk": "fast"})
    yield
    skate.shutdown()


@skate.remote
def here() -> str:
    return skate.get_runtime_context().get_node_id()


@skate.remote
class Here:
    def node(self) -> str:
        return skate.get_runtime_context().get_node_id()


def run(**options: Any) -> Any:
    """Run a task and an actor with these options; return where the task ran."""
    actor = Here.options(**options).remote()
    task, call = here.options(**options).remote(), actor.node.remote()
    assert skate.get(task) == skate.get(call)
    return skate.get(task)


def test_labels_are_told() -> None:
    node = skate.get_runtime_context().get_node_id()
    labels = {"zone": "a", "disk": "fast", "ray.io/node-id": node}
    assert skate.get_runtime_context().get_node_labels() == labels
    assert skate.nodes()[0]["Labels"] == labels
    assert list_nodes()[0].labels == labels

    @skate.remote
    def inside() -> dict[str, str]:
        return skate.get_runtime_context().get_node_labels()

    assert skate.get(inside.remote()) == labels


@pytest.mark.parametrize(
    "options",
    [
        {"label_selector": {"zone": "a"}},
        {"label_selector": {"zone": "in(b, a)", "disk": "!slow"}},
        {"label_selector": {"zone": "b"}, "fallback_strategy": [{"label_selector": {"disk": "fast"}}]},
        {"scheduling_strategy": "SPREAD"},
        {"scheduling_strategy": "DEFAULT"},
        {
            "scheduling_strategy": NodeLabelSchedulingStrategy(
                {"zone": In("a")}, soft={"disk": DoesNotExist()}
            )
        },
        {"scheduling_strategy": NodeAffinitySchedulingStrategy(NOWHERE, soft=True)},
    ],
)
def test_what_this_node_may_serve(options: dict[str, Any]) -> None:
    assert run(**options) == skate.get_runtime_context().get_node_id()


def test_affinity_to_this_node() -> None:
    node = skate.get_runtime_context().get_node_id()
    assert run(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)) == node


def test_affinity_to_a_node_that_is_not_there_fails() -> None:
    strategy = NodeAffinitySchedulingStrategy(NOWHERE, soft=False)
    with pytest.raises(TaskUnschedulableError, match=f"must run on node {NOWHERE}.*not in this cluster"):
        skate.get(here.options(scheduling_strategy=strategy).remote(), timeout=AGES)
    actor = Here.options(scheduling_strategy=strategy).remote()
    with pytest.raises(ActorUnschedulableError, match=f"actor Here: .*{NOWHERE}"):
        skate.get(actor.node.remote(), timeout=AGES)
    # The same function elsewhere is not concerned.
    assert skate.get(here.remote())


def test_affinity_to_a_node_that_could_never_serve_it_fails() -> None:
    node = skate.get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    with pytest.raises(TaskUnschedulableError, match=r"never give it \{CPU: 99\}: it has \{CPU: 2\}"):
        skate.get(here.options(num_cpus=99, scheduling_strategy=strategy).remote(), timeout=AGES)


def test_a_selector_that_no_node_matches_waits_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    ref = here.options(label_selector={"zone": "b"}).remote()
    actor = Here.options(label_selector={"zone": "!a"}).remote()
    call = actor.node.remote()
    told = ""

    def warned() -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return "task here:" in told and "actor Here:" in told

    wait_for(warned, "the warnings")
    assert "it needs a node with zone = 'b', and the only node has disk=fast" in told
    assert "zone other than 'a'" in told
    assert skate.wait([ref, call], timeout=0) == ([], [ref, call])
    assert "waits until that changes: it needs a node with zone = 'b'" in why(ref)
    assert "zone other than 'a'" in why(call)
    # Others are not held up, and those that wait can be cancelled or killed.
    assert skate.get(here.remote())
    skate.cancel(ref)
    with pytest.raises(skate.exceptions.TaskCancelledError):
        skate.get(ref, timeout=AGES)
    skate.kill(actor)
    with pytest.raises(skate.exceptions.ActorDiedError):
        skate.get(call, timeout=AGES)


def test_requirements_are_told_in_the_state() -> None:
    selector = {"label_selector": {"zone": "a"}}
    fallback = {"fallback_strategy": [{"label_selector": {"disk": "fast"}}]}
    actor = Here.options(**selector, **fallback).remote()
    skate.get([actor.node.remote(), here.options(name="labelled", **selector).remote()])
    task = list_tasks(filters=[("name", "=", "labelled")], detail=True)[0]
    assert task.label_selector == {"zone": "in(a)"} and not task.fallback_strategy
    found = list_actors(detail=True)[0]
    assert found.label_selector == {"zone": "in(a)"}
    assert found.fallback_strategy == [{"label_selector": {"disk": "in(fast)"}}]


def test_the_options_are_checked_where_they_are_written() -> None:
    for options in (
        {"label_selector": {"zone": "-"}}, {"label_selector": "zone=a"}, {"scheduling_strategy": "PACK"},
        {"fallback_strategy": [{"CPU": 1}]}, {"scheduling_strategy": NodeAffinitySchedulingStrategy},
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=next(iter(options))):
            here.options(**options)
        with pytest.raises((TypeError, ValueError), match=next(iter(options))):
            Here.options(**options)


def test_labels_of_init_are_checked() -> None:
    skate.shutdown()
    with pytest.raises(ValueError, match="only the runtime sets keys"):
        skate.init(labels={"ray.io/zone": "a"})
    with pytest.raises(TypeError, match="labels takes a dict"):
        skate.init(labels="zone=a")
    assert not skate.is_initialized()


def test_labels_of_start(tmp_path: Path) -> None:
    skate.shutdown()
    environment = os.environ | {"TMPDIR": str(tmp_path)}

    def command(*arguments: str) -> str:
        made = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return made.stdout

    command("-m", "skate", "start", "--head", "--num-cpus=1", "--labels", "zone=b,rack=7")
    try:
        program = "import json, skate; skate.init(); print(json.dumps(skate.get_runtime_context().get_node_labels()))"
        found = json.loads(command("-c", program))
        assert (found["zone"], found["rack"]) == ("b", "7")
        refused = subprocess.run(
            [sys.executable, "-c", "import skate; skate.init(labels={'zone': 'c'})"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert "leave out labels" in refused.stderr
    finally:
        command("-m", "skate", "stop")
