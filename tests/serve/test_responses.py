"""What values of handlers become as JSON."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, Field
from starlette.datastructures import Headers, QueryParams

from skate.serve._http.responses import AnswerError, body_of


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    size: int = Field(alias="Size")


@dataclass
class Holder:
    model: Model


class Plain:
    """An object with attributes."""

    def __init__(self) -> None:
        self.parts = [Colour.RED, Model(Size=2)]


FRAME = pd.DataFrame({"a": [1, 2]})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (QueryParams("a=b&c=d"), {"a": "b", "c": "d"}),
        ({"headers": Headers({"x": "y"})}, {"headers": {"x": "y"}}),
        ([Colour.RED, Path("/x"), UUID(int=1), date(2026, 1, 2)],
         ["red", "/x", "00000000-0000-0000-0000-000000000001", "2026-01-02"]),
        ([Decimal("1.50"), Decimal(2), Decimal("1E-10"), timedelta(seconds=3)], [1.5, 2, 1e-10, 3.0]),
        ([deque([1]), frozenset({2}), (3, b"four")], [[1], [2], [3, "four"]]),
        (Model(Size=1), {"Size": 1}),
        (Holder(Model(Size=1)), {"model": {"Size": 1}}),
        (Plain(), {"parts": ["red", {"Size": 2}]}),
        (ValueError("what is wrong"), "what is wrong"),
        (OrderedDict(a=1), {"a": 1}),
        ([np.float32(0.5), np.arange(2)], [0.5, [0, 1]]),
        (FRAME, [{"a": 1}, {"a": 2}]),
        (FRAME["a"], {"0": 1, "1": 2}),
    ],
)  # fmt: skip
def test_values(value: Any, found: Any) -> None:
    kind, body = body_of(value)
    assert (kind, json.loads(body)) == (b"application/json", found)


def test_keys() -> None:
    value = {np.int64(3): [{Colour.RED: Model(Size=1)}], Path("/x"): {1: (np.str_("a"),)}}
    assert json.loads(body_of(value)[1]) == {"3": [{"red": {"Size": 1}}], "/x": {"1": ["a"]}}


@pytest.mark.parametrize("value", [object(), len, Colour, {(1, 2): 3}, [{len: 1}]])
def test_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(AnswerError, match="the handler returned what no response can hold: "):
        body_of(value)


def test_numbers_that_are_not_finite() -> None:
    with pytest.raises(AnswerError, match="not JSON compliant"):
        body_of([float("nan")])
    with pytest.raises(AnswerError, match="not JSON compliant"):
        body_of(Decimal("nan"))
