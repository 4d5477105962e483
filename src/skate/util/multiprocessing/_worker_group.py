"""Sends a pool's chunks of calls to its workers, and delivers the results.

A chunk goes to the worker that has least to do, alone or, if chunks are known to be short, with others::

    submit --> [backlog] --a worker is free--> [in flight] --its ref is ready--> (claimed) --> delivered
                   ^                                                                  |
                   '------------- the worker did not know the function ---------------'

The thread that waits for a result *drives*: in ``get`` or ``next`` it waits for the refs in flight
itself, delivers arriving results to their jobs, and sends the next chunks. No result is handed between
threads on the way. A background thread works only while no thread drives, and to run callbacks; pools
that have no use for it never start it.

Guarantee: a driving thread sees every delivery that matters to it. The refs for which it waits are all
that were in flight when it looked; chunks leave the backlog only when one of those is ready, and then
it looks again, after waiting for a thread that delivers at that moment.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from skate import api
from skate._base import threads
from skate._base.user_errors import attributes_of, is_a, set_traceback
from skate._serialize.exceptions import own_cause
from skate.exceptions import ActorDiedError, RayTaskError
from skate.util._copies import Packed
from skate.util._namespaces import Sender
from skate.util.multiprocessing._chunks import Chunk, Job, Paces
from skate.util.multiprocessing._worker import CALL, PoolTaskError, Report, is_plain

if TYPE_CHECKING:
    from skate.actor import ActorHandle
    from skate.engine.refs import ObjectRef

_log = logging.getLogger(__name__)

#: A submitting thread looks for results each time the backlog has grown by so many chunks.
_LOOK_EVERY_CHUNKS = 8
#: How long the background thread waits for the thread that drove last to drive again.
_GRACE_S = 0.002
#: How often the background thread checks whether its pool was dropped without an end.
_CHECK_PERIOD_S = 5.0


class _Member:
    """The pool's record of one worker."""

    __slots__ = ("actor", "in_flight", "room", "sent", "token", "lost")

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self.actor = actor
        self.in_flight = 0
        #: How many chunks it may have at a time, until it has done those that it has.
        self.room = 1
        self.sent = 0
        #: The token of the function that it has.
        self.token = -1
        self.lost = False


class WorkerGroup:
    """The workers of a pool and the chunks that they are to run."""

    def __init__(
        self, size: int, make: Callable[[], ActorHandle[Any]], chunks_per_worker: int | None, sender: Sender
    ) -> None:
        lock = threading.RLock()
        #: Guards this object and the states of the jobs; notified when a job makes progress.
        self.changed = threading.Condition(lock)
        #: Has the same lock; notified when the background thread may have something to do.
        self._needed = threading.Condition(lock)
        #: The background thread waits for ``_needed``.
        self._asleep = False
        self.size = size
        #: Pickles functions and items for the workers.
        self.sender = sender
        self._make = make
        self._chunks_per_worker = chunks_per_worker
        self._members = [_Member(make()) for _ in range(size)]
        self._backlog: deque[Chunk] = deque()
        self._in_flight: dict[ObjectRef[Any], tuple[_Member, list[Chunk]]] = {}
        #: How many threads deliver a chunk at this moment.
        self._claims = 0
        self._drivers = 0
        #: Counts ``drive`` calls.
        self._drives = 0
        self._callbacks: deque[Job] = deque()
        self._calling_back = False
        self._tokens = 0
        self._ended = False
        #: Why there are no workers any more.
        self._over = "the pool has ended"
        self._thread: threading.Thread | None = None
        self.paces = Paces()

    # ------------------------------------------------------------------ for jobs

    def new_token(self) -> int:
        """Return a new number that identifies a job's function."""
        with self.changed:
            self._tokens += 1
            return self._tokens

    def submit(self, chunks: list[Chunk]) -> None:
        """Queue chunks, and send those for which a worker is free."""
        with self.changed:
            self._backlog.extend(chunks)
            self._dispatch()

    def have_called_back(self, job: Job) -> None:
        """Queue the job's callbacks for the background thread. Under the lock."""
        self._callbacks.append(job)
        self.need_background()

    def need_background(self) -> None:
        """Start or wake the background thread: callbacks are due, or no thread may wait for results."""
        with self.changed:
            if self._thread is None and (not self._ended or self._callbacks):
                self._thread = threads.start("skate-pool", self._background)
            self._wake_background()

    def end(self) -> None:
        """Note that no more chunks come: the background thread ends when all work is done."""
        with self.changed:
            self._ended = True
            self._wake_background()

    def abandon(self) -> None:
        """Mark the pool as dropped. For a finalizer, which may run at any line and so takes no lock.

        The background thread notices the mark at its next check.
        """
        self._ended = True

    def _wake_background(self) -> None:
        if self._asleep:
            self._asleep = False
            self._needed.notify()

    @property
    def is_idle(self) -> bool:
        """Tell whether all work is done. Under the lock."""
        return not (self._backlog or self._in_flight or self._claims or self._callbacks or self._calling_back)

    def terminate(self, reason: str) -> None:
        """Kill the workers; unfinished chunks fail."""
        with self.changed:
            self._ended = True
            self._over = reason
            members, self._members = self._members, []
            chunks = [chunk for _, parcel in self._in_flight.values() for chunk in parcel]
            chunks += self._backlog
            self._in_flight.clear()
            self._backlog.clear()
            for chunk in chunks:
                self._fail(chunk, ActorDiedError(reason))
            self.changed.notify_all()
            self._wake_background()
        for member in members:
            if not member.lost and api.is_initialized():
                api.kill(member.actor)

    def dismiss(self) -> None:
        """Let the workers end by themselves, and wait until they have. For pools without work."""
        with self.changed:
            members, self._members = self._members, []
        if api.is_initialized():
            ends = [member.actor.__ray_terminate__.remote() for member in members if not member.lost]
            if ends:
                api.wait(ends, num_returns=len(ends))

    # ------------------------------------------------------------------ driving

    def drive(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        """Do the pool's work on this thread until ``until()``, called under the lock, is true.

        Returns:
            False: the time (seconds) is up.
        """
        deadline = None if timeout is None else monotonic() + timeout
        with self.changed:
            if until():
                return True
            self._drivers += 1
            self._drives += 1
        try:
            while True:
                left = None if deadline is None else max(0.0, deadline - monotonic())
                with self.changed:
                    if until():
                        return True
                    if self._claims or not self._in_flight:
                        # Another thread is delivering, or running callbacks.
                        if not self.changed.wait(left):
                            return until()
                        continue
                    refs = list(self._in_flight)
                if not self._step(refs, left):
                    with self.changed:
                        return until()
        finally:
            with self.changed:
                self._drivers -= 1
                if not self._drivers and (self._in_flight or self._ended):
                    self._wake_background()

    def look(self) -> None:
        """Deliver ready results, without waiting, if chunks wait for a worker.

        A thread that submits many calls keeps the workers busy this way; the background thread would
        have to wait for its turn of the interpreter.
        """
        with self.changed:
            waiting = len(self._backlog)
            if not waiting or waiting % _LOOK_EVERY_CHUNKS or not self._in_flight or self._drivers:
                return
            self._drives += 1
            refs = list(self._in_flight)
        self._step(refs, 0)

    def _background(self) -> None:
        while True:
            with self.changed:
                self._calling_back = False
                self.changed.notify_all()
                self._await_need()
                job = self._callbacks.popleft() if self._callbacks else None
                self._calling_back = job is not None
                if job is None and self._ended and self.is_idle:
                    self._thread = None
                    return
                refs = list(self._in_flight)
            if job is None:
                self._step(refs, None)
                refs.clear()
                continue
            job.call_back()
            # The job may be freed now, with all objects that it held.
            del job

    def _await_need(self) -> None:
        """Wait until the background thread has something to do. Under the lock."""
        seen = self._drives
        while not self._callbacks and not (self._ended and self.is_idle):
            if self._drivers or not self._in_flight:
                self._asleep = True
                self._needed.wait(_CHECK_PERIOD_S)
                self._asleep = False
            elif self._drives != seen:
                # A thread drove a moment ago, and may do so again: two threads are slower than one.
                seen = self._drives
                self._needed.wait(_GRACE_S)
            else:
                return

    def _step(self, refs: list[ObjectRef[Any]], timeout: float | None) -> bool:
        """Wait for one of the refs, and deliver all ready ones; return False if the time is up."""
        ready: list[ObjectRef[Any]] = []
        if api.is_initialized():
            if timeout == 0:
                ready, _ = api.wait(refs, num_returns=len(refs), timeout=0)
            else:
                ready, rest = api.wait(refs, num_returns=1, timeout=timeout)
                if ready and len(rest) >= self.size:
                    # Workers have several chunks each: replies arrive together.
                    ready = ready + api.wait(rest, num_returns=len(rest), timeout=0)[0]
        if not api.is_initialized():
            # get() would start another session.
            self.terminate("the session of the pool was shut down")
            return True
        if ready:
            self._collect(ready)
        return bool(ready)

    def _collect(self, refs: list[ObjectRef[Any]]) -> None:
        with self.changed:
            # Another thread may have been faster.
            claimed = [(ref, *self._in_flight.pop(ref)) for ref in refs if ref in self._in_flight]
            if not claimed:
                return
            self._claims += 1
        done: list[tuple[_Member, list[Chunk], Any, Exception | None]] = []
        try:
            for ref, member, parcel in claimed:
                try:
                    done.append((member, parcel, _unpacked(api.get(ref)), None))
                except Exception as error:
                    done.append((member, parcel, None, error))
        finally:
            with self.changed:
                self._claims -= 1
                for ref, member, parcel in claimed[len(done) :]:
                    self._in_flight[ref] = (member, parcel)  # the thread was interrupted
                for arrived in done:
                    self._deliver(*arrived)
                self._dispatch()
                self.changed.notify_all()

    # ------------------------------------------------------------------ under the lock

    def _deliver(
        self, member: _Member, parcel: list[Chunk], reports: list[Any] | None, error: Exception | None
    ) -> None:
        member.in_flight -= len(parcel)
        if error is not None:
            member.lost = member.lost or isinstance(error, ActorDiedError)
            self.paces.distrust(parcel[0].job.function)
            for chunk in parcel:
                self._fail(chunk, error)
        elif reports is None:
            member.token = -1
            self._backlog.extendleft(reversed(parcel))
        else:
            for chunk, (seconds, failed, results) in zip(parcel, reports, strict=True):
                self.paces.note(chunk.job.function, seconds)
                if isinstance(results, Exception):
                    self._fail(chunk, results)
                else:
                    chunk.job.deliver(chunk.index, results, failed)

    def _dispatch(self) -> None:
        """Send queued chunks to the workers that may have more."""
        backlog = self._backlog
        while backlog:
            parcel = [backlog.popleft()]
            try:
                if not self._members:
                    raise ActorDiedError(self._over)
                depth = self.paces.depth(parcel[0].job.function)
                member = self._member_for(depth)
                if member is None:
                    backlog.extendleft(parcel)
                    return
                self._fill(parcel, depth, member)
                self._send(member, parcel, depth)
            except Exception as error:
                if len(parcel) == 1:
                    self._fail(parcel[0], error)
                    continue
                # One of them caused the error: send them one by one from now on.
                backlog.extendleft(reversed(parcel))
                self.paces.distrust(parcel[0].job.function)

    def _fill(self, parcel: list[Chunk], depth: int, member: _Member) -> None:
        """Add queued chunks of the same function to the parcel, up to half of the worker's depth."""
        backlog, job = self._backlog, parcel[0].job
        count = min(depth // 2, len(backlog) // self.size)
        if self._chunks_per_worker is not None:
            count = min(count, self._chunks_per_worker - member.sent)
        while len(parcel) < count:
            following = backlog[0].job
            alike = following is job or (job.form == CALL and following.form == CALL)
            if not alike or following.function is not job.function:
                return
            parcel.append(backlog.popleft())

    def _member_for(self, depth: int) -> _Member | None:
        """Return the worker with least to do that may have one more chunk, of this depth."""
        best: _Member | None = None
        for index, member in enumerate(self._members):
            if not member.in_flight:
                if member.lost or self._used_up(member):
                    member = self._members[index] = _Member(self._make())
                return member
            room = min(depth, member.room)
            if room == 1 or member.in_flight > room // 2 or member.lost or self._used_up(member):
                continue
            if best is None or member.in_flight < best.in_flight:
                best = member
        return best

    def _used_up(self, member: _Member) -> bool:
        return self._chunks_per_worker is not None and member.sent >= self._chunks_per_worker

    def _send(self, member: _Member, parcel: list[Chunk], depth: int) -> None:
        job = parcel[0].job
        function = None if member.token == job.token else job.argument()
        chunks = [chunk.items for chunk in parcel]
        plain = all(is_plain(job.form, items) for items in chunks)
        sent = chunks if plain else self.sender.pack(chunks, "chunks")
        ref = member.actor.run.remote(job.token, function, job.form, sent)
        member.room = min(member.room, depth) if member.in_flight else depth
        member.in_flight += len(parcel)
        member.sent += len(parcel)
        member.token = job.token
        self._in_flight[ref] = (member, parcel)

    def _fail(self, chunk: Chunk, error: Exception) -> None:
        """Deliver an error as the result of each call of a chunk."""
        if is_a(error, RayTaskError) and is_a(attributes_of(error)["cause"], Exception):
            error = own_cause(error)  # type: ignore[assignment]
        set_traceback(error, None)  # its frames hold refs
        count = 1 if chunk.job.form == CALL else len(chunk.items)
        chunk.job.deliver(chunk.index, [PoolTaskError(error)] * count, tuple(range(count)))


def _unpacked(reports: list[Report] | None) -> list[Any] | None:
    """Return what a worker reported, with the results themselves."""
    if reports is None:
        return None
    unpacked: list[Any] = []
    for seconds, failed, sent in reports:
        results: Any = sent
        if isinstance(sent, Packed):
            try:
                results = sent.load()
            except Exception as error:  # only this chunk fails; its number of results is known from the chunk
                results = error
        unpacked.append((seconds, failed, results))
    return unpacked
