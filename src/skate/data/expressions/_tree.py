"""Expressions: trees of columns, values and functions that are evaluated over whole blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import pyarrow as pa

from skate.data._block.kernels.arrays import column_of
from skate.data.expressions import _arithmetic as arithmetic
from skate.data.expressions._functions import FUNCTIONS
from skate.data.expressions._mathematics import Mathematics
from skate.data.expressions._namespaces import (
    ArrayNamespace,
    DatetimeNamespace,
    ListNamespace,
    MapNamespace,
    StringNamespace,
    StructNamespace,
)
from skate.data.expressions._node import Node
from skate.data.expressions._operations import BINARY, UNARY, Operation
from skate.data.expressions._operators import Operators
from skate.data.expressions._values import RowPlace, Value, arrow_type

Text: TypeAlias = str
"""Inside of ``Expr``, ``str`` is the namespace."""


class Expr(Node, Operators["Expr"], Mathematics["Expr"]):
    """An expression over the columns of a block: immutable, picklable.

    Operators build larger expressions; nothing is computed until a verb evaluates it. ``/`` divides as
    Python does (``1 / 2`` is 0.5), ``//`` and ``%`` keep integers, and an integer divided by zero with
    them is null. Conditions are joined with ``&``, ``|`` and ``~``; a comparison with null is null, which
    a filter drops.

    Example:
        >>> ds.with_column("total", col("price") * col("count")).filter(expr=(col("total") > 10) &
        ~col("void"))
    """

    __iter__: ClassVar[None] = None

    # Operators.

    def _binary(self, operation: Operation, other: Any, swapped: bool = False) -> Expr:
        right = as_expr(other)
        return BinaryExpr(operation, right, self) if swapped else BinaryExpr(operation, self, right)

    def __invert__(self) -> Expr:
        return UnaryExpr(Operation.NOT, self)

    def __neg__(self) -> Expr:
        return self.negate()

    # Functions of any value.

    def alias(self, name: Text) -> Expr:
        """Name the result."""
        return AliasExpr(self, name)

    def cast(self, target_type: Any, *, safe: bool = True) -> Expr:
        """Convert values to a type.

        Args:
            target_type: a pyarrow type, a DataType, a Python type such as int, or a name such as ``"int64"``.
            safe: a value that would lose something is an error; otherwise it is cut.
        """
        return CastExpr(self, arrow_type(target_type), safe)

    def is_null(self) -> Expr:
        """True where there is no value."""
        return UnaryExpr(Operation.IS_NULL, self)

    def is_not_null(self) -> Expr:
        """True where there is a value."""
        return UnaryExpr(Operation.IS_NOT_NULL, self)

    def is_in(self, values: Any) -> Expr:
        """True where the value is one of a list.

        Args:
            values: a list, tuple, set or Arrow array of values.
        """
        return MembershipExpr(Operation.IN, self, values)

    def not_in(self, values: Any) -> Expr:
        """True where the value is none of a list; null is in no list without None."""
        return MembershipExpr(Operation.NOT_IN, self, values)

    def fill_null(self, value: Any) -> Expr:
        """Return the value, or another one (a value or an expression) where there is none."""
        return FillNullExpr(self, as_expr(value))

    def _call(self, function: Text, *args: Any, **options: Any) -> Expr:
        return FunctionExpr(function, self, args, options)

    def power(self, exponent: Any) -> Expr:
        """Raise to a power: a number or an expression."""
        return PowerExpr(self, as_expr(exponent))

    def __pow__(self, exponent: Any) -> Expr:
        return self.power(exponent)

    # Functions by kind of value.

    @property
    def str(self) -> StringNamespace[Expr]:
        """Functions of text."""
        return StringNamespace(self._call)

    @property
    def list(self) -> ListNamespace[Expr]:
        """Functions of lists."""
        return ListNamespace(self._call)

    @property
    def struct(self) -> StructNamespace[Expr]:
        """Fields of structs."""
        return StructNamespace(self._call)

    @property
    def map(self) -> MapNamespace[Expr]:
        """Keys and values of maps."""
        return MapNamespace(self._call)

    @property
    def arr(self) -> ArrayNamespace[Expr]:
        """Functions of arrays of fixed size."""
        return ArrayNamespace(self._call)

    @property
    def dt(self) -> DatetimeNamespace[Expr]:
        """Functions of dates and times."""
        return DatetimeNamespace(self._call)


class ColumnExpr(Expr):
    """A column by its name."""

    def __init__(self, _name: str) -> None:
        if not isinstance(_name, str):
            raise TypeError(f"col() takes the name of a column, not {_name!r} of type {type(_name).__name__}")
        self._name = _name

    @property
    def name(self) -> str:
        """The column's name."""
        return self._name

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return column_of(block, self._name, f"col({self._name!r})")

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return ()

    def _column(self) -> str | None:
        return self._name

    def _label(self) -> str:
        return f"COL({self._name!r})"


class LiteralExpr(Expr):
    """One value for all rows."""

    def __init__(self, value: Any) -> None:
        if isinstance(value, pa.Scalar):
            self._scalar = value
        else:
            plain_value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
            try:
                self._scalar = pa.scalar(plain_value)
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
                raise TypeError(
                    f"lit() takes a value that Arrow can hold, not {value!r} of type {type(value).__name__}"
                ) from error
        self.value = value

    @property
    def data_type(self) -> pa.DataType | None:
        """The value's type."""
        return self._scalar.type

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return self._scalar

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return ()

    def _label(self) -> str:
        return f"LIT({self.value!r})"

    def _state(self) -> Any:
        return (self._scalar.type, self._label())


class BinaryExpr(Expr):
    """An operator between two expressions."""

    def __init__(self, op: Operation, left: Expr, right: Expr) -> None:
        self.op = op
        self.left = left
        self.right = right

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return BINARY[self.op](self.left._value(block, rows), self.right._value(block, rows))

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return (("left", self.left), ("right", self.right))

    def _label(self) -> str:
        return self.op.name


class UnaryExpr(Expr):
    """An operator on one expression."""

    def __init__(self, op: Operation, operand: Expr) -> None:
        self.op = op
        self.operand = operand

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return UNARY[self.op](self.operand._value(block, rows))

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return (("operand", self.operand),)

    def _label(self) -> str:
        return self.op.name


class MembershipExpr(UnaryExpr):
    """Whether values are in a list."""

    def __init__(self, op: Operation, operand: Expr, values: Any) -> None:
        super().__init__(op, operand)
        values = values.value if isinstance(values, LiteralExpr) else values
        if isinstance(values, (Expr, str, bytes)) or not hasattr(values, "__iter__"):
            raise TypeError(
                f"is_in and not_in take a list, tuple or set of values, not {type(values).__name__}: "
                "col('x').is_in(['a', 'b'])"
            )
        self.values = (
            values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(_ordered(values))
        )

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        found = arithmetic.is_in if self.op is Operation.IN else arithmetic.not_in
        return found(self.operand._value(block, rows), self.values)

    def _label(self) -> str:
        shown = ", ".join(repr(value) for value in self.values[:10].to_pylist())
        return f"{self.op.name}([{shown}{', ...' if len(self.values) > 10 else ''}])"

    def _state(self) -> Any:
        return (self.op, self.values.to_pylist())


def _ordered(values: Any) -> list[Any]:
    """Return values as a list; a set in an order that is the same in every process, for the plan's hash."""
    if isinstance(values, (set, frozenset)):
        return sorted(values, key=repr)
    return list(values)


class AliasExpr(Expr):
    """An expression with a name."""

    def __init__(self, expr: Expr, _name: str) -> None:
        if not isinstance(_name, str):
            raise TypeError(f"alias() takes a name, not {_name!r} of type {type(_name).__name__}")
        self.expr = expr
        self._name = _name

    @property
    def name(self) -> str:
        """The name given."""
        return self._name

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return self.expr._value(block, rows)

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return (("", self.expr),)

    def _label(self) -> str:
        return f"ALIAS({self._name!r})"


class CastExpr(Expr):
    """Values as another type."""

    def __init__(self, expr: Expr, target: pa.DataType, safe: bool) -> None:
        self.expr = expr
        self.target = target
        self.safe = safe

    @property
    def name(self) -> str | None:
        """The name of what is cast."""
        return self.expr.name

    @property
    def data_type(self) -> pa.DataType | None:
        """The type."""
        return self.target

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        value = self.expr._value(block, rows)
        if isinstance(value, pa.Scalar):
            return value.cast(self.target, self.safe)
        return value.cast(self.target, safe=self.safe)

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return (("", self.expr),)

    def _label(self) -> str:
        return f"CAST({self.target}{'' if self.safe else ', safe=False'})"


class FillNullExpr(Expr):
    """Values, or others where there are none."""

    def __init__(self, expr: Expr, other: Expr) -> None:
        self.expr = expr
        self.other = other

    @property
    def name(self) -> str | None:
        """The name of what is filled."""
        return self.expr.name

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return arithmetic.fill_null(self.expr._value(block, rows), self.other._value(block, rows))

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return (("", self.expr), ("with", self.other))

    def _label(self) -> str:
        return "FILL_NULL"


class PowerExpr(Expr):
    """A power."""

    def __init__(self, base: Expr, exponent: Expr) -> None:
        self.base = base
        self.exponent = exponent

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return arithmetic.power(self.base._value(block, rows), self.exponent._value(block, rows))

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return (("base", self.base), ("exponent", self.exponent))

    def _label(self) -> str:
        return "POWER"


class FunctionExpr(Expr):
    """A function of ``FUNCTIONS`` with plain options."""

    def __init__(self, function: str, expr: Expr, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        for value in (*args, *options.values()):
            if isinstance(value, Expr):
                raise TypeError(
                    f"{function}() takes plain values as options, not expressions; use a udf for a function "
                    "of several columns"
                )
        self.function = function
        self.expr = expr
        self.args = args
        self.options = options

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return FUNCTIONS[self.function](self.expr._value(block, rows), *self.args, **self.options)

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return (("", self.expr),)

    def _label(self) -> str:
        options = [*map(repr, self.args), *(f"{key}={value!r}" for key, value in self.options.items())]
        return f"{self.function.upper()}({', '.join(options)})"


def as_expr(value: Any) -> Expr:
    """Return an expression as it is, anything else as a literal."""
    return value if isinstance(value, Expr) else LiteralExpr(value)
