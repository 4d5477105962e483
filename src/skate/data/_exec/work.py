"""The work of a task: read or fetch its input, run its stage's operators over it, cut and report what they
make.

Runs in the caller's process (``local_port``) or in a worker (``skate_port``); it is the same code.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from skate.data._block.batches import from_batch
from skate.data._block.builder import BlockBuilder
from skate.data._block.objects import pickled_columns, restore
from skate.data._block.sources import sources
from skate.data._block.tables import concat, copied, size_bytes, slice_rows
from skate.data._exec.resident import Resident
from skate.data._io.datasource import ReadTask
from skate.data._task.operators import Letter, Made, Operator, Replica, TaskContext
from skate.data._task.slices import BlockMeta

#: Blocks of a task that are smaller than this are put together, as long as that does not delay them.
MIN_BLOCK_BYTES = 1 << 20
#: Seconds for which a small block may wait for another one of its task.
MAX_DELAY_S = 0.05
#: A task looks at its memory before blocks of at least this size, and at its end.
MEASURED_BYTES = 64 << 10
#: Seconds of a task below which it is not worth asking the system how long it waited for a CPU.
_LEAST_QUEUED_S = 0.005


@dataclass(frozen=True, slots=True)
class FilePart:
    """A block that lies in a file.

    Attributes:
        path: an Arrow IPC file.
    """

    path: str

    def load(self) -> pa.Table:
        """Return the block; its columns are views of the mapped file."""
        with pa.memory_map(self.path) as source:
            return restore(pa.ipc.open_file(source).read_all())


class Input(NamedTuple):
    """One slice of a task's input.

    Attributes:
        block: a table, a FilePart, or the position of an argument that holds the block.
        start, stop: the rows.
    """

    block: Any
    start: int
    stop: int


class TaskSpec(NamedTuple):
    """A task as its process gets it.

    Attributes:
        name: its name, the same in every run of a plan.
        number: of the task among those of its stage, the same when it runs again.
        inputs: slices of blocks; empty for a read.
        read: what is read, or its number among the stage's read tasks, or None.
        params: ``Bundle.params``.
        skip_rows: rows of output to leave out.
        folder: where to put output as files, or None.
        target_bytes: size at which output is cut.
        merges_small: small blocks of output are put together.
        on_conflict: what ``concat`` does where the types of blocks differ.
        is_isolated: calls of users' functions, and the reading of files, go to processes of their own.
        kept_bytes: memory that the process may keep for its next task.
    """

    name: str
    inputs: tuple[Input, ...] = ()
    read: ReadTask | int | None = None
    params: Any = None
    skip_rows: int = 0
    folder: str | None = None
    target_bytes: int = 128 << 20
    merges_small: bool = True
    number: int | None = None
    on_conflict: str = "error"
    is_isolated: bool = False
    kept_bytes: int = 0


@dataclass(slots=True)
class Report:
    """Facts that a task tells the driver when it ends, and, in part, with each block.

    Attributes:
        rows_in: rows of its input so far.
        spent_s: seconds by name; "total": all of the task's time in its process, "paused": the part of it in
            which its output was handed on or waited for somebody to take it; "moved": the part of that in
            which the process worked; "cpu": of CPU, without those while it was paused; "queued": in which it
            could have run, and others had the CPUs.
        counts: counters by name.
        letters: rows that failed since the last report.
        peak_bytes: memory of its own that its process had at most, beyond what it has without tasks.
        pid: its process.
        began, ended: readings of the clock, which all processes of a machine share; None: not known.
    """

    rows_in: int = 0
    spent_s: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    peak_bytes: int = 0
    pid: int = 0
    began: float | None = None
    ended: float | None = None


class Output(NamedTuple):
    """A block of a task's output.

    Attributes:
        meta: its facts.
        block: a table or a FilePart.
        letters: rows that failed since the last output.
        peak_bytes: ``Report.peak_bytes`` so far.
        so_far: rows and seconds of the task up to here, for a task that is cancelled.
    """

    meta: BlockMeta
    block: Any
    letters: list[Letter]
    peak_bytes: int = 0
    so_far: Report | None = None


def run_task(
    operators: Sequence[Operator],
    spec: TaskSpec,
    arguments: Sequence[pa.Table],
    replica: Replica,
    clock: Callable[[], float] = time.perf_counter,
    resident: Resident | None = None,
) -> Iterator[Output | Report]:
    """Run one task.

    Args:
        operators: of its stage.
        spec: the task.
        arguments: the blocks that ``spec.inputs`` refer to by position.
        replica: what outlives the task.
        clock: seconds, for the times in the report.
        resident: measures the memory of this process, and has begun; None: it does more than run this task.

    Returns:
        Its output, block by block, and at last a report.
    """
    task = TaskContext(
        task_id=spec.name,
        params=spec.params,
        slices=len(spec.inputs),
        target_max_block_bytes=spec.target_bytes,
        on_conflict=spec.on_conflict,
        number=spec.number,
        replica=replica,
    )
    if spec.is_isolated:
        task.counts["isolated tasks"] = 1
    began = clock()
    began_cpu = time.process_time()
    _queue.begin()
    report = Report(pid=os.getpid(), began=began)
    assert not isinstance(spec.read, int)
    source = _read(spec.read, task, clock) if spec.read is not None else _fetch(spec.inputs, arguments)
    watch = _Stopwatch(clock)
    made: Iterator[pa.Table | Made] = _counted(source, report, task, clock)
    for operator in operators:
        made = operator.process(watch.timed(made, None), task)
        made = watch.timed(made, None if operator.times_itself else "run")
    number = 0
    skip = spec.skip_rows
    for block, extra in _cut(made, spec, clock):
        if skip:
            if block.num_rows <= skip:
                skip -= block.num_rows
                continue
            block, skip = slice_rows(block, skip, block.num_rows), 0
        letters, task.letters = task.letters, []
        output = _output(block, extra, letters, spec, number, task.counts)
        if resident is not None and output.meta.size_bytes >= MEASURED_BYTES:
            report.peak_bytes = max(report.peak_bytes, resident.peak())
            output = output._replace(peak_bytes=report.peak_bytes)
        number += 1
        paused, paused_cpu = clock(), time.process_time()
        spent = {
            **task.spent_s,
            "total": paused - began,
            "cpu": paused_cpu - began_cpu - task.spent_s.get("moved", 0.0),
            "run": task.spent_s.get("run", 0.0) + watch.seconds["run"],
        }
        so_far = Report(report.rows_in, spent, pid=report.pid, began=began, ended=paused)
        output = output._replace(so_far=so_far)
        yield output
        del output, block  # while the next one is made
        task.spend("paused", clock() - paused)
        task.spend("moved", time.process_time() - paused_cpu)
    task.spend("run", watch.seconds["run"])
    report.ended = clock()
    task.spend("total", report.ended - began)
    task.spend("cpu", time.process_time() - began_cpu - task.spent_s.get("moved", 0.0))
    if report.ended - began > _LEAST_QUEUED_S:
        idle_s = report.ended - began - task.spent_s.get("paused", 0.0) - task.spent_s["cpu"]
        task.spend("queued", max(0.0, min(idle_s, _queue.since_last())))
    report.spent_s = task.spent_s
    report.counts = task.counts
    report.letters = task.letters
    if resident is not None:
        report.peak_bytes = max(report.peak_bytes, resident.peak())
    yield report


class _Queue(threading.local):
    """How long a thread waited for a CPU: the machine may have other work."""

    last_s: float | None = None

    def begin(self) -> None:
        """Note where the first task of a thread begins."""
        if self.last_s is None:
            self.last_s = _queued_s()

    def since_last(self) -> float:
        """Return the seconds since the last call, or since the first task."""
        before, self.last_s = self.last_s or 0.0, _queued_s()
        return self.last_s - before


def _queued_s() -> float:
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0  # this system does not tell


_queue = _Queue()


class _Stopwatch:
    """Tells the time of an operator from that of those whose blocks it takes.

    Attributes:
        seconds: by the name of what took them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._name: str | None = None
        self._since = clock()
        self.seconds: dict[str | None, float] = {None: 0.0, "run": 0.0}

    def _switch(self, name: str | None) -> str | None:
        now = self._clock()
        self.seconds[self._name] += now - self._since
        before, self._name, self._since = self._name, name, now
        return before

    def timed(self, blocks: Iterator[pa.Table | Made], name: str | None) -> Iterator[Any]:
        """Yield what another iterator does; its time counts under a name."""
        blocks = iter(blocks)
        while True:
            before = self._switch(name)
            try:
                block = next(blocks)
            except StopIteration:
                return
            finally:
                self._switch(before)
            yield block
            del block  # while the next one is made


def _output(
    block: pa.Table, extra: Any, letters: list[Letter], spec: TaskSpec, number: int, counts: dict[str, int]
) -> Output:
    files = tuple(dict.fromkeys(path for path, _ in sources(block)))
    size = size_bytes(block)
    for name, cells in pickled_columns(block).items():
        counts[f"pickled cells of {name}"] = counts.get(f"pickled cells of {name}", 0) + cells
    where: Any = block
    if spec.folder is not None and block.num_rows:
        path = os.path.join(spec.folder, f"{spec.name.replace(os.sep, '_')}-{number}.arrow")
        try:
            with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, block.schema) as writer:
                writer.write_table(block)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error} while rows of an exchange were put into files in {spec.folder}. Make room there, "
                "set TMPDIR to a folder on a larger disk, or raise DataContext.memory_limit_bytes",
            ) from error
        where = FilePart(path)
    meta = BlockMeta(block.num_rows, size, block.schema, files, extra, is_on_disk=where is not block)
    return Output(meta, where, letters)


def _fetch(inputs: Sequence[Input], arguments: Sequence[pa.Table]) -> Iterator[pa.Table]:
    for piece in inputs:
        block = arguments[piece.block] if isinstance(piece.block, int) else piece.block
        yield load(block, piece.start, piece.stop)


def load(block: Any, start: int, stop: int) -> pa.Table:
    """Return rows of a block, whether it is a table or in a file."""
    if not isinstance(block, FilePart):
        return block if stop - start == block.num_rows else slice_rows(block, start, stop)
    table = block.load()
    if stop - start == table.num_rows:
        return table
    # The system maps much around each page that is touched: a few rows of each of many files would take the
    # memory of all.
    return copied(slice_rows(table, start, stop))


def _read(read: ReadTask, task: TaskContext, clock: Callable[[], float]) -> Iterator[pa.Table]:
    function = read.read_fn
    method = getattr(function, "read", None)
    started = clock()
    made: Iterable[Any] = method(task) if method is not None else read()
    iterator = iter(made)
    rows = 0
    while True:
        try:
            block = next(iterator)
        except StopIteration:
            break
        if not isinstance(block, pa.Table):
            block = from_batch(block, "a read task")
        if read.per_task_row_limit is not None:
            block = slice_rows(block, 0, min(block.num_rows, read.per_task_row_limit - rows))
        rows += block.num_rows
        task.spend("read", clock() - started)
        yield block
        if read.per_task_row_limit is not None and rows >= read.per_task_row_limit:
            return
        started = clock()
    task.spend("read", clock() - started)


def _counted(
    blocks: Iterator[pa.Table], report: Report, task: TaskContext, clock: Callable[[], float]
) -> Iterator[pa.Table]:
    for block in blocks:
        report.rows_in += block.num_rows
        yield block


def _cut(
    made: Iterator[pa.Table | Made], spec: TaskSpec, clock: Callable[[], float]
) -> Iterator[tuple[pa.Table, Any]]:
    """Cut blocks that are too large, and put small ones together unless that delays them."""
    small: list[pa.Table] = []
    small_bytes = 0
    since = 0.0
    for one in made:
        if isinstance(one, Made):
            if small:
                yield _together(small), None
                small, small_bytes = [], 0
            yield one.block, one.extra
            continue
        size = size_bytes(one)
        if size > spec.target_bytes + spec.target_bytes // 2:
            if small:
                yield _together(small), None
                small, small_bytes = [], 0
            builder = BlockBuilder(spec.target_bytes)
            builder.add_block(one)
            for block in builder.finish():
                yield block, None
            continue
        if not spec.merges_small:
            yield one, None
            continue
        if not small:
            since = clock()
        small.append(one)
        small_bytes += size
        if small_bytes >= min(MIN_BLOCK_BYTES, spec.target_bytes) or clock() - since > MAX_DELAY_S:
            yield _together(small), None
            small, small_bytes = [], 0
    if small:
        yield _together(small), None


def _together(blocks: Sequence[pa.Table]) -> pa.Table:
    """Return one block of several; where their types have none in common, a column holds what it is given."""
    return concat(blocks, on_conflict="object")
