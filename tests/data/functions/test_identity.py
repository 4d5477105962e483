"""Equal functions have equal keys in every process, so that a program that is started again can go on."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from skate.data._operators.functions import UserFunction
from skate.data._operators.identity import identity

PROGRAM = """
    import dataclasses, enum, functools
    from skate.data._operators.functions import UserFunction

    class Scale:
        def __init__(self, by):
            self.by, self.names = by, {"a", "b", "c", "d"}
        def __call__(self, row):
            return {"x": row["x"] * self.by}
        def method(self, row):
            return self(row)

    @dataclasses.dataclass
    class Settings:
        size: int = 3
        kinds: frozenset = frozenset({"png", "jpg", "gif"})

    class Color(enum.Enum):
        RED = 1

    def closing(what):
        def inner(row, **more):
            return {"x": row["x"], "what": what}
        return inner

    def local():
        class Local:
            def __call__(self, row):
                return row
        return Local

    def recursive():
        def again(row):
            return again(row) if row["x"] else row
        return again

    exec("class Typed:\\n    size = 3\\n    def __call__(self, row):\\n        return row")
    functions = {
        "bound method": UserFunction.of(Scale(2).method),
        "instance": UserFunction.of(Scale(2)),
        "class": UserFunction.of(Scale, fn_constructor_args=[2]),
        "closure over an instance": UserFunction.of(closing(Scale(2))),
        "closure over a class": UserFunction.of(closing(Scale)),
        "closure over a set": UserFunction.of(closing({"a", "b", "c"})),
        "settings": UserFunction.of(closing(1), fn_kwargs={"settings": Settings(), "color": Color.RED}),
        "partial": UserFunction.of(functools.partial(closing(Scale(3)), 1)),
        "lambda with a set": UserFunction.of(lambda row: row["x"] in {"a", "b", "c", "d", "e"}),
        "lambda": UserFunction.of(lambda row: row),
        "default": UserFunction.of(lambda row, scale=Scale(1): row),
        "local class": UserFunction.of(local()),
        "recursive": UserFunction.of(recursive()),
        "typed at a prompt": UserFunction.of(Typed),
        "lock": UserFunction.of(closing(__import__("threading").Lock())),
    }
    for name, function in functions.items():
        print(name, function.key())
"""


def keys(folder: Path, hash_seed: int) -> dict[str, str]:
    script = folder / "program.py"
    script.write_text(textwrap.dedent(PROGRAM))
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
    )
    return {name: key for name, _, key in (line.rpartition(" ") for line in done.stdout.splitlines())}


def test_keys_are_the_same_in_every_run_of_a_program(tmp_path: Path) -> None:
    first, second = keys(tmp_path, 1), keys(tmp_path, 2)
    assert len(first) == 15
    assert {name for name, key in first.items() if key != second[name]} == set()
    assert len(set(first.values())) == len(first)


def adding(number: Any) -> Any:
    def add(row: dict[str, Any]) -> dict[str, Any]:
        return {"x": row["x"] + number}

    return add


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"x": row["x"] + self.number}


def test_keys_tell_apart_what_differs() -> None:
    functions = [
        adding(1),
        adding(2),
        adding("1"),
        adding({1}),
        adding(frozenset({1})),
        adding([1]),
        Adder(1).add,
        Adder(2).add,
        functools.partial(adding(1)),
        functools.partial(adding(1), x=2),
        lambda row: row,
        lambda row: {"x": row["x"]},
        lambda row: row["x"] in {1, 2},
        lambda row: row["x"] in {1, 3},
        lambda row, n=1: row,
        lambda row, n=2: row,
    ]
    assert len({UserFunction.of(function).key() for function in functions}) == len(functions)


def test_it_does_not_matter_which_texts_are_one_object() -> None:
    text = "some text"
    other = "".join(["some", " text"])
    assert text is not other
    assert identity([text, text]) == identity([text, other])
    assert identity((1, (text,), (text,))) == identity((1, (other,), (text,)))


def test_an_object_that_holds_itself_has_an_identity() -> None:
    value: list[Any] = []
    value.append(value)
    other: list[Any] = []
    other.append(other)
    assert identity(value) == identity(other)
