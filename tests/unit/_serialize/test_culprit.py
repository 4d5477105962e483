"""Which part of a value cannot be pickled, as a Python expression."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from skate._serialize import culprit
from skate._serialize.culprit import explain, largest
from skate._serialize.values import serialize


def path_of(value: Any, name: str = "value") -> str:
    """Return the path that the message names."""
    try:
        serialize(value)
    except Exception as error:
        text = explain(value, name, error)
        return text.partition(" is a")[0]
    raise AssertionError("it can be pickled")


LOCK = threading.Lock()


class Plain:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, "value"),
        ({"a": 1, "b": [1, LOCK]}, "value['b'][1]"),
        ((1, {2: LOCK}), "value[1][2]"),
        (Plain(good=1, bad=[LOCK]), "value.bad[0]"),
        (SimpleNamespace(inner=Plain(lock=LOCK)), "value.inner.lock"),
        (Plain(lock=LOCK).method, "value.__self__.lock"),
        ([Plain(a=1), Plain(a=LOCK)], "value[1].a"),
    ],
)
def test_the_innermost_part(value: Any, path: str) -> None:
    assert path_of(value) == path


def test_in_a_set() -> None:
    class Hashable:
        def __init__(self) -> None:
            self.lock = LOCK

    assert path_of({Hashable()}) == "an element of value.lock"
    assert path_of(frozenset([Hashable()])) == "an element of value.lock"


def test_in_a_function() -> None:
    captured = [LOCK]

    def closure() -> Any:
        return captured

    def default(lock: Any = LOCK) -> Any:
        return lock

    assert path_of(closure, "f") == "the variable 'captured' captured by f[0]"
    assert path_of(default, "f") == "default 0 of f"


def test_in_a_global_of_a_function_that_goes_by_value() -> None:
    scope: dict[str, Any] = {"LOCK": LOCK, "other": 1, "__name__": "__main__"}
    exec("def f():\n    return LOCK, other, undefined\n", scope)
    assert path_of(scope["f"], "f") == "the global 'LOCK' used by f"


def test_a_variable_that_is_not_assigned_yet_is_no_culprit() -> None:
    def outer() -> Any:
        def inner() -> Any:
            return later, bad

        bad = LOCK
        found = path_of(inner, "f")
        later = 1
        return found, later

    assert outer()[0] == "the variable 'bad' captured by f"


def test_in_a_class() -> None:
    class Local:
        good = 1
        shared = {"x": LOCK}

    assert path_of(Local, "Local") == "Local.shared['x']"
    assert path_of(Local(), "value") == "value.__class__.shared['x']"


def test_the_whole_message() -> None:
    text = explain([LOCK], "args[0]", TypeError("cannot pickle it"))
    assert text == (
        "args[0][0] is a _thread.lock, which cannot be sent to another process (TypeError: cannot pickle it). "
        "Create it inside the task or actor instead, or give its class a __reduce__ method that leaves it out."
    )


def test_advice_for_what_runs_where_it_was_made() -> None:
    async def answer() -> None: ...

    coroutine = answer()
    for value, advice in ((i for i in ()), "Send a list of its items"), (coroutine, "Await it first"):
        text = explain([value], "args[0]", TypeError("cannot pickle it"))
        assert advice in text
        assert "__reduce__" not in text
    coroutine.close()


def test_names_of_types_and_their_articles() -> None:
    for value, kind in (
        (LOCK, "a _thread.lock"),
        ((i for i in ()), "a generator"),
        (AttributeError, "a type"),
    ):
        assert f"value is {kind}, which" in explain(value, "value", TypeError("x"))
    assert "value is an int, which" in explain(1, "value", TypeError("x"))


def test_what_refuses_to_be_pickled_itself() -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise RuntimeError("not me")

    text = explain({"x": Refuses()}, "value", RuntimeError("not me"))
    assert text.startswith("value['x'] is a")
    assert ".Refuses, which cannot be sent" in text
    assert "(RuntimeError: not me)" in text


def test_a_value_that_contains_itself_is_searched_once() -> None:
    value: list[Any] = [LOCK]
    value.insert(0, value)
    assert path_of(value).startswith("value")


def test_the_search_gives_up_in_a_large_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(culprit, "_BUDGET", 3)
    assert path_of([[[[[LOCK]]]]]) == "value[0][0][0]"


# ---------------------------------------------------------------------- what is large


def test_the_largest_part_of_code() -> None:
    table, other = b"x" * 5000, b"x" * 100

    def use() -> Any:
        return table, other

    class Holder:
        small = 1

        def method(self) -> Any:
            return use()

    assert largest(use, "f") == ("the variable 'table' captured by f", serialize(table).size)
    path, size = largest(Holder, "Holder")
    assert path == "the variable 'table' captured by the variable 'use' captured by Holder.method"
    assert size == serialize(table).size


def test_code_without_parts() -> None:
    assert largest(lambda: 1, "f") == ("f", 0)
