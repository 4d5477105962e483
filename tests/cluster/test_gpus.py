"""GPUs as resources, declared ones: which device whom, shares, actors, and processes that end after use."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate._launch import accelerators, machine

from . import faults
from .waiting import AGES


@pytest.fixture(autouse=True)
def no_devices_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def two_gpus(leak_check: None) -> Iterator[None]:
    skate.init(num_cpus=4, num_gpus=2)
    yield
    skate.shutdown()


@skate.remote(num_gpus=1)
def which() -> tuple[list[int | str], str | None, int]:
    return skate.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()


@skate.remote
class Gate:
    """Opens when so many have come."""

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self.came: list[Any] = []

    async def meet(self, who: Any) -> list[Any]:
        import asyncio

        self.came.append(who)
        while len(self.came) < self.parties:
            await asyncio.sleep(0.001)
        return self.came


def test_a_task_gets_a_device_and_libraries_see_it(two_gpus: None) -> None:
    ids, visible, _ = skate.get(which.remote())
    assert len(ids) == 1 and ids[0] in (0, 1)
    assert visible == str(ids[0])
    assert skate.cluster_resources()["GPU"] == 2.0


def test_two_at_once_get_different_devices(two_gpus: None) -> None:
    gate = Gate.options(num_cpus=0).remote(2)

    @skate.remote(num_gpus=1, num_cpus=0)
    def meet() -> Any:
        return skate.get(gate.meet.remote(skate.get_gpu_ids()[0]))

    assert [sorted(came) for came in skate.get([meet.remote(), meet.remote()])] == [[0, 1], [0, 1]]


def test_a_task_that_wants_both_sees_both(two_gpus: None) -> None:
    ids, visible, _ = skate.get(which.options(num_gpus=2).remote())
    assert (ids, visible) == ([0, 1], "0,1")


def test_halves_share_one_device(two_gpus: None) -> None:
    gate = Gate.options(num_cpus=0).remote(4)

    @skate.remote(num_gpus=0.5, num_cpus=0)
    def meet() -> Any:
        return skate.get(gate.meet.remote(skate.get_gpu_ids()[0]))

    met = skate.get([meet.remote() for _ in range(4)])
    assert Counter(met[0]) == {0: 2, 1: 2}


def test_a_task_without_gpus_sees_none(two_gpus: None) -> None:
    @skate.remote
    def look() -> Any:
        return skate.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    skate.get(which.remote())
    assert skate.get(look.remote()) == ([], "")
    assert skate.get_gpu_ids() == []


def test_actors_keep_their_device(two_gpus: None) -> None:
    @skate.remote(num_gpus=1)
    class Model:
        def device(self) -> Any:
            accelerator_ids = skate.get_runtime_context().get_accelerator_ids()
            return accelerator_ids["GPU"], os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()

    models = [Model.remote() for _ in range(2)]
    seen = [skate.get([model.device.remote() for model in models]) for _ in range(3)]
    assert seen[0] == seen[1] == seen[2]
    assert sorted(ids for ids, _, _ in seen[0]) == [["0"], ["1"]]
    assert all([visible] == ids for ids, visible, _ in seen[0])
    third = Model.remote()
    ready = third.device.remote()
    assert skate.wait([ready], timeout=0.2) == ([], [ready])
    freed = seen[0][0][0]
    skate.kill(models[0])
    assert skate.get(ready)[0] == freed


def test_a_gpu_task_ends_its_process(two_gpus: None) -> None:
    pids = [pid for _, _, pid in skate.get([which.remote() for _ in range(6)])]
    assert len(set(pids)) == 6


def test_an_actor_is_created_while_a_gpu_task_ends(leak_check: None) -> None:
    """Its process leaves: the actor is given another one, and the CPU that is returned."""
    skate.init(num_cpus=1, num_gpus=1)
    try:
        for _ in range(15):
            ref = which.options(num_cpus=1).remote()
            gate = Gate.options(num_cpus=1).remote(1)
            assert skate.get(gate.meet.remote(1), timeout=AGES) == [1]
            skate.kill(gate)  # it may have come before the task, which then waits for its CPU
            skate.get(ref)
    finally:
        skate.shutdown()


def test_an_actor_and_a_task_share_what_a_leaving_process_held(leak_check: None) -> None:
    """The device is free when the process is gone, the CPU when the task is through."""
    skate.init(num_cpus=1, num_gpus=1)
    try:
        for _ in range(10):
            refs = [which.options(num_cpus=1).remote() for _ in range(3)]
            gate = Gate.options(num_cpus=1, num_gpus=1).remote(1)
            assert skate.get(gate.meet.remote(1), timeout=AGES) == [1]
            skate.kill(gate)
            assert len({pid for _, _, pid in skate.get(refs, timeout=AGES)}) == 3
    finally:
        skate.shutdown()


@pytest.mark.parametrize(
    ("point", "ending"),
    [("becoming an actor", "sigkill"), ("to retire", "exit"), ("leaving told", "sigkill")],
)
def test_processes_that_are_killed_between_grant_and_use(point: str, ending: str, tmp_path: Path) -> None:
    """The actor may not be restarted: but nothing of it had begun."""
    skate.init(num_cpus=1, num_gpus=1, runtime_env=faults.environment(point, ending, 7, 3, str(tmp_path)))
    rounds = 0
    while not (tmp_path / "2").exists():
        ref = which.options(num_cpus=1).remote()
        gate = Gate.options(num_cpus=1, max_restarts=0).remote(1)
        assert skate.get(gate.meet.remote(1), timeout=AGES) == [1]
        skate.kill(gate)
        skate.get(ref)
        rounds += 1
        assert rounds < 100
    skate.shutdown()


def test_max_calls_may_keep_it(two_gpus: None) -> None:
    keeps = which.options(max_calls=0)
    pids = {skate.get(keeps.remote())[2] for _ in range(6)}
    assert len(pids) == 1


@pytest.mark.parametrize("max_calls", [1, 3, 7])
def test_no_call_is_lost_or_run_twice_when_processes_end(max_calls: int, tmp_path: Path) -> None:
    skate.init(num_cpus=2)

    @skate.remote(max_calls=max_calls, max_retries=0)
    def run(index: int) -> tuple[int, int]:
        with (tmp_path / str(index)).open("x"):
            return index, os.getpid()

    done = skate.get([run.remote(index) for index in range(60)])
    assert [index for index, _ in done] == list(range(60))
    assert max(Counter(pid for _, pid in done).values()) <= max_calls
    skate.shutdown()


def test_max_calls_does_not_take_results_along() -> None:
    skate.init(num_cpus=1)

    @skate.remote(max_calls=1)
    def outer() -> Any:
        return [skate.put(b"x" * 200_000), skate.put("small")]

    big, small = skate.get(outer.remote())
    assert (len(skate.get(big)), skate.get(small)) == (200_000, "small")
    skate.shutdown()


def test_accelerator_types_are_resources() -> None:
    skate.init(num_cpus=1, num_gpus=1, resources={"accelerator_type:A100": 1})
    assert len(skate.get(which.options(accelerator_type="A100").remote())[0]) == 1
    waits = which.options(accelerator_type="H100").remote()
    assert skate.wait([waits], timeout=0.2) == ([], [waits])
    skate.shutdown()


def test_visible_devices_limit_what_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a,GPU-7b,3")
    with pytest.raises(ValueError, match=r"num_gpus=4.*CUDA_VISIBLE_DEVICES.*3"):
        skate.init(num_cpus=1, num_gpus=4)
    skate.init(num_cpus=1)
    assert skate.cluster_resources()["GPU"] == 3.0
    ids, visible, _ = skate.get(which.remote())
    assert ids == ["GPU-5a"] and visible == "GPU-5a"
    skate.shutdown()


def test_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "_NVIDIA", str(tmp_path / "absent"))
    assert (accelerators.visible_gpus(), accelerators.gpu_type()) == ([], None)
    for address in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / address).mkdir()
        (tmp_path / address / "information").write_text("Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 5\n")
    monkeypatch.setattr(accelerators, "_NVIDIA", str(tmp_path))
    assert (accelerators.visible_gpus(), accelerators.gpu_type()) == (["0", "1"], "A100")
    offer = machine.offer(1, None, None, None, None)
    assert offer.gpus == ["0", "1"]
    assert {"GPU", "accelerator_type:A100"} <= set(offer.resources)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,-1,0")
    assert accelerators.visible_gpus() == ["1"]
