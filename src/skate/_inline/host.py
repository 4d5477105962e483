"""One incarnation of an actor in this process: its instance, its lanes, its thread."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from skate._base import errors, ids
from skate._base.user_errors import is_a, set_traceback
from skate._base.waits import lane
from skate._inline.context import HostParts
from skate._inline.lanes import Key, Lanes
from skate._inline.strands import Doomed
from skate._inline.turns import Begun, End, line
from skate._inline.work import Constructor, Work
from skate._serialize.exceptions import dump_error, dump_task_error
from skate._transport.connection import Connection, Handler
from skate._wire import control
from skate._wire import worker as wire
from skate._wire.codec import unpack
from skate._worker.execution.actor_host import ActorInstance
from skate._worker.execution.exits import Exit
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current
from skate._worker.process.current import SYSTEM_GROUP
from skate._worker.process.peers import Peer


class Host(ActorInstance):
    """See the module's text. A serial actor has one strand; a threaded one takes one for each call."""

    def __init__(self, parts: HostParts, message: control.PlaceActor) -> None:
        player = self._player = parts.player
        self.strand = player.own_strand()  # it may raise: before anything is taken
        spec = unpack(message.spec, type=control.ActorSpec)
        super().__init__(
            parts.context, parts.values, player.invocation, message.actor_id, message.incarnation, spec
        )
        self._turns = parts.turns
        self._garbage = parts.garbage
        self._place = parts.place
        self._on_ended = parts.on_ended
        self.id = ids.new_worker_id()
        self.address = f"{parts.context.address}/{self.id.hex()}"
        #: It is to do nothing more.
        self.stopped = False
        #: ... but to clean up.
        self.graceful = False
        #: The call begun last, for who must decide what to repeat.
        self.begun: Key = (b"", 0)
        self.gpus = player.take_gpus(spec.running)
        serial = not spec.is_async and spec.max_concurrency == 1 and not spec.concurrency_groups
        self.serial = serial
        self.lanes: Lanes[Work] = Lanes(
            {"": spec.max_concurrency, SYSTEM_GROUP: 1, **spec.concurrency_groups}
        )
        #: The caller's end, and the actor's.
        self.callers, self.end = line(parts.turns, parts.calls_table, self._table())
        for end, who in ((self.callers, self.id), (self.end, parts.context.worker_id)):
            end.peer = Peer()
            end.peer.id = who
            end.peer.address = self.address
        self._constructor = Constructor(self, self.id, f"{spec.class_name}.__init__")
        self._made = perf_counter()
        self.constructed = False

    def _table(self) -> Mapping[type, Handler]:
        return {
            wire.Call: self._called,
            wire.CancelCall: self._cancel,
            **self._player.yielding.results_table(),
        }

    # ------------------------------------------------------------------ what arrives (under the lock)

    def begin(self) -> None:
        """Have the constructor run."""
        self.strand.begin(self.construct)

    def _called(self, connection: Connection, call: wire.Call) -> None:
        assert isinstance(connection, End)
        method_name = f"{self.spec.class_name}.{call.fn}"
        work = Work(connection, call, call.name or method_name, self, method_name)
        work.resources, work.gpus = self.spec.running, self.gpus
        work.over = lambda: self._over(work)
        group = self.group_of(call)
        try:
            begun = self.lanes.arrive(work.key, group, work)
        except KeyError:
            known = ", ".join(self.spec.concurrency_groups) or "none"
            error = ValueError(
                f"{work.name} was called in the concurrency group {group!r}, which the actor's option "
                f"concurrency_groups does not define (it has: {known})"
            )
            data, _ = dump_task_error(error, work.name, self.spec.class_name, self.actor_id.hex())
            connection.send(wire.Reply(call.seq, wire.ERROR, data))
            return
        for one in begun:
            self._start(one)

    def group_of(self, call: wire.Call) -> str:
        """Return the group of a call: its own, or its method's, or the default."""
        if self.serial:
            return ""  # as with the real one: it has no groups
        return call.group or str(self.spec.methods.get(str(call.fn), {}).get("concurrency_group", ""))

    def _start(self, work: Work) -> None:
        self.begun = work.key
        player = self._player

        def job() -> None:
            player.run(work, lambda: self.method(str(work.call.fn)))

        if self.serial:
            work.strand = self.strand
            self.strand.begin(job)
        else:
            player.begin(work, job)

    def _over(self, work: Work) -> None:
        self._player.cancelled.discard(work.key)
        for one in self.lanes.ended(work.key):
            self._start(one)

    def _cancel(self, connection: Connection, message: wire.CancelCall) -> None:
        key = (connection.peer.id, message.seq)
        player = self._player
        queued = self.lanes.withdraw(key)
        if queued is not None:
            text = f"{queued.name} was cancelled before it began"
            error = dump_error(errors.TaskCancelledError(ids.task_id(*key).hex(), text))
            connection.send(wire.Reply(message.seq, wire.ERROR, error))
            return
        work = self.lanes.running(key)
        if work is None:
            return
        player.cancelled.add(key)
        player.recurse(work, message)
        self._cancel_running(work)

    def _cancel_running(self, work: Work) -> None:
        """A method is not interrupted: it may ask."""

    # ------------------------------------------------------------------ the constructor (on the strand)

    def construct(self) -> None:
        """Run the constructor and report."""
        met: list[ObjectEntry] = []
        raised = None
        token = current.call.set(self._constructor)
        try:
            self.instance = self._construct(met)
            self._introduce()
        except Doomed:
            return
        except BaseException as error:
            raised = error
        finally:
            current.call.reset(token)
        self._report(raised, met)

    def _report(self, raised: BaseException | None, met: list[ObjectEntry]) -> None:
        spec = self.spec
        error = b""
        if raised is not None:
            name = self._constructor.name
            if is_a(raised, SystemExit):
                self.left(raised, name)
                return
            error, _ = dump_task_error(raised, name, spec.class_name, self.actor_id.hex())
            self.warn_of(name, raised)
            set_traceback(raised, None)
        self.strand.ending = True
        with self._context.lock:
            self._garbage.drain()
            if self.stopped:
                return
            self.constructed = True
            self._place.started(self, error)
            if not error:
                for work in self.lanes.opened():
                    self._start(work)

    # ------------------------------------------------------------------ the end

    def left(self, error: BaseException, name: str) -> None:
        """A method or the constructor ended the actor. On its strand."""
        end = Exit(error)
        self._part()
        with self._context.lock:
            if not self.stopped:
                self.stop()
                who = f"the actor's part of process {self._context.pid}"
                cause = f"{who} left: {end.what} in {name}"
                self._place.ended(self, cause, intended=end.intended)

    def _part(self) -> None:
        """Let the instance clean up (see ``farewell``), on a thread of the actor."""
        self.farewell()

    def stop(self, *, graceful: bool = False) -> None:
        """Do nothing more; what waits here ends. Under the lock. ``graceful``: the instance may clean up."""
        self.stopped = True
        self.graceful = graceful and self.constructed
        self.end.close("the actor ended")
        self._player.give_gpus_back(self.gpus, self.spec.running)
        for outgoing in self.end.peer.streams.values():
            outgoing.news()
        self._stop_calls(self.lanes.close())
        self._on_ended(self)

    def _stop_calls(self, running: list[Work]) -> None:
        for work in running:
            if work.strand is not None and work.strand is not self.strand:
                work.strand.doom()
        if self.graceful:
            self.strand.begin(self._part_and_retire)
        else:
            self.strand.doom()
            self._retire()

    def _part_and_retire(self) -> None:
        self.farewell()
        with self._context.lock:
            self._retire()

    def _retire(self) -> None:
        self.strand.retire()
        self._player.strands.discard(self.strand)
        self._turns.begun.append(self)  # the instance goes without the lock: it may have a __del__

    def go(self, stand_by: bool) -> list[Begun]:
        """See Begun: let go of the instance of an actor that ended."""
        self.let_go()
        return []

    # ------------------------------------------------------------------ questions

    def ahead_of(self, key: Key) -> list[Key] | None:
        """Return the calls one of which must end before a queued one may begin; none, if it may go on by
        itself; None if it is not here. Under the lock."""
        info = self._constructor
        for row in self.lanes.rows():
            if key in row.running:
                return []
            if key in row.queued:
                if not self.constructed:
                    return [(info.owner, info.seq)]
                return list(row.running) if self._slots(row.slots) else []
        return None

    def lane_rows(self) -> list[dict[str, Any]]:
        """Return where its calls run: see ``_base.waits``. Under the lock."""
        now = perf_counter()
        if self.stopped:
            return []
        if not self.constructed:
            info = self._constructor
            return [lane(self.id, 1, [(*(info.owner, info.seq), now - self._made)],
                         [key for row in self.lanes.rows() for key in row.queued])]  # fmt: skip
        found = []
        for row in self.lanes.rows():
            running = []
            for key in row.running:
                work = self.lanes.running(key)
                running.append((*key, now - (work.began if work is not None else now)))
            found.append(lane(self.id, self._slots(row.slots), running, row.queued))
        return found

    def _slots(self, limit: int) -> int:
        return limit

    def running(self) -> list[str]:
        """Return the names of the calls that run."""
        works = [self.lanes.running(key) for row in self.lanes.rows() for key in row.running]
        return [work.name for work in works if work is not None]
