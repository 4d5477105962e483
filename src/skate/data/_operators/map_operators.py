"""Operators that call a user's function: for each row here, for each batch in ``batch_operator``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from skate.data._block.builder import weigh_row
from skate.data._block.rows import from_rows, iter_rows
from skate.data._block.tables import empty, filter_rows, slice_rows
from skate.data._operators.batch_operator import MapBatches
from skate.data._operators.calls import MAX_DELAY_S, Failure, Run, caught, fresh_row, with_runs
from skate.data._operators.held import Held
from skate.data._operators.row_calls import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    FAILED,
    MOST_UNWATCHED,
    Gathered,
    Pace,
    Place,
    RowOperator,
    async_results,
    async_rows,
    wrong_return,
)
from skate.data._task.operators import TaskContext

__all__ = ["FilterRows", "FlatMap", "MapBatches", "MapRows"]


class MapRows(RowOperator):
    """Calls a function for each row; it returns the new row.

    Example:
        >>> double = MapRows(UserFunction.of(lambda row: {"x": row["x"] * 2}))
        >>> [table.to_pylist() for table in double.process(iter([pa.table({"x": [1, 2]})]),
        TaskContext("0.0"))] [[{'x': 2}, {'x': 4}]]
    """

    verb = "Map"

    @property
    def preserves_rows(self) -> bool:  # type: ignore[override]
        """Row i of the output belongs to row i of the input, unless rows that fail are left out."""
        return self.policy.is_raising

    def _checked(self, result: Any) -> dict[str, Any]:
        if type(result) is dict:
            return result
        if isinstance(result, Mapping):
            return dict(result)
        raise ValueError(wrong_return("map", self.function.name, result, "a dict, the new row"))

    def _made(self, run: Run, piece: pa.Table, base: int, pace: Pace) -> Iterator[pa.Table]:
        rows = iter_rows(piece)
        total = piece.num_rows
        start = 0
        while start < total:
            out: list[Any] = []
            weight = 0
            began = time.perf_counter()
            while start + len(out) < total and len(out) < CHUNK_ROWS:
                before = time.perf_counter()
                some = list(islice(rows, pace.rows))
                begun = time.perf_counter()
                run.task.spend("convert", begun - before)
                self._call_all(run, some, out, piece, start, base)
                ended = time.perf_counter()
                run.task.spend("run", ended - begun)
                last = out[-1]
                row_bytes = weigh_row(last) if type(last) is dict else 0
                weight += row_bytes * len(some)
                pace.learn(ended - begun, row_bytes)
                if weight > CHUNK_BYTES or ended - began > MAX_DELAY_S:
                    break
            made = self._aligned(run, out, piece, start, base)
            start += len(out)
            if made is not None:
                yield made

    def _call_all(
        self, run: Run, rows: list[Any], out: list[Any], piece: pa.Table, start: int, base: int
    ) -> None:
        call, append = run.call, out.append
        offset = len(out)
        done = 0
        while done < len(rows):
            try:
                for row in islice(rows, done, None) if done else rows:
                    append(call(row))
                return
            except caught() as error:
                done = len(out) - offset
                append(self._again(run, piece, start + len(out), base, error))
                done += 1

    def _aligned(self, run: Run, out: list[Any], piece: pa.Table, start: int, base: int) -> pa.Table | None:
        """Return the table of results, one for each row of the piece from ``start``, failed ones included."""
        if set(map(type, out)) == {dict}:
            begun = time.perf_counter()
            try:
                made = from_rows(out)
            except (Exception, RecursionError):
                pass
            else:
                run.task.spend("convert", time.perf_counter() - begun)
                return with_runs(made, piece, None, start)
        for index, result in enumerate(out):
            if result is not FAILED and type(result) is not dict:
                try:
                    out[index] = self._checked(result)
                except ValueError as error:
                    out[index] = self._again(run, piece, start + index, base, error)
        origins = [start + index for index, result in enumerate(out) if result is not FAILED]
        return self.table(run, [out[origin - start] for origin in origins], origins, piece, base)

    def _process_async(self, run: Run, blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        return async_rows(self, run, blocks, lambda result: [self._checked(result)])


class FlatMap(RowOperator):
    """Calls a function for each row; it returns a list of rows, or a generator of them.

    With ``on_error="raise"`` what a generator yields is passed on while it runs. Otherwise all of a row's
    rows are held until the generator has come to its end, in a file if they are many, because none of them
    may appear if it fails.
    """

    verb = "FlatMap"

    def _checked(self, result: Any) -> Iterator[Any]:
        if isinstance(result, (Mapping, str, bytes)) or not isinstance(result, Iterable):
            raise ValueError(wrong_return("flat_map", self.function.name, result, "a list of dicts"))
        return iter(result)

    def _made(self, run: Run, piece: pa.Table, base: int, pace: Pace) -> Iterator[pa.Table]:
        streams = run.policy.is_raising and not run.policy.max_retries
        gathered = Gathered(self, run, piece, base, pace)
        call, add = run.call, gathered.add
        for index, row in enumerate(iter_rows(piece)):
            slow: Iterator[pa.Table] | None = None
            try:
                result = call(row)
                if type(result) is list and len(result) <= MOST_UNWATCHED:
                    is_due = add(result, index)
                else:
                    items = self._checked(result)
                    limit = pace.rows + 1
                    some = list(islice(items, limit))
                    if len(some) < limit:
                        is_due = add(some, index)
                    elif streams:
                        slow = self._stream(run, chain(some, items), index, gathered)
                    else:
                        slow = self._pass_on(
                            self._hold(run, chain(some, items), index, gathered), index, gathered
                        )
            except caught() as error:
                again, failure = run.retried(
                    error,
                    lambda index=index: self._hold(run, call(fresh_row(piece, index)), index, gathered),  # type: ignore[misc]
                )
                if failure is not None:
                    run.fail(failure, piece, index, base)
                    continue
                assert again is not None
                slow = self._pass_on(again, index, gathered)
            if slow is not None:
                yield from slow
                is_due = gathered.is_due()
            if is_due:
                yield from gathered.take()
        yield from gathered.take()

    def _stream(self, run: Run, items: Iterator[Any], index: int, gathered: Gathered) -> Iterator[pa.Table]:
        """Pass on what a generator yields while it runs."""
        try:
            while True:
                begun = time.perf_counter()
                some = self.checked_items(islice(items, gathered.pace.rows))
                if not some:
                    return
                gathered.watch(some, time.perf_counter() - begun)
                if gathered.add(some, index):
                    yield from gathered.take()
        except caught() as error:
            run.fail(Failure(error), gathered.piece, index, gathered.base)

    def _hold(self, run: Run, result: Any, index: int, gathered: Gathered) -> Held:
        """Return all that a call makes."""
        held = Held(run.task.target_max_block_bytes)
        try:
            items = self._checked(result)
            weight = 0
            while True:
                begun = time.perf_counter()
                some = self.checked_items(islice(items, gathered.pace.rows))
                if some:
                    weight += gathered.watch(some, time.perf_counter() - begun)
                    held.rest.extend(some)
                if weight > CHUNK_BYTES or (not some and held.rest and not held.is_empty):
                    rest, held.rest = held.rest, []
                    held.add(with_runs(from_rows(rest), gathered.piece, [len(rest)], index))
                    weight = 0
                if not some:
                    return held
        except BaseException:
            held.close()
            raise

    def _pass_on(self, held: Held, index: int, gathered: Gathered) -> Iterator[pa.Table]:
        """Yield what a call made."""
        if held.is_empty:
            gathered.add(held.rest, index)
        else:
            yield from gathered.take()
            yield from held

    def _process_async(self, run: Run, blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        if self.function.is_generator:
            return async_rows(self, run, blocks, lambda item: self.checked_items([item]))
        return async_rows(self, run, blocks, lambda result: self.checked_items(self._checked(result)))


class FilterRows(RowOperator):
    """Keeps the rows for which a function returns something true. Values and types stay as they are."""

    verb = "Filter"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        schema = None
        has_made = False

        def watched() -> Iterator[pa.Table]:
            nonlocal schema
            for block in blocks:
                schema = block.schema if schema is None else schema
                yield block

        for made in super().process(watched(), task):
            has_made = True
            yield made
        if not has_made and schema is not None:
            yield empty(schema.remove_metadata())

    def _checked(self, result: Any) -> bool:
        return bool(result)

    def _made(self, run: Run, piece: pa.Table, base: int, pace: Pace) -> Iterator[pa.Table]:
        rows = iter_rows(piece)
        start, total = 0, piece.num_rows
        while start < total:
            mask: list[bool] = []
            began = time.perf_counter()
            while start + len(mask) < total:
                before = time.perf_counter()
                some = list(islice(rows, pace.rows))
                begun = time.perf_counter()
                self._call_all(run, some, mask, piece, start, base)
                ended = time.perf_counter()
                run.task.spend("convert", begun - before)
                run.task.spend("run", ended - begun)
                pace.learn(ended - begun, 1)
                if ended - began > MAX_DELAY_S:
                    break
            yield from _kept(piece, start, mask)
            start += len(mask)

    def _call_all(
        self, run: Run, rows: list[Any], mask: list[bool], piece: pa.Table, start: int, base: int
    ) -> None:
        call, append = run.call, mask.append
        done = 0
        while done < len(rows):
            offset = len(mask) - done
            try:
                for row in islice(rows, done, None) if done else rows:
                    append(bool(call(row)))
                return
            except caught() as error:
                again = self._again(run, piece, start + len(mask), base, error)
                append(again is not FAILED and again)
                done = len(mask) - offset

    def _process_async(self, run: Run, blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        mask: list[bool] = []
        current: Place | None = None
        done = 0
        since = time.perf_counter()
        for place, result in async_results(self, run, blocks):
            if current is not None and (
                place.piece is not current.piece or time.perf_counter() - since > MAX_DELAY_S
            ):
                yield from _kept(current.piece, done, mask)
                done = 0 if place.piece is not current.piece else done + len(mask)
                mask, since = [], time.perf_counter()
            current = place
            mask.append(result is not FAILED and self._checked(result))
        if current is not None:
            yield from _kept(current.piece, done, mask)


def _kept(piece: pa.Table, start: int, mask: list[bool]) -> Iterator[pa.Table]:
    """Yield the rows from ``start`` for which the mask is true."""
    kept = sum(mask)
    if kept:
        part = slice_rows(piece, start, start + len(mask))
        yield part if kept == len(mask) else filter_rows(part, mask)
