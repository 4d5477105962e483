"""Expressions in a line, as a person would write them: for names of stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate.data._previews import cell
from skate.data.expressions._node import Node
from skate.data.expressions._operations import Operation
from skate.data.expressions._tree import (
    AliasExpr,
    BinaryExpr,
    CastExpr,
    ColumnExpr,
    Expr,
    FunctionExpr,
    LiteralExpr,
    MembershipExpr,
    PowerExpr,
    UnaryExpr,
)
from skate.data.expressions._udf import UDFExpr

#: Most characters of a text, and most values of a list that it shows (count).
_LONGEST = 60
_MOST_VALUES = 3

#: How tightly an operator binds; what binds less gets brackets.
_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _POWER, _ATOM = range(8)

_BINARY = {
    Operation.OR: ("or", _OR),
    Operation.AND: ("and", _AND),
    Operation.GT: (">", _COMPARISON),
    Operation.LT: ("<", _COMPARISON),
    Operation.GE: (">=", _COMPARISON),
    Operation.LE: ("<=", _COMPARISON),
    Operation.EQ: ("==", _COMPARISON),
    Operation.NE: ("!=", _COMPARISON),
    Operation.ADD: ("+", _SUM),
    Operation.SUB: ("-", _SUM),
    Operation.MUL: ("*", _PRODUCT),
    Operation.DIV: ("/", _PRODUCT),
    Operation.FLOORDIV: ("//", _PRODUCT),
    Operation.MOD: ("%", _PRODUCT),
}


def short_text(expr: Expr) -> str:
    """Return an expression in a line, cut where it is long.

    Example:
        >>> short_text((col("x") > 3) & ~col("name").str.starts_with("a"))
        "x > 3 and not starts_with(name, 'a')"
    """
    return cut(_written(expr)[0])


def cut(text: str) -> str:
    """Return a text that is not too long for a name."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _written(expr: Node) -> tuple[str, int]:
    """Return the text of an expression, and how tightly its outermost operator binds."""
    for kind, write in _WRITERS:
        if isinstance(expr, kind):
            return write(expr)
    parts = [_written(part)[0] for _, part in expr._parts()]
    name, _, options = expr._label().partition("(")
    return _call(name, [*parts, *([options.rstrip(")")] if options.rstrip(")") else [])])


def _call(name: str, arguments: list[str]) -> tuple[str, int]:
    return f"{name.lower()}({', '.join(arguments)})", _ATOM


def _inside(expr: Expr, least: int) -> str:
    text, binds = _written(expr)
    return text if binds >= least else f"({text})"


def _column(expr: ColumnExpr) -> tuple[str, int]:
    return expr.name if expr.name.isidentifier() else f"col({expr.name!r})", _ATOM


def _literal(expr: LiteralExpr) -> tuple[str, int]:
    return cell(expr.value), _ATOM


def _binary(expr: BinaryExpr) -> tuple[str, int]:
    sign, binds = _BINARY[expr.op]
    # Operators of one kind are read from the left; comparisons are never in a row.
    left = _inside(expr.left, binds + (binds == _COMPARISON))
    is_joined = expr.op in (Operation.AND, Operation.OR)
    return f"{left} {sign} {_inside(expr.right, binds + (not is_joined))}", binds


def _membership(expr: MembershipExpr) -> tuple[str, int]:
    values = [cell(value) for value in expr.values[:_MOST_VALUES].to_pylist()]
    more = ", ..." if len(expr.values) > _MOST_VALUES else ""
    sign = "in" if expr.op is Operation.IN else "not in"
    return f"{_inside(expr.operand, _SUM)} {sign} [{', '.join(values)}{more}]", _COMPARISON


def _unary(expr: UnaryExpr) -> tuple[str, int]:
    if expr.op is Operation.NOT:
        return f"not {_inside(expr.operand, _NOT)}", _NOT
    sign = "is null" if expr.op is Operation.IS_NULL else "is not null"
    return f"{_inside(expr.operand, _SUM)} {sign}", _COMPARISON


def _power(expr: PowerExpr) -> tuple[str, int]:
    return f"{_inside(expr.base, _ATOM)} ** {_inside(expr.exponent, _POWER)}", _POWER


def _function(expr: FunctionExpr) -> tuple[str, int]:
    if expr.function == "negate":
        return f"-{_inside(expr.expr, _POWER)}", _PRODUCT
    options = [cell(value) for value in expr.args]
    options += [f"{name}={cell(value)}" for name, value in expr.options.items()]
    return _call(expr.function.rpartition(".")[2], [_written(expr.expr)[0], *options])


def _user_function(expr: UDFExpr) -> tuple[str, int]:
    name = getattr(expr.fn, "__name__", None) or type(expr.fn).__name__
    return f"{name}({', '.join(_written(part)[0] for _, part in expr._parts())})", _ATOM


#: Subclasses before their bases.
_WRITERS: list[tuple[type[Expr], Callable[[Any], tuple[str, int]]]] = [
    (ColumnExpr, _column),
    (LiteralExpr, _literal),
    (BinaryExpr, _binary),
    (MembershipExpr, _membership),
    (UnaryExpr, _unary),
    (PowerExpr, _power),
    (FunctionExpr, _function),
    (UDFExpr, _user_function),
    (AliasExpr, lambda expr: _written(expr.expr)),
    (CastExpr, lambda expr: _call("cast", [_written(expr.expr)[0], str(expr.target)])),
]
