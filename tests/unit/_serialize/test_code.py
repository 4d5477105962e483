"""Functions as bytes: what must survive the trip so that a traceback shows the user's lines."""

from __future__ import annotations

import linecache
import pickle
import traceback
from typing import Any

import pytest

from skate import cloudpickle
from skate._serialize.values import dump_code


def outer() -> object:
    def inner() -> int:
        return 1

    return inner


def test_code_keeps_its_file_whatever_cloudpickle_thinks_of_it() -> None:
    def by_value() -> object:
        return outer, lambda: 1

    blob, refs = dump_code(by_value)
    loaded = pickle.loads(blob)
    assert loaded.__code__.co_filename == __file__
    assert loaded()[1].__code__.co_filename == __file__
    assert loaded.__code__.co_firstlineno == by_value.__code__.co_firstlineno
    assert refs == []
    assert pickle.loads(cloudpickle.dumps(by_value)).__code__.co_filename == __file__


def test_code_within_code_keeps_it_too() -> None:
    def by_value() -> object:
        def deeper() -> int:
            return 2

        return deeper

    loaded = pickle.loads(dump_code(by_value)[0])
    assert loaded().__code__.co_filename == __file__


def test_code_of_no_file_takes_its_source_along() -> None:
    """Such as that of a notebook's cell: only this process knows the text."""
    name, text = (
        "/nowhere/cell 1",
        "def f():\n    def inner():\n        raise ValueError('no')\n    inner()\n",
    )
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    blob, _ = dump_code(names["f"])
    assert blob.count(b"raise ValueError") == 1
    del linecache.cache[name]
    loaded = pickle.loads(blob)
    try:
        with pytest.raises(ValueError) as caught:
            loaded()
        assert "raise ValueError('no')" in "".join(traceback.format_exception(caught.value))
    finally:
        del linecache.cache[name]


def test_code_of_a_file_does_not() -> None:
    linecache.getlines(__file__)
    blob, _ = dump_code(lambda: "a text that is nowhere else")
    assert b"test_code_of_no_file" not in blob
