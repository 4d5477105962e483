"""Expressions as pyarrow's own, which readers of files understand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data.expressions._operations import Operation
from skate.data.expressions._tree import (
    AliasExpr,
    BinaryExpr,
    CastExpr,
    ColumnExpr,
    Expr,
    LiteralExpr,
    MembershipExpr,
    UnaryExpr,
)

_OPERATORS: dict[Operation, Callable[[Any, Any], Any]] = {
    Operation.GT: lambda a, b: a > b,
    Operation.LT: lambda a, b: a < b,
    Operation.GE: lambda a, b: a >= b,
    Operation.LE: lambda a, b: a <= b,
    Operation.EQ: lambda a, b: a == b,
    Operation.NE: lambda a, b: a != b,
    Operation.AND: lambda a, b: a & b,
    Operation.OR: lambda a, b: a | b,
    Operation.ADD: lambda a, b: a + b,
    Operation.SUB: lambda a, b: a - b,
    Operation.MUL: lambda a, b: a * b,
}


def to_arrow(expr: Expr) -> Any | None:
    """Return the same expression for ``pyarrow.dataset``, or None if pyarrow has none that means the same.

    Division, remainders, functions of users and row numbers have none.

    Example:
        >>> to_arrow(col("a") > 1)
        <pyarrow.compute.Expression (a > 1)>
    """
    if isinstance(expr, ColumnExpr):
        return pc.field(expr.name)
    if isinstance(expr, LiteralExpr):
        return pc.scalar(expr._scalar)
    if isinstance(expr, AliasExpr):
        return to_arrow(expr.expr)
    if isinstance(expr, CastExpr):
        inner = to_arrow(expr.expr)
        return None if inner is None else inner.cast(expr.target, expr.safe)
    if isinstance(expr, MembershipExpr):
        return _membership(expr)
    if isinstance(expr, UnaryExpr):
        inner = to_arrow(expr.operand)
        if inner is None:
            return None
        if expr.op is Operation.NOT:
            return ~inner
        return inner.is_null() if expr.op is Operation.IS_NULL else inner.is_valid()
    if isinstance(expr, BinaryExpr) and expr.op in _OPERATORS:
        left, right = to_arrow(expr.left), to_arrow(expr.right)
        return None if left is None or right is None else _OPERATORS[expr.op](left, right)
    return None


def _membership(expr: MembershipExpr) -> Any | None:
    inner = to_arrow(expr.operand)
    if inner is None or expr.values.null_count or pa.types.is_null(expr.values.type):
        return None
    found = inner.isin(expr.values)
    return found if expr.op is Operation.IN else ~found


def conjuncts(expr: Expr) -> Iterator[Expr]:
    """Yield the conditions that ``&`` joins, so that a reader can take those that it understands."""
    if isinstance(expr, BinaryExpr) and expr.op is Operation.AND:
        yield from conjuncts(expr.left)
        yield from conjuncts(expr.right)
    else:
        yield expr
