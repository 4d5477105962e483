"""Datasources: where rows come from. The public protocol of ``ray.data.Datasource``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class BlockMetadata:
    """Facts of a block, known or expected; the public class of ``ray.data.block``.

    Attributes:
        num_rows: rows; None: not known before it is read.
        size_bytes: bytes in memory; None: not known.
        input_files: files that it comes from.
        exec_stats: always None.
    """

    num_rows: int | None = None
    size_bytes: int | None = None
    input_files: list[str] | None = None
    exec_stats: Any = None


class ReadTask:
    """A part of a datasource that one task reads.

    Args:
        read_fn: returns the blocks: tables, data frames, or dicts of columns.
        metadata: what is expected.
        schema: of the blocks, if known.
        per_task_row_limit: rows after which reading may stop.
        name: names the part in errors and row ids, the same in every run: ``"photos/1.png+62"``. None: its
            number.
    """

    def __init__(
        self,
        read_fn: Callable[[], Iterable[Any]],
        metadata: BlockMetadata | None = None,
        schema: pa.Schema | None = None,
        per_task_row_limit: int | None = None,
        name: str | None = None,
    ) -> None:
        self._read_fn = read_fn
        self.metadata = metadata or BlockMetadata()
        self.schema = schema
        self.per_task_row_limit = per_task_row_limit
        self.name = name

    @property
    def read_fn(self) -> Callable[[], Iterable[Any]]:
        """The function that reads."""
        return self._read_fn

    def __call__(self) -> Iterable[Any]:
        return self._read_fn()


#: Stands for tasks that have ended.
_DONE = ReadTask(list, name="done")


class ReadTasks(Sequence[ReadTask]):
    """The read tasks of a source, made as they are needed: a listing goes on while rows are read.

    Args:
        tasks: makes them, in order.

    Attributes:
        is_complete: all of them are made.
        is_given: they were made before: a list.
    """

    def __init__(self, tasks: Iterable[ReadTask]) -> None:
        self.is_given = self.is_complete = isinstance(tasks, list)
        self._made: list[ReadTask] = tasks if isinstance(tasks, list) else []
        self._rest: Iterator[ReadTask] = iter(()) if self.is_given else iter(tasks)

    def make(self, count: int) -> None:
        """Make tasks until there are ``count``, or no more."""
        while len(self._made) < count and not self.is_complete:
            task = next(self._rest, None)
            if task is None:
                self.is_complete = True
            else:
                self._made.append(task)

    def forget(self, number: int) -> None:
        """Drop a task that has ended, unless all were given: those of a long listing take much memory."""
        if not self.is_given:
            self._made[number] = _DONE

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, number: int) -> ReadTask: ...
    @overload
    def __getitem__(self, number: slice) -> list[ReadTask]: ...
    def __getitem__(self, number: int | slice) -> ReadTask | list[ReadTask]:
        return self._made[number]


@dataclass(frozen=True)
class SourceHints:
    """Facts that the rules of the plan know about a read, and a datasource may use.

    Attributes:
        columns: columns that are needed; None: all.
        predicate: an expression (``skate.data.expressions``) that rows must fulfil; None: none.
        limit: rows that are enough; None: all.
        is_recorded: each part is recorded when its rows are written. A run that goes on after a kill
            reads the others again, so parts should be small.
    """

    columns: tuple[str, ...] | None = None
    predicate: Any = None
    limit: int | None = None
    is_recorded: bool = False


class Datasource:
    """Where rows come from. Subclass it and give it to ``read_datasource``.

    Example:
        >>> class Numbers(Datasource):
        ...     def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
        ...         return [ReadTask(lambda: [{"n": [1, 2]}], BlockMetadata(num_rows=2))]
        ...     def estimate_inmemory_data_size(self):
        ...         return None
    """

    #: Findings of the plan's rules (projection, predicate, limit); ``with_hints`` sets them on a copy.
    hints: SourceHints = SourceHints()
    #: Hints of these kinds are honoured exactly: "columns", "predicate", "limit".
    supports: frozenset[str] = frozenset()
    #: Reading decodes (pictures, documents, sound): it takes far more time than its bytes say.
    is_decoding: bool = False

    def get_name(self) -> str:
        """Return a name for people: ``"Parquet"``."""
        return type(self).__name__.removesuffix("Datasource")

    def estimate_inmemory_data_size(self) -> int | None:
        """Return the bytes of all rows in memory, or None."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return the parts, in order; about ``parallelism`` of them, or as many as fit (-1)."""
        raise NotImplementedError(f"{type(self).__name__} must define get_read_tasks")

    def schema(self) -> pa.Schema | None:
        """Return the schema if it is known without reading rows (of columns in ``hints`` alone), else
        None.
        """
        return None

    def num_rows(self) -> int | None:
        """Return the number of rows if it is known without reading rows, else None."""
        return None

    def input_files(self) -> list[str]:
        """Return the files that are read."""
        return []

    def fingerprint(self) -> Any:
        """Return plain data that changes when what is read changes: for resuming writes."""
        return self.get_name()

    def with_hints(self, hints: SourceHints) -> Datasource:
        """Return a copy with hints."""
        from copy import copy

        made = copy(self)
        made.hints = hints
        return made

    @property
    def should_create_reader(self) -> bool:
        """Always False: readers of old Ray versions are not used."""
        return False
