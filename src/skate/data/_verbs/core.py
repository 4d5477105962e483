"""The base of all verbs of a Dataset: a plan, settings, a name, and facts that were found out."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._plan.logical import Blocks, Node
from skate.data._task.slices import BlockSlice
from skate.data._verbs import facts, running
from skate.data.context import DataContext

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class LastRun:
    """The figures and failed rows of an execution.

    Attributes:
        stats: its figures; they grow while it runs. None: nothing ran, an earlier program did it all.
        letters: the rows that failed.
    """

    stats: Any
    letters: list[Any]


class Core:
    """The state of a Dataset. It never changes, but for its name and what is remembered of its executions.

    Args:
        plan: what makes the rows.
        context: the settings of its executions.
        name: a name that the user gave.
    """

    def __init__(self, plan: Node, context: DataContext, name: str | None = None) -> None:
        self._plan = plan
        self._context = context
        self._name = name
        self._uuid = uuid.uuid4().hex
        # Facts that executions found out; a pickled copy does without.
        self._known: dict[str, Any] = {}
        self._last: LastRun | None = None
        self._running: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": {}, "_last": None, "_running": None}

    # ------------------------------------------------------------------ data sets from this one

    def _over(self, plan: Node) -> Self:
        """Return the Dataset of a plan that stands on this one's."""
        return self._dataset_class()(plan, self._context)  # type: ignore[return-value]

    def _held(self, slices: Sequence[BlockSlice], schema: pa.Schema | None, label: str = "Blocks") -> Any:
        """Return a MaterializedDataset of blocks that are there."""
        made = self._materialized_class()(Blocks(tuple(slices), schema, label), self._context, self._name)
        made._last = self._last
        return made

    @staticmethod
    def _dataset_class() -> type[Core]:
        """Return Dataset; ``dataset`` sets it, as the mixins stand below it."""
        raise NotImplementedError

    @staticmethod
    def _materialized_class() -> type[Core]:
        """Return MaterializedDataset."""
        raise NotImplementedError

    # ------------------------------------------------------------------ executions

    def _watch(self, execution: Any) -> None:
        """Keep what an execution tells of itself; called when it begins, and with None when it has ended."""
        self._running = execution
        if execution is not None:
            self._last = LastRun(execution.stats, execution.letters)

    def _recall(self, letters: list[Any]) -> None:
        """Take over the failed rows of a write that an earlier program completed."""
        self._last = LastRun(None if self._last is None else self._last.stats, letters)

    def _tables(self, plan: Node | None = None) -> Generator[pa.Table, None, None]:
        """Run this Dataset, or another plan in its place, and yield blocks; closing it stops the run."""
        return running.tables(self._plan if plan is None else plan, self._context, self._watch)

    def _slices(self, plan: Node | None = None) -> list[BlockSlice]:
        """Run this Dataset, or another plan in its place, and return its slices."""
        return running.slices(self._plan if plan is None else plan, self._context, self._watch)

    def _once(self, key: str, find: Callable[[], Any]) -> Any:
        """Return a fact of this Dataset, found out at the first call."""
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]


def check_same_kind(verb: str, others: Sequence[Any]) -> None:
    """Raise TypeError for an argument that is no Dataset."""
    for other in others:
        if not isinstance(other, Core):
            raise TypeError(f"{verb}() takes data sets, got a {type(other).__name__}: {other!r:.80}")


def check_columns(
    dataset: Core, verb: str, names: Sequence[Any], error: type[Exception] = ValueError
) -> None:
    """Raise an error for columns that are not there, if the columns are known without running.

    Args:
        dataset: the data set.
        verb: for the message.
        names: the columns wanted.
        error: ValueError or KeyError, as Ray does.
    """
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{verb}() takes names of columns, got {name!r}")
    schema = facts.known_schema(dataset._plan)
    if schema is None:
        return
    missing = [name for name in names if name not in schema.names]
    if missing:
        raise error(
            f"{verb}(): there is no column {', '.join(map(repr, missing))}; the columns are "
            f"{list(schema.names)}"
        )
