"""Common ground of the operators that call a user's function for each row.

Rows are dicts made for the call: a function may keep or change them. They are made, and turned into columns,
some at a time: as many as their bytes and the time that the function takes allow. So the first output comes
early, and a row may become ten thousand pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from skate.data._block.builder import weigh_row
from skate.data._block.rows import from_rows, iter_rows
from skate.data._operators.calls import (
    MAX_DELAY_S,
    Failure,
    FunctionOperator,
    Outputs,
    Run,
    fresh_row,
    pieces,
    with_runs,
)
from skate.data._operators.held import Held
from skate.data._task.operators import NotOfRow, TaskContext

if TYPE_CHECKING:  # asyncio is loaded when a function is async
    from skate.data._operators.async_calls import AsyncCall

#: Bytes, and number, of rows that are made columns together.
CHUNK_BYTES = 4 << 20
CHUNK_ROWS = 4096
#: Most rows that a function is called for, or makes, without a look at the clock and at the size of a row.
MOST_UNWATCHED = 128
#: Seconds that such calls should take together.
_UNWATCHED_S = 0.005
_DICTS = {dict}
#: Stands for the result of a row that failed.
FAILED: Any = object()


class Pace:
    """How many rows to call a function for until the next look at clock and sizes: one, then more."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows = 1

    def learn(self, seconds: float, row_bytes: int) -> None:
        """Take the time of the last calls, and the bytes of the last row, into account."""
        rows = self.rows * 2 if seconds < _UNWATCHED_S else self.rows // 2
        self.rows = max(1, min(rows, MOST_UNWATCHED, CHUNK_BYTES // 4 // max(1, row_bytes)))


class RowOperator(FunctionOperator):
    """Base of the operators over rows."""

    unit_rows = 1

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        run = Run(self, task)
        try:
            if run.is_async:
                yield from self._process_async(run, blocks)
            else:
                yield from self._process(run, blocks)
        except NotOfRow as passing:
            raise passing.error from passing.error.__cause__
        finally:
            run.close()

    def _process(self, run: Run, blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        outputs = Outputs(run.task)
        pace = Pace()
        for block in run.blocks(blocks):
            if run.waited_s > MAX_DELAY_S / 5:
                yield from outputs.flush()
            for start, piece in pieces(block):
                for made in self._made(run, piece, run.row_base + start, pace):
                    yield from outputs.add(made)
        yield from outputs.flush()

    def _made(self, run: Run, piece: pa.Table, base: int, pace: Pace) -> Iterator[pa.Table]:
        """Yield what the function makes of the rows of a piece, whose first row has the number ``base``."""
        raise NotImplementedError

    def _process_async(self, run: Run, blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        raise NotImplementedError

    def _checked(self, result: Any) -> Any:
        """Return what a call made, as rows or a truth value.

        Raises:
            ValueError: it is something else.
        """
        raise NotImplementedError

    def checked_items(self, items: Iterable[Any]) -> list[dict[str, Any]]:
        """Return rows that a call made as dicts.

        Raises:
            ValueError: one is something else.
        """
        checked = list(items)
        if set(map(type, checked)) <= _DICTS:
            return checked
        for item in checked:
            if not isinstance(item, Mapping):
                raise ValueError(
                    wrong_return("flat_map", self.function.name, item, "a list of dicts", "a list with")
                )
        return [dict(item) for item in checked]

    def _again(self, run: Run, piece: pa.Table, index: int, base: int, error: BaseException) -> Any:
        """Try a row that failed again; write its letter, and return ``FAILED``, if it fails for good."""
        result, failure = run.retried(error, lambda: self._checked(run.call(fresh_row(piece, index))))
        if failure is None:
            return result
        run.fail(failure, piece, index, base)
        return FAILED

    def table(
        self, run: Run, rows: list[Any], origins: list[int], piece: pa.Table, base: int
    ) -> pa.Table | None:
        """Return rows as a table; ``origins``: for each, the index of the piece's row that it was made of."""
        begun = time.perf_counter()
        try:
            made = from_rows(rows)
        except (Exception, RecursionError) as error:
            bad = self._bad_origins(run, rows, origins, piece, base, error)
            kept = [(row, origin) for row, origin in zip(rows, origins, strict=True) if origin not in bad]
            rows, origins = [row for row, _ in kept], [origin for _, origin in kept]
            made = from_rows(rows)
        run.task.spend("convert", time.perf_counter() - begun)
        if not rows:
            return None
        first = origins[0]
        counts = [0] * (origins[-1] - first + 1)
        for origin in origins:
            counts[origin - first] += 1
        return with_runs(made, piece, counts, first)

    def _bad_origins(
        self, run: Run, rows: list[Any], origins: list[int], piece: pa.Table, base: int, error: BaseException
    ) -> set[int]:
        """Write letters for rows of which the function made something that no column can hold."""
        bad: set[int] = set()
        for row, origin in zip(rows, origins, strict=True):
            if origin in bad:
                continue
            try:
                from_rows(self.checked_items([row]))
            except (Exception, RecursionError) as raised:
                run.fail(Failure(raised), piece, origin, base)
                bad.add(origin)
        if not bad:
            raise error
        return bad


class Gathered:
    """Rows that wait to become a table, each with the index of the row that it was made of."""

    def __init__(
        self, operator: RowOperator, run: Run, piece: pa.Table, base: int, pace: Pace | None = None
    ) -> None:
        self.piece = piece
        self.base = base
        self.pace = pace or Pace()
        self._operator = operator
        self._run = run
        self._rows: list[Any] = []
        self._origins: list[int] = []
        self._weight = 0
        self._unwatched = 0
        self._since = self._looked = time.perf_counter()

    def watch(self, rows: list[Any], seconds: float) -> int:
        """Look at the time that some rows took, and at their size; return about their bytes."""
        row_bytes = weigh_row(rows[-1])
        self.pace.learn(seconds, row_bytes)
        self._run.task.spend("run", seconds)
        return row_bytes * len(rows)

    def add(self, rows: list[Any], origin: int) -> bool:
        """Add rows that were made of one row; tell whether it is time for ``take``."""
        count = len(rows)
        self._rows += rows
        self._origins += [origin] * count
        self._unwatched += count or 1
        if self._unwatched < self.pace.rows:
            return False
        now = time.perf_counter()
        last = rows[-1] if rows else None
        row_bytes = weigh_row(last) if type(last) is dict else 0
        self._weight += row_bytes * self._unwatched
        self.pace.learn(now - self._looked, row_bytes)
        self._run.task.spend("run", now - self._looked)
        self._looked, self._unwatched = now, 0
        return self.is_due()

    def is_due(self) -> bool:
        """They are enough for a table, or have waited long enough."""
        return (
            self._weight > CHUNK_BYTES
            or len(self._rows) >= CHUNK_ROWS
            or time.perf_counter() - self._since > MAX_DELAY_S
        )

    def take(self) -> Iterator[pa.Table]:
        """Yield them as a table."""
        rows, origins = self._rows, self._origins
        self._rows, self._origins, self._weight = [], [], 0
        if rows:
            made = self._operator.table(self._run, rows, origins, self.piece, self.base)
            if made is not None:
                yield made
        self._since = self._looked = time.perf_counter()


# ---------------------------------------------------------------------- async functions


class Place:
    """Where a row is."""

    __slots__ = ("base", "index", "piece")

    def __init__(self, piece: pa.Table, index: int, base: int) -> None:
        self.piece = piece
        self.index = index
        self.base = base


class _RowData:
    """The row of a call: for the first attempt as it was made with its neighbours, then made anew."""

    __slots__ = ("_place", "_row")

    def __init__(self, row: Any, place: Place) -> None:
        self._row = row
        self._place = place

    def __call__(self) -> Any:
        row, self._row = self._row, None
        return row if row is not None else fresh_row(self._place.piece, self._place.index)


def _calls(run: Run, blocks: Iterator[pa.Table]) -> Iterator[AsyncCall]:
    from skate.data._operators.async_calls import AsyncCall

    for block in run.blocks(blocks):
        for start, piece in pieces(block):
            base = run.row_base + start
            for index, row in enumerate(iter_rows(piece)):
                place = Place(piece, index, base)
                yield AsyncCall(place, _RowData(row, place))


def async_results(operator: RowOperator, run: Run, blocks: Iterator[pa.Table]) -> Iterator[tuple[Place, Any]]:
    """Yield the one result of each row, in order; ``FAILED`` for rows that failed."""
    value: Any = None
    for call, event, data in run.async_calls().run(_calls(run, blocks)):
        place = cast(Place, call.token)
        if event == "item":
            value = data
        elif event == "done":
            yield place, value
            value = None
        else:
            run.fail(Failure(data, call.attempts), place.piece, place.index, place.base)
            yield place, FAILED


def async_rows(
    operator: RowOperator,
    run: Run,
    blocks: Iterator[pa.Table],
    rows_of: Callable[[Any], list[dict[str, Any]]],
) -> Iterator[pa.Table]:
    """Yield what an async function makes of rows; ``rows_of`` makes rows of an item or result."""
    outputs = Outputs(run.task)
    gathered: Gathered | None = None
    held = Held(run.task.target_max_block_bytes)
    has_failed = False
    streams = run.policy.is_raising
    for call, event, data in run.async_calls().run(_calls(run, blocks)):
        place = cast(Place, call.token)
        if gathered is None or gathered.piece is not place.piece:
            if gathered is not None:
                yield from _added(outputs, gathered.take())
            gathered = Gathered(operator, run, place.piece, place.base)
        failure = None
        if event == "item" and not has_failed:
            try:
                rows = rows_of(data)
                if streams:
                    gathered.add(rows, place.index)
                else:
                    held.rest += rows
                    _put_by(held, place, is_last=False)
            except (Exception, RecursionError) as error:
                failure = Failure(error, call.attempts)
        elif event == "failed" and not has_failed:
            failure = Failure(data, call.attempts)
        elif event == "done" and not has_failed:
            try:
                _put_by(held, place, is_last=True)
            except (Exception, RecursionError) as error:
                failure = Failure(error, call.attempts)
        if failure is not None:
            has_failed = True
            run.fail(failure, place.piece, place.index, place.base)
        if event != "item":
            if has_failed:
                held.close()
            elif held.is_empty:
                gathered.add(held.rest, place.index)
            else:
                yield from _added(outputs, gathered.take())
                yield from _added(outputs, held)
            held, has_failed = Held(run.task.target_max_block_bytes), False
        if gathered.is_due():
            yield from _added(outputs, gathered.take())
    if gathered is not None:
        yield from _added(outputs, gathered.take())
    yield from outputs.flush()


def _put_by(held: Held, place: Place, is_last: bool) -> None:
    """Make a table of the rows that a call has made so far, if they are many or others are tables already."""
    rows = held.rest
    if not rows or (held.is_empty and is_last):
        return
    if is_last or weigh_row(rows[-1]) * len(rows) > CHUNK_BYTES:
        held.rest = []
        held.add(with_runs(from_rows(rows), place.piece, [len(rows)], place.index))


def _added(outputs: Outputs, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        yield from outputs.add(table)


def wrong_return(verb: str, name: str, result: Any, wanted: str, what: str = "") -> str:
    text = f"{verb}(fn): {name} must return {wanted}, but it returned {what + ' ' if what else ''}"
    if result is None:
        return text + "None: does it end without a return?"
    shown = repr(result)
    return text + f"a {type(result).__name__}: {shown if len(shown) < 100 else shown[:97] + '...'}"
