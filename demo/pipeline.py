"""The skate variant: a central queue actor between a pool of decoders and a pool of readers.

Workers pull: `step` takes a picture from the queue, works on it, and reports back to the queue. Pixels never
pass through the queue: a decoder puts them into the object store, the queue carries the reference, and the
reader maps the same memory. The driver only wakes workers for which the queue has something to do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import skate
from demo.errors import DemoError
from demo.ocr import Model
from demo.pictures import UndecodableError, decode
from demo.readings import Reading
from demo.worklist import Lease, WorkList

#: Decoded pictures that may wait for each reader: enough that none idles, few enough to fit in memory.
ROOM_PER_READER = 2
#: Seconds between looks for a reader in the middle of a picture, while one is to be killed.
CHAOS_LOOK_S = 0.05


@dataclass(frozen=True)
class Progress:
    """What the driver needs to know to wake the right workers."""

    #: Those that the driver has not seen yet.
    readings: list[Reading]
    paths_to_lend: int
    pictures_to_lend: int
    #: Process and lease of each reader at work, in the order in which they began.
    being_read: list[tuple[int, Lease]]


@dataclass(frozen=True)
class Restart:
    """A worker came back in a new process."""

    worker: str
    pid: int
    given_back: bool


class PictureQueue:
    """The work list as an actor: one process owns it, and calls reach it one after the other."""

    def __init__(self, paths: Sequence[str], room: int) -> None:
        # A list of one reference, not a reference: a bare one would be replaced by the pixels on its way.
        self._work: WorkList[list[Any]] = WorkList(paths, room)
        self._pids: dict[str, int] = {}
        self._restarts: list[Restart] = []

    def join(self, worker: str, pid: int) -> None:
        """A worker's first word in a new process: what its former self held is free again."""
        given_back = self._work.give_back(worker)
        if worker in self._pids:
            self._restarts.append(Restart(worker, pid, given_back > 0))
        self._pids[worker] = pid

    def leave(self, worker: str) -> None:
        """The driver says that this worker will not come back."""
        self._work.give_back(worker)

    def take_path(self, worker: str) -> Lease | None:
        """Lend a picture to decode."""
        return self._work.lend_path(worker)

    def give_picture(self, lease: Lease, picture: list[Any]) -> None:
        """Take the reference to the pixels from a decoder."""
        self._work.decoded(lease, picture)

    def take_picture(self, worker: str) -> tuple[Lease, list[Any]] | None:
        """Lend a decoded picture to read."""
        return self._work.lend_picture(worker)

    def report_lost(self, lease: Lease) -> None:
        """A reader could not get the pixels: their decoder died."""
        self._work.lost(lease)

    def finish(self, lease: Lease, reading: Reading) -> None:
        """The acknowledgement: this picture is done, with text or with an error."""
        self._work.finish(lease, reading)

    def progress(self, seen: int) -> Progress:
        """Tell the driver, who has `seen` so many readings, where the work stands."""
        work = self._work
        return Progress(
            readings=work.readings[seen:],
            paths_to_lend=work.paths_to_lend,
            pictures_to_lend=work.pictures_to_lend,
            being_read=[(self._pids[lease.worker], lease) for lease in work.being_read()],
        )

    def restarts(self) -> list[Restart]:
        """Return the workers that came back in a new process so far."""
        return self._restarts


class Decoder:
    """Turns files into arrays in shared memory."""

    def __init__(self, name: str, queue: Any) -> None:
        self._name = name
        self._queue = queue
        skate.get(queue.join.remote(name, os.getpid()))

    def step(self) -> None:
        """Decode one picture, if there is one to decode."""
        lease = skate.get(self._queue.take_path.remote(self._name))
        if lease is None:
            return
        try:
            picture = skate.put(decode(lease.path))
        except UndecodableError as error:
            skate.get(self._queue.finish.remote(lease, Reading(lease.path, error=str(error))))
        else:
            skate.get(self._queue.give_picture.remote(lease, [picture]))


class Reader:
    """Holds an OCR model and reads decoded pictures."""

    def __init__(self, name: str, queue: Any) -> None:
        self._name = name
        self._queue = queue
        # First of all: while the model loads, another reader can have what this one's former self held.
        skate.get(queue.join.remote(name, os.getpid()))
        self._model = Model()

    def step(self) -> None:
        """Read one picture, if there is one to read. When this returns, its reading is acknowledged."""
        lent = skate.get(self._queue.take_picture.remote(self._name))
        if lent is None:
            return
        lease, [picture] = lent
        try:
            pixels = skate.get(picture)
        except skate.exceptions.ObjectLostError:
            skate.get(self._queue.report_lost.remote(lease))
        else:
            skate.get(self._queue.finish.remote(lease, self._model.read(lease.path, pixels)))


@dataclass(frozen=True)
class _Worker:
    name: str
    actor: Any


class _Pool:
    """The driver's view of workers of one kind: who is idle, and who is in a step."""

    def __init__(self, kind: str, actor_class: Any, count: int, queue: Any) -> None:
        self.kind = kind
        names = [f"{kind}-{n}" for n in range(1, count + 1)]
        self.idle = [_Worker(name, actor_class.remote(name, queue)) for name in names]
        self.running: dict[Any, _Worker] = {}

    def wake(self, count: int) -> None:
        """Start a step of up to `count` idle workers."""
        for _ in range(min(count, len(self.idle))):
            worker = self.idle.pop()
            self.running[worker.actor.step.remote()] = worker


def decoders_for(workers: int) -> int:
    """Decoding takes a hundredth of the time that reading takes, so a few processes feed many readers."""
    return max(2, workers // 8)


def read_with_skate(
    paths: Sequence[str], workers: int, *, chaos: bool, say: Callable[[str], None]
) -> Generator[Reading, None, None]:
    """Start the runtime, yield each picture's reading as it is done, and stop the runtime.

    With `chaos`, one reader's process is killed in the middle of a picture; `say` then tells which.
    """
    try:
        skate.init(num_cpus=max(workers, os.cpu_count() or 1), log_to_driver=False)
        queue: Any = skate.remote(num_cpus=0)(PictureQueue).remote(paths, ROOM_PER_READER * workers)
        # When a worker's process dies, the runtime starts it again and repeats the step it was in. The new
        # process begins by telling the queue that what its former self held is free.
        decoder = skate.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Decoder)
        reader = skate.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(Reader)
        decoders = _Pool("decoder", decoder, decoders_for(workers), queue)
        readers = _Pool("reader", reader, workers, queue)
        yield from _drive(queue, decoders, readers, len(paths), chaos, say)
    except skate.exceptions.RayActorError as error:
        # Workers that die are dealt with below; only the queue has nobody to take its place.
        raise DemoError(f"the queue's process died: {' '.join(str(error).split())[:300]}") from error
    finally:
        skate.shutdown()


def _drive(
    queue: Any, decoders: _Pool, readers: _Pool, total: int, chaos: bool, say: Callable[[str], None]
) -> Generator[Reading, None, None]:
    """Wake workers until every picture is done, and pass on the readings."""
    pools = (decoders, readers)
    seen = 0
    while True:
        now: Progress = skate.get(queue.progress.remote(seen))
        seen += len(now.readings)
        yield from now.readings
        if seen == total:
            break
        if chaos and seen >= total // 4 and now.being_read:
            _kill(*now.being_read[-1], say)  # the last one to begin will be at it for longest
            chaos = False
        decoders.wake(now.paths_to_lend)
        readers.wake(now.pictures_to_lend)
        # Whatever changes in the queue changes in a step, so its end is all there is to wait for.
        steps = [step for pool in pools for step in pool.running]
        ended, _ = skate.wait(steps, num_returns=1, timeout=CHAOS_LOOK_S if chaos else None)
        for pool in pools:
            _collect(pool, ended, queue, say)
            if not pool.idle and not pool.running:
                raise DemoError(f"every {pool.kind} died for good; {seen} of {total} pictures were read")
    for restart in skate.get(queue.restarts.remote()):
        held = "; the picture it had held was lent again" if restart.given_back else ""
        say(f"{restart.worker} came back as pid {restart.pid}{held}")
    if chaos:
        say("chaos: the pictures were read too fast to kill a reader in the middle of one")


def _collect(pool: _Pool, ended: Sequence[Any], queue: Any, say: Callable[[str], None]) -> None:
    """Make the workers whose step has ended idle again, and take leave of those that the runtime gave up."""
    for step in ended:
        worker = pool.running.pop(step, None)
        if worker is None:  # a step of the other pool
            continue
        try:
            skate.get(step)
        except skate.exceptions.RayActorError as error:
            say(f"{worker.name} died for good: {' '.join(str(error).split())[:300]}")
            skate.get(queue.leave.remote(worker.name))
        else:
            pool.idle.append(worker)


def _kill(pid: int, lease: Lease, say: Callable[[str], None]) -> None:
    os.kill(pid, signal.SIGKILL)
    say(f"chaos: killed {lease.worker} (pid {pid}) while it read {os.path.basename(lease.path)}")
