"""Conditions given as text, as ``filter(expr="a > 1 and b == 'x'")`` takes them.

The text is parsed as Python, and its tree is translated node by node: names are columns, and nothing is
ever called but the few functions named here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from skate.data.expressions._tree import ColumnExpr, Expr, LiteralExpr, as_expr

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: a**b,
    ast.BitAnd: lambda a, b: a & b,
    ast.BitOr: lambda a, b: a | b,
}
_FUNCTIONS: dict[str, Callable[..., Expr]] = {
    "is_null": lambda x: as_expr(x).is_null(),
    "is_valid": lambda x: as_expr(x).is_not_null(),
    "is_not_null": lambda x: as_expr(x).is_not_null(),
    "is_nan": lambda x: as_expr(x).is_nan(),
    "is_in": lambda x, values: as_expr(x).is_in(values),
    "abs": lambda x: as_expr(x).abs(),
    "len": lambda x: as_expr(x).str.len(),
}


def parse_condition(text: str) -> Expr:
    """Return the expression that a text means.

    Args:
        text: comparisons, ``and``, ``or``, ``not``, ``in``, ``is None``, arithmetic, and ``is_null(x)``,
            ``is_valid(x)``, ``is_nan(x)``, ``is_in(x, [..])``, ``abs(x)``, ``len(x)``. Names are columns,
            ``a.b`` is field ``b`` of struct ``a``.

    Raises:
        ValueError: the text is not of this kind; the message shows where.

    Example:
        >>> parse_condition("a > 1 and b in ['x', 'y']")
    """
    if not isinstance(text, str):
        raise TypeError(f"a condition is a text or an expression, not {type(text).__name__}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"the condition {text!r} cannot be parsed: {error}") from error
    try:
        return as_expr(_Translator(text).visit(tree.body))
    except RecursionError as error:
        raise ValueError("the condition is nested too deeply") from error


class _Translator(ast.NodeVisitor):
    def __init__(self, text: str) -> None:
        self.text = text

    def generic_visit(self, node: ast.AST) -> Any:
        """Refuse what is not translated below."""
        where = ast.get_source_segment(self.text.strip(), node) or type(node).__name__
        raise ValueError(
            f"the condition {self.text!r} has {where!r} ({type(node).__name__}), which conditions given as "
            "text do not know; use expressions: filter(expr=col('a') > 1)"
        )

    def visit_Name(self, node: ast.Name) -> Any:
        """Return a column."""
        return ColumnExpr(node.id)

    def visit_Constant(self, node: ast.Constant) -> Any:
        """Return a value."""
        return LiteralExpr(node.value)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """Return a field of a struct."""
        return self.visit(node.value).struct.field(node.attr)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        """Return a negation."""
        if isinstance(node.op, (ast.Not, ast.Invert)):
            return ~self.visit(node.operand)
        if isinstance(node.op, ast.USub):
            value = self.visit(node.operand)
            return LiteralExpr(-value.value) if isinstance(value, LiteralExpr) else -value
        if isinstance(node.op, ast.UAdd):
            return self.visit(node.operand)
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        """Return arithmetic."""
        operator = _ARITHMETIC.get(type(node.op))
        return (
            self.generic_visit(node)
            if operator is None
            else operator(self.visit(node.left), self.visit(node.right))
        )

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        """Return conditions joined."""
        result, *others = (self.visit(value) for value in node.values)
        for other in others:
            result = result & other if isinstance(node.op, ast.And) else result | other
        return result

    def visit_Compare(self, node: ast.Compare) -> Any:
        """Return comparisons; ``1 < x < 3`` is two."""
        result = None
        left_node = node.left
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            one = self._compare(left_node, operator, right_node, node)
            result = one if result is None else result & one
            left_node = right_node
        return result

    def _compare(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, node: ast.Compare) -> Any:
        if isinstance(operator, (ast.In, ast.NotIn)):
            values = self._values(right)
            found = self.visit(left)
            return found.is_in(values) if isinstance(operator, ast.In) else found.not_in(values)
        if isinstance(operator, (ast.Is, ast.IsNot)):
            if not (isinstance(right, ast.Constant) and right.value is None):
                return self.generic_visit(node)
            found = self.visit(left)
            return found.is_null() if isinstance(operator, ast.Is) else found.is_not_null()
        return _COMPARISONS[type(operator)](self.visit(left), self.visit(right))

    def _values(self, node: ast.expr) -> list[Any]:
        if not isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            self.generic_visit(node)
            raise AssertionError("unreachable")
        found = [self.visit(element) for element in node.elts]
        for element, value in zip(node.elts, found, strict=True):
            if not isinstance(value, LiteralExpr):
                self.generic_visit(element)
        return [value.value for value in found]

    def visit_Call(self, node: ast.Call) -> Any:
        """Return one of the few functions."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = _FUNCTIONS.get(name)
        if function is None or node.keywords:
            return self.generic_visit(node)
        args = [
            self._values(arg) if isinstance(arg, (ast.List, ast.Tuple, ast.Set)) else self.visit(arg)
            for arg in node.args
        ]
        try:
            return function(*args)
        except TypeError as error:
            raise ValueError(f"the condition {self.text!r}: {name}: {error}") from error
