"""Common ground of operators that call a user's function: opening it, errors, retries, letters, output.

::

    FunctionOperator ──open──► Opened (in Replica.instances): the function or instance, its event loop, its
          child │ process
          ▼
        Run: one pass over the blocks of a task: calls, counts rows, writes letters
          │
          ▼
       Outputs: what is made becomes blocks, cut by measured bytes, and passed on before long
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import pyarrow as pa

from skate.data._block.builder import BlockBuilder
from skate.data._block.rows import iter_rows
from skate.data._block.sources import has_sources, source_of, sources, with_sources
from skate.data._block.tables import concat, size_bytes, slice_rows
from skate.data._operators.child_calls import ChildFunction
from skate.data._operators.dead_letters import RAISE, SEEN, ErrorPolicy
from skate.data._operators.functions import UserFunction
from skate.data._task.operators import ChildCalls, Isolation, Letter, Operator, Replica, TaskContext
from skate.data.exceptions import (
    RayDataUserCodeException,
    UserExitError,
    cancellations,
    set_field,
    traceback_text,
    wrap,
)

if TYPE_CHECKING:  # asyncio is loaded when a function is async
    from skate.data._operators.async_calls import AsyncCalls, LoopThread

#: Calls of an async function at a time, if nobody says how many.
DEFAULT_CONCURRENCY = 4
#: Bytes of input that are rows (dicts) at a time.
_PIECE_BYTES = 16 << 20
#: Bytes of output after which it is passed on, unless the task's blocks are smaller.
_OUTPUT_BYTES = 16 << 20
#: Seconds for which output may wait for more.
MAX_DELAY_S = 0.05

#: Of so many small tables one is weighed.
_UNWEIGHED = 8

_T = TypeVar("_T")


def caught() -> tuple[type[BaseException], ...]:
    """Return the errors of user code; others (KeyboardInterrupt, GeneratorExit) are not the code's own."""
    return (Exception, SystemExit, *cancellations())


def _loop_thread(name: str) -> LoopThread:
    from skate.data._operators.async_calls import LoopThread

    return LoopThread(name)


class Opened:
    """A function ready to be called in this process.

    Args:
        token: of its operator.
        call: takes a row or batch; None: calls go to a child.
        thread: event loop for async functions, kept as long as the instance of a class.
        child: process for the calls, kept as long as the instance of a class.
        make_child: makes a process for the calls of one pass, if ``child`` is None.
    """

    def __init__(
        self,
        token: str,
        call: Callable[[Any], Any] | None,
        thread: LoopThread | None = None,
        child: ChildCalls | None = None,
        make_child: Callable[[], ChildCalls] | None = None,
    ) -> None:
        self.token = token
        self.call = call
        self.thread = thread
        self.child = child
        self.make_child = make_child

    def close(self) -> None:
        """End thread and child."""
        if self.thread is not None:
            self.thread.close()
        if self.child is not None:
            self.child.close()


class FunctionOperator(Operator):
    """Base of the operators that call a user's function.

    Args:
        function: what is called.
        errors: what becomes of rows that fail.
        max_concurrency: calls of an async function at a time; None: 4.
        sleep: waits between retries, for tests.

    Attributes:
        verb: for people: "Map".
    """

    verb = "Call"
    times_itself = True
    calls_user_code = True

    def __init__(
        self,
        function: UserFunction,
        errors: ErrorPolicy = RAISE,
        max_concurrency: int | None = None,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        self.function = function
        self.policy = errors
        self.max_concurrency = max_concurrency or DEFAULT_CONCURRENCY
        self.sleep = sleep
        self.name = f"{self.verb}({function.name})"
        self._token = uuid4().hex

    def __getstate__(self) -> dict[str, Any]:
        # Equal operators are equal bytes: replicas that stay after an execution are found by them.
        return {name: value for name, value in self.__dict__.items() if name != "_token"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._token = uuid4().hex

    def key(self) -> tuple[Any, ...]:
        """Return plain data that is equal for equal operators, for the plan's hash."""
        return (self.verb, self.function.key(), self.policy.on_error)

    def open(self, position: int, replica: Replica) -> None:
        """Make the instance of a class, once for each replica.

        Raises:
            Exception: the constructor raised; an instance of its type and of RayDataUserCodeException.
        """
        found = replica.instances.get(position)
        if not isinstance(found, Opened) or found.token != self._token:
            replica.instances[position] = self._make_opened(position, replica.isolation)

    def _make_opened(self, position: int, isolation: Isolation | None) -> Opened:
        function = self.function
        if isolation is not None:
            make_child: Callable[[], ChildCalls] = partial(isolation.operator_child, position, self.name)
            return Opened(self._token, None, make_child=make_child)
        if self.is_in_child and not function.is_class:
            # Of one pass alone: tasks that share a replica may run in turns.
            make_child = partial(ChildFunction, function.instantiate, self.name)
            return Opened(self._token, None, make_child=make_child)
        if self.is_in_child:
            child = ChildFunction(function.instantiate, self.name)
            child.start()
            return Opened(self._token, None, child=child)
        thread = _loop_thread(self.name) if function.is_async and function.is_class else None
        return Opened(self._token, function.instantiate(), thread)

    def make_for_child(self) -> Callable[[Any], Any]:
        """Return the function for calls one by one in a process of its own: an async one is run there."""
        call = self.function.instantiate()
        if not self.function.is_async:
            return call
        from skate.data._operators.async_calls import one_by_one

        return one_by_one(call)

    @property
    def is_in_child(self) -> bool:
        """Calls run in a child process, whether the task is isolated or not."""
        return self.policy.timeout_per_row is not None and not self.function.is_async

    def opened(self, replica: Replica) -> Opened:
        """Return what ``open`` made in a replica, or make it."""
        for one in replica.instances.values():
            if isinstance(one, Opened) and one.token == self._token:
                return one
        position = -1
        while position in replica.instances:
            position -= 1
        self.open(position, replica)
        made: Opened = replica.instances[position]
        return made


class Run:
    """One pass of an operator over the blocks of a task.

    Attributes:
        task: the task.
        is_async: calls return coroutines or async generators.
        row_base: rows of the operator's input before the current block.
        waited_s: seconds that the current block was waited for.
    """

    def __init__(self, operator: FunctionOperator, task: TaskContext) -> None:
        self.operator = operator
        self.task = task
        self.policy = operator.policy
        self.row_base = 0
        self.waited_s = 0.0
        self._next_base = 0
        self._opened = operator.opened(task.replica)
        self._thread = self._opened.thread
        self._child = self._opened.child
        if self._opened.make_child is not None:
            self._child = self._opened.make_child()
        self.is_async = self._child is None and operator.function.is_async
        self.call = self._opened.call or partial(self._in_child, 1)

    # ------------------------------------------------------------------ input

    def blocks(self, blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield the blocks that have rows; count them, and the time that they take."""
        while True:
            begun = time.perf_counter()
            block = next(blocks, None)
            self.waited_s = time.perf_counter() - begun
            self.task.spend("input", self.waited_s)
            if block is None:
                return
            self.row_base = self._next_base
            self._next_base += block.num_rows
            yield block

    def count_rows(self) -> None:
        """Tell the driver how many rows the operator saw: for rates of errors."""
        if not self.policy.is_raising:
            name = SEEN + self.operator.name
            self.task.counts[name] = self.task.counts.get(name, 0) + self._next_base

    # ------------------------------------------------------------------ calls

    def _in_child(self, rows: int, data: Any) -> Any:
        child, seconds = self._child, self.policy.timeout_per_row
        assert child is not None
        return child.call(data, None if seconds is None else seconds * rows)

    def call_batch(self, batch: Any, rows: int) -> Any:
        """Call the function with a batch of so many rows."""
        if self._opened.call is None:
            return self._in_child(rows, batch)
        return self._opened.call(batch)

    def async_calls(self, rows_of: Callable[[Any], int] = lambda token: 1) -> AsyncCalls:
        """Return what runs an async function; ``rows_of`` tells the rows of a call by its token."""
        from skate.data._operators.async_calls import AsyncCalls

        if self._thread is None:
            self._thread = _loop_thread(self.operator.name)
        seconds = self.policy.timeout_per_row
        assert self._opened.call is not None
        return AsyncCalls(
            self._thread,
            self._opened.call,
            self.operator.max_concurrency,
            self._retry_delay,
            lambda token: None if seconds is None else seconds * rows_of(token),
            partial(self.task.spend, "run"),
        )

    def close(self) -> None:
        """Release what was made for this pass alone."""
        self.count_rows()
        if self._thread is not None and self._thread is not self._opened.thread:
            self._thread.close()
        if self._child is not None and self._child is not self._opened.child:
            self._child.close()

    # ------------------------------------------------------------------ errors

    def _retry_delay(self, error: BaseException, attempts: int) -> float | None:
        policy = self.policy
        if attempts > policy.max_retries or not isinstance(error, policy.retry_on):
            return None
        counts = self.task.counts
        counts["retries"] = counts.get("retries", 0) + 1
        return float(policy.backoff_s * 2 ** (attempts - 1))

    def retried(self, error: BaseException, again: Callable[[], _T]) -> tuple[_T | None, Failure | None]:
        """Try a call again as long as the policy says so.

        Args:
            error: of the first attempt.
            again: the next attempt, with data of its own.

        Returns:
            The result and None, or None and the failure.
        """
        attempts = 1
        while True:
            delay = self._retry_delay(error, attempts)
            if delay is None:
                return None, Failure(error, attempts)
            self.operator.sleep(delay)
            attempts += 1
            try:
                return again(), None
            except caught() as raised:
                error = raised

    def fail(self, failure: Failure, block: pa.Table, index: int, base: int) -> None:
        """Raise the error of a row, or write its letter.

        Args:
            failure: what happened.
            block: has the row.
            index: its place there.
            base: number of the block's first row in the input of the task.
        """
        error = failure.error
        text = traceback_text(error)
        path = source_of(block, index)
        row_id = f"{self.task.task_id}:{base + index}"
        row = fresh_row(block, index)
        made = wrap(error, self.operator.name, row, path, row_id, text)
        if self.policy.is_raising:
            raise made from error_of(made, error)
        if isinstance(made, RayDataUserCodeException):
            forget_frames(made.cause)  # the letter outlives the call, which may hold anything
            made.row = None
        keeps = self.policy.on_error == "dead_letter"
        letter = Letter(
            row if keeps else None, made, text, self.operator.name, path, row_id, failure.attempts, keeps
        )
        self.task.letters.append(letter)

    def fail_batch(self, error: BaseException, block: pa.Table, base: int) -> None:
        """Raise the error of a batch."""
        paths = {path for path, _ in sources(block)}
        last = base + block.num_rows - 1
        row_id = f"{self.task.task_id}:{base}" + (f"-{last}" if last > base else "")
        row = fresh_row(block, 0) if block.num_rows == 1 else None
        made = wrap(error, self.operator.name, row, paths.pop() if len(paths) == 1 else "", row_id)
        raise made from error_of(made, error)


class Failure:
    """A call that failed for good.

    Args:
        error: what was raised.
        attempts: calls that were made.
    """

    __slots__ = ("attempts", "error")

    def __init__(self, error: BaseException, attempts: int = 1) -> None:
        self.error = UserExitError(error.code) if isinstance(error, SystemExit) else error
        self.attempts = attempts
        if self.error is not error:
            self.error.__cause__ = error
            self.error.__traceback__ = error.__traceback__  # of ours: it takes attributes


def error_of(made: BaseException, error: BaseException) -> BaseException:
    """Return the cause of a wrapped error."""
    return made.cause if isinstance(made, RayDataUserCodeException) else error


def forget_frames(error: BaseException | None) -> None:
    """Remove the tracebacks of an exception and of those that it names as its reasons."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        set_field(error, "__traceback__", None)
        error = error.__cause__ or error.__context__


# ---------------------------------------------------------------------- rows of blocks


def fresh_row(block: pa.Table, index: int) -> dict[str, Any]:
    """Return a row as it is in the block, whatever a function did to the dict that it was given."""
    return next(iter_rows(slice_rows(block, index, index + 1)))


def pieces(block: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Yield (number of the first row, rows) of parts that are small enough to be held as dicts."""
    rows = block.num_rows
    size = size_bytes(block)
    if size <= _PIECE_BYTES:
        yield 0, block
        return
    step = max(1, rows * _PIECE_BYTES // size)
    for start in range(0, rows, step):
        yield start, slice_rows(block, start, start + step)


def with_runs(made: pa.Table, block: pa.Table, counts: list[int] | None, start: int = 0) -> pa.Table:
    """Note in a table which files its rows came from.

    Args:
        made: rows that a function made.
        block: rows that it was called for.
        counts: rows made for each row of the block from ``start``; None: one for each.
        start: the first row of the block that is meant.
    """
    if not has_sources(block) or not made.num_rows:
        return made
    runs = sources(block)
    if len(runs) == 1:
        return with_sources(made, [(runs[0][0], made.num_rows)])
    if counts is None:
        return with_sources(made, sources(slice_rows(block, start, start + made.num_rows)))
    noted: list[tuple[str, int]] = []
    for path, rows in sources(slice_rows(block, start, start + len(counts))):
        noted.append((path, sum(counts[:rows])))
        counts = counts[rows:]
    return with_sources(made, noted)


# ---------------------------------------------------------------------- output


class Outputs:
    """Makes blocks of what an operator makes.

    Args:
        task: says how large blocks are.
    """

    def __init__(self, task: TaskContext) -> None:
        self._target = min(task.target_max_block_bytes, _OUTPUT_BYTES)
        self._builder: BlockBuilder | None = None
        self._since = 0.0
        # Weighing a table of a few rows takes longer than making it: one of several is weighed.
        self._few: list[pa.Table] = []
        self._few_bytes = self._row_bytes = 0.0

    def add(self, made: pa.Table) -> Iterator[pa.Table]:
        """Add rows; yield the blocks that are complete."""
        if self._builder is None:
            self._builder = BlockBuilder(self._target)
            self._since = time.perf_counter()
        if not len(self._few) % _UNWEIGHED:
            self._row_bytes = made.nbytes / max(1, made.num_rows)
        self._few.append(made)
        self._few_bytes += self._row_bytes * made.num_rows
        if self._few_bytes * 4 > self._target:
            self._weigh()
            yield from self._builder.ready()
        if time.perf_counter() - self._since > MAX_DELAY_S:
            yield from self.flush()

    def _weigh(self) -> None:
        assert self._builder is not None
        few, self._few, self._few_bytes = self._few, [], 0.0
        if few:
            self._builder.add_block(concat(few, on_conflict="object"))

    def flush(self) -> Iterator[pa.Table]:
        """Yield what there is."""
        if self._builder is not None:
            self._weigh()
            builder, self._builder = self._builder, None
            yield from builder.finish()
