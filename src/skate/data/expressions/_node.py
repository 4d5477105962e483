"""Nodes of expressions: evaluation over blocks, questions about the tree, and its text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from skate.data.expressions._values import Column, RowPlace, Value, as_column


class Node:
    """A node of an expression: immutable, picklable."""

    @abstractmethod
    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        """Return the value over a block: a column, or a scalar for all rows."""

    @abstractmethod
    def _parts(self) -> Sequence[tuple[str, Node]]:
        """Return the expressions below, with the names that ``repr`` gives them."""

    @abstractmethod
    def _label(self) -> str:
        """Return this node's line of ``repr``."""

    def evaluate(self, block: pa.Table, rows: RowPlace | None = None) -> Column:
        """Compute the expression over a block.

        Args:
            block: the rows.
            rows: where they are, for expressions that number rows or draw for them.

        Returns:
            A column with a value for each row.

        Raises:
            MissingColumnError: a column is missing.
            pa.ArrowException: values are of the wrong type, or overflow; the message shows the expression.
        """
        try:
            return as_column(self._value(block, rows or RowPlace()), block.num_rows)
        except pa.ArrowException as error:
            raise type(error)(f"{error}\nin the expression\n{self!r}") from error

    def columns(self) -> tuple[str, ...]:
        """Return the columns that the expression reads, each once, in the order of their first use."""
        found: dict[str, None] = {}
        for node in self._nodes():
            name = node._column()
            if name is not None:
                found[name] = None
        return tuple(found)

    def _nodes(self) -> Iterator[Node]:
        yield self
        for _, part in self._parts():
            yield from part._nodes()

    def _column(self) -> str | None:
        """Return the column that this node reads."""
        return None

    def get_type(self, input_schema: pa.Schema) -> pa.DataType | None:
        """Return the type of the result over rows of a schema; None if a user's function decides it."""
        if any(node._has_unknown_type() for node in self._nodes()):
            return None
        return self.evaluate(input_schema.empty_table()).type

    def _has_unknown_type(self) -> bool:
        return False

    def to_field(self, input_schema: pa.Schema) -> pa.Field | None:
        """Return name and type of the result, if it has both."""
        type_ = self.get_type(input_schema)
        return None if type_ is None or self.name is None else pa.field(self.name, type_)

    def is_idempotent(self) -> bool:
        """Say whether the expression gives the same values each time: no random numbers, no user's
        function.
        """
        return not any(node._is_volatile() for node in self._nodes())

    def _is_volatile(self) -> bool:
        return False

    def needs_row_places(self) -> bool:
        """Say whether values depend on where a row is: row numbers, random numbers."""
        return any(node._needs_place() for node in self._nodes())

    def _needs_place(self) -> bool:
        return False

    @property
    def name(self) -> str | None:
        """The name of the result: of a column, or as ``alias`` gave it; else None."""
        return None

    @property
    def data_type(self) -> pa.DataType | None:
        """The type of the result, where it does not depend on the columns."""
        return None

    def structurally_equals(self, other: Any) -> bool:
        """Say whether another expression is the same tree (``==`` builds a comparison instead)."""
        return type(self) is type(other) and self._state() == other._state() and self._has_same_parts(other)

    def _state(self) -> Any:
        return self._label()

    def key(self, of_function: Callable[[Any], str]) -> list[Any]:
        """Return plain data that is equal for equal expressions, in this and every other process.

        Args:
            of_function: returns a text for a function of a user.
        """
        parts = [[name, part.key(of_function)] for name, part in self._parts()]
        return [type(self).__name__, self._own_key(of_function), *parts]

    def _own_key(self, of_function: Callable[[Any], str]) -> str:
        # Values that are drawn anew in each run are no difference between plans.
        return "" if self._is_volatile() else repr(self._state())

    def _has_same_parts(self, other: Node) -> bool:
        mine, theirs = self._parts(), other._parts()
        return len(mine) == len(theirs) and all(
            a.structurally_equals(b) for (_, a), (_, b) in zip(mine, theirs, strict=True)
        )

    def __repr__(self) -> str:
        return "\n".join(self._lines("", ""))

    def _lines(self, first: str, others: str) -> list[str]:
        lines = [first + self._label()]
        parts = self._parts()
        for number, (name, part) in enumerate(parts):
            last = number == len(parts) - 1
            head = f"{others}{'└── ' if last else '├── '}{name + ': ' if name else ''}"
            lines.extend(part._lines(head, others + ("    " if last else "│   ")))
        return lines

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        raise TypeError(
            "an expression is neither true nor false: it has a value for each row. Join conditions with & "
            "and | and negate them with ~ instead of 'and', 'or', 'not', with brackets around each: "
            "(col('a') > 1) & (col('b') == 2); for 1 < x < 3 write (x > 1) & (x < 3); for membership "
            "use .is_in([...])"
        )
