"""What is sent by value shares its globals with what came before: the two ends, without a session."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import cloudpickle
import numpy
import pytest

from skate.util._namespaces import Receiver, Sender

SOURCE = """
table = None
cache = {}
limit = 1

class Settings:
    scale = 1

    def read(self):
        return self.scale, table

def prepare(value):
    global table
    table = value
    cache["value"] = value
    Settings.scale = value

def read():
    return table, dict(cache), limit, Settings.scale

def helper():
    return "old"

def use_helper():
    return helper()

def forget():
    global table
    del table

def has_table():
    return "table" in globals(), table
"""


@pytest.fixture
def module() -> Iterator[Any]:
    """A module whose functions are pickled by value, as those of ``__main__`` are."""
    made = types.ModuleType("by_value")
    sys.modules["by_value"] = made
    exec(SOURCE, vars(made))
    cloudpickle.register_pickle_by_value(made)
    yield made
    cloudpickle.unregister_pickle_by_value(made)
    del sys.modules["by_value"]


class Ends:
    def __init__(self) -> None:
        self.sender = Sender()
        self.receiver = Receiver()

    def __call__(self, value: Any) -> Any:
        return self.receiver.load(self.sender.pack(value, "value"))


@pytest.fixture
def send() -> Ends:
    return Ends()


def test_what_is_set_there_stays(module: Any, send: Ends) -> None:
    send(module.prepare)(7)
    for _ in range(2):
        assert send(module.read)()[:3] == (7, {"value": 7}, 1)
    assert module.table is None
    assert module.cache == {}


def test_what_is_bound_anew_here_arrives(module: Any, send: Ends) -> None:
    assert send(module.read)() == (None, {}, 1, 1)
    module.limit = 2
    module.cache = {"new": 1}
    module.table = "mine"
    assert send(module.read)()[:3] == ("mine", {"new": 1}, 2)


def test_but_not_where_code_there_has_bound_it(module: Any, send: Ends) -> None:
    send(module.prepare)(7)
    module.table = "mine"
    assert send(module.read)()[0] == 7


def test_what_is_deleted_there_stays_deleted(module: Any, send: Ends) -> None:
    send(module.forget)()
    with pytest.raises(NameError):
        send(module.has_table)()


def test_a_function_that_is_defined_anew(module: Any, send: Ends) -> None:
    assert send(module.use_helper)() == "old"
    exec("def helper():\n    return 'new'", vars(module))
    assert send(module.use_helper)() == "new"


def test_receivers_are_apart(module: Any) -> None:
    first, second = Ends(), Ends()
    first(module.prepare)(1)
    assert second(module.read)()[:2] == (None, {})


def test_a_dead_value_and_none_are_two(module: Any, send: Ends) -> None:
    module.table = {1, 2}
    send(module.read)
    module.table = None
    assert send(module.read)()[0] is None


def test_arrays_are_copies(send: Ends) -> None:
    array = numpy.zeros(3)
    array.flags.writeable = False
    for one in (send(array), send([array])[0], send({"a": (array,)})["a"][0]):
        one[0] = 1
    assert array.sum() == 0


def test_large_ones_can_be_shared(send: Ends) -> None:
    packed = send.sender.pack([numpy.zeros(10), numpy.zeros(1000)], "value")
    small, large = send.receiver.load(packed, share_from=1000)
    assert (small.flags.writeable, large.flags.writeable) == (True, False)


def test_what_cannot_be_sent_is_named(send: Ends) -> None:
    with pytest.raises(TypeError, match=r"value\['a'\]\[1\] is a generator"):
        send({"a": [1, (i for i in range(3))]})
