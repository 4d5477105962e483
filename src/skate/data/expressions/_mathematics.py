"""Functions of numbers, as methods of expressions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

E = TypeVar("E")


class Mathematics(ABC, Generic[E]):
    """Methods that build expressions of functions of numbers."""

    @abstractmethod
    def _call(self, function: str, *args: Any, **options: Any) -> E:
        """Return the expression of a function."""

    def abs(self) -> E:
        """Return absolute values."""
        return self._call("abs")

    def negate(self) -> E:
        """Return values with the other sign."""
        return self._call("negate")

    def sign(self) -> E:
        """Return -1, 0 or 1."""
        return self._call("sign")

    def ceil(self) -> E:
        """Round up."""
        return self._call("ceil")

    def floor(self) -> E:
        """Round down."""
        return self._call("floor")

    def round(self, ndigits: int = 0) -> E:
        """Round to digits after the point; halves go to the even neighbour."""
        return self._call("round", ndigits) if ndigits else self._call("round")

    def trunc(self) -> E:
        """Round towards zero."""
        return self._call("trunc")

    def sqrt(self) -> E:
        """Return square roots."""
        return self._call("sqrt")

    def exp(self) -> E:
        """Return powers of e."""
        return self._call("exp")

    def ln(self) -> E:
        """Return natural logarithms."""
        return self._call("ln")

    def log10(self) -> E:
        """Return logarithms to base 10."""
        return self._call("log10")

    def log2(self) -> E:
        """Return logarithms to base 2."""
        return self._call("log2")

    def sin(self) -> E:
        """Return sines."""
        return self._call("sin")

    def cos(self) -> E:
        """Return cosines."""
        return self._call("cos")

    def tan(self) -> E:
        """Return tangents."""
        return self._call("tan")

    def asin(self) -> E:
        """Return arc sines."""
        return self._call("asin")

    def acos(self) -> E:
        """Return arc cosines."""
        return self._call("acos")

    def atan(self) -> E:
        """Return arc tangents."""
        return self._call("atan")

    def is_nan(self) -> E:
        """True where the value is NaN."""
        return self._call("is_nan")
