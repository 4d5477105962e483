"""Whether a call fits a function: the same answer that Python gives when it is called."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._base.parameters import UNKNOWN, Parameters, from_text, parameters_of

FUNCTIONS: list[Any] = [
    lambda: None,
    lambda a: None,
    lambda a, b=1: None,
    lambda a, /, b: None,
    lambda a=0, /, *, c: None,
    lambda *args: None,
    lambda a, *args, c=3: None,
    lambda **named: None,
    lambda a, /, **named: None,
    lambda a, b=2, *args, c, d=1, **named: None,
]


def fits(parameters: Parameters, args: Any, kwargs: Any) -> bool:
    if not kwargs and parameters.least <= len(args) <= parameters.most:
        return True
    try:
        parameters.check("f", args, kwargs)
    except TypeError:
        return False
    return True


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.just(0), max_size=4),
    st.dictionaries(st.sampled_from("abcdx"), st.just(0)),
)
def test_as_python_says(function: Any, args: Any, kwargs: Any) -> None:
    try:
        function(*args, **kwargs)
        expected = True
    except TypeError:
        expected = False
    found = parameters_of(function)
    assert fits(found, args, kwargs) == expected, inspect.signature(function)
    assert from_text(found.to_text()) == found


@pytest.mark.parametrize("function", FUNCTIONS)
def test_without_self(function: Any) -> None:
    names = {"self": None, "__f": function}
    inner = str(inspect.signature(function)).strip("()")
    method = eval(f"lambda self, {inner}: None", names) if inner else eval("lambda self: None")
    found = parameters_of(method, bound=True)
    assert "self" not in found.positional
    assert found == parameters_of(function)._replace(unnamed=found.unnamed)


def test_self_among_args() -> None:
    assert parameters_of(lambda *args: None, bound=True) == parameters_of(lambda *args: None)


class _Object:
    def __call__(self, x: int, *, y: int = 0) -> None: ...

    def method(self, x: int, *, y: int = 0) -> None: ...

    @classmethod
    def of_class(cls, x: int, *, y: int = 0) -> None: ...


@pytest.mark.parametrize("function", [_Object(), _Object().method, _Object.of_class, _Object().of_class])
def test_what_is_bound_already(function: Any) -> None:
    assert parameters_of(function) == parameters_of(lambda x, *, y=0: None)


def test_what_has_the_code_of_another_function() -> None:
    class Decorated:
        __code__ = (lambda x: None).__code__

        def __call__(self, *args: Any) -> None: ...

    assert parameters_of(Decorated()) == parameters_of(lambda *args: None)


@pytest.mark.parametrize("function", [len, print, functools.partial(print, 1), int])
def test_what_is_no_plain_function_takes_anything(function: Any) -> None:
    assert parameters_of(function) == UNKNOWN
    UNKNOWN.check("f", (1, 2, 3), {"a": 1})


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"f\(\) is missing a required argument: 'a'"),
        ((1, 2, 3), {}, r"f\(\) takes at most 2 positional argument\(s\), got 3"),
        ((1,), {"a": 2}, r"f\(\) got multiple values for argument 'a'"),
        ((1,), {"z": 2}, r"f\(\) got an unexpected keyword argument 'z'"),
    ],
)
def test_messages(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        parameters_of(lambda a, b=1: None).check("f", args, kwargs)


def test_the_message_for_keywords() -> None:
    with pytest.raises(TypeError, match="is missing a required argument: 'c'"):
        parameters_of(lambda *, c: None).check("f", (), {})
