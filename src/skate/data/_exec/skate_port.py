"""Tasks and replicas on skate, by its public API alone.

A task is a streaming generator. It yields, for each block, an item of facts; a small block travels inside
that item, a large one is the next item, which the driver passes on by reference and never fetches. The last
item is the report.
"""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from skate import api, cloudpickle, cluster
from skate.data._exec.commands import StartReplica, Submit
from skate.data._exec.port import (
    BlockMade,
    Event,
    NoCpusError,
    Port,
    ReplicaDied,
    ReplicaReady,
    TaskDone,
    TaskFailed,
    spec_of,
)
from skate.data._exec.skate_worker import INLINE_BYTES, Carried, ReplicaProcess, work_on
from skate.data._exec.stages import Kind, Stage
from skate.data._exec.warm import kill_quietly, session, warm
from skate.data._exec.work import Input, Output, Report, load
from skate.data._io.datasource import ReadTask
from skate.data._operators.unpicklable import unpicklable
from skate.data._task.slices import BlockMeta, BlockSlice
from skate.engine.refs import ObjectRef, ObjectRefGenerator
from skate.exceptions import RayTaskError
from skate.runtime_context import get_runtime_context

_logger = logging.getLogger("skate.data")

#: Operators up to this size, pickled, travel with each task; larger ones are fetched once by each process.
CARRIED_BYTES = 16 << 10
#: The fewest and most items that a task may be ahead of the driver: a large block is two of them.
LEAST_WINDOW, MOST_WINDOW = 2, 256
#: Items of one task that are read before those of another one.
_DRAINED_ITEMS = 64


@dataclass(slots=True)
class _Running:
    """A task under way: the generator of its items; what was said of the block that is the next item."""

    items: ObjectRefGenerator[Any]
    stage: int
    replica: int | None
    announced: Output | None = None
    schema: pa.Schema | None = None


@dataclass(slots=True)
class _Process:
    """A replica: its actor, the call that loads it until that has returned, and its method with a window.

    ``failures`` counts the constructors that raised.
    """

    handle: Any
    stage: int
    loading: ObjectRef[int] | None
    tasks: int = 0
    work: Any = None
    window: int = 0
    failures: int = 0


def _held_cpus() -> float:
    """Return the CPUs that the actor in which this runs keeps while it waits; 0 in a task or a driver."""
    context = get_runtime_context()
    if context.get_actor_id() is None:
        return 0.0
    return float(context.get_assigned_resources().get("CPU", 0.0))


class SkatePort(Port):
    """Runs tasks and replicas in processes of the session; starts one if there is none.

    Args:
        linger_s: seconds that replicas stay for another execution.
        load_retries: how often a replica whose class's constructor raises is started again; -1: always.
    """

    name = "skate"

    def __init__(self, linger_s: float = 0.0, load_retries: int = 0) -> None:
        self._linger_s = linger_s
        self._load_retries = load_retries
        self._stages: Sequence[Stage] = ()
        self._target_bytes = self._window_bytes = self._kept_bytes = 0
        self._folder = ""
        self._functions: dict[tuple[int, int], Any] = {}
        self._carried: dict[int, Carried] = {}
        self._running: dict[int, _Running] = {}
        self._held: set[int] = set()
        self._replicas: dict[int, _Process] = {}
        self._events: deque[Event] = deque()
        self._average: dict[int, float] = {}
        self._schemas: list[pa.Schema] = []
        self._put: dict[int, ObjectRef[pa.Table]] = {}

    def cpus(self) -> float:
        if not api.is_initialized():
            api.init()
        total = float(cluster.cluster_resources().get("CPU", 1.0))
        own = _held_cpus()
        if own >= total > 0:
            raise NoCpusError(
                f"this data set is run by an actor that holds all {total:g} CPUs of the session, so its "
                "tasks would wait for ever. Give the actor fewer CPUs (it holds none unless num_cpus says "
                "so), or run the data set in a task, which lends its CPUs while it waits"
            )
        return total - own

    def memory_bytes(self) -> int:
        return int(cluster.cluster_resources().get("object_store_memory", 1 << 30))

    def open(
        self, stages: Sequence[Stage], target_bytes: int, window_bytes: int, kept_bytes: int, folder: str
    ) -> None:
        self._stages = stages
        self._target_bytes = target_bytes
        self._window_bytes = window_bytes
        self._kept_bytes = kept_bytes
        self._folder = folder

    # ------------------------------------------------------------------------------------------ commands

    def submit(self, command: Submit) -> None:
        stage = self._stages[command.stage]
        arguments: list[Any] = []
        positions: dict[Any, int] = {}
        inputs = []
        for piece in command.bundle.slices:
            where = piece.block
            if isinstance(where, pa.Table) and piece.meta.size_bytes > INLINE_BYTES:
                where = self._shared_block(where)
            if isinstance(where, ObjectRef):
                at = positions.get(where)
                if at is None:
                    at = positions[where] = len(arguments)
                    arguments.append(where)
                where = at
            elif isinstance(where, pa.Table) and piece.num_rows < piece.meta.num_rows:
                where = load(where, piece.start, piece.stop)
                piece = BlockSlice.whole(where, replace(piece.meta, num_rows=where.num_rows))
            inputs.append(Input(where, piece.start, piece.stop))
        folder = self._folder if command.to_file else None
        read: ReadTask | int | None = None
        if stage.kind is Kind.SOURCE:
            # Given tasks may be closures, which are dear to pickle: they went with the operators.
            number = command.bundle.params
            read = number if stage.read_tasks.is_given else stage.read_tasks[number]
        merges = not stage.is_repeatable
        spec = spec_of(command, stage, inputs, read, self._target_bytes, merges, folder, self._kept_bytes)
        window = self._window(command.stage)
        if command.replica is not None:
            process = self._replicas.get(command.replica)
            if process is None:  # it died, and the scheduler has not heard of it yet
                error = RuntimeError(f"a replica of {stage.name} died before its task began")
                self._events.append(TaskFailed(command.task, error, is_crash=True))
                return
            process.tasks += 1
            if process.window != window:
                process.window = window
                process.work = process.handle.work.options(
                    num_returns="streaming", name=stage.name, _generator_backpressure_num_objects=window
                )
            items = process.work.remote(spec, *arguments)
        else:
            function = self._function(command.stage, window)
            items = function.remote(self._carry(command.stage), spec, *arguments)
        self._running[command.task] = _Running(items, command.stage, command.replica)

    def _shared_block(self, block: pa.Table) -> ObjectRef[pa.Table]:
        """Put a block of the driver's into shared memory, once, however many tasks get slices of it."""
        ref = self._put.get(id(block))
        if ref is None:
            ref = self._put[id(block)] = api.put(block)
            weakref.finalize(block, self._put.pop, id(block), None)
        return ref

    def _function(self, index: int, window: int) -> Any:
        found = self._functions.get((index, window))
        if found is None:
            stage = self._stages[index]
            options = {"num_returns": "streaming", "max_retries": 0, "name": stage.name, **stage.options}
            options["_generator_backpressure_num_objects"] = window
            found = self._functions[index, window] = api.remote(**options)(work_on)
        return found

    def _carry(self, index: int) -> Carried:
        found = self._carried.get(index)
        if found is None:
            stage = self._stages[index]
            given = list(stage.read_tasks) if stage.read_tasks.is_given else []
            try:
                pickled = cloudpickle.dumps((stage.operators, given))
            except (Exception, SystemExit) as error:
                raise unpicklable(stage.name, stage.operators, given, error) from error
            key = hashlib.blake2b(pickled, digest_size=16).hexdigest()
            carried = pickled if len(pickled) <= CARRIED_BYTES else [api.put(pickled)]
            found = self._carried[index] = Carried(key, carried)
        return found

    def _window(self, index: int) -> int:
        average = self._average.get(index)
        if average is None:
            return LEAST_WINDOW
        items = min(MOST_WINDOW, max(LEAST_WINDOW, int(2 * self._window_bytes / max(1.0, average))))
        return int(1 << (items.bit_length() - 1))  # few different ones

    def start_replica(self, command: StartReplica) -> None:
        handle = warm.take(self._warm_key(command.stage)) or self._new_process(command.stage)
        self._replicas[command.replica] = _Process(handle, command.stage, handle.load.remote())

    def _new_process(self, index: int) -> Any:
        options = {"num_cpus": 0, **self._stages[index].options}
        return api.remote(**options)(ReplicaProcess).remote(self._carry(index))

    def _warm_key(self, index: int) -> tuple[Any, ...]:
        stage = self._stages[index]
        return stage.name, self._carry(index).key, repr(sorted(stage.options.items(), key=str)), session()

    def stop_replica(self, replica: int) -> None:
        process = self._replicas.pop(replica, None)
        if process is None:
            return
        stays = self._linger_s > 0 or warm.is_holding
        if stays and process.loading is None and not process.tasks:
            warm.keep(self._warm_key(process.stage), process.handle, self._linger_s)
        else:
            kill_quietly(process.handle)

    def cancel(self, task: int) -> None:
        running = self._running.pop(task, None)
        self._held.discard(task)
        if running is None:
            return
        if running.replica is None:
            api.cancel(running.items)
        running.items.close()

    def hold(self, task: int) -> None:
        self._held.add(task)

    def release(self, task: int) -> None:
        self._held.discard(task)

    # ------------------------------------------------------------------------------------------ events

    def wait(self, timeout_s: float | None) -> list[Event]:
        while not self._events:
            tasks = {one.items: task for task, one in self._running.items() if task not in self._held}
            loading = {
                process.loading: replica
                for replica, process in self._replicas.items()
                if process.loading is not None
            }
            waitables: list[Any] = [*tasks, *loading]
            if not waitables:
                break
            ready, rest = api.wait(waitables, num_returns=1, timeout=timeout_s)
            if not ready:
                break
            if rest:
                ready += api.wait(rest, num_returns=len(rest), timeout=0)[0]
            for one in ready:
                if isinstance(one, ObjectRefGenerator):
                    self._read(tasks[one])  # the first half of a block makes no event yet
                else:
                    self._loaded(loading[one])
        events = list(self._events)
        self._events.clear()
        return events

    def _loaded(self, replica: int) -> None:
        process = self._replicas[replica]
        assert process.loading is not None
        try:
            resident_bytes = api.get(process.loading)
        except Exception as error:
            is_crash = not isinstance(error, RayTaskError)
            kill_quietly(process.handle)
            if not is_crash and process.failures != self._load_retries:
                process.failures += 1
                _logger.warning(
                    "%s: %s; a new replica tries again (%d of %s)",
                    self._stages[process.stage].name,
                    str(getattr(error, "cause", None) or error).partition("\n")[0],
                    process.failures,
                    "any number" if self._load_retries < 0 else self._load_retries,
                )
                process.handle = self._new_process(process.stage)
                process.loading = process.handle.load.remote()
                return
            del self._replicas[replica]
            self._events.append(ReplicaDied(replica, error, is_crash))
        else:
            process.loading = None
            self._events.append(ReplicaReady(replica, resident_bytes))

    def _read(self, task: int) -> None:
        running = self._running[task]
        for _ in range(_DRAINED_ITEMS):
            try:
                ref = next(running.items)
                if running.announced is not None:
                    # Large blocks are passed on by reference; only an error is the last item of a task.
                    if running.items.is_finished():
                        api.get(ref)
                    output, running.announced = running.announced, None
                    self._made(task, running, output, ref)
                else:
                    item = api.get(ref)
                    if isinstance(item, Report):
                        self._ended(task)
                        self._events.append(TaskDone(task, item))
                        return
                    if item.block is None:
                        running.announced = item
                    else:
                        self._made(task, running, item, item.block)
            except StopIteration:
                self._broken(
                    task, RuntimeError("a task of skate.data ended without its report"), is_crash=True
                )
                return
            except Exception as error:
                self._broken(task, error, is_crash=not isinstance(error, RayTaskError))
                return
            if not running.items.next_ready():
                return

    def _made(self, task: int, running: _Running, output: Output, block: Any) -> None:
        meta = output.meta
        if meta.schema is None:
            meta = replace(meta, schema=running.schema)
        else:
            meta = replace(meta, schema=self._shared_schema(meta))
            running.schema = meta.schema
        average = self._average.get(running.stage)
        size = float(meta.size_bytes)
        self._average[running.stage] = size if average is None else average * 0.8 + size * 0.2
        piece = BlockSlice.whole(block, meta)
        self._events.append(BlockMade(task, piece, output.letters, output.peak_bytes, output.so_far))

    def _shared_schema(self, meta: BlockMeta) -> pa.Schema:
        for schema in self._schemas:
            if schema == meta.schema:
                return schema
        self._schemas = [meta.schema, *self._schemas[:15]]
        return meta.schema

    def _broken(self, task: int, error: BaseException, is_crash: bool) -> None:
        replica = self._running[task].replica
        self._ended(task)
        if is_crash and replica is not None and (process := self._replicas.pop(replica, None)):
            kill_quietly(process.handle)
            self._events.append(ReplicaDied(replica, error, is_crash=True))
        self._events.append(TaskFailed(task, error, is_crash))

    def _ended(self, task: int) -> None:
        running = self._running.pop(task)
        self._held.discard(task)
        if running.replica is not None and (process := self._replicas.get(running.replica)):
            process.tasks -= 1

    # ------------------------------------------------------------------------------------------ blocks

    def fetch(self, piece: BlockSlice) -> pa.Table:
        block = api.get(piece.block) if isinstance(piece.block, ObjectRef) else piece.block
        return load(block, piece.start, piece.stop)

    def put(self, block: pa.Table) -> Any:
        return api.put(block)

    def close(self) -> None:
        for task in list(self._running):
            self.cancel(task)
        for replica in list(self._replicas):
            self.stop_replica(replica)
        self._events.clear()
