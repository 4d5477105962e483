"""Operators that do the same are the same bytes: warm replicas and loaded stages are found by them."""

from __future__ import annotations

from typing import Any

from skate import cloudpickle
from skate.data._operators.functions import UserFunction
from skate.data._operators.map_operators import MapRows


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"name": self.name}


def _pickled(name: str) -> bytes:
    return cloudpickle.dumps(MapRows(UserFunction.of(Named, fn_constructor_args=[name])))


def test_equal_operators_are_equal_bytes() -> None:
    assert _pickled("a") == _pickled("a")


def test_other_arguments_are_other_bytes() -> None:
    assert _pickled("a") != _pickled("b")


def test_an_operator_that_came_back_has_an_instance_of_its_own() -> None:
    import pyarrow as pa

    from skate.data._task.operators import Replica, TaskContext

    one, other = (cloudpickle.loads(_pickled(name)) for name in "ab")
    replica = Replica()
    for position, operator in enumerate((one, other)):
        operator.open(position, replica)
    blocks = [
        next(iter(operator.process(iter([pa.table({"id": [1]})]), TaskContext("0.0", replica=replica))))
        for operator in (one, other)
    ]
    assert [block["name"].to_pylist() for block in blocks] == [["a"], ["b"]]
