"""Operators on columns: select, drop, rename, compute, filter by an expression, sample, number rows.

Each also tells the schema of its output from that of its input, by running over no rows. None of them
looks at a row in Python.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array, column_of, plain
from skate.data._block.kernels.grouping import Groups
from skate.data._block.kernels.hashing import fresh_seed, random_numbers
from skate.data._block.kernels.sorting import key_column
from skate.data._block.schemas import NO_COLUMNS, public_schema
from skate.data._block.tables import filter_rows, no_columns, take_rows
from skate.data._operators.identity import identity
from skate.data._options import column_names
from skate.data._task.operators import Operator, TaskContext
from skate.data.expressions import (
    AliasExpr,
    Expr,
    RowPlace,
    StarExpr,
    UnnestExpr,
    as_expr,
    row_id,
)
from skate.data.expressions._texts import cut, short_text


class ColumnOperator(Operator):
    """An operator that turns a block into one block.

    Attributes:
        reads: columns that the operator needs; None: all.
    """

    reads: tuple[str, ...] | None = None

    def key(self) -> Any:
        """Return plain data that is equal for equal operators, for the plan's hash: names are cut."""
        own = {name: value for name, value in vars(self).items() if name not in ("name", "reads")}
        return [type(self).__name__, _key(own)]

    @abstractmethod
    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the output of one block; ``rows`` says where its rows are."""

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        """Yield the output of each block."""
        first_row = 0
        for block in blocks:
            yield self.apply(block, RowPlace(task.task_id, first_row))
            first_row += block.num_rows

    def schema(self, input_schema: pa.Schema) -> pa.Schema | None:
        """Return the schema of the output; None if a user's function without a declared type decides it.

        Raises:
            ValueError: a column is missing, names clash: whatever the operator itself would raise.
        """
        return public_schema(self.apply(input_schema.empty_table(), RowPlace()).schema)


def _key(value: Any) -> Any:
    if isinstance(value, Expr):
        return value.key(lambda function: hashlib.blake2b(identity(function), digest_size=16).hexdigest())
    if isinstance(value, Mapping):
        return [[name, _key(one)] for name, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [_key(one) for one in value]
    if isinstance(value, pa.Schema):
        return str(value)
    # Others, such as the rule by which seeds are drawn, differ from run to run.
    return value if isinstance(value, (str, int, float, bool)) else None


def _without_stand_in(names: Sequence[str]) -> list[str]:
    return [name for name in names if name != NO_COLUMNS]


def _rebuilt(block: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    """Return a block of other columns for the same rows, with its notes of files."""
    made = pa.table(dict(columns)) if columns else no_columns(block.num_rows)
    return made.replace_schema_metadata(block.schema.metadata)


class Select(ColumnOperator):
    """Keep some columns, in the order given; without any, rows keep their number."""

    preserves_rows = True
    unit_rows = 1

    def __init__(self, columns: str | Sequence[str]) -> None:
        self.columns = column_names("select_columns", "cols", columns)
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise ValueError(f"select_columns: {twice} is named twice")
        self.reads = self.columns
        self.name = f"Select({cut(', '.join(self.columns))})"

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the columns."""
        return _rebuilt(block, {name: column_of(block, name, "select_columns") for name in self.columns})


class Drop(ColumnOperator):
    """Drop some columns; where all are dropped, rows keep their number."""

    preserves_rows = True
    unit_rows = 1

    def __init__(self, columns: str | Sequence[str]) -> None:
        self.columns = column_names("drop_columns", "cols", columns)
        self.name = f"Drop({cut(', '.join(self.columns))})"

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the other columns."""
        for name in self.columns:
            column_of(block, name, "drop_columns")
        kept = [name for name in _without_stand_in(block.column_names) if name not in self.columns]
        return _rebuilt(block, {name: block[name] for name in kept})


class Rename(ColumnOperator):
    """Rename columns: by a mapping, or all by a list.

    Raises:
        ValueError: two columns would get one name, or the list is not as long as there are columns.
    """

    preserves_rows = True
    unit_rows = 1

    def __init__(self, names: Mapping[str, str] | Sequence[str]) -> None:
        if isinstance(names, str) or not names:
            raise ValueError("rename_columns takes {'old': 'new'} or a list of all new names")
        self.names: dict[str, str] | tuple[str, ...]
        if isinstance(names, Mapping):
            self.names = dict(names)
            column_names("rename_columns", "names", [*self.names, *self.names.values()])
            self.name = f"Rename({cut(', '.join(f'{old}: {new}' for old, new in self.names.items()))})"
            new_names: Sequence[str] = list(self.names.values())
        else:
            self.names = column_names("rename_columns", "names", names)
            self.name = f"Rename({cut(', '.join(self.names))})"
            new_names = self.names
        twice = sorted({name for name in new_names if list(new_names).count(name) > 1})
        if twice:
            raise ValueError(f"rename_columns: several columns would be called {twice}")

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the columns under their new names."""
        old = _without_stand_in(block.column_names)
        if isinstance(self.names, dict):
            for name in self.names:
                column_of(block, name, "rename_columns")
            new = [self.names.get(name, name) for name in old]
        else:
            new = list(self.names)
            if len(new) != len(old):
                raise ValueError(f"rename_columns got {len(new)} names for {len(old)} columns {old}")
        clashes = sorted({name for name in new if new.count(name) > 1})
        if clashes:
            raise ValueError(
                f"rename_columns: several columns would be called {clashes}; the columns are {old}. Drop or "
                "rename the others too"
            )
        return _rebuilt(block, {name: block[before] for name, before in zip(new, old, strict=True)})


class WithColumns(ColumnOperator):
    """Compute columns from expressions over the input; one that is there already is replaced in its place."""

    preserves_rows = True

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = {name: as_expr(value) for name, value in columns.items()}
        self.name = f"WithColumns({cut(', '.join(self.columns))})"

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the block with the columns."""
        columns = {name: block[name] for name in _without_stand_in(block.column_names)}
        made = {name: expr.evaluate(block, rows) for name, expr in self.columns.items()}
        return _rebuilt(block, {**columns, **made})

    def schema(self, input_schema: pa.Schema) -> pa.Schema | None:
        """Return the schema; None if an expression has a function of a user without a declared type."""
        fields = {field.name: field for field in input_schema}
        for name, expr in self.columns.items():
            type_ = expr.get_type(input_schema)
            if type_ is None:
                return None
            fields[name] = pa.field(name, type_)
        return pa.schema(list(fields.values()))


class Project(ColumnOperator):
    """Compute exactly these columns: names and expressions with a name, ``star()``, ``unnest(struct)``."""

    preserves_rows = True

    def __init__(self, columns: Sequence[str | Expr]) -> None:
        self.columns = tuple(columns)
        self.name = f"Project({cut(', '.join(_shown(column) for column in self.columns))})"

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the columns."""
        made: dict[str, Any] = {}
        for column in self.columns:
            for name, values in self._columns_of(column, block, rows):
                if name in made:
                    raise ValueError(f"select: several columns would be called {name!r}; use alias()")
                made[name] = values
        return _rebuilt(block, made)

    def _columns_of(self, column: str | Expr, block: pa.Table, rows: RowPlace) -> Iterator[tuple[str, Any]]:
        if isinstance(column, str):
            yield column, column_of(block, column, "select")
        elif isinstance(column, StarExpr):
            for name in _without_stand_in(block.column_names):
                yield name, block[name]
        elif isinstance(column, UnnestExpr):
            struct = as_array(plain(column.evaluate(block, rows)))
            if not pa.types.is_struct(struct.type):
                raise TypeError(f"unnest() takes structs, not values of type {struct.type}")
            for number in range(struct.type.num_fields):
                yield struct.type.field(number).name, pc.struct_field(struct, number)
        elif column.name is None:
            raise ValueError(f"select: an expression needs a name: (...).alias('name'); it is\n{column!r}")
        else:
            yield column.name, column.evaluate(block, rows)


def _shown(column: str | Expr) -> str:
    if isinstance(column, str):
        return column
    return column.name or ("*" if isinstance(column, StarExpr) else short_text(column))


class FilterExpr(ColumnOperator):
    """Keep the rows for which a condition is true; null drops the row."""

    def __init__(self, condition: Expr) -> None:
        if not isinstance(condition, Expr):
            raise TypeError(f"filter(expr=) takes an expression, not {type(condition).__name__}")
        self.condition = condition.expr if isinstance(condition, AliasExpr) else condition
        self.name = f"Filter({short_text(self.condition)})"

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the rows that are kept."""
        mask = self.condition.evaluate(block, rows)
        if pa.types.is_null(mask.type):
            mask = mask.cast(pa.bool_())
        if not pa.types.is_boolean(mask.type):
            raise TypeError(
                f"filter takes a condition, but the expression gives values of type {mask.type}; compare "
                f"them with something:\n{self.condition!r}"
            )
        return filter_rows(block, mask)

    def schema(self, input_schema: pa.Schema) -> pa.Schema | None:
        """Return the input's schema."""
        return input_schema


class RandomSample(ColumnOperator):
    """Keep each row with a probability that a hash of (seed, task, row) decides.

    Args:
        fraction: from 0 to 1.
        seed: the same seed keeps the same rows; None: one is drawn now and kept in ``seed``.

    Raises:
        ValueError: the fraction is not from 0 to 1.
    """

    def __init__(self, fraction: float, seed: int | None = None) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"random_sample takes a fraction from 0 to 1, not {fraction!r}")
        self.fraction = fraction
        self.seed = fresh_seed() if seed is None else seed
        self.name = f"RandomSample({fraction}, seed={self.seed})"

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the rows that are kept."""
        if self.fraction == 1:
            return block
        numbers = random_numbers(self.seed, rows.task_id, block.num_rows, rows.first_row)
        return filter_rows(block, pc.less(numbers, pa.scalar(int(self.fraction * 2**64), pa.uint64())))

    def schema(self, input_schema: pa.Schema) -> pa.Schema | None:
        """Return the input's schema."""
        return input_schema


class AddConstant(WithColumns):
    """Add a column of one value."""

    def __init__(self, column: str, value: Any) -> None:
        super().__init__({column: value})


class AddRowIds(WithColumns):
    """Add a column of row ids, ``"<task>:<row>"``, which are the same in every run of a plan."""

    def __init__(self, column: str = "row_id") -> None:
        super().__init__({column: row_id()})


class UniqueOfBlock(ColumnOperator):
    """Keep the first of the rows of a block that are equal in some columns, and these columns alone."""

    def __init__(self, columns: str | Sequence[str]) -> None:
        self.columns = column_names("unique", "column", columns)
        self.reads = self.columns
        self.name = f"UniqueOfBlock({cut(', '.join(self.columns))})"

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the distinct values."""
        keys = [key_column(block, name, "unique") for name in self.columns]
        groups = Groups.by(keys, block.num_rows)
        return take_rows(block.select(list(self.columns)), pc.drop_null(groups.first))
