"""Submits calls: encodes arguments, makes records, hands them to a route. The busiest code of a driver.

Pickling happens on the calling thread without the lock; changes of tables under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType
from typing import Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._transport.connection import HIGH_WATER_BYTES, Connection
from skate._transport.reactor import Waiter
from skate._transport.table_lock import resume, state, suspend
from skate._wire import worker as wire
from skate._worker.calls import code
from skate._worker.calls.actor_client import ActorClient
from skate._worker.calls.actor_submitter import ActorSubmitter
from skate._worker.calls.arguments import NO_ARGUMENTS, ArgumentEncoder, Arguments
from skate._worker.calls.generators import ObjectRefGenerator
from skate._worker.calls.records import FunctionRecord, TaskRecord
from skate._worker.calls.results import Results
from skate._worker.calls.stream_calls import DYNAMIC, STREAMING, StreamCalls
from skate._worker.calls.task_submitter import PoolRoute
from skate._worker.calls.tasks import TaskTable
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.home import Home
from skate._worker.objects.object_ref import ObjectRef, make_ref, make_refs
from skate._worker.objects.refs import ObjectEntry, RefTable
from skate._worker.process import current
from skate._worker.process.call_site import call_site
from skate._worker.process.context import ProcessContext
from skate._worker.process.exhaustion import ran_out
from skate._worker.process.main_thread import MainThread


class Submission:
    """Submits the calls of this process. Built by Core."""

    def __init__(
        self,
        context: ProcessContext,
        main_thread: MainThread,
        refs: RefTable,
        home: Home,
        garbage: Garbage,
        tasks: TaskTable,
        arguments: ArgumentEncoder,
        streams: StreamCalls,
        results: Results,
        actors: ActorSubmitter,
    ) -> None:
        self._context = context
        self._reactor = context.reactor
        self._lock = context.lock
        self._check_interrupt = main_thread.check_interrupt
        self._refs = refs
        self._home = home
        self._garbage = garbage
        self._tasks = tasks
        self._encode = arguments.encode
        self._streams = streams
        self._can_send = results.can_resend
        self._actors = actors
        self._last_function = 0
        #: Where the last call was made, if that is recorded.
        self._site: tuple[CodeType, int] | None = None

    # ------------------------------------------------------------------ functions and arguments

    def make_function(self, function: Any, name: str, threads: int) -> FunctionRecord:
        """Pickle a remote function, once a session."""
        blob, refs = code.dump(self._context, function, name)
        with self._context.locked:
            self._last_function += 1
            return FunctionRecord(
                self._last_function, name, blob, threads, refs, self._garbage.dead_functions
            )

    def _new_task(
        self,
        function: FunctionRecord | None,
        method: str,
        arguments: Arguments,
        num_returns: int,
        retries: int,
    ) -> TaskRecord:
        """Make the records of a call. Under the lock."""
        context = self._context
        seq = context.counter = context.counter + 1
        site = self._site = call_site(5, self._site) if context.config.record_call_sites else None
        worker_id, own = context.worker_id, self._refs.own
        entries: Sequence[ObjectEntry]
        if num_returns == 1:  # nearly always
            entry = own(ids.object_id(worker_id, seq), site)
            entries = (entry,)  # the collector untracks a tuple of objects that it does not track
        else:
            entries = [own(ids.object_id(worker_id, seq, index), site) for index in range(num_returns)]
        parent = current.call.get()
        task = TaskRecord(
            seq, function, method, arguments.kind, arguments.data, entries, retries,
            parent.depth + 1 << wire.DEPTH_SHIFT, parent, site, monotonic(),
        )  # fmt: skip
        for entry in entries:
            entry.task = task
        self._tasks.unfinished[seq] = task
        if not arguments.plain:
            self._keep_arguments(task, arguments)
        return task

    def _keep_arguments(self, task: TaskRecord, arguments: Arguments) -> None:
        """Pin the refs among a call's arguments until the call is over."""
        pins: list[ObjectEntry] = [ref._entry for ref in arguments.refs]
        if arguments.blob is not None:
            pins.append(arguments.blob._entry)
        if arguments.dependencies is not None:
            task.dependencies = [(where, ref._entry) for where, ref in arguments.dependencies]
            pins += [entry for _, entry in task.dependencies]
        for entry in pins:
            self._refs.pin(entry)
        task.pins = pins

    def submit_task(
        self,
        function: FunctionRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        route: PoolRoute,
        num_returns: int,
        max_retries: int,
        name: str | None,
        ahead: int = 0,
    ) -> Any:
        """Run a remote function; return its ref, the list of its refs, or None for no returns.

        ``num_returns`` may be STREAMING or DYNAMIC: then ``ahead`` is how many items it may be ahead.
        """
        context = self._context
        arguments = self._encode(args, kwargs, function.name) if args or kwargs else NO_ARGUMENTS
        lock = self._lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if context.dead_reason:
                context.check_usable()
            returns = num_returns if num_returns >= 0 else 1
            try:
                task = self._new_task(function, "", arguments, returns, max_retries)
                task.retry = function.retry
                task.name = name
                task.route, task.pool = route, route.pool
                if num_returns < 0:
                    task.stream = self._streams.open(num_returns, ahead)
                if arguments.plain or self._can_send(task):
                    route.ready(task)
            except MemoryError as error:
                ran_out(context, error)
                raise
        finally:
            if state.wanted:
                resume()
            lock.release()
        return self._refs_of(task, num_returns)

    def _refs_of(self, task: TaskRecord, num_returns: int) -> Any:
        """Return the result of ``.remote()``; have queued messages sent."""
        reactor, home = self._reactor, self._home
        if reactor.dirty and reactor.polling:
            reactor.request_flush()
        if num_returns == 1 or num_returns == DYNAMIC:
            made: Any = make_ref(task.returns[0], home)
        elif num_returns == STREAMING:
            try:
                made = ObjectRefGenerator(self._streams, task, make_ref(task.returns[0], home))
            except MemoryError:
                self._garbage.dead_streams.append(task)
                raise
        else:
            made = make_refs(task.returns, home) or None
        if reactor.interrupted:
            self._check_interrupt()  # not before the refs exist
        return made

    def submit_call(
        self,
        client: ActorClient,
        handle: ObjectRef[Any] | None,
        method: str,
        label: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        num_returns: int,
        max_retries: int,
        group: str | None,
        ahead: int = 0,
        retry: bytes | None = None,
        hidden: bool = False,
        name: str | None = None,
    ) -> Any:
        """Call an actor's method; return like ``submit_task``."""
        context = self._context
        arguments = self._encode(args, kwargs, label) if args or kwargs else NO_ARGUMENTS
        lock = self._lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if context.dead_reason:
                context.check_usable()
            if 0 <= client.max_pending <= len(client.queue) + len(client.inflight):
                raise errors.PendingCallsLimitExceeded(
                    f"The task {label} could not be submitted to the actor: {client.max_pending} calls "
                    "from this process are unfinished. This limit can be adjusted with the "
                    "`max_pending_calls` actor option; or wait for some of them"
                )
            returns = num_returns if num_returns >= 0 else 1
            try:
                task = self._new_task(None, method, arguments, returns, max_retries)
                task.route, task.actor = client.route, client
                if num_returns < 0:
                    task.stream = self._streams.open(num_returns, ahead)
                if group is not None:
                    task.group = group
                if retry is not None:
                    task.retry = retry
                if hidden:
                    task.hidden = True
                if name is not None:
                    task.name = name
                if not arguments.plain:
                    self._can_send(task)
                if task.unresolved >= 0:
                    # Unfinished calls keep the actor alive even if every handle is gone.
                    client.keep = handle
                    self._actors.submit(task, client)
            except MemoryError as error:
                ran_out(context, error)
                raise
        finally:
            if state.wanted:
                resume()
            lock.release()
        connection = client.connection
        if connection is not None and len(connection.out) > HIGH_WATER_BYTES:
            self._wait_for_room(connection)
        return self._refs_of(task, num_returns)

    def _wait_for_room(self, connection: Connection) -> None:
        """Wait until a peer that reads more slowly than this thread submits has caught up."""
        waiter = Waiter()

        def look() -> None:
            if connection.closed or connection.queued_bytes < HIGH_WATER_BYTES // 2:
                waiter.notify()
            else:
                self._reactor.call_later(0.005, look)

        with self._context.locked:
            connection.flush()
            look()
        self._reactor.wait(waiter)
