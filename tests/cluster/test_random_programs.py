"""Random programs whose answers are known; some have processes killed, or run out of memory.

Every run ends with the right answer or the right typed error, and leaves nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import skate
from skate import ObjectRef
from skate._base.memory import of_process
from skate._launch import commands
from skate._node.cluster.control_store_supervisor import LIMIT
from skate._worker.process import current
from skate.exceptions import ActorUnschedulableError, ObjectStoreFullError, TaskUnschedulableError

from . import faults
from .arithmetic import pack, unpack
from .disturbances import Killer, Scarcity, Steps
from .leaks import wait_until_empty
from .programs import SCARCITIES, Program
from .waiting import AGES

#: Programs with faults, each from a seed of its own: `make faults` runs thousands.
FAULT_RUNS = int(os.environ.get("SKATE_FAULT_RUNS", "8"))


@pytest.mark.parametrize("seed", range(max(10, FAULT_RUNS)))
def test_random_programs(seed: int) -> None:
    skate.init(num_cpus=1 + seed % 3, num_gpus=1)
    program = Program(seed, deadly=False)
    program.run(120)
    assert program.checked


@pytest.mark.time_limit(120)
@pytest.mark.parametrize("seed", range(max(4, FAULT_RUNS // 4)))
def test_random_programs_whose_processes_lack_descriptors(seed: int) -> None:
    """Calls end well or with an error that says why; when there are descriptors, everything works."""
    with Scarcity(seed) as scarcity:
        skate.init(num_cpus=2)
        program = Program(seed, deadly=True, short=True)
        program.survives, program.scarce = SCARCITIES, True
        scarcity.run(program, 60)
    # A task that needs no modules: workers may have half of some.
    absolute = skate.remote(abs)
    assert skate.get([absolute.remote(-number) for number in range(20)], timeout=AGES) == list(range(20))
    assert len(skate.get(skate.put(bytes(1 << 20)))) == 1 << 20


def _fault_plans(points: faults.Points) -> list[tuple[str, str, int]]:
    """Return (point, ending, seed): every point, each time with another ending."""
    endings = list(faults.ENDINGS)
    rounds = max(1, FAULT_RUNS // len(points))
    return [
        (point, endings[(index + turn) % len(endings)], 1000 + turn * len(points) + index)
        for turn in range(rounds)
        for index, point in enumerate(points)
    ]


@pytest.mark.parametrize(("point", "ending", "seed"), _fault_plans(faults.CONTROL_POINTS))
def test_control_stores_that_end_at_a_point_are_not_missed(
    point: str, ending: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = f"{point}|{ending}|{seed}|{LIMIT - 1}|{tmp_path}"
    plain = commands.role_argv
    monkeypatch.setattr(
        commands, "role_argv",
        lambda module, *rest: faults.control_argv(plain(module, *rest), plan)
        if module == "skate._control.main" else plain(module, *rest),
    )  # fmt: skip
    skate.init(num_cpus=2)
    (tmp_path / "armed").touch()
    program = Program(seed, deadly=False)
    program.run(80)
    assert program.checked


@pytest.mark.parametrize(("point", "ending", "seed"), _fault_plans(faults.POINTS))
def test_workers_that_end_at_a_point_are_survived(point: str, ending: str, seed: int, tmp_path: Path) -> None:
    # Every third has so little memory that objects go to disk meanwhile.
    memory = {"object_store_memory": 4 << 20} if seed % 3 == 0 else {}
    skate.init(num_cpus=2, runtime_env=faults.environment(point, ending, seed, 3, str(tmp_path)), **memory)
    program = Program(seed, deadly=True)
    program.run(60)
    del program
    # All who were to end have, or nobody else will get there: the same again must go right.
    for number in range(3):
        (tmp_path / str(number)).touch()
    after = Program(seed, deadly=False)
    after.run(20)


def _shortages(
    first: int, shortages: Sequence[str], points: Sequence[str], share: int
) -> list[tuple[str, str, int]]:
    """Return (point, shortage, seed): every point in turn with another shortage, as often as one in ``share``
    of the runs asks for; where those are too few for all points, some that are spread over them.

    Args:
        first: the first seed.
    """
    runs = max(8, FAULT_RUNS // share)
    rounds = max(1, runs // len(points))
    plans = [
        (point, shortages[(index + turn) % len(shortages)], first + turn * len(points) + index)
        for turn in range(rounds)
        for index, point in enumerate(points)
    ]
    return plans[:: max(1, len(plans) // runs)]


#: Points at which a worker is ended for its memory: the same to the others as any end, so a few do.
ENDED = ("computed", "extent granted", "arguments read", "child submitted", "constructed", "before get")


@pytest.mark.parametrize(("point", "shortage", "seed"), _shortages(3000, ["hoard"], ENDED, 8))
def test_workers_that_are_ended_for_their_memory_are_survived(
    point: str, shortage: str, seed: int, tmp_path: Path
) -> None:
    monitor = {"memory_limit_bytes": of_process(os.getpid()) + 400_000_000, "memory_monitor_refresh_ms": 20}
    skate.init(
        num_cpus=2, runtime_env=faults.environment(point, shortage, seed, 2, str(tmp_path)),
        _system_config=monitor,
    )  # fmt: skip
    _run_and_run_again(seed, tmp_path)


@pytest.mark.skipif(
    not faults.CGROUP, reason="SKATE_TEST_CGROUP names no memory cgroup in which to make others"
)
@pytest.mark.parametrize(("point", "shortage", "seed"), _shortages(4000, ["cgroup"], ENDED, 8))
def test_workers_that_the_kernel_ends_for_their_memory_are_survived(
    point: str, shortage: str, seed: int, tmp_path: Path
) -> None:
    skate.init(num_cpus=2, runtime_env=faults.environment(point, shortage, seed, 2, str(tmp_path)))
    try:
        _run_and_run_again(seed, tmp_path)
    finally:
        skate.shutdown()
        for folder in Path(faults.CGROUP).glob("skate-test-*"):
            folder.rmdir()


@pytest.mark.parametrize(
    ("point", "shortage", "seed"),
    _shortages(5000, [name for name in faults.SHORTAGES if name.startswith("short")], list(faults.POINTS), 2)
    + _shortages(6000, ["raise"], list(faults.POINTS | faults.ALLOCATIONS), 2),
)
def test_workers_out_of_memory_are_survived(point: str, shortage: str, seed: int, tmp_path: Path) -> None:
    skate.init(num_cpus=2, runtime_env=faults.environment(point, shortage, seed, 3, str(tmp_path)))
    _run_and_run_again(seed, tmp_path)


def _run_and_run_again(seed: int, folder: Path) -> None:
    program = Program(seed, deadly=True, short=True)
    program.run(60)
    del program
    for number in range(3):
        (folder / str(number)).touch()
    after = Program(seed, deadly=False)
    after.run(20)


@pytest.mark.parametrize(("point", "shortage", "seed"), _shortages(7000, ["raise"], faults.OF_DRIVERS, 2))
def test_a_driver_out_of_memory_goes_on_or_says_that_it_cannot(point: str, shortage: str, seed: int) -> None:
    with faults.Raising(point) as fault:
        skate.init(num_cpus=2)
        core = current.require_core("look at it")
        program = Program(seed, deadly=True, short=True)
        program.run(60, fault.arm)
        fault.disarm()
        del program
        if core.context.dead_reason:
            assert "ran out of memory for skate itself" in core.context.dead_reason
            skate.shutdown()
            skate.init(num_cpus=2)
        after = Program(seed, deadly=False)
        after.run(20)


@pytest.mark.parametrize("seed", range(100, 100 + FAULT_RUNS))
def test_random_programs_with_killed_workers(seed: int) -> None:
    with Killer(seed) as killer:
        skate.init(num_cpus=2)
        program = Program(seed, deadly=True)
        # It may kill every worker that is being started, so that the node says that it cannot have any.
        program.survives = (*program.survives, TaskUnschedulableError, ActorUnschedulableError)
        killer.run(program, 120)
    # Nobody is killed any more: all goes right again.
    after = Program(seed, deadly=False)
    after.run(20)


def test_a_seed_repeats() -> None:
    """The same moves, with the same disturbances of them."""

    def steps() -> tuple[list[str], list[float]]:
        moves: list[str] = []
        disturbances: list[float] = []
        with Steps(5, lambda chances: disturbances.append(chances.random())) as disturbed:
            skate.init(num_cpus=2)
            program = Program(5, deadly=False)
            make = program.make

            def logged(move: Callable[[], None]) -> None:
                moves.append(getattr(move, "func", move).__name__)
                make(move)

            program.make = logged  # type: ignore[method-assign]
            disturbed.run(program, 60)
        skate.shutdown()
        return moves, disturbances

    (moves, first), (again, second) = steps(), steps()
    assert again == moves
    # Finalizers and handlers call whenever they like. So a disturbance within a move may come after fewer calls or
    # with the next move, and the last one not at all.
    count = min(len(first), len(second))
    assert count > 20
    assert first[:count] == second[:count]
    assert abs(len(first) - len(second)) <= 1


@pytest.mark.parametrize("seed", range(2000, 2000 + max(2, FAULT_RUNS // 4)))
def test_random_programs_on_a_disk_that_fills_up(seed: int, tmp_path: Path) -> None:
    """Memory for a dozen large values, and a disk for some more: who finds both full is told, and only who."""
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        skate.init(num_cpus=2, object_store_memory=2 << 20, object_spilling_directory=str(tmp_path))
        held: list[ObjectRef[Any]] = []
        with pytest.raises(ObjectStoreFullError):
            while len(held) < 100:
                held.append(skate.put(pack(len(held), True)))
        del held[8:]
        program = Program(seed, deadly=True)
        program.large_share = 0.9
        program.run(120)
        del program
        assert [unpack(skate.get(ref)) for ref in held] == list(range(8))
        del held
        after = Program(seed, deadly=False)
        after.large_share = 0.0
        after.run(20)
        del after
        wait_until_empty()
    finally:
        skate.shutdown()
        subprocess.run(["umount", str(tmp_path)], check=True)
