"""The operations of a data set as one callable, for rows that come one by one: behind HTTP, in a notebook.

The operators are those that tasks run, so what a model is given online is what it was given offline.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from skate.data._block.batches import from_batch, to_batch
from skate.data._block.rows import from_rows, iter_rows
from skate.data._block.tables import concat
from skate.data._task.operators import Letter, Operator, Replica, TaskContext, open_all
from skate.data.exceptions import for_caller


class RowPipeline:
    """The operations of a data set, for rows that come one by one; ``Dataset.as_callable`` makes it.

    Instances of classes are made once, by the first call or by ``load``. Calls are made one at a time, from
    any thread. It can be passed to tasks, actors and deployments; each process makes instances of its own.

    Args:
        operators: what is done, in order.
        names: of the operations, for people.

    Example:
        >>> score = images.map(prepare).map_batches(Classifier).as_callable()
        >>> score({"image": pixels})["label"]
        'cat'
    """

    def __init__(self, operators: Sequence[Operator], names: Sequence[str]) -> None:
        self._operators = tuple(operators)
        self._names = tuple(names)
        self._replica: Replica | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"RowPipeline({' -> '.join(self._names)})"

    def __getstate__(self) -> dict[str, Any]:
        return {"_operators": self._operators, "_names": self._names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _replica=None, _lock=threading.Lock())

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what becomes of one row; None if a filter left it out.

        Args:
            row: the columns that the data set's source has.

        Raises:
            ValueError: it became several rows; use ``rows``.
            Exception: what a function raised, whatever its ``on_error``.
        """
        made, letters = self._run(from_rows([row]))
        if letters:
            raise for_caller(letters[0].error)
        if made.num_rows > 1:
            raise ValueError(
                f"one row became {made.num_rows} rows in {self!r}: call .rows([row]), which returns a list"
            )
        return next(iter_rows(made), None)

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return what becomes of some rows, in order. Batches are made of them as in a run.

        Args:
            rows: dicts from column to value.

        Raises:
            Exception: what a function raised. Rows that fail are left out if its ``on_error`` is ``"skip"``
                or ``"dead_letter"``.

        Example:
            >>> score.rows([{"image": one}, {"image": other}])
            [{'label': 'cat'}, {'label': 'dog'}]
        """
        given = list(rows)
        return list(iter_rows(self._run(from_rows(given))[0])) if given else []

    def batch(self, batch: Any, batch_format: str | None = "numpy") -> Any:
        """Return what becomes of a batch.

        Args:
            batch: a dict of arrays, a data frame, or a table.
            batch_format: of the result: ``"numpy"``, ``"pandas"``, ``"pyarrow"``.

        Raises:
            Exception: as ``rows`` raises.

        Example:
            >>> score.batch({"image": pixels_of_many})["label"]
            array(['cat', 'dog'], dtype=object)
        """
        return to_batch(self._run(from_batch(batch, "batch"))[0], batch_format, writable=True)

    def since(self, operation: str) -> RowPipeline:
        """Return the operations from one on: to run a row that failed there again, under a debugger.

        Args:
            operation: its name, as errors and letters have it: ``"Map(parse)"``.

        Raises:
            ValueError: there is no such operation.

        Example:
            >>> letter = parsed.dead_letters().take(1)[0]
            >>> parsed.as_callable().since(letter["stage"])(letter["row"])  # raises here what failed there
        """
        if operation not in self._names:
            raise ValueError(f"there is no operation {operation!r}; they are {list(self._names)}")
        first = self._names.index(operation)
        return RowPipeline(self._operators[first:], self._names[first:])

    def load(self) -> None:
        """Make the instances of classes now instead of in the first call.

        Raises:
            Exception: a constructor raised.
        """
        with self._lock:
            self._loaded()

    def _loaded(self) -> Replica:
        if self._replica is None:
            self._replica = open_all(self._operators, Replica())
        return self._replica

    def _run(self, block: pa.Table) -> tuple[pa.Table, list[Letter]]:
        with self._lock:
            task = TaskContext("", slices=1, replica=self._loaded())
            blocks: Any = iter([block])
            for operator in self._operators:
                blocks = operator.process(blocks, task)
            try:
                made = list(blocks)
            except Exception as error:
                raise for_caller(error) from error.__cause__
            return concat(made, task.on_conflict) if made else pa.table({}), task.letters
