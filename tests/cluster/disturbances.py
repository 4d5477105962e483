"""What happens to the processes of a session while a random program runs: they are killed, or lack descriptors.

A disturbance begins at a step of the program, before a move or after some calls in it were submitted, and all its
choices are drawn from a seed: the same seed disturbs the same steps in the same way.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable
from types import TracebackType

import psutil

from skate._node.cluster.control_store_supervisor import LIMIT
from skate._worker.process import current

from . import faults
from .processes import Roles, roles
from .programs import Program
from .scarcity import cut, without_descriptors
from .stored import worker_pids
from .waiting import wait_until_none

#: The share of moves with a disturbance, and the share of those before the move and not in it.
SHARE, BEFORE = 0.6, 0.4


class Steps(contextlib.AbstractContextManager["Steps"]):
    """Calls a function at steps of a program that are drawn from a seed. Enter it before the session is started.

    Args:
        seed: of the steps, and of what happens there.
        act: gets a generator of random numbers of its own for each call, however many it takes from it.
    """

    def __init__(self, seed: int, act: Callable[[random.Random], None]) -> None:
        self._seed = seed
        self._act = act
        #: Calls that are submitted before the next disturbance; 0: there is none in this move.
        self._left = 0
        self._random = random.Random(seed)
        self._points = [
            faults.Wrapped(point, self._submitted) for point in ("child submitted", "method call submitted")
        ]

    def _before_move(self, place: tuple[int, int]) -> None:
        """See what happens to the next move: by its place alone, so that one more or less changes no later ones."""
        if self._left:  # there were not as many calls
            self._left = 0
            self._act(self._random)
        self._random = random.Random(f"{self._seed} {place}")
        chance = self._random.random()
        if chance < SHARE * BEFORE:
            self._act(self._random)
        elif chance < SHARE:
            self._left = int(2 ** (self._random.random() * 7))  # a long chain has some hundred calls

    def _submitted(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                self._act(self._random)

    def stop(self) -> None:
        """Disturb nothing any more."""
        for point in self._points:
            point.undo()
        self._left = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, program: Program, steps: int) -> None:
        """Run a program to its end with these disturbances."""
        program.before_move = lambda: self._before_move(program.place)
        program.run(steps)
        self.stop()


def _by_age(found: Roles) -> list[int]:
    """Return the workers, the oldest first."""
    ages = []
    for pid in found.workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            ages.append((psutil.Process(pid).create_time(), pid))
    return [pid for _, pid in sorted(ages)]


# ---------------------------------------------------------------------- processes that end

#: How a process may come to its end from outside.
ENDS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM)


class Killer(Steps):
    """Kills workers of this process's session, and zygotes and control stores too."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, self._kill)
        self._controls = LIMIT - 1
        self._killed: set[int] = set()

    def _kill(self, chances: random.Random) -> None:
        chance, age, how = chances.random(), chances.random(), chances.choice(ENDS)
        found = roles(current.require_core("kill its workers").context.session_dir)
        workers = _by_age(found)
        if chance < 0.1 or (chance < 0.2 and not self._controls):
            pid = found.zygote
        elif chance < 0.2:
            pid, self._controls = found.control, self._controls - 1
        else:
            pid = workers[int(age * len(workers))] if workers else 0
        if pid:
            print(f"{how.name} to {pid}, {chance=:.2f} {age=:.2f}, one of {found}")
            self._killed.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)

    def stop(self) -> None:
        """Kill nobody any more; return when the runtime knows who was killed."""
        super().stop()
        wait_until_none(
            lambda: self._killed & {*worker_pids()},
            "a killed worker that counts as alive",
        )


# ---------------------------------------------------------------------- processes that lack descriptors

#: Seconds after which a process has its descriptors again, if the program waits and makes no step until then.
_AT_MOST_S = 0.2


class Scarcity(Steps):
    """Takes descriptors from processes of this process's session for some steps, and breaks connections."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, self._take)
        self._over: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def _take(self, chances: random.Random) -> None:
        chance, who, spare = chances.random(), chances.random(), chances.randint(0, 3)
        self._give_back()
        if chance < 0.3:
            cut()
            return
        found = roles(current.require_core("take descriptors").context.session_dir)
        pids = [0, found.daemon, found.control, *_by_age(found)]
        over = self._over = threading.Event()
        begun = threading.Event()
        self._thread = threading.Thread(
            target=_without, args=(pids[int(who * len(pids))], spare, begun, over), name="scarcity"
        )
        self._thread.start()
        begun.wait()

    def _give_back(self) -> None:
        if self._over is not None and self._thread is not None:
            self._over.set()
            self._thread.join()
            self._over = self._thread = None

    def stop(self) -> None:
        """All have their descriptors again."""
        super().stop()
        self._give_back()


def _without(pid: int, spare: int, begun: threading.Event, over: threading.Event) -> None:
    """Take descriptors from a process until ``over``, or until the program may be waiting for them."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(without_descriptors(pid, spare))
        finally:
            begun.set()
        over.wait(_AT_MOST_S)
