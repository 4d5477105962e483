"""Rows that failed: what to do with them, how many are too many, and the table that keeps them."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.rows import from_rows, iter_rows
from skate.data._task.operators import Letter
from skate.data.exceptions import TooManyErrorsError, describe, type_name

#: Ways to deal with a row that fails.
ON_ERROR = ("raise", "skip", "dead_letter")
#: Rows that must have been seen before a rate of errors counts; at the end of a run it always does.
MIN_ROWS_FOR_RATE = 200
#: Errors that a message lists (count), and most characters of each.
_COMMONEST = 10
_MAX_TEXT = 200
#: Counter in ``TaskContext.counts`` for the rows that an operator has seen: ``"rows_seen:<stage>"``.
SEEN = "rows_seen:"


@dataclass(frozen=True)
class ErrorPolicy:
    """An operation's way with rows that fail.

    Attributes:
        on_error: "raise", "skip" or "dead_letter".
        max_errors: rows that may fail in the operation (count), or, below 1, the part of its rows; None:
            any number.
        retry_on: exceptions after which a call is tried again.
        max_retries: tries after the first.
        backoff_s: seconds before the first retry; each further one waits twice as long.
        timeout_per_row: seconds that a call may take for each of its rows; it then runs in a process of its
            own.

    Example:
        >>> ErrorPolicy.of("map", on_error="skip", max_errors=0.01).max_errors
        0.01
    """

    on_error: str = "raise"
    max_errors: float | None = None
    retry_on: tuple[type[BaseException], ...] = ()
    max_retries: int = 0
    backoff_s: float = 0.1
    timeout_per_row: float | None = None

    @classmethod
    def of(
        cls,
        verb: str,
        on_error: str = "raise",
        max_errors: float | None = None,
        retry_on: Any = (),
        max_retries: int | None = None,
        backoff_s: float = 0.1,
        timeout_per_row: float | None = None,
    ) -> ErrorPolicy:
        """Return the policy that a verb was given, checked.

        Args:
            verb: names the method in errors.
            on_error: "raise" ends the run, "skip" leaves the row out, "dead_letter" keeps it for
                ``dead_letters()``.
            max_errors: rows that may fail (count), or, below 1, the part of the rows.
            retry_on: an exception type, or several.
            max_retries: tries after the first; None: 3 if ``retry_on`` names a type, else none.
            backoff_s: seconds before the first retry; each further one waits twice as long.
            timeout_per_row: seconds for each row of a call.

        Raises:
            ValueError, TypeError: an argument is out of its range or of the wrong type; the text names it.
        """
        if on_error not in ON_ERROR:
            known = ", ".join(f'"{name}"' for name in ON_ERROR)
            raise ValueError(f"{verb}(on_error={on_error!r}): choose one of {known}")
        _check_number(verb, "max_errors", max_errors, 0)
        if max_errors is not None and on_error == "raise":
            raise ValueError(
                f'{verb}(max_errors={max_errors}) needs on_error="skip" or on_error="dead_letter": the first '
                "error ends the run otherwise"
            )
        _check_number(verb, "backoff_s", backoff_s, 0)
        _check_number(verb, "timeout_per_row", timeout_per_row, None)
        types = _exception_types(verb, retry_on)
        if max_retries is None:
            max_retries = 3 if types else 0
        if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
            raise ValueError(f"{verb}(max_retries={max_retries!r}): give a number from 0")
        if max_retries and not types:
            types = (Exception,)
        return cls(on_error, max_errors, types, max_retries, backoff_s, timeout_per_row)

    @property
    def is_raising(self) -> bool:
        """The first error ends the run."""
        return self.on_error == "raise"


RAISE = ErrorPolicy()


class ErrorBudget:
    """Counts the rows that failed in a run, and says when they are too many. In the driver.

    Args:
        limits: ``ErrorPolicy.max_errors`` by stage (``Letter.stage``); stages without a limit may be left
            out.

    Example:
        >>> budget = ErrorBudget({"Map(parse)": 2})
        >>> budget.take(letters, {"rows_seen:Map(parse)": 1000})
        >>> error = budget.exceeded()
        >>> if error is not None:
        ...     raise error
    """

    def __init__(self, limits: Mapping[str, float | None]) -> None:
        self._limits = {stage: limit for stage, limit in limits.items() if limit is not None}
        self._failed: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._errors: dict[str, Counter[str]] = {}

    def take(self, letters: Iterable[Letter], counts: Mapping[str, int]) -> None:
        """Count the letters of a task, and the rows that its operators saw (``TaskContext.counts``)."""
        for letter in letters:
            self._failed[letter.stage] += 1
            errors = self._errors.setdefault(letter.stage, Counter())
            text = _one_line(describe(letter.error))
            # Texts that name the row are all different: the table of them stays small.
            errors[text if text in errors or len(errors) < 1000 else type_name(letter.error)] += 1
        for name, rows in counts.items():
            if name.startswith(SEEN):
                self._seen[name.removeprefix(SEEN)] += rows

    def recall(
        self, letters: Iterable[Letter], skipped: Mapping[str, int], counts: Mapping[str, int]
    ) -> None:
        """Count what an earlier run of the same write recorded: a limit is one of the whole write.

        Args:
            letters: rows that are kept.
            skipped: number of rows that were left out, by stage; their errors are not known any more.
            counts: as in ``take``.
        """
        self.take(letters, counts)
        for stage, rows in skipped.items():
            self._failed[stage] += rows
            self._errors.setdefault(stage, Counter())["(in the run before)"] += rows

    def failed(self, stage: str | None = None) -> int:
        """Return the number of rows that failed, of one stage or of all."""
        return self._failed[stage] if stage is not None else sum(self._failed.values())

    def commonest(self, stage: str | None = None) -> list[tuple[str, int]]:
        """Return the commonest errors with their numbers, of one stage or of all."""
        counted: Counter[str] = Counter()
        for name, errors in self._errors.items():
            if stage is None or name == stage:
                counted.update(errors)
        return counted.most_common(_COMMONEST)

    def exceeded(self, is_finished: bool = False) -> TooManyErrorsError | None:
        """Return the error that should end the run, or None.

        Args:
            is_finished: all rows are seen: a rate counts even if they are few.
        """
        for stage, limit in self._limits.items():
            failed, seen = self._failed[stage], max(self._seen[stage], self._failed[stage])
            if 0 < limit < 1:
                if failed <= limit * seen or (seen < MIN_ROWS_FOR_RATE and not is_finished):
                    continue
                allowed = f"{limit:.4g} of its rows"
            elif failed <= limit:
                continue
            else:
                allowed = f"{limit:.0f}"
            errors = "\n".join(f"  {count:6} x {text}" for text, count in self.commonest(stage))
            return TooManyErrorsError(
                f"{stage}: {failed} of {seen} rows failed, more than max_errors allows ({allowed}). "
                f"The commonest errors:\n{errors}\nRaise max_errors, or repair the function or its input."
            )
        return None


# ---------------------------------------------------------------------- letters as a table

_SCHEMA_TAIL = (
    ("error_type", pa.string()),
    ("error", pa.string()),
    ("traceback", pa.string()),
    ("stage", pa.string()),
    ("path", pa.string()),
    ("row_id", pa.string()),
    ("attempts", pa.int64()),
    ("operation", pa.int64()),
)


def letters_to_table(letters: Sequence[Letter]) -> pa.Table:
    """Return letters as a table, for ``Dataset.dead_letters()`` and files.

    Args:
        letters: of one run; those that are only counted (``on_error="skip"``) are left out.

    Returns:
        Columns ``row`` (the original row: a struct if all rows have the same columns and types, else
        pickled bytes; null where there was none yet), ``error_type``, ``error``, ``traceback``, ``stage``,
        ``path``, ``row_id``, ``attempts``, ``operation`` (place of the stage in its plan; null for reads).
    """
    kept = [letter for letter in letters if letter.is_kept]
    columns = {
        "row": _row_column([letter.row for letter in kept]),
        "error_type": [type_name(letter.error) for letter in kept],
        "error": [describe(letter.error) for letter in kept],
        "traceback": [letter.traceback_text for letter in kept],
        "stage": [letter.stage for letter in kept],
        "path": [letter.path for letter in kept],
        "row_id": [letter.row_id for letter in kept],
        "attempts": [letter.attempts for letter in kept],
        "operation": [letter.operation for letter in kept],
    }
    arrays = [columns["row"], *(pa.array(columns[name], kind) for name, kind in _SCHEMA_TAIL)]
    return pa.Table.from_arrays(arrays, names=list(columns))


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Return the original rows of a table of letters, in order, to try them again.

    Letters without a row, of files that could not be read, are left out: their ``path`` says what to read.

    Raises:
        ValueError: the table has no column ``row`` of such a kind.
    """
    if "row" not in table.column_names:
        raise ValueError(
            "a table of dead letters has a column 'row'; this one has "
            f"{', '.join(table.column_names) or 'no column'}"
        )
    column = table.column("row")
    if pa.types.is_null(column.type):
        return []
    column = column.filter(pc.is_valid(column))
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [pickle.loads(value) for value in column.to_pylist()]
    if not pa.types.is_struct(column.type):
        raise ValueError(f"the column 'row' of dead letters is a struct or binary, not {column.type}")
    rows: list[dict[str, Any]] = []
    for chunk in column.chunks:
        if chunk.type.num_fields == 0:
            rows.extend({} for _ in range(len(chunk)))
        elif len(chunk):
            names = [chunk.type.field(i).name for i in range(chunk.type.num_fields)]
            # ``flatten`` honours the offset of the struct; ``field`` does not.
            rows.extend(iter_rows(pa.Table.from_arrays(chunk.flatten(), names=names)))
    return rows


def _row_column(rows: Sequence[dict[str, Any] | None]) -> Any:
    present = [row for row in rows if row is not None]
    if not present:
        return pa.nulls(len(rows))
    if _is_uniform(present):
        try:
            block = from_rows(present).combine_chunks()
            fields = [block.schema.field(i).remove_metadata() for i in range(block.num_columns)]
            arrays = [column.chunk(0) for column in block.columns]
            if len(present) == len(rows):
                return pa.StructArray.from_arrays(arrays, fields=fields)
            places = iter(range(len(present)))
            order = pa.array([next(places) if row is not None else None for row in rows], pa.int64())
            return pa.StructArray.from_arrays(arrays, fields=fields).take(order)
        except (pa.ArrowException, ValueError, TypeError, NotImplementedError):
            pass  # no common type, or one that a struct cannot hold
    from skate import cloudpickle

    return pa.array([None if row is None else cloudpickle.dumps(row) for row in rows], pa.large_binary())


def _is_uniform(rows: Sequence[dict[str, Any]]) -> bool:
    """Tell whether rows have the same columns, of one type each: a struct keeps them as they are."""
    names = list(rows[0])
    if not names or any(list(row) != names for row in rows):
        return False
    for name in names:
        kinds = {type(row[name]) for row in rows} - {type(None)}
        if len(kinds) > 1 or not kinds:
            return False
    return True


# ---------------------------------------------------------------------- checks


def _check_number(verb: str, name: str, value: Any, least: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{verb}({name}=...) takes a number, not a {type(value).__name__}")
    if least is None and not value > 0:
        raise ValueError(f"{verb}({name}={value}): give a number above 0")
    if least is not None and not value >= least:
        raise ValueError(f"{verb}({name}={value}): give a number from {least}")


def _exception_types(verb: str, given: Any) -> tuple[type[BaseException], ...]:
    types = (given,) if isinstance(given, type) else tuple(given or ())
    for kind in types:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise TypeError(f"{verb}(retry_on=...) takes exception types, not {kind!r}")
    return types


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 3] + "..."
