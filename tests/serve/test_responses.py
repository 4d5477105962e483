"""What handlers may return: values that JSON cannot hold by itself."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import logging
import pathlib
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skate.serve._controller.replicas import report_slow_start
from skate.serve._http.responses import JSON, AnswerError, body_of
from skate.serve._targets import DeploymentId


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/x"), "/x"),
        (decimal.Decimal("1"), 1),
        (decimal.Decimal("1.5"), 1.5),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (np.arange(2), [0, 1]),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    ],
)
def test_values_inside_and_alone(value: Any, expected: Any) -> None:
    kind, body = body_of(value)
    assert (kind, json.loads(body)) == (JSON, expected)
    assert json.loads(body_of({"inside": [value]})[1]) == {"inside": [expected]}


@pytest.mark.parametrize("value", [object(), 1j, ValueError("x"), decimal.Decimal("nan")])
def test_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(AnswerError, match="the handler returned what no response can hold: "):
        body_of(value)


def test_a_replica_that_does_not_start_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "skate.serve"):
        report_slow_start("Model-1x1", DeploymentId("Model", "shop"))
    assert "replica Model-1x1 of Model (application shop) has not started after 30 s" in caplog.text
