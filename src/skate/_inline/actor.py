"""Runs one incarnation of an actor in this process: its instance, its lanes, its thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate._base import ids
from skate._base.clock import perf_counter
from skate._inline.call_threads import Killed
from skate._inline.context import ActorParts
from skate._inline.reactor import Deferred, LocalConnection, pair
from skate._inline.work import Constructor, Work
from skate._serialize.exceptions import dump_task_error
from skate._transport.connection import Connection, Handler
from skate._wire import control
from skate._wire import worker as wire
from skate._wire.codec import unpack
from skate._worker.execution.actor_host import ActorInstance
from skate._worker.execution.exits import Exit
from skate._worker.execution.failures import withdrawn
from skate._worker.execution.lanes import Key, Lanes, group_of, is_serial, limits_of, unknown_group
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current
from skate._worker.process.peers import Peer


class InlineActor(ActorInstance):
    """An incarnation of an actor. A serial one has a call thread; a threaded one takes one for each call."""

    def __init__(self, parts: ActorParts, message: control.PlaceActor) -> None:
        executor = self._executor = parts.executor
        self.call_thread = executor.make_actor_thread()  # it may raise: before anything is taken
        spec = unpack(message.spec, type=control.ActorSpec)
        super().__init__(
            parts.context, parts.values, executor.invocation, message.actor_id, message.incarnation, spec
        )
        self._reactor = parts.reactor
        self._garbage = parts.garbage
        self._place = parts.place
        self._on_ended = parts.on_ended
        self.id = ids.new_worker_id()
        self.address = f"{parts.context.address}/{self.id.hex()}"
        #: It ends: it begins no further call.
        self.stopped = False
        #: It ends, but its instance may clean up.
        self.graceful = False
        #: The call begun last: callers decide by it what to repeat.
        self.begun: Key = (b"", 0)
        self.gpus = executor.take_gpus(spec.running)
        self.is_serial = is_serial(spec)
        self.lanes: Lanes[Work] = Lanes(limits_of(spec))
        #: The two ends of the callers' connection.
        self.callers, self.connection = pair(parts.reactor, parts.calls_table, self._table())
        for end, who in ((self.callers, self.id), (self.connection, parts.context.worker_id)):
            end.peer = Peer()
            end.peer.id = who
            end.peer.address = self.address
        self._constructor = Constructor(self, self.id, f"{spec.class_name}.__init__")
        self._made = perf_counter()
        self.is_constructed = False

    def _table(self) -> Mapping[type, Handler]:
        return {
            wire.Call: self._called,
            wire.CancelCall: self._cancel,
            **self._executor.yielding.results_table(),
        }

    # ------------------------------------------------------------------ messages (under the lock)

    def begin(self) -> None:
        """Start the constructor."""
        self.call_thread.begin(self.construct)

    def _called(self, connection: Connection, call: wire.Call) -> None:
        assert isinstance(connection, LocalConnection)
        method_name = f"{self.spec.class_name}.{call.fn}"
        work = Work(connection, call, call.name or method_name, self, method_name)
        work.resources, work.gpus = self.spec.running, self.gpus
        work.on_end = lambda: self._over(work)
        if not self.is_serial:  # as with a process of its own: it has no groups
            work.group = group_of(self.spec, call)
        try:
            begins = self.lanes.arrive(work)
        except KeyError:
            error = unknown_group(self.spec, work.name, work.group)
            data, _ = dump_task_error(error, work.name, self.spec.class_name, self.actor_id.hex())
            connection.send(wire.Reply(call.seq, wire.ERROR, data))
            return
        if begins:
            self._start(work)

    def _start(self, work: Work) -> None:
        self.begun = work.key
        executor = self._executor

        def job() -> None:
            executor.run(work, lambda: self.method(str(work.call.fn)))

        if self.is_serial:
            work.call_thread = self.call_thread
            self.call_thread.begin(job)
        else:
            executor.begin(work, job)

    def _over(self, work: Work) -> None:
        self._executor.cancelled.discard(work.key)
        following = self.lanes.ended(work)
        if following is not None:
            self._start(following)

    def _cancel(self, connection: Connection, message: wire.CancelCall) -> None:
        key = (connection.peer.id, message.seq)
        executor = self._executor
        queued = self.lanes.withdraw(key)
        if queued is not None:
            connection.send(wire.Reply(message.seq, wire.ERROR, withdrawn(*key, queued.name)))
            return
        work = self.lanes.running(key)
        if work is None:
            return
        executor.cancelled.add(key)
        executor.recurse(work, message)
        self._cancel_running(work)

    def _cancel_running(self, work: Work) -> None:
        """Do nothing: a method is not interrupted, but may ask whether it is cancelled."""

    # ------------------------------------------------------------------ the constructor (on its call thread)

    def construct(self) -> None:
        """Run the constructor and report."""
        received: list[ObjectEntry] = []
        raised = None
        token = current.call.set(self._constructor)
        try:
            self.instance = self._construct(received)
            self._introduce()
        except Killed:
            return
        except BaseException as error:
            raised = error
        finally:
            current.call.reset(token)
        self._report(raised, received)

    def _report(self, raised: BaseException | None, received: list[ObjectEntry]) -> None:
        error = self._constructor_failed(raised) if raised is not None else b""
        if raised is not None and not error:
            return
        self.call_thread.ending = True
        with self._context.lock:
            self._garbage.drain()
            if self.stopped:
                return
            self.is_constructed = True
            self._place.started(self, error)
            if not error:
                for work in self.lanes.opened():
                    self._start(work)

    # ------------------------------------------------------------------ the end

    def end_by(self, error: BaseException, name: str) -> None:
        """End the actor, as its method or constructor asked. On its call thread."""
        end = Exit(error)
        self._clean_up()
        with self._context.lock:
            if not self.stopped:
                self.stop()
                who = f"the actor's part of process {self._context.pid}"
                cause = f"{who} left: {end.what} in {name}"
                self._place.ended(self, cause, intended=end.intended)

    def _clean_up(self) -> None:
        """Let the instance clean up (see ``farewell``), on a thread of the actor."""
        self.farewell()

    def stop(self, *, graceful: bool = False) -> None:
        """End all calls and begin none. Under the lock. ``graceful``: the instance may clean up."""
        self.stopped = True
        self.graceful = graceful and self.is_constructed
        self.connection.close("the actor ended")
        self._executor.release_gpus(self.gpus, self.spec.running)
        for outgoing in self.connection.peer.streams.values():
            outgoing.news()
        self._stop_calls(self.lanes.close())
        self._on_ended(self)

    def _stop_calls(self, running: list[Work]) -> None:
        for work in running:
            if work.call_thread is not None and work.call_thread is not self.call_thread:
                work.call_thread.kill()
        if self.graceful:
            self.call_thread.begin(self._clean_up_and_retire)
        else:
            self.call_thread.kill()
            self._retire()

    def _clean_up_and_retire(self) -> None:
        self.farewell()
        with self._context.lock:
            self._retire()

    def _retire(self) -> None:
        self.call_thread.retire()
        self._executor.call_threads.discard(self.call_thread)
        self._reactor.deferred.append(self)  # drop the instance without the lock: it may have a __del__

    def run_deferred(self, pause: bool) -> list[Deferred]:
        """Drop the instance of an actor that ended. See Deferred."""
        self.let_go()
        return []

    # ------------------------------------------------------------------ questions

    def ahead_of(self, key: Key) -> list[Key] | None:
        """Return the calls one of which must end before a queued call may begin. Under the lock.

        An empty list: the call can go on by itself. None: this actor does not have the call.
        """
        info = self._constructor
        for row in self.lanes.rows():
            if key in row.running:
                return []
            if key in row.queued:
                if not self.is_constructed:
                    return [(info.owner, info.seq)]
                return [] if self.spec.is_async else list(row.running)
        return None

    def lane_rows(self) -> list[dict[str, Any]]:
        """Return the lanes of its calls: see ``_base.waits``. Under the lock."""
        if self.stopped:
            return []
        info, now = self._constructor, perf_counter()
        return self.lanes.report(
            self.id, (info.owner, info.seq, now - self._made), now, is_async=self.spec.is_async
        )

    def running(self) -> list[str]:
        """Return the names of the calls that run."""
        return [work.name for work in self.lanes.all_running()]
