"""Placement groups on one node: reserved, waited for, used by tasks and actors, named, removed, and what outlives what."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.api import RayContext as Session
from skate.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    GetTimeoutError,
    TaskPlacementGroupRemoved,
    WorkerCrashedError,
)
from skate.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
    state,
)
from skate.util.placement_group import PlacementGroup
from skate.util.scheduling_strategies import PlacementGroupSchedulingStrategy as InGroup

from .processes import Driver, roles, run_driver
from .test_detached import standing  # noqa: F401  (a fixture)
from .waiting import AGES, wait_for, wait_for_file
from .work import Counter, square, wait_and_return

CPU = {"CPU": 1}


@pytest.fixture(params=["processes", "inline"])
def either(request: pytest.FixtureRequest, leak_check: None) -> Iterator[str]:
    """Four CPUs, in processes and in one."""
    skate.init(num_cpus=4, **({"mode": "inline"} if request.param == "inline" else {}))
    yield request.param
    skate.shutdown()


@pytest.fixture
def four(leak_check: None) -> Iterator[Session]:
    yield skate.init(num_cpus=4)


@skate.remote
def where() -> tuple[str | None, bool]:
    context = skate.get_runtime_context()
    return context.get_placement_group_id(), context.should_capture_child_tasks_in_placement_group


@skate.remote(num_cpus=0)
def parent(how: str) -> list[tuple[str | None, bool]]:
    """Run ``where`` from inside, in several ways."""
    if how == "plain":
        return skate.get([where.remote(), where.remote()])
    if how == "outside":
        return skate.get([where.options(scheduling_strategy="DEFAULT").remote(),
                          where.options(placement_group=None).remote(),
                          where.options(scheduling_strategy=InGroup(None)).remote()])  # fmt: skip
    if how == "grandchild":
        return skate.get(parent.remote("plain"))
    return [skate.get(Where.remote().where.remote())]


@skate.remote
class Where:
    def where(self) -> tuple[str | None, bool]:
        return skate.get(self.me())  # type: ignore[no-any-return]

    def me(self) -> Any:
        context = skate.get_runtime_context()
        return skate.put(
            (context.get_placement_group_id(), context.should_capture_child_tasks_in_placement_group)
        )

    def child(self) -> Any:
        return skate.get(where.remote())

    def specs(self) -> list[dict[str, float]]:
        group = get_current_placement_group()
        assert group is not None
        return group.bundle_specs


def free_cpus() -> float:
    return skate.available_resources().get("CPU", 0.0)


# ---------------------------------------------------------------------- reserving and waiting


def test_resources_are_reserved_and_given_back(either: str) -> None:
    group = placement_group([CPU, {"CPU": 2}])
    assert group.wait(AGES) and skate.get(group.ready()) == group
    assert group.bundle_specs == [{"CPU": 1.0}, {"CPU": 2.0}] and group.bundle_count == 2
    wait_for(lambda: free_cpus() == 1, "one CPU to be left")
    remove_placement_group(group)
    wait_for(lambda: free_cpus() == 4, "all CPUs to be free again")
    remove_placement_group(group)


def test_the_table(either: str) -> None:
    group = placement_group([CPU, CPU], name="it", strategy="SPREAD")
    assert group.wait(AGES)
    node = skate.get_runtime_context().get_node_id()
    row = placement_group_table(group)
    assert row.pop("stats")["scheduling_state"] == "FINISHED"
    assert row == {
        "placement_group_id": group.id.hex(), "name": "it", "strategy": "SPREAD", "state": "CREATED",
        "bundles": {0: {"CPU": 1.0}, 1: {"CPU": 1.0}}, "bundles_to_node_id": {0: node, 1: node},
    }  # fmt: skip
    assert placement_group_table() == {group.id.hex(): placement_group_table(group)}
    assert placement_group_table(PlacementGroup(type(group.id)(b"x" * len(group.id.binary())))) == {}
    (listed,) = state.list_placement_groups(detail=True)
    assert (listed.placement_group_id, listed.state, listed.name) == (group.id.hex(), "CREATED", "it")
    assert listed.bundles is not None and [one["node_id"] for one in listed.bundles] == [node, node]
    assert state.get_placement_group(group.id.hex()) is not None


def test_a_group_waits_for_another_one(either: str) -> None:
    first, second = placement_group([{"CPU": 3}]), placement_group([{"CPU": 2}])
    assert first.wait(AGES) and not second.wait(0.01)
    ready = second.ready()
    assert skate.wait([ready], timeout=0)[0] == []
    remove_placement_group(first)
    assert skate.get(ready) == second and second.wait(0)


@pytest.mark.parametrize(
    ("bundles", "strategy", "reason"),
    [
        ([{"CPU": 5}], "PACK", "bundle 0 needs {CPU: 5}, and the only node has {CPU: 4} in all"),
        ([{"CPU": 3}, {"CPU": 3}], "PACK", "its bundles need {CPU: 6} together, and the cluster has {CPU: 4}"),
        ([CPU, CPU], "STRICT_SPREAD", "each of its 2 bundles on a node of its own, and this cluster has 1 node"),
        ([{"token": 1}], "SPREAD", "bundle 0 needs {token: 1}, and the only node has {token: 0} in all"),
    ],
)  # fmt: skip
def test_what_can_never_fit_says_so_and_waits(
    either: str, capfd: pytest.CaptureFixture[str], bundles: Any, strategy: str, reason: str
) -> None:
    group = placement_group(bundles, strategy=strategy, name="greedy")
    err = capfd.readouterr().err
    assert "placement group 'greedy' cannot be reserved" in err and reason in err
    assert not group.wait(0.01)
    with pytest.raises(GetTimeoutError):
        skate.get(group.ready(), timeout=0.01)
    assert placement_group_table(group)["stats"]["scheduling_state"] == "INFEASIBLE"
    (row,) = state.list_placement_groups(detail=True)
    assert row.stats is not None and reason in row.stats["reason"]


def test_one_strictly_spread_bundle_has_a_node_of_its_own(either: str) -> None:
    assert placement_group([CPU], strategy="STRICT_SPREAD").wait(AGES)


def test_labels_of_bundles(leak_check: None) -> None:
    skate.init(num_cpus=2, labels={"zone": "a"})
    assert placement_group([CPU], bundle_label_selector=[{"zone": "in(a, b)"}]).wait(AGES)
    assert not placement_group([CPU], bundle_label_selector=[{"zone": "c"}]).wait(0.01)


# ---------------------------------------------------------------------- tasks and actors in groups


def test_tasks_and_actors_run_in_a_group(either: str) -> None:
    group = placement_group([CPU, CPU])
    for strategy in (InGroup(group), InGroup(group, 1), InGroup(group, placement_group_bundle_index=0)):
        assert skate.get(where.options(scheduling_strategy=strategy).remote()) == (group.id.hex(), False)
    old = where.options(placement_group=group, placement_group_bundle_index=1)
    assert skate.get(old.remote()) == (group.id.hex(), False)
    actor = Where.options(num_cpus=1, scheduling_strategy=InGroup(group, 0)).remote()
    assert skate.get(actor.where.remote()) == (group.id.hex(), False)
    assert skate.get(actor.child.remote()) == (None, False)
    assert skate.get(actor.specs.remote()) == [{"CPU": 1.0}, {"CPU": 1.0}]
    assert skate.get(where.remote()) == (None, False) and get_current_placement_group() is None


def test_a_group_captures_what_is_started_in_it(either: str) -> None:
    group = placement_group([{"CPU": 2}])
    inside, outside = (group.id.hex(), True), (None, False)
    captures = InGroup(group, 0, True)
    run = parent.options(scheduling_strategy=captures)
    assert skate.get(run.remote("plain")) == [inside, inside]
    assert skate.get(run.remote("outside")) == [outside] * 3
    assert skate.get(run.remote("grandchild")) == [inside, inside]
    assert skate.get(run.remote("actor")) == [inside]
    lax = parent.options(scheduling_strategy=InGroup(group, 0))
    assert skate.get(lax.remote("plain")) == [outside, outside]
    actor = Where.options(num_cpus=1, scheduling_strategy=captures).remote()
    assert skate.get(actor.child.remote()) == inside


def test_what_a_captured_task_cannot_have_is_an_error(either: str) -> None:
    group = placement_group([CPU])

    @skate.remote(num_cpus=0)
    def outer() -> str:
        with pytest.raises(
            ValueError, match=r"Cannot schedule where .* cannot fit into any bundles"
        ) as raised:
            where.options(num_cpus=2).remote()
        with pytest.raises(ValueError, match="Cannot schedule Where"):
            Where.options(num_cpus=3).remote()
        return str(raised.value)

    text = skate.get(outer.options(scheduling_strategy=InGroup(group, 0, True)).remote())
    assert "The group captures what" in text and "scheduling_strategy='DEFAULT'" in text


def test_a_bundle_limits_what_runs_in_it(four: Session, tmp_path: Path) -> None:
    group = placement_group([CPU, CPU])
    first, second = (wait_and_return.options(scheduling_strategy=InGroup(group, 0)).remote(tmp_path / "go", n)
                     for n in (1, 2))  # fmt: skip
    third = square.options(scheduling_strategy=InGroup(group, 1)).remote(3)
    assert skate.get(third) == 9, "the other bundle is free"
    assert len(skate.wait([first, second], num_returns=2, timeout=0.01)[0]) == 0
    line, *holders = state.why(second.hex()).splitlines()
    assert f"waits for resources of placement group {group.id.hex()}: it needs {{CPU: 1}}" in line
    assert any("wait_and_return in process" in holder for holder in holders)
    (tmp_path / "go").touch()
    assert skate.get([first, second]) == [1, 2]


def test_recursion_in_one_bundle_lends_its_cpu(four: Session) -> None:
    group = placement_group([CPU])

    @skate.remote
    def depth(n: int) -> int:
        return 1 + skate.get(depth.remote(n - 1)) if n else 0  # type: ignore[no-any-return]

    assert skate.get(depth.options(scheduling_strategy=InGroup(group, 0, True)).remote(8)) == 8


def test_what_runs_in_no_group_has_what_is_left(four: Session, tmp_path: Path) -> None:
    group = placement_group([{"CPU": 3}])
    assert group.wait(AGES)
    refs = [wait_and_return.remote(tmp_path / "go", n) for n in range(2)]
    two = square.options(num_cpus=2).remote(3)
    assert skate.wait([*refs, two], timeout=0.01)[0] == []
    assert any("placement group" in line and "{CPU: 3}" in line for line in state.why(two.hex()).splitlines())
    (tmp_path / "go").touch()
    assert skate.get(refs) == [0, 1]
    remove_placement_group(group)
    assert skate.get(two) == 9


def test_gpus_of_a_bundle(leak_check: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    skate.init(num_cpus=2, num_gpus=2)

    @skate.remote(num_gpus=1, num_cpus=0)
    class Device:
        def visible(self) -> str | None:
            return os.environ.get("CUDA_VISIBLE_DEVICES")

    group = placement_group([{"GPU": 1}, {"GPU": 1}])
    actors = [Device.options(scheduling_strategy=InGroup(group, index)).remote() for index in (0, 1)]
    assert sorted(skate.get([actor.visible.remote() for actor in actors])) == ["0", "1"]


def test_groups_travel_as_arguments_and_by_name(four: Session) -> None:
    group = placement_group([CPU], name="shared")

    @skate.remote
    def use(given: PlacementGroup) -> tuple[bool, Any]:
        named = get_placement_group("shared")
        return named == given, skate.get(where.options(scheduling_strategy=InGroup(named)).remote())

    assert skate.get(use.remote(group)) == (True, (group.id.hex(), False))
    assert pickle.loads(pickle.dumps(group)) == group and len({group, get_placement_group("shared")}) == 1
    with pytest.raises(ValueError, match="Failed to look up placement group with name: other"):
        get_placement_group("other")
    remove_placement_group(group)
    with pytest.raises(ValueError, match="Failed to look up"):
        get_placement_group("shared")
    assert placement_group([CPU], name="shared") != group


def test_async_actors_wait_for_groups(four: Session) -> None:
    @skate.remote(num_cpus=0)
    class Trainer:
        async def train(self, group: PlacementGroup) -> Any:
            await asyncio.wait_for(group.ready(), AGES)
            return await where.options(scheduling_strategy=InGroup(group)).remote()

    group = placement_group([CPU])
    assert skate.get(Trainer.remote().train.remote(group)) == (group.id.hex(), False)


# ---------------------------------------------------------------------- removing


def test_removing_a_group_ends_what_runs_in_it(four: Session, tmp_path: Path) -> None:
    group = placement_group([CPU, {"CPU": 1}])
    actor = Counter.options(num_cpus=1, scheduling_strategy=InGroup(group, 0), max_restarts=-1).remote()
    task = wait_and_return.options(scheduling_strategy=InGroup(group, 1)).remote(tmp_path / "never", 1)
    queued = square.options(scheduling_strategy=InGroup(group, 1)).remote(1)
    call = actor.tell_and_wait.remote(tmp_path / "told", tmp_path / "never")
    wait_for_file(tmp_path / "told")
    remove_placement_group(group)
    for ref in (task, queued):
        with pytest.raises(
            TaskPlacementGroupRemoved, match=r"remove_placement_group\(\) was called in driver"
        ) as lost:
            skate.get(ref)
        assert isinstance(lost.value, WorkerCrashedError), "what Ray raises for one that ran"
    for late in (call, actor.add.remote()):
        with pytest.raises(ActorPlacementGroupRemoved, match=group.id.hex()) as dead:
            skate.get(late)
        assert isinstance(dead.value, ActorDiedError), "what Ray raises for one that ran"
    with pytest.raises(TaskPlacementGroupRemoved):
        skate.get(square.options(scheduling_strategy=InGroup(group)).remote(1))
    with pytest.raises(ActorPlacementGroupRemoved):
        skate.get(Counter.options(num_cpus=1, scheduling_strategy=InGroup(group)).remote().add.remote())
    wait_for(lambda: free_cpus() == 4, "all CPUs to be free again")
    assert skate.get(square.remote(2)) == 4


def test_removing_a_group_that_waits(either: str) -> None:
    group = placement_group([{"CPU": 16}])
    actor = Counter.options(num_cpus=1, scheduling_strategy=InGroup(group)).remote()
    ready, call = group.ready(), actor.add.remote()
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved):
        skate.get(ready)
    with pytest.raises(ActorPlacementGroupRemoved):
        skate.get(call)
    with pytest.raises(ValueError, match="does not exist"):
        group.wait(1)


def test_a_killed_actor_that_waits_for_its_group_is_not_started(either: str) -> None:
    first, group = placement_group([{"CPU": 4}]), placement_group([CPU])
    actor = Counter.options(num_cpus=1, scheduling_strategy=InGroup(group)).remote()
    call = actor.add.remote()
    skate.kill(actor)
    remove_placement_group(first)
    assert group.wait(AGES)
    with pytest.raises(ActorDiedError):
        skate.get(call)


def test_a_cancelled_task_that_waits_for_its_group_does_not_run(either: str) -> None:
    first, group = placement_group([{"CPU": 4}]), placement_group([CPU])
    ref = square.options(scheduling_strategy=InGroup(group)).remote(3)
    skate.cancel(ref)
    remove_placement_group(first)
    assert skate.get(square.options(scheduling_strategy=InGroup(group)).remote(4)) == 16
    with pytest.raises(skate.exceptions.TaskCancelledError):
        skate.get(ref)


def test_a_crash_in_a_group_is_a_crash(four: Session) -> None:
    group = placement_group([CPU])
    actor = Counter.options(num_cpus=1, scheduling_strategy=InGroup(group), max_restarts=1).remote()
    pid = skate.get(actor.pid.remote())
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: state.list_actors(detail=True)[0].num_restarts == "1"
             or state.list_actors(detail=True)[0].num_restarts == 1, "the restart")  # fmt: skip
    assert skate.get(actor.pid.remote()) != pid
    assert placement_group_table(group)["state"] == "CREATED"


# ---------------------------------------------------------------------- lives


def test_groups_end_with_their_driver_and_detached_ones_do_not(standing: str, tmp_path: Path) -> None:  # noqa: F811
    program = """
        import sys, skate
        from skate.util import placement_group
        skate.init(sys.argv[1], namespace="n")
        for name, lifetime in (("stays", "detached"), ("goes", None)):
            assert placement_group([{"CPU": 1}], name=name, lifetime=lifetime).wait(600)
        print("done")
    """
    assert run_driver(tmp_path, program, standing).stdout == "done\n"
    skate.init(standing, namespace="n")

    def states() -> dict[str, str]:
        return {row.name: row.state for row in state.list_placement_groups()}

    wait_for(lambda: states() == {"stays": "CREATED", "goes": "REMOVED"}, "the driver's group to end")
    wait_for(lambda: free_cpus() == 1, "its CPU to be free")
    group = get_placement_group("stays")
    assert skate.get(where.options(scheduling_strategy=InGroup(group)).remote()) == (group.id.hex(), False)
    remove_placement_group(group)
    wait_for(lambda: free_cpus() == 2, "all CPUs to be free again")


def test_a_group_of_a_detached_actor_ends_with_it(standing: str) -> None:  # noqa: F811
    skate.init(standing)

    @skate.remote(num_cpus=0)
    class Maker:
        def make(self) -> PlacementGroup:
            group = placement_group([CPU])
            group.wait(AGES)
            return group

    maker = Maker.options(lifetime="detached", name="maker").remote()
    group = skate.get(maker.make.remote())
    assert placement_group_table(group)["state"] == "CREATED"
    skate.kill(maker)
    wait_for(lambda: placement_group_table(group)["state"] == "REMOVED", "its group to end")


def test_a_restarted_control_store_knows_its_groups(four: Session, tmp_path: Path) -> None:
    home = four["session_dir"]
    group = placement_group([CPU], name="kept")
    waiting = placement_group([{"CPU": 4}], name="waits")
    assert group.wait(AGES)
    task = wait_and_return.options(scheduling_strategy=InGroup(group)).remote(tmp_path / "go", 1)
    os.kill(roles(home).control, signal.SIGKILL)
    assert get_placement_group("kept") == group
    assert placement_group_table(group)["state"] == "CREATED" and not waiting.wait(0.01)
    with pytest.raises(skate.exceptions.RaySystemError, match="already taken"):
        placement_group([CPU], name="kept")
    (tmp_path / "go").touch()
    assert skate.get(task) == 1
    remove_placement_group(group)
    assert waiting.wait(AGES), "its place in the line is not lost"


def test_requests_that_a_control_store_never_read_are_repeated(four: Session) -> None:
    group = placement_group([{"CPU": 3}])
    assert group.wait(AGES)
    control = roles(four["session_dir"]).control
    os.kill(control, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads:
        making = threads.submit(placement_group, [{"CPU": 2}])
        removing = threads.submit(remove_placement_group, group)
        assert not making.done() and not removing.done()
        os.kill(control, signal.SIGKILL)
        assert making.result().wait(AGES)
        removing.result()


# ---------------------------------------------------------------------- waiting in line


def test_a_group_gets_its_turn_among_endless_tasks(four: Session, tmp_path: Path) -> None:
    """Every task that ends is followed by the next one; the group needs all CPUs at once."""

    @skate.remote
    def short() -> None:
        pass

    refs = [short.remote() for _ in range(200)]
    group = placement_group([{"CPU": 4}])
    ready = group.ready()
    while True:
        done, _ = skate.wait([ready, *refs])
        if ready in done:
            break
        refs = [*(ref for ref in refs if ref not in done), *(short.remote() for _ in done)]
    remove_placement_group(group)
    skate.get(refs)


def test_tasks_that_wait_for_each_other_unseen(four: Session, tmp_path: Path) -> None:
    """The first holds a CPU that the group needs, and waits for what the second does, which came after the group."""

    @skate.remote
    def touch(path: Path) -> None:
        path.touch()

    first = wait_and_return.remote(tmp_path / "go", 1)
    group = placement_group([{"CPU": 4}])
    second = touch.remote(tmp_path / "go")
    assert skate.get([first, second]) == [1, None]
    assert group.wait(AGES)


def test_why_and_the_command_line_say_what_a_group_waits_for(four: Session) -> None:
    actor = Counter.options(num_cpus=2).remote()
    skate.get(actor.add.remote())
    group = placement_group([{"CPU": 3}], name="trainers")
    first, *others = state.why(group.ready().hex()).splitlines()
    assert (
        "it waits for placement group trainers, which is PENDING: its bundles need {CPU: 3}; free are"
        in first
    )
    assert any("Counter in process" in line for line in others)
    listed = subprocess.run(
        [sys.executable, "-m", "skate", "list", "placement-groups"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "trainers" in listed and "PENDING" in listed and "{CPU: 3}" in listed
    big = placement_group([{"CPU": 9}])
    waiting = Counter.options(num_cpus=1, scheduling_strategy=InGroup(big)).remote()
    assert "bundle 0 needs {CPU: 9}, and the only node has {CPU: 4}" in state.why(waiting.add.remote().hex())
    for one in (group, big):
        remove_placement_group(one)


def test_a_driver_that_is_killed_leaves_no_group(standing: str, tmp_path: Path) -> None:  # noqa: F811
    program = """
        import sys, time, skate
        from skate.util import placement_group
        skate.init(sys.argv[1])
        assert placement_group([{"CPU": 2}]).wait(600)
        print("made", flush=True)
        time.sleep(3600)
    """
    driver = Driver(tmp_path, program, standing)
    assert driver.process.stdout is not None and driver.process.stdout.readline() == "made\n"
    driver.process.kill()
    driver.process.communicate()
    skate.init(standing)
    assert placement_group([{"CPU": 2}]).wait(AGES)
