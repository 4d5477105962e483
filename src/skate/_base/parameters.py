"""Checks whether a call fits the parameters of a function, in the process that makes the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any, NamedTuple

_VARARGS, _VARKEYWORDS = 0x04, 0x08

#: The limit of positional arguments for a function that takes ``*args``.
ANY = 1 << 30


class Parameters(NamedTuple):
    """Describes the parameters of a function, without ``self``.

    A call without keywords fits if ``least <= len(args) <= most``; ``check`` handles every call.
    """

    least: int
    most: int
    #: Names of the positional parameters; the first ``unnamed`` of them cannot be passed by name.
    positional: tuple[str, ...]
    unnamed: int
    #: How many of the positional parameters have no default.
    required: int
    keywords: frozenset[str]
    required_keywords: frozenset[str]
    any_keywords: bool

    def check(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise if the call does not fit.

        Raises:
            TypeError: it names the missing or superfluous argument in the words of ``inspect``, as programs
                match on them.
        """
        given = len(args)
        if given > self.most:
            raise TypeError(
                f"{name}() got too many positional arguments: it takes at most {self.most}, got {given}"
            )
        for index, parameter in enumerate(self.positional):
            by_name = parameter in kwargs and index >= self.unnamed
            if index < given:
                if by_name:
                    raise TypeError(f"{name}() got multiple values for argument {parameter!r}")
            elif index < self.required and not by_name:
                raise TypeError(f"{name}() is missing a required argument: {parameter!r}")
        for parameter in sorted(self.required_keywords):
            if parameter not in kwargs:
                raise TypeError(f"{name}() is missing a required argument: {parameter!r}, by keyword")
        if not self.any_keywords:
            for parameter in kwargs:
                if parameter not in self.keywords and parameter not in self.positional[self.unnamed :]:
                    raise TypeError(f"{name}() got an unexpected keyword argument {parameter!r}")

    def to_text(self) -> str:
        """Return the parameters as one line, such as ``a,b=,*,c|3``; see ``from_text``."""
        parts = [f"{one}=" if index >= self.required else one for index, one in enumerate(self.positional)]
        if self.unnamed:
            parts.insert(self.unnamed, "/")
        parts.append("*args" if self.most >= ANY else "*")
        parts += sorted(one if one in self.required_keywords else f"{one}=" for one in self.keywords)
        if self.any_keywords:
            parts.append("**")
        return ",".join(parts)


def from_text(text: str) -> Parameters:
    """Return the parameters that ``to_text`` wrote."""
    parts = text.split(",")
    star = next(index for index, one in enumerate(parts) if one in ("*", "*args"))
    before, after = parts[:star], parts[star + 1 :]
    unnamed = before.index("/") if "/" in before else 0
    before = [one for one in before if one != "/"]
    any_keywords = after[-1:] == ["**"]
    if any_keywords:
        after.pop()
    return _make(
        tuple(one.rstrip("=") for one in before),
        unnamed,
        sum(not one.endswith("=") for one in before),
        frozenset(one.rstrip("=") for one in after),
        frozenset(one for one in after if not one.endswith("=")),
        parts[star] == "*args",
        any_keywords,
    )


def _make(
    positional: tuple[str, ...],
    unnamed: int,
    required: int,
    keywords: frozenset[str],
    required_keywords: frozenset[str],
    any_positional: bool,
    any_keywords: bool,
) -> Parameters:
    # With required keywords no call without keywords fits, so each call goes through ``check``.
    least = ANY + 1 if required_keywords else required
    most = ANY if any_positional else len(positional)
    return Parameters(least, most, positional, unnamed, required, keywords, required_keywords, any_keywords)


#: Stands for other callables than plain functions: every call passes the check, and the call itself may fail.
UNKNOWN = _make((), 0, 0, frozenset(), frozenset(), True, True)


def parameters_of(function: Any, *, bound: bool = False) -> Parameters:
    """Return the parameters of a function as it is called; decorators are not followed.

    Args:
        function: any callable; UNKNOWN is the answer unless it is a function written in Python, a method of
            one, or an object whose class has such a ``__call__``.
        bound: leave out the first parameter, ``self``.
    """
    while isinstance(function, (MethodType, staticmethod)):
        bound = bound or isinstance(function, MethodType)
        function = function.__func__
    if not isinstance(function, (FunctionType, type)):
        called = getattr(type(function), "__call__", None)  # noqa: B004
        if isinstance(called, FunctionType):
            function, bound = called, True
    # Some decorators have the code of another function as an attribute; it does not count.
    if type(function) is not FunctionType:
        return UNKNOWN
    code = function.__code__
    count = code.co_argcount
    names: tuple[str, ...] = code.co_varnames
    skip = 1 if bound else 0
    if skip > count:  # ``def method(*args)``
        skip = 0
    keywords = frozenset(names[count : count + code.co_kwonlyargcount])
    defaults = function.__defaults__ or ()
    given = function.__kwdefaults__ or {}
    return _make(
        names[skip:count],
        max(0, code.co_posonlyargcount - skip),
        max(0, count - skip - len(defaults)),
        keywords,
        frozenset(one for one in keywords if one not in given),
        bool(code.co_flags & _VARARGS),
        bool(code.co_flags & _VARKEYWORDS),
    )
