"""Random programs of tasks, actors and refs whose answers are known; some have their workers killed.

A program is made from a seed. It keeps a list of values that it knows and of refs to them, and its
steps make new ones in every way there is: small and large, through tasks, nested tasks, actors, refs
inside refs, errors. Every run ends with the right answer or the right typed error, and leaves nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import skate
from skate import ObjectRef
from skate._launch import commands
from skate._node.keeper import LIMIT
from skate._wire import node
from skate._worker import current
from skate.engine import RuntimeEngine, engine
from skate.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    ObjectLostError,
    ObjectStoreFullError,
    OwnerDiedError,
    TaskCancelledError,
    WorkerCrashedError,
)

from . import faults
from .arithmetic import (
    PRIME,
    Accumulator,
    Desk,
    Planned,
    combine,
    combine_in_a_tree,
    combine_inside,
    count,
    fail,
    mix,
    mix_in_a_tree,
    pack,
    split,
    unpack,
    wrap,
)
from .leaks import wait_until_empty
from .processes import roles
from .waiting import wait_until_none

#: What a value may have become where workers are killed.
DEATHS = (
    WorkerCrashedError, ActorDiedError, ActorUnavailableError, OwnerDiedError, ObjectLostError,
    ObjectStoreFullError,
)  # fmt: skip


class Actor:
    """An accumulator and what is known of it."""

    def __init__(self, handle: Any, number: int, name: str) -> None:
        self.handle = handle
        self.number = number
        self.name = name
        self.kept: list[int] = []


class Program:
    """Makes and runs one program."""

    def __init__(self, seed: int, *, deadly: bool) -> None:
        self.random = random.Random(seed)
        self.deadly = deadly
        #: Refs and the numbers that they stand for.
        self.known: list[tuple[ObjectRef[Any], int]] = []
        self.failing: list[tuple[ObjectRef[Any], int]] = []
        #: Refs of calls that were cancelled, and the numbers that they may nevertheless stand for.
        self.cancelled: list[tuple[ObjectRef[Any], int]] = []
        self.desk: Any = None
        #: Values in place, and the numbers that they stand for; their refs may be gone.
        self.seen: list[tuple[Any, int]] = []
        self.actors: list[Actor] = []
        self.checked = 0
        self.large_share = 0.4
        self.id = os.urandom(4).hex()
        self.count_of_actors = 0

    def run(self, steps: int) -> None:
        """Run it to its end, and check everything that is left."""
        moves: list[Callable[[], None]] = [
            self.put, self.put, self.combine, self.combine, self.combine, self.combine_inside,
            self.combine_in_a_tree, self.wrap, self.split, self.fail, self.fail_through, self.new_actor,
            self.add, self.add, self.keep, self.give, self.read, self.nest, self.forget, self.forget,
            self.check, self.check_failing, self.wait, self.end_actor, self.count, self.look, self.look,
            self.cancel, self.check_cancelled, self.ask_desk, self.hurry,
        ]  # fmt: skip
        if self.deadly:
            moves.append(self.lose)
        for _ in range(steps):
            move = self.random.choice(moves)
            try:
                move()
            except DEATHS:
                if not self.deadly:
                    raise
        while self.known:
            self.check_one(*self.known.pop())
        while self.failing:
            self.check_failing()
        while self.cancelled:
            self.check_cancelled()
        while self.seen:
            self.look_again()

    # ------------------------------------------------------------------ choices

    def large(self) -> bool:
        return self.random.random() < self.large_share

    def choose(self, most: int) -> list[tuple[ObjectRef[Any], int]]:
        """Return some of the known, perhaps one several times."""
        if not self.known:
            self.put()
        return [self.random.choice(self.known) for _ in range(self.random.randint(1, most))]

    def learn(self, ref: ObjectRef[Any], number: int) -> None:
        self.known.append((ref, number))
        if len(self.known) > 30:
            self.known.pop(self.random.randrange(len(self.known)))

    # ------------------------------------------------------------------ moves

    def put(self) -> None:
        number = self.random.randrange(PRIME)
        self.learn(skate.put(pack(number, self.large())), number)

    def combine(self) -> None:
        chosen = self.choose(4)
        self.learn(
            combine.remote(self.large(), *[ref for ref, _ in chosen]), mix(*[number for _, number in chosen])
        )

    def combine_inside(self) -> None:
        chosen = self.choose(4)
        self.learn(
            combine_inside.remote(self.large(), [ref for ref, _ in chosen]),
            mix(*[number for _, number in chosen]),
        )

    def combine_in_a_tree(self) -> None:
        chosen = self.choose(6)
        self.learn(
            combine_in_a_tree.remote(self.large(), [ref for ref, _ in chosen]),
            mix_in_a_tree([number for _, number in chosen]),
        )

    def wrap(self) -> None:
        chosen, number = self.choose(3), self.random.randrange(PRIME)
        found = skate.get(wrap.remote(self.large(), number, [ref for ref, _ in chosen]))
        self.learn(found["own"], number)
        self.learn(found["task"], mix(number))
        for ref, (expected, known) in zip(found["given"], chosen, strict=True):
            assert ref == expected
            self.learn(ref, known)

    def split(self) -> None:
        ((ref, number),) = self.choose(1)
        first, second = split.remote(self.large(), ref)
        self.learn(first, number // 2)
        if self.random.random() < 0.5:
            self.learn(second, number - number // 2)

    def nest(self) -> None:
        """A ref in a ref in a ref, through an object store and a task."""
        ((ref, number),) = self.choose(1)
        for _ in range(self.random.randint(1, 3)):
            ref = skate.put({"inner": [ref], "filler": pack(1, self.large())})
        while isinstance(found := skate.get(ref), dict):
            (ref,) = found["inner"]
        assert unpack(found) == number
        self.learn(ref, number)

    def fail(self) -> None:
        number = self.random.randrange(PRIME)
        self.failing.append((fail.remote(number), number))

    def fail_through(self) -> None:
        if self.failing:
            ref, number = self.random.choice(self.failing)
            through = self.random.choice(
                [lambda: combine.remote(False, ref), lambda: combine_inside.remote(False, [ref])]
            )
            self.failing.append((through(), number))

    def new_actor(self) -> None:
        if len(self.actors) < 4:
            ((ref, number),) = self.choose(1)
            self.count_of_actors += 1
            name = f"{self.id} {self.count_of_actors}" if self.random.random() < 0.3 else ""
            options = {"num_cpus": 0} if self.random.random() < 0.5 else {}
            handle = Accumulator.options(**options, name=name or None).remote(ref)
            self.actors.append(Actor(handle, number, name))

    def add(self) -> None:
        if self.actors:
            actor = self.random.choice(self.actors)
            ((ref, number),) = self.choose(1)
            # Where values may be lost, a call that they fail would not be counted: pass the value itself.
            argument = pack(number, self.large()) if self.deadly else ref
            by_name = actor.name and not self.deadly
            handle = skate.get_actor(actor.name) if by_name else actor.handle
            # Made first: there may be no room for the argument.
            ref = handle.add.remote(self.large(), argument)
            actor.number = mix(actor.number, number)
            self.learn(ref, actor.number)

    def keep(self) -> None:
        if self.actors:
            actor, chosen = self.random.choice(self.actors), self.choose(2)
            actor.kept = [*actor.kept, *[number for _, number in chosen]][-3:]
            actor.handle.keep.remote([ref for ref, _ in chosen])

    def give(self) -> None:
        if self.actors:
            actor = self.random.choice(self.actors)
            refs = skate.get(actor.handle.give.remote())
            for ref, number in zip(refs, actor.kept, strict=True):
                self.learn(ref, number)

    def read(self) -> None:
        if self.actors:
            actor = self.random.choice(self.actors)
            self.learn(actor.handle.read.remote(self.large()), mix(*actor.kept))

    def end_actor(self) -> None:
        """Drop its handle; what it owns and what was called before must not suffer."""
        if self.actors and self.random.random() < 0.3:
            # Calls of a handle by name do not keep an actor alive.
            number = self.random.randrange(len(self.actors))
            if not self.actors[number].name:
                self.actors.pop(number)

    def forget(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            if self.known:
                self.known.pop(self.random.randrange(len(self.known)))

    def wait(self) -> None:
        refs = list({ref: None for ref, _ in self.choose(6)})
        ready, rest = skate.wait(refs, num_returns=self.random.randint(1, len(refs)), timeout=20)
        assert set(ready) | set(rest) == set(refs)
        assert ready

    def count(self) -> None:
        """Items of a generator, some of which nobody takes."""
        start, length = self.random.randrange(PRIME), self.random.randint(1, 6)
        items = count.remote(self.large(), start, length)
        # In a deadly program an error may be the last item, before all that were wanted.
        for index, ref in zip(range(self.random.randint(0, length)), items, strict=False):
            self.learn(ref, start + index)

    def ask_desk(self) -> None:
        if self.desk is None:
            self.desk = Desk.remote()
        chosen = self.choose(4)
        self.learn(
            self.desk.combine.remote(self.large(), [ref for ref, _ in chosen]),
            mix(*[number for _, number in chosen]),
        )

    def cancel(self) -> None:
        """Nothing else may suffer: not its arguments, nor who else works there."""
        chosen = self.choose(6)
        refs, numbers = [ref for ref, _ in chosen], [number for _, number in chosen]
        if self.desk is not None and self.random.random() < 0.3:
            ref, number = self.desk.combine.remote(self.large(), refs), mix(*numbers)
        else:
            ref, number = combine_in_a_tree.remote(self.large(), refs), mix_in_a_tree(numbers)
        skate.wait([ref], timeout=self.random.choice([0, 0, 0.001, 0.01]))
        skate.cancel(ref, recursive=self.random.random() < 0.8)
        self.cancelled.append((ref, number))

    def check_cancelled(self) -> None:
        if self.cancelled:
            ref, number = self.cancelled.pop(self.random.randrange(len(self.cancelled)))
            with contextlib.suppress(TaskCancelledError):
                self.check_one(ref, number)

    def hurry(self) -> None:
        """Waits that end too early."""
        for ref, number in self.choose(2):
            with contextlib.suppress(GetTimeoutError):
                assert unpack(skate.get(ref, timeout=self.random.choice([0, 0.001]))) == number

    def look(self) -> None:
        """Keep a view, of something that has a ref, or never had one for long."""
        if self.random.random() < 0.5:
            ((ref, number),) = self.choose(1)
            value = skate.get(ref, timeout=25)
        else:
            ((ref, number),) = self.choose(1)
            value, number = skate.get(combine.remote(True, ref), timeout=25), mix(number)
        self.seen.append((value, number))
        if len(self.seen) > 8:
            self.look_again()

    def look_again(self) -> None:
        """What was seen has not changed."""
        value, number = self.seen.pop(self.random.randrange(len(self.seen)))
        assert unpack(value) == number

    def lose(self) -> None:
        """The memory of some objects of ours is gone."""
        core = current.require_core("lose objects")
        lost = [ref.binary() for ref, _ in self.choose(2)]
        with core.lock:
            core.node.send(node.Lose(lost))

    # ------------------------------------------------------------------ answers

    def check(self) -> None:
        for ref, number in self.choose(3):
            self.check_one(ref, number)

    def check_one(self, ref: ObjectRef[Any], number: int) -> None:
        try:
            assert unpack(skate.get(ref, timeout=25)) == number
            self.checked += 1
        except DEATHS:
            if not self.deadly:
                raise

    def check_failing(self) -> None:
        if self.failing:
            ref, number = self.failing.pop(self.random.randrange(len(self.failing)))
            try:
                with pytest.raises(Planned) as caught:
                    skate.get(ref, timeout=25)
                assert caught.value.args == (number,)
            except DEATHS:
                if not self.deadly:
                    raise


#: Programs with faults, each from a seed of its own: `make faults` runs thousands.
FAULT_RUNS = int(os.environ.get("SKATE_FAULT_RUNS", "8"))


@pytest.mark.parametrize("seed", range(max(10, FAULT_RUNS)))
def test_random_programs(seed: int) -> None:
    skate.init(num_cpus=1 + seed % 3)
    program = Program(seed, deadly=False)
    program.run(120)
    assert program.checked


#: How a process may come to its end from outside.
ENDS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM)


class Killer:
    """Kills random workers of this process's session, until it is stopped; zygotes and control stores too."""

    def __init__(self, found: RuntimeEngine, seed: int) -> None:
        self._engine = found
        self._controls = LIMIT - 1
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._killed: set[int] = set()

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        wait_until_none(lambda: self._killed & set(self._pids()), "a killed worker that counts as alive")

    def _pids(self) -> list[int]:
        return [pid for _, pid in self._engine.store_report().workers if pid]

    def _run(self) -> None:
        while not self._stop.wait(self._random.random() * 0.2):
            chance = self._random.random()
            pids = self._pids()
            if chance < 0.2 and pids:
                found = roles(self._engine.core.session_dir)
                pids = [found.zygote if chance < 0.1 or not self._controls else found.control]
                self._controls -= pids == [found.control]
                pids = [pid for pid in pids if pid]
            if pids:
                pid = self._random.choice(pids)
                self._killed.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, self._random.choice(ENDS))


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
        if module == "skate._control.server" else plain(module, *rest),
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


@pytest.mark.parametrize("seed", range(100, 100 + FAULT_RUNS))
def test_random_programs_with_killed_workers(seed: int) -> None:
    skate.init(num_cpus=2)
    found = engine()
    assert found is not None
    program = Program(seed, deadly=True)
    with Killer(found, seed):
        program.run(120)
    del found
    # Nobody is killed any more: all goes right again.
    after = Program(seed, deadly=False)
    after.run(20)


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
