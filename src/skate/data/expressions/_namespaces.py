"""Functions of expressions by the kind of their values: ``.str``, ``.list``, ``.struct``, ``.map``,
``.arr``, ``.dt``.

A namespace knows names and parameters alone; it is given the method that builds the expression of a function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

E = TypeVar("E")
_Slice: TypeAlias = slice


class _Namespace(Generic[E]):
    def __init__(self, call: Callable[..., E]) -> None:
        self._call = call


class ArrayNamespace(_Namespace[E]):
    """Functions of arrays of fixed size."""

    def to_list(self) -> E:
        """Return arrays as lists."""
        return self._call("arr.to_list")


class MapNamespace(_Namespace[E]):
    """Keys and values of maps."""

    def keys(self) -> E:
        """Return the keys of each map as a list."""
        return self._call("map.keys")

    def values(self) -> E:
        """Return the values of each map as a list."""
        return self._call("map.values")


class StructNamespace(_Namespace[E]):
    """Fields of structs."""

    def field(self, field_name: str) -> E:
        """Return a field by name."""
        return self._call("struct.field", field_name)

    def field_by_index(self, index: int) -> E:
        """Return a field by number."""
        return self._call("struct.field", index)

    def __getitem__(self, key: str) -> E:
        return self.field(key)


class ListNamespace(_Namespace[E]):
    """Functions of lists."""

    def len(self) -> E:
        """Return the number of elements."""
        return self._call("list.len")

    def get(self, index: int) -> E:
        """Return an element; negative numbers count from the end; null where there is none."""
        return self._call("list.get", index)

    def slice(self, start: int | None = None, stop: int | None = None, step: int | None = None) -> E:
        """Return a part of each list, as Python's slices do."""
        return self._call("list.slice", start, stop, step)

    def __getitem__(self, key: int | _Slice) -> E:
        return self.slice(key.start, key.stop, key.step) if isinstance(key, slice) else self.get(key)

    def sort(self, order: str = "ascending", null_placement: str = "at_end") -> E:
        """Sort the elements of each list."""
        return self._call("list.sort", order, null_placement)

    def flatten(self) -> E:
        """Return lists of lists as lists of their elements."""
        return self._call("list.flatten")


class DatetimeNamespace(_Namespace[E]):
    """Functions of dates and times."""

    def year(self) -> E:
        """Return the year."""
        return self._call("dt.year")

    def month(self) -> E:
        """Return the month, from 1."""
        return self._call("dt.month")

    def day(self) -> E:
        """Return the day of the month, from 1."""
        return self._call("dt.day")

    def hour(self) -> E:
        """Return the hour."""
        return self._call("dt.hour")

    def minute(self) -> E:
        """Return the minute."""
        return self._call("dt.minute")

    def second(self) -> E:
        """Return the second."""
        return self._call("dt.second")

    def quarter(self) -> E:
        """Return the quarter, from 1."""
        return self._call("dt.quarter")

    def day_of_week(self) -> E:
        """Return the day of the week, Monday is 0."""
        return self._call("dt.day_of_week")

    def strftime(self, fmt: str) -> E:
        """Return text by a format such as ``"%Y-%m-%d"``."""
        return self._call("dt.strftime", format=fmt)

    def ceil(self, unit: str) -> E:
        """Round up to a unit such as ``"hour"``."""
        return self._call("dt.ceil", unit)

    def floor(self, unit: str) -> E:
        """Round down to a unit."""
        return self._call("dt.floor", unit)

    def round(self, unit: str) -> E:
        """Round to a unit."""
        return self._call("dt.round", unit)


class StringNamespace(_Namespace[E]):
    """Functions of text. Further options go to the pyarrow function of the same purpose
    (``ignore_case=True``).
    """

    def len(self) -> E:
        """Return the number of characters."""
        return self._call("str.len")

    def byte_len(self) -> E:
        """Return the number of bytes."""
        return self._call("str.byte_len")

    def lower(self) -> E:
        """Return lower case."""
        return self._call("str.lower")

    def upper(self) -> E:
        """Return upper case."""
        return self._call("str.upper")

    def capitalize(self) -> E:
        """Return the first character in upper case, others in lower case."""
        return self._call("str.capitalize")

    def title(self) -> E:
        """Return each word with a first character in upper case."""
        return self._call("str.title")

    def swapcase(self) -> E:
        """Return lower case for upper case and upper for lower."""
        return self._call("str.swapcase")

    def reverse(self) -> E:
        """Return characters from last to first."""
        return self._call("str.reverse")

    def strip(self, characters: str | None = None) -> E:
        """Drop characters at both ends; white space by default."""
        return self._call("str.strip", characters)

    def lstrip(self, characters: str | None = None) -> E:
        """Drop characters at the beginning; white space by default."""
        return self._call("str.lstrip", characters)

    def rstrip(self, characters: str | None = None) -> E:
        """Drop characters at the end; white space by default."""
        return self._call("str.rstrip", characters)

    def starts_with(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """True where the text begins with another."""
        return self._call("str.starts_with", pattern, *args, **kwargs)

    def ends_with(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """True where the text ends with another."""
        return self._call("str.ends_with", pattern, *args, **kwargs)

    def contains(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """True where the text contains another."""
        return self._call("str.contains", pattern, *args, **kwargs)

    def match(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """True where the text matches a pattern of SQL's LIKE: ``%`` any text, ``_`` any character."""
        return self._call("str.match", pattern, *args, **kwargs)

    def match_regex(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """True where a regular expression (RE2) is found."""
        return self._call("str.match_regex", pattern, *args, **kwargs)

    def find(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """Return the byte at which a text is found first, or -1."""
        return self._call("str.find", pattern, *args, **kwargs)

    def find_regex(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """Return the byte at which a regular expression is found first, or -1."""
        return self._call("str.find_regex", pattern, *args, **kwargs)

    def count(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """Return how often a text is found."""
        return self._call("str.count", pattern, *args, **kwargs)

    def count_regex(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """Return how often a regular expression is found."""
        return self._call("str.count_regex", pattern, *args, **kwargs)

    def replace(self, pattern: str, replacement: str, *args: Any, **kwargs: Any) -> E:
        """Replace each occurrence of a text."""
        return self._call("str.replace", pattern, replacement, *args, **kwargs)

    def replace_regex(self, pattern: str, replacement: str, *args: Any, **kwargs: Any) -> E:
        r"""Replace each occurrence of a regular expression; ``\1`` is its first group."""
        return self._call("str.replace_regex", pattern, replacement, *args, **kwargs)

    def replace_slice(self, start: int, stop: int, replacement: str, *args: Any, **kwargs: Any) -> E:
        """Replace the characters from ``start`` to before ``stop``."""
        return self._call("str.replace_slice", start, stop, replacement, *args, **kwargs)

    def slice(self, *args: Any, **kwargs: Any) -> E:
        """Return the characters from ``start`` to before ``stop``, by ``step``."""
        return self._call("str.slice", *args, **kwargs)

    def split(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """Cut at each occurrence of a text; the result is a list."""
        return self._call("str.split", pattern, *args, **kwargs)

    def split_regex(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """Cut at each occurrence of a regular expression; the result is a list."""
        return self._call("str.split_regex", pattern, *args, **kwargs)

    def split_whitespace(self, *args: Any, **kwargs: Any) -> E:
        """Cut at white space; the result is a list."""
        return self._call("str.split_whitespace", *args, **kwargs)

    def extract(self, pattern: str, *args: Any, **kwargs: Any) -> E:
        """Return the named groups of a regular expression as a struct: ``(?P<year>[0-9]+)``."""
        return self._call("str.extract", pattern, *args, **kwargs)

    def center(self, width: int, padding: str = " ", *args: Any, **kwargs: Any) -> E:
        """Pad at both ends to a width."""
        return self._call("str.center", width, padding, *args, **kwargs)

    def lpad(self, width: int, padding: str = " ", *args: Any, **kwargs: Any) -> E:
        """Pad at the beginning to a width."""
        return self._call("str.lpad", width, padding, *args, **kwargs)

    def rpad(self, width: int, padding: str = " ", *args: Any, **kwargs: Any) -> E:
        """Pad at the end to a width."""
        return self._call("str.rpad", width, padding, *args, **kwargs)

    def pad(self, width: int, fillchar: str = " ", side: str = "right") -> E:
        """Pad to a width at the ``"left"``, ``"right"`` or ``"both"`` sides."""
        return self._call("str.pad", width, fillchar, side)

    def repeat(self, n: int, *args: Any, **kwargs: Any) -> E:
        """Return the text n times."""
        return self._call("str.repeat", n, *args, **kwargs)

    def is_alnum(self) -> E:
        """True where all characters are letters or digits."""
        return self._call("str.is_alnum")

    def is_alpha(self) -> E:
        """True where all characters are letters."""
        return self._call("str.is_alpha")

    def is_ascii(self) -> E:
        """True where all characters are ASCII."""
        return self._call("str.is_ascii")

    def is_decimal(self) -> E:
        """True where all characters are decimal digits."""
        return self._call("str.is_decimal")

    def is_digit(self) -> E:
        """True where all characters are digits."""
        return self._call("str.is_digit")

    def is_lower(self) -> E:
        """True where all letters are lower case."""
        return self._call("str.is_lower")

    def is_numeric(self) -> E:
        """True where all characters are numeric."""
        return self._call("str.is_numeric")

    def is_printable(self) -> E:
        """True where all characters can be printed."""
        return self._call("str.is_printable")

    def is_space(self) -> E:
        """True where all characters are white space."""
        return self._call("str.is_space")

    def is_title(self) -> E:
        """True where words begin with upper case."""
        return self._call("str.is_title")

    def is_upper(self) -> E:
        """True where all letters are upper case."""
        return self._call("str.is_upper")
