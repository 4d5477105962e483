"""The values that user code of replicas recorded, over the look-back period."""

from __future__ import annotations

import pytest

from skate.serve._controller.measures import Measures, aggregated


def test_the_latest_period_of_the_replicas_that_run() -> None:
    one = Measures()
    for now in range(6):
        one.recorded("a", {"depth": now, "size": 1.0}, 3.0, float(now))
    one.recorded("b", {"depth": 7}, 3.0, 5.0)
    one.recorded("gone", {"depth": 9}, 3.0, 5.0)
    found = one.over(3.0, ["a", "b", "silent"], 5.0)
    assert found == {
        "depth": {"a": [(3.0, 3), (4.0, 4), (5.0, 5)], "b": [(5.0, 7)]},
        "size": {"a": [(3.0, 1.0), (4.0, 1.0), (5.0, 1.0)]},
    }
    assert (found["depth"]["b"][0].timestamp, found["depth"]["b"][0].value) == (5.0, 7)
    # A replica that went is forgotten, should it come back.
    assert "gone" not in one.over(3.0, ["gone"], 5.0).get("depth", {})


def test_the_latest_value_counts_however_old_it_is() -> None:
    one = Measures()
    one.recorded("a", {"depth": 1}, 3.0, 0.0)
    one.recorded("a", {"depth": 2}, 3.0, 1.0)
    assert one.over(3.0, ["a"], 100.0) == {"depth": {"a": [(1.0, 2)]}}


def test_no_more_is_kept_than_the_period() -> None:
    one = Measures()
    for now in range(1000):
        one.recorded("a", {"depth": now}, 3.0, float(now))
    assert len(one.over(1e9, ["a"], 1000.0)["depth"]["a"]) == 3


@pytest.mark.parametrize(("function", "value"), [("mean", 3.0), ("max", 6), ("min", 1)])
def test_one_value_for_each_series(function: str, value: float) -> None:
    one = Measures()
    for now, depth in enumerate((1, 2, 6)):
        one.recorded("a", {"depth": depth}, 10.0, float(now))
    assert aggregated(one.over(10.0, ["a"], 2.0), function) == {"depth": {"a": value}}
