"""Operators of expressions by name."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from skate.data.expressions import _arithmetic as arithmetic
from skate.data.expressions._values import Value


class Operation(str, Enum):
    """Operators of expressions."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    FLOORDIV = "floordiv"
    MOD = "mod"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    EQ = "eq"
    NE = "ne"
    AND = "and"
    OR = "or"
    NOT = "not"
    IS_NULL = "is_null"
    IS_NOT_NULL = "is_not_null"
    IN = "in"
    NOT_IN = "not_in"


BINARY: dict[Operation, Callable[[Value, Value], Value]] = {
    Operation.ADD: arithmetic.add,
    Operation.SUB: arithmetic.subtract,
    Operation.MUL: arithmetic.multiply,
    Operation.DIV: arithmetic.divide,
    Operation.FLOORDIV: arithmetic.floor_divide,
    Operation.MOD: arithmetic.modulo,
    Operation.GT: arithmetic.greater,
    Operation.LT: arithmetic.less,
    Operation.GE: arithmetic.greater_equal,
    Operation.LE: arithmetic.less_equal,
    Operation.EQ: arithmetic.equal,
    Operation.NE: arithmetic.not_equal,
    Operation.AND: arithmetic.and_,
    Operation.OR: arithmetic.or_,
}
UNARY: dict[Operation, Callable[[Value], Value]] = {
    Operation.NOT: arithmetic.invert,
    Operation.IS_NULL: arithmetic.is_null,
    Operation.IS_NOT_NULL: arithmetic.is_not_null,
}
