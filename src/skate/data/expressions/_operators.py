"""Python's operators, as methods of expressions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from skate.data.expressions._operations import Operation

E = TypeVar("E")


class Operators(ABC, Generic[E]):
    """Methods that build expressions of operators between two values."""

    @abstractmethod
    def _binary(self, operation: Operation, other: Any, swapped: bool = False) -> E:
        """Return the expression of an operator; ``swapped`` puts the other side first."""

    def __add__(self, other: Any) -> E:
        return self._binary(Operation.ADD, other)

    def __radd__(self, other: Any) -> E:
        return self._binary(Operation.ADD, other, swapped=True)

    def __sub__(self, other: Any) -> E:
        return self._binary(Operation.SUB, other)

    def __rsub__(self, other: Any) -> E:
        return self._binary(Operation.SUB, other, swapped=True)

    def __mul__(self, other: Any) -> E:
        return self._binary(Operation.MUL, other)

    def __rmul__(self, other: Any) -> E:
        return self._binary(Operation.MUL, other, swapped=True)

    def __truediv__(self, other: Any) -> E:
        return self._binary(Operation.DIV, other)

    def __rtruediv__(self, other: Any) -> E:
        return self._binary(Operation.DIV, other, swapped=True)

    def __floordiv__(self, other: Any) -> E:
        return self._binary(Operation.FLOORDIV, other)

    def __rfloordiv__(self, other: Any) -> E:
        return self._binary(Operation.FLOORDIV, other, swapped=True)

    def __mod__(self, other: Any) -> E:
        return self._binary(Operation.MOD, other)

    def __rmod__(self, other: Any) -> E:
        return self._binary(Operation.MOD, other, swapped=True)

    def __gt__(self, other: Any) -> E:
        return self._binary(Operation.GT, other)

    def __lt__(self, other: Any) -> E:
        return self._binary(Operation.LT, other)

    def __ge__(self, other: Any) -> E:
        return self._binary(Operation.GE, other)

    def __le__(self, other: Any) -> E:
        return self._binary(Operation.LE, other)

    def __eq__(self, other: Any) -> E:  # type: ignore[override]
        return self._binary(Operation.EQ, other)

    def __ne__(self, other: Any) -> E:  # type: ignore[override]
        return self._binary(Operation.NE, other)

    def __and__(self, other: Any) -> E:
        return self._binary(Operation.AND, other)

    def __rand__(self, other: Any) -> E:
        return self._binary(Operation.AND, other, swapped=True)

    def __or__(self, other: Any) -> E:
        return self._binary(Operation.OR, other)

    def __ror__(self, other: Any) -> E:
        return self._binary(Operation.OR, other, swapped=True)
