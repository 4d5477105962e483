"""Runs tasks and replicas of ``skate_port`` in the workers of a session."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from skate import api, cloudpickle
from skate.data._block.tables import compact
from skate.data._exec.resident import resident
from skate.data._exec.work import Report, TaskSpec, run_task
from skate.data._io.datasource import ReadTask
from skate.data._operators.isolation import FreshProcesses
from skate.data._task.operators import Letter, Operator, Replica, open_all
from skate.data.exceptions import DataError, describe
from skate.engine.refs import ObjectRef

#: Blocks up to this size travel inside their item, and live in the driver.
INLINE_BYTES = 64 << 10
#: Stages whose operators a process keeps.
_KEPT_STAGES = 16


@dataclass(frozen=True, slots=True)
class Carried:
    """The operators and read tasks of a stage, as a task gets them: pickled, or a ref to that in a list."""

    key: str
    pickled: bytes | list[ObjectRef[bytes]]


@dataclass(slots=True)
class _Loaded:
    """A stage in a process, opened."""

    operators: tuple[Operator, ...]
    read_tasks: Sequence[ReadTask]
    replica: Replica


_stages: OrderedDict[str, _Loaded] = OrderedDict()


def _loaded(carried: Carried) -> _Loaded:
    """Return a stage as this process has it; the first call opens it."""
    found = _stages.get(carried.key)
    if found is None:
        found = _stages[carried.key] = _opened(_pickled(carried), Replica())
        while len(_stages) > _KEPT_STAGES:
            _stages.popitem(last=False)
    else:
        _stages.move_to_end(carried.key)
    return found


def _opened(pickled: bytes, replica: Replica) -> _Loaded:
    operators, read_tasks = cloudpickle.loads(pickled)
    return _Loaded(operators, read_tasks, open_all(operators, replica))


def _pickled(carried: Carried) -> bytes:
    return carried.pickled if isinstance(carried.pickled, bytes) else api.get(carried.pickled[0])


def work_on(carried: Carried, spec: TaskSpec, *arguments: pa.Table) -> Iterator[Any]:
    """Run one task. Yield for each block its facts, with a small block inside or a large one next; at last
    the report.
    """
    if spec.is_isolated:
        pickled = _pickled(carried)
        return _items(_opened(pickled, Replica(isolation=FreshProcesses(pickled))), spec, arguments)
    return _items(_loaded(carried), spec, arguments)


def _items(stage: _Loaded, spec: TaskSpec, arguments: Sequence[pa.Table]) -> Iterator[Any]:
    resident.begin(spec.kept_bytes)
    try:
        report = yield from _blocks(stage, spec, arguments)
    finally:
        del arguments
        resident.end()
    yield report


def _blocks(stage: _Loaded, spec: TaskSpec, arguments: Sequence[pa.Table]) -> Generator[Any, None, Report]:
    """Yield the items of a task but for its report, which is returned."""
    if isinstance(spec.read, int):
        spec = spec._replace(read=stage.read_tasks[spec.read])
    last: pa.Schema | None = None
    running: Any = run_task(stage.operators, spec, arguments, stage.replica, resident=resident)
    for made in running:
        made.letters[:] = [_portable(letter) for letter in made.letters]
        if isinstance(made, Report):
            running.close()
            return made
        meta, block = made.meta, made.block
        if last is not None and meta.schema == last:
            meta = replace(meta, schema=None)
        else:
            last = meta.schema
        if meta.is_on_disk:
            yield made._replace(meta=meta)
            continue
        block = _packed(block)
        if meta.size_bytes <= INLINE_BYTES:
            yield made._replace(meta=meta, block=block)
        else:
            yield made._replace(meta=meta, block=None)
            yield block
        del made, block  # while the next one is made
    raise AssertionError("a task ends with its report")


def _packed(block: pa.Table) -> pa.Table:
    """Return a block for the pickler: a slice would take all buffers of its parent along, once a chunk."""
    if any(column.num_chunks > 1 for column in block.columns):
        return block.combine_chunks()
    return compact(block)


def _portable(letter: Letter) -> Letter:
    """Return a letter that can be pickled: exceptions and rows of users may not be."""
    try:
        cloudpickle.dumps(letter)
    except Exception:
        letter.error = DataError(describe(letter.error))
        letter.row = None if letter.row is None else {name: repr(value) for name, value in letter.row.items()}
    return letter


class ReplicaProcess:
    """The actor of a replica."""

    def __init__(self, carried: Carried) -> None:
        self._carried = carried

    def load(self) -> int:
        """Make the instances of the user's classes. Return the bytes of memory of the process."""
        _loaded(self._carried)
        return resident.rebase()

    def work(self, spec: TaskSpec, *arguments: pa.Table) -> Iterator[Any]:
        """Run one task."""
        yield from work_on(self._carried, spec, *arguments)  # engines may ask for a function with ``yield``
