"""The operator that calls a user's function for batches.

A batch that fails is searched by halves for the first row that fails (``on_error`` other than "raise")::

    256 rows fail ─► 128 pass ─► 64 fail ─► 32 pass ─► ... ─► row 161 fails: a letter ─► rows 162 to 255 pass

A bad row in a batch of n costs about log2(n) + 2 further calls. The output of good rows is passed on in
order, once. Generators and async functions are called for each row of such a batch instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.batches import check_batch_format, from_batch, rebatch, to_batch
from skate.data._block.sources import has_sources, sources, with_sources, without_sources
from skate.data._block.tables import slice_rows
from skate.data._operators.calls import (
    MAX_DELAY_S,
    Failure,
    FunctionOperator,
    Outputs,
    Run,
    caught,
    with_runs,
)
from skate.data._operators.dead_letters import RAISE, ErrorPolicy
from skate.data._operators.functions import UserFunction
from skate.data._operators.held import Held
from skate.data._task.operators import NotOfRow, TaskContext
from skate.data.exceptions import RowCrashedError

if TYPE_CHECKING:  # asyncio is loaded when a function is async
    from skate.data._operators.async_calls import AsyncCall


class MapBatches(FunctionOperator):
    """Calls a function for each batch; it returns a batch, or a generator of batches.

    Args:
        function: what is called.
        batch_size: rows of a batch, across blocks of a task; None: a block.
        batch_format: "default", "numpy", "pandas", "pyarrow" or None.
        zero_copy_batch: arrays may be read-only; False: they are copies that the function may change.
        udf_modifying_row_count: False: each call returns as many rows as it got, which is checked.
        errors: what becomes of rows that fail.
        max_concurrency: calls of an async function at a time; None: 4.
        sleep: waits between retries, for tests.

    Example:
        >>> double = MapBatches(UserFunction.of(lambda batch: {"x": batch["x"] * 2}), batch_size=2)
        >>> [t.to_pydict() for t in double.process(iter([pa.table({"x": [1, 2, 3]})]), TaskContext("0.0"))]
        [{'x': [2, 4, 6]}]
    """

    verb = "MapBatches"

    def __init__(
        self,
        function: UserFunction,
        batch_size: int | None = None,
        batch_format: str | None = "default",
        zero_copy_batch: bool = True,
        udf_modifying_row_count: bool = True,
        errors: ErrorPolicy = RAISE,
        max_concurrency: int | None = None,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        super().__init__(function, errors, max_concurrency, sleep)
        check_batch_format(batch_format)
        if batch_size is not None:
            if isinstance(batch_size, bool) or not isinstance(batch_size, int):
                raise TypeError(
                    f"map_batches(batch_size={batch_size!r}): give a number of rows, or None for a block"
                )
            if batch_size < 1:
                raise ValueError(f"map_batches(batch_size={batch_size}): a batch has one row at least")
        self.batch_size = batch_size
        self.batch_format = batch_format
        self.zero_copy_batch = zero_copy_batch
        self.udf_modifying_row_count = udf_modifying_row_count

    @property
    def preserves_rows(self) -> bool:  # type: ignore[override]
        """Row i of the output belongs to row i of the input: the user says so, and no row is left out."""
        return not self.udf_modifying_row_count and self.policy.is_raising

    @property
    def unit_rows(self) -> int:  # type: ignore[override]
        """A batch; without a size, a block is one, whatever its rows are."""
        return self.batch_size or 0

    def key(self) -> tuple[Any, ...]:
        """Return plain data that is equal for equal operators, for the plan's hash."""
        return (*super().key(), self.batch_size, self.batch_format)

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        """Yield what the function makes of the blocks."""
        run = Run(self, task)
        outputs = Outputs(task)
        try:
            batches = self._batches(run, blocks)
            made = self._async(run, batches) if run.is_async else self._sync(run, batches)
            for table in made:
                if run.waited_s > MAX_DELAY_S / 5:
                    yield from outputs.flush()
                yield from outputs.add(table)
            yield from outputs.flush()
        except NotOfRow as passing:
            raise passing.error from passing.error.__cause__
        finally:
            run.close()

    def _batches(self, run: Run, blocks: Iterator[pa.Table]) -> Iterator[tuple[pa.Table, int]]:
        """Yield the blocks of the batches, and the number of the first row of each."""
        base = 0
        for block in rebatch(run.blocks(blocks), self.batch_size, on_conflict=run.task.on_conflict):
            yield block, base
            base += block.num_rows

    # ------------------------------------------------------------------ plain functions

    def _sync(self, run: Run, batches: Iterator[tuple[pa.Table, int]]) -> Iterator[pa.Table]:
        is_raising = run.policy.is_raising
        for block, base in batches:
            try:
                made = self._called(run, block)
                if not isinstance(made, Held):
                    yield made
                    continue
                if is_raising and not run.policy.max_retries:
                    yield from self._tables(run, made.rest.pop(), block)
                    continue
                self._hold(run, made, block)
            except caught() as error:
                held, failure = run.retried(error, partial(self._whole, run, block))
                if failure is not None:
                    if is_raising:
                        self._fail(run, block, base, failure)
                    yield from self._isolated(run, block, base, failure)
                    continue
                assert held is not None
                made = held
            yield from made

    def _called(self, run: Run, block: pa.Table) -> pa.Table | Held:
        """Call the function; return its table, or its generator (``rest``)."""
        began = time.perf_counter()
        try:
            batch = to_batch(block, self.batch_format, not self.zero_copy_batch)
        except Exception as error:
            raise NotOfRow(error) from error
        begun = time.perf_counter()
        result = run.call_batch(batch, block.num_rows)
        ended = time.perf_counter()
        spend = run.task.spend
        spend("run", ended - begun)
        if hasattr(result, "__next__"):
            spend("convert", begun - began)
            held = Held(run.task.target_max_block_bytes)
            held.rest.append(result)
            return held
        made = from_batch(result, self.name)
        self._check_rows(made.num_rows, block)
        spend("convert", begun - began + time.perf_counter() - ended)
        return _of_one_file(made, block)

    def _check_rows(self, rows: int, block: pa.Table) -> None:
        if not self.udf_modifying_row_count and rows != block.num_rows:
            raise ValueError(
                f"{self.name}: udf_modifying_row_count=False says that the function keeps the number of "
                f"rows, but it returned {rows} rows for a batch of {block.num_rows}"
            )

    def _tables(self, run: Run, items: Iterator[Any], block: pa.Table) -> Iterator[pa.Table]:
        """Yield the tables of a generator while it runs; its errors are raised, and those of its items."""
        rows = 0
        while True:
            begun = time.perf_counter()
            item = next(items, _END)
            run.task.spend("run", time.perf_counter() - begun)
            if item is _END:
                break
            made = from_batch(item, self.name)
            rows += made.num_rows
            yield _of_one_file(made, block)
        self._check_rows(rows, block)

    def _hold(self, run: Run, held: Held, block: pa.Table) -> Held:
        """Run the generator in ``rest`` to its end, and hold what it makes."""
        try:
            for table in self._tables(run, held.rest.pop(), block):
                held.add(table)
        except BaseException:
            held.close()
            raise
        return held

    def _whole(self, run: Run, block: pa.Table) -> Held:
        """Call the function, and return all that it makes."""
        made = self._called(run, block)
        if isinstance(made, Held):
            return self._hold(run, made, block)
        held = Held(run.task.target_max_block_bytes)
        held.add(made)
        return held

    # ------------------------------------------------------------------ batches that fail

    def _fail(self, run: Run, block: pa.Table, base: int, failure: Failure) -> None:
        """Raise the error of a batch. A crash has no traceback that says more: the row is searched for."""
        if isinstance(failure.error, RowCrashedError) and block.num_rows > 1:
            start, stop = 0, block.num_rows
            while stop - start > 1:
                middle = (start + stop) // 2
                if isinstance(self._tried(run, block, start, middle), RowCrashedError):
                    stop = middle
                else:
                    start = middle  # the other half is where the row is
            error = self._tried(run, block, start, stop)
            if isinstance(error, RowCrashedError):
                run.fail(Failure(error), block, start, base)
        run.fail_batch(failure.error, block, base)

    def _isolated(self, run: Run, block: pa.Table, base: int, failure: Failure) -> Iterator[pa.Table]:
        """Yield what is made of those rows of a failed batch that pass; write letters for the others."""
        if block.num_rows == 1:
            run.fail(failure, block, 0, base)
        elif self.function.is_generator:
            # It may have worked on a part of the rows: only calls for single rows can be distinguished.
            for index in range(block.num_rows):
                yield from self._row(run, block, index, base)
        else:
            yield from self._searched(run, block, base)

    def _searched(self, run: Run, block: pa.Table, base: int) -> Iterator[pa.Table]:
        """Do so by search: halves find the first failing row of a range; then the rest is a range."""
        rows = block.num_rows
        start, step = 0, rows
        good = bad = 0  # rows: the good ones are those since the last bad one
        is_known_to_fail, is_limited = True, False
        while start < rows:
            stop = min(rows, start + step)
            error: BaseException | None = None  # of a range that is down to one row
            if not is_known_to_fail:
                made = self._tried(run, block, start, stop)
                if isinstance(made, BaseException):
                    error = made
                else:
                    yield from made
                    good += stop - start
                    start = stop
                    step = step if is_limited else step * 2
                    continue
            is_known_to_fail = False
            largest = 1
            while stop - start > 1:
                middle = (start + stop) // 2
                made = self._tried(run, block, start, middle)
                if isinstance(made, BaseException):
                    error, stop = made, middle
                else:
                    yield from made
                    good += middle - start
                    largest = max(largest, middle - start)
                    error, start = None, middle  # the other half is where the failing row is
            has_passed = yield from self._row(run, block, start, base, error)
            start += 1
            if has_passed:
                is_limited, step = True, largest  # so the range failed for its size
            else:
                # One bad row is likely to be the only one; after some, as many rows as lay between them.
                bad += 1
                step = min(step, rows if bad == 1 else max(1, 2 * good))
                good = 0

    def _tried(self, run: Run, block: pa.Table, start: int, stop: int) -> Held | BaseException:
        """Return what the function makes of a range of rows, or its error."""
        try:
            return self._whole(run, slice_rows(block, start, stop))
        except caught() as error:
            return error

    def _row(
        self, run: Run, block: pa.Table, index: int, base: int, error: BaseException | None = None
    ) -> Generator[pa.Table, None, bool]:
        """Do so for one row, of which ``error`` is known already; return whether it passed."""
        made: Held | BaseException | None = error or self._tried(run, block, index, index + 1)
        if isinstance(made, BaseException):
            row = slice_rows(block, index, index + 1)
            made, failure = run.retried(made, partial(self._whole, run, row))
            if failure is not None:
                run.fail(failure, block, index, base)
                return False
        assert isinstance(made, Held)
        yield from made
        return True

    # ------------------------------------------------------------------ async functions

    def _async(self, run: Run, batches: Iterator[tuple[pa.Table, int]]) -> Iterator[pa.Table]:
        calls = (self._async_call(block, base) for block, base in batches)
        is_raising = run.policy.is_raising
        for block, base, made, failure in self._async_made(run, calls, streams=is_raising):
            if failure is None:
                yield from made
            elif is_raising:
                run.fail_batch(failure.error, block, base)
            elif block.num_rows == 1:
                run.fail(failure, block, 0, base)
            else:
                rows = (
                    self._async_call(slice_rows(block, index, index + 1), base + index)
                    for index in range(block.num_rows)
                )
                for row, number, ones, problem in self._async_made(run, rows, streams=False):
                    if problem is None:
                        yield from ones
                    else:
                        run.fail(problem, row, 0, number)

    def _async_call(self, block: pa.Table, base: int) -> AsyncCall:
        from skate.data._operators.async_calls import AsyncCall

        make = partial(to_batch, block, self.batch_format, not self.zero_copy_batch)
        return AsyncCall((block, base), make)

    def _async_made(
        self, run: Run, calls: Iterator[AsyncCall], streams: bool
    ) -> Iterator[tuple[pa.Table, int, Iterable[pa.Table], Failure | None]]:
        """Yield (block, number of its first row, tables, None) or (..., failure), in the order of the calls.

        ``streams``: tables of a generator come one by one as it makes them, else together when it is at its
        end.
        """
        held = Held(run.task.target_max_block_bytes)
        rows = 0
        failure: Failure | None = None
        for call, event, data in run.async_calls(lambda token: int(token[0].num_rows)).run(calls):
            block, base = call.token
            if event == "item" and failure is None:
                try:
                    made = _of_one_file(from_batch(data, self.name), block)
                except ValueError as error:
                    failure = Failure(error, call.attempts)
                    continue
                rows += made.num_rows
                if streams:
                    yield block, base, (made,), None
                else:
                    held.add(made)
            elif event == "failed" and failure is None:
                failure = Failure(data, call.attempts)
            elif event == "done" and failure is None:
                try:
                    self._check_rows(rows, block)
                except ValueError as error:
                    failure = Failure(error, call.attempts)
            if event != "item":
                if failure is None:
                    yield block, base, held, None
                else:
                    held.close()
                    yield block, base, (), failure
                held, rows, failure = Held(run.task.target_max_block_bytes), 0, None


_END: Any = object()


def _of_one_file(made: pa.Table, block: pa.Table) -> pa.Table:
    """Note the file of a table if all rows of the block are of one, or are as many as those of the table."""
    if not has_sources(block):
        return made
    if made.num_rows == block.num_rows:
        return with_runs(made, block, None)
    runs = sources(block)
    return with_sources(made, [(runs[0][0], made.num_rows)]) if len(runs) == 1 else without_sources(made)
