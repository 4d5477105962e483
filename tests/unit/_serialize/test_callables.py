"""What the standard library makes of functions travels by value where its name leads nowhere."""

from __future__ import annotations

import functools
import pickle
import typing
from typing import Any

import pytest

from skate._base.class_proxy import ClassProxy, ProxySuper
from skate._serialize.values import deserialize, dump_code, serialize


def travel(value: Any) -> Any:
    """Send it both ways that values and code take."""
    found = serialize(value)
    deserialize(found.kind, found.to_bytes())
    return pickle.loads(dump_code(value)[0])


@functools.lru_cache
def importable(x: int) -> int:
    return x


def test_what_is_found_by_its_name_goes_by_it() -> None:
    assert travel(importable) is importable
    assert travel(functools.singledispatch) is functools.singledispatch


@pytest.mark.parametrize("make", [functools.cache, functools.lru_cache(maxsize=3, typed=True)])
def test_a_cache_starts_empty(make: Any) -> None:
    @make
    def double(x: int) -> int:
        """Text."""
        return 2 * x

    double(1)
    double.mark = "mine"
    there = travel(double)
    assert there is not double and there.cache_info().currsize == 0
    assert there(4) == 8 and there.cache_parameters() == double.cache_parameters()
    names = (double.__name__, double.__qualname__, "Text.")
    assert (there.__name__, there.__qualname__, there.__doc__) == names
    assert there.mark == "mine" and there.__wrapped__(4) == 8


def test_a_cached_function_that_calls_itself() -> None:
    @functools.cache
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    there = travel(fibonacci)
    assert there(80) == 23416728348467685
    assert there.cache_info().currsize == 81  # the cache that it calls is its own
    assert there.__wrapped__.__closure__[0].cell_contents is there


def test_single_dispatch() -> None:
    @functools.singledispatch
    def name_of(x: Any) -> Any:
        """Text."""
        return "thing"

    @name_of.register
    def _(x: list) -> Any:  # type: ignore[type-arg]
        return [name_of(one) for one in x]

    name_of.register(int, lambda x: "number")
    name_of.mark = "mine"  # type: ignore[attr-defined]
    there = travel(name_of)
    assert there([1, "a", [2]]) == ["number", "thing", ["number"]]
    assert (there.__name__, there.__doc__, there.mark) == ("name_of", "Text.", "mine")
    there.register(str, lambda x: "text")
    assert (there("a"), name_of("a"), there.__wrapped__(1)) == ("text", "thing", "thing")


def test_in_a_class() -> None:
    class Thing:
        @functools.cached_property
        def slow(self) -> str:
            """Text."""
            return "slow"

        @functools.singledispatchmethod
        def name_of(self, x: Any) -> str:
            return "thing"

        @name_of.register
        def _(self, x: int) -> str:
            return "number"

        @functools.cache  # noqa: B019
        def same(self, x: int) -> int:
            return x

        add = functools.partialmethod(lambda self, a, b: a + b, 10)
        static = staticmethod(functools.cache(lambda x: x))
        of_class = classmethod(functools.cache(lambda cls, x: x))

    one = travel(Thing)()
    found = (one.slow, one.name_of(1), one.name_of(""), one.same(3), one.add(5))
    assert found == ("slow", "number", "thing", 3, 15)
    assert (one.static(1), one.of_class(2), type(one).slow.__doc__) == (1, 2, "Text.")


def test_types_of_their_own() -> None:
    price = typing.NewType("price", int)
    price.__module__ = "__main__"
    there = travel(price)
    assert (there.__name__, there.__supertype__, there.__module__) == ("price", int, "__main__")
    parameters = typing.ParamSpec("parameters")
    assert travel(parameters).__name__ == "parameters"
    inside = travel(typing.Callable[parameters, int])  # type: ignore[valid-type]
    assert typing.get_args(inside)[0].__name__ == "parameters"


# ---------------------------------------------------------------------- super


class _Base:
    def name(self) -> str:
        return "base"


def test_functions_that_know_a_proxy_get_another_super() -> None:
    class Sub(_Base):
        def name(self) -> str:
            return super(proxy, self).name() + super().name()

        def other(self) -> str:
            return super().name()

    proxy: Any = _Proxy(Sub)
    there = pickle.loads(dump_code(proxy)[0]).__wrapped__
    assert there().name() == "basebase" and there().other() == "base"
    assert there.name.__globals__["super"] is ProxySuper


class _Proxy(ClassProxy[Any]):
    def __reduce__(self) -> Any:
        return _Proxy, (self.__wrapped__,)


def test_others_do_not() -> None:
    class Sub(_Base):
        def name(self) -> str:
            return super().name()

    there = pickle.loads(dump_code(Sub)[0])
    assert there().name() == "base" and "super" not in there.name.__globals__
