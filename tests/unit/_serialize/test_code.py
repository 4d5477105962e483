"""Functions as bytes: what must survive the trip so that a traceback shows the user's lines."""

from __future__ import annotations

import pickle

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


def test_code_within_code_keeps_it_too() -> None:
    def by_value() -> object:
        def deeper() -> int:
            return 2

        return deeper

    loaded = pickle.loads(dump_code(by_value)[0])
    assert loaded().__code__.co_filename == __file__
