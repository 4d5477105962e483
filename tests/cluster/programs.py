"""Random programs of tasks, actors and refs whose answers are known.

A program is made from a seed. It keeps a list of values that it knows and of refs to them, and its
steps make new ones in every way there is: small and large, through tasks, nested tasks, actors, refs
inside refs, errors.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import skate
from skate import ObjectRef
from skate._wire import node
from skate._worker.process import current
from skate.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    LocalRayletDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfMemoryError,
    OwnerDiedError,
    RaySystemError,
    RayTaskError,
    TaskCancelledError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

from . import moves
from .arithmetic import (
    PRIME,
    Accumulator,
    Desk,
    Planned,
    combine,
    combine_in_a_tree,
    combine_inside,
    count,
    delegate,
    fail,
    mix,
    mix_delegated,
    mix_in_a_tree,
    pack,
    split,
    unpack,
    wrap,
)
from .waiting import AGES, progress

#: What a value may have become where workers are killed.
DEATHS: tuple[type[Exception], ...] = (
    WorkerCrashedError, OutOfMemoryError, ActorDiedError, ActorUnavailableError, OwnerDiedError,
    ObjectLostError, ObjectStoreFullError,
)  # fmt: skip
#: And where memory runs out in the middle of anything.
SHORTAGES = (*DEATHS, MemoryError)
#: And where descriptors do, or connections are lost. Tasks themselves fail there, too: a module that they need
#: cannot be read, and Python does not always recover from half an import.
SCARCITIES = (*DEATHS, RaySystemError, TaskUnschedulableError, RayTaskError, OSError)


class Actor:
    """An accumulator and what is known of it."""

    def __init__(self, handle: Any, number: int, name: str) -> None:
        self.handle = handle
        self.number = number
        self.name = name
        self.kept: list[int] = []


class Program:
    """Makes and runs one program."""

    def __init__(self, seed: int, *, deadly: bool, short: bool = False) -> None:
        self._seed = seed
        #: Another one for each step: a step that fails half way, as it may in another run, changes no later one.
        self.random = random.Random(seed)
        #: Called before each move, those inside others included.
        self.before_move: Callable[[], None] = lambda: None
        #: The step that it is at, and the number of the move in that step.
        self.place = (0, 0)
        #: Processes end while it runs.
        self.deadly = deadly or short
        #: They go on, but what they do may fail in the middle: whether a method was carried out is not known.
        self.short = short
        self.survives = SHORTAGES if short else DEATHS
        #: Somebody else changes this process's limit of descriptors while it runs.
        self.scarce = False
        #: Refs and the numbers that they stand for.
        self.known: list[tuple[ObjectRef[Any], int]] = []
        self.failing: list[tuple[ObjectRef[Any], int]] = []
        #: Refs of calls that were cancelled, and the numbers that they may nevertheless stand for.
        self.cancelled: list[tuple[ObjectRef[Any], int]] = []
        #: Refs, each with what looks whether its answer is right.
        self.promised: list[tuple[ObjectRef[Any], Callable[[ObjectRef[Any]], None]]] = []
        self.desk: Any = None
        #: Values in place, and the numbers that they stand for; their refs may be gone.
        self.seen: list[tuple[Any, int]] = []
        self.actors: list[Actor] = []
        self.checked = 0
        self.large_share = 0.4
        self.id = os.urandom(4).hex()
        self.count_of_actors = 0

    def run(self, steps: int, arm: Callable[[], None] | None = None) -> None:
        """Run it to its end, and check everything that is left.

        Args:
            steps: how many moves there are.
            arm: called before one in the first half.
        """
        armed = self.random.randrange(steps // 2)
        made: list[Callable[[], None]] = [
            self.put, self.put, self.combine, self.combine, self.combine, self.combine_inside,
            self.combine_in_a_tree, self.wrap, self.split, self.fail, self.fail_through, self.new_actor,
            self.add, self.add, self.keep, self.give, self.read, self.nest, self.forget, self.forget,
            self.check, self.check_together, self.check_failing, self.wait, self.end_actor, self.count,
            self.delegate, self.look, self.look, self.cancel, self.check_cancelled, self.ask_desk, self.hurry,
            self.check_promised, *(functools.partial(move, self) for move in moves.ENABLED),
        ]  # fmt: skip
        if self.deadly:
            made.append(self.lose)
        try:
            for step in range(steps):
                self.random = random.Random(f"{self._seed} {step}")
                self.place = (step, 0)
                if step == armed and arm is not None:
                    arm()
                self.make(self.random.choice(made))
            while self.known:
                self.check_one(*self.known.pop())
            while self.failing:
                self.check_failing()
            while self.cancelled:
                self.check_cancelled()
            while self.promised:
                self.check_promised()
            while self.seen:
                self.look_again()
        except LocalRayletDiedError:
            if not self.short:
                raise  # else this process was out of memory in the middle of a change

    def make(self, move: Callable[[], None]) -> None:
        """Make a move."""
        progress()
        self.place = (self.place[0], self.place[1] + 1)
        self.before_move()
        try:
            move()
        except self.survives:
            if not self.deadly:
                raise

    def settle(self) -> None:
        """Wait until everything that was called has ended, for what is to happen to later calls only."""
        pending = [actor.handle.read.remote(False) for actor in self.actors]
        for actor in self.actors:
            pending += skate.get(actor.handle.give.remote(), timeout=AGES)
        for calls in (self.known, self.failing, self.cancelled, self.promised):
            pending += [ref for ref, _ in calls]
        if self.desk is not None:
            pending.append(self.desk.combine.remote(False, []))
        refs = list(dict.fromkeys(pending))
        _, rest = skate.wait(refs, num_returns=len(refs), timeout=AGES) if refs else ([], [])
        assert not rest

    def tolerates(self, error: BaseException) -> bool:
        """Tell whether processes that end, or memory that runs out, may be the reason."""
        lost = self.short and isinstance(error, LocalRayletDiedError)
        return lost or (self.deadly and isinstance(error, self.survives))

    # ------------------------------------------------------------------ choices

    def large(self) -> bool:
        return self.random.random() < self.large_share

    def choose(self, most: int) -> list[tuple[ObjectRef[Any], int]]:
        """Return some of the known, perhaps one several times."""
        if not self.known:
            self.put()
        return [self.random.choice(self.known) for _ in range(self.random.randint(1, most))]

    def number(self) -> int:
        return self.random.randrange(PRIME)

    def promise(self, ref: ObjectRef[Any], check: Callable[[ObjectRef[Any]], None]) -> None:
        """Have ``check`` look some time later whether the call ended as it should."""
        self.promised.append((ref, check))

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

    @contextlib.contextmanager
    def in_doubt(self, actor: Actor) -> Iterator[None]:
        """A call of the actor changes its state: if memory runs out, or the connection is lost, nobody knows whether
        it did."""
        try:
            yield
        except (MemoryError, ActorUnavailableError):
            self.actors.remove(actor)
            raise

    def add(self) -> None:
        if self.actors:
            actor = self.random.choice(self.actors)
            ((ref, number),) = self.choose(1)
            # Where values may be lost, a call that they fail would not be counted: pass the value itself.
            argument = pack(number, self.large()) if self.deadly else ref
            by_name = actor.name and not self.deadly
            handle = skate.get_actor(actor.name) if by_name else actor.handle
            with self.in_doubt(actor):
                # Made first: there may be no room for the argument.
                ref = handle.add.remote(self.large(), argument)
                actor.number = mix(actor.number, number)
                self.learn(ref, actor.number)
                if self.short:
                    skate.get(ref)

    def keep(self) -> None:
        if self.actors:
            actor, chosen = self.random.choice(self.actors), self.choose(2)
            with self.in_doubt(actor):
                actor.kept = [*actor.kept, *[number for _, number in chosen]][-3:]
                ref = actor.handle.keep.remote([ref for ref, _ in chosen])
                if self.short:
                    skate.get(ref)

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
        ready, rest = skate.wait(refs, num_returns=self.random.randint(1, len(refs)), timeout=AGES)
        assert set(ready) | set(rest) == set(refs)
        assert ready

    def count(self) -> None:
        """Items of a generator, some of which nobody takes."""
        start, length = self.random.randrange(PRIME), self.random.randint(1, 6)
        items = count.remote(self.large(), start, length)
        # In a deadly program an error may be the last item, before all that were wanted.
        for index, ref in zip(range(self.random.randint(0, length)), items, strict=False):
            self.learn(ref, start + index)

    def delegate(self) -> None:
        """An actor and a generator of a worker."""
        start = self.random.randrange(PRIME)
        (ref,) = skate.get(delegate.remote(self.large(), start))
        self.learn(ref, mix_delegated(start))

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
            value = skate.get(ref, timeout=AGES)
        else:
            ((ref, number),) = self.choose(1)
            value, number = skate.get(combine.remote(True, ref), timeout=AGES), mix(number)
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
        with core.context.lock:
            core.daemon.send(node.Lose(lost))

    # ------------------------------------------------------------------ answers

    def check(self) -> None:
        for ref, number in self.choose(3):
            self.check_one(ref, number)

    def check_together(self) -> None:
        chosen = self.choose(3)
        values = skate.get([ref for ref, _ in chosen], timeout=AGES)
        assert [unpack(value) for value in values] == [number for _, number in chosen]

    def check_one(self, ref: ObjectRef[Any], number: int) -> None:
        progress()
        try:
            assert unpack(skate.get(ref, timeout=AGES)) == number
            self.checked += 1
        except self.survives:
            if not self.deadly:
                raise

    def check_failing(self) -> None:
        if self.failing:
            ref, number = self.failing.pop(self.random.randrange(len(self.failing)))
            try:
                with pytest.raises(Planned) as caught:
                    skate.get(ref, timeout=AGES)
                assert caught.value.args == (number,)
            except self.survives:
                if not self.deadly:
                    raise

    def check_promised(self) -> None:
        if self.promised:
            ref, check = self.promised.pop(self.random.randrange(len(self.promised)))
            try:
                check(ref)
            except self.survives:
                if not self.deadly:
                    raise
