"""Counters, gauges and histograms; and how they read in Prometheus' text format."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from skate._worker.reporting import metrics as recorded
from skate.util import metrics
from skate.util.metrics import Counter, Gauge, Histogram, Metric
from skate.util.state import prometheus


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[recorded.Registry]:
    fresh = recorded.Registry()
    monkeypatch.setattr(metrics, "registry", fresh)
    yield fresh


def values(registry: recorded.Registry, worker: str = "w1") -> list[dict[str, Any]]:
    return [{**row, "worker_id": worker} for row in registry.rows()]


def test_a_counter_adds_up_for_each_tag(registry: recorded.Registry) -> None:
    served = Counter("served", description="Requests", tag_keys=("route",))
    served.inc(tags={"route": "/"})
    served.inc(2.5, {"route": "/"})
    served.set_default_tags({"route": "/all"}).inc()  # type: ignore[attr-defined]
    assert [(row["tags"], row["value"]) for row in registry.rows()] == [
        ({"route": "/"}, 3.5),
        ({"route": "/all"}, 1.0),
    ]
    assert served.info == {
        "name": "served", "description": "Requests", "tag_keys": ("route",), "default_tags": {"route": "/all"}
    }  # fmt: skip


def test_what_a_counter_refuses() -> None:
    served = Counter("served", tag_keys=("route",))
    for value in (0, -1):
        with pytest.raises(ValueError, match="only grows"):
            served.inc(value, {"route": "/"})
    with pytest.raises(TypeError, match="takes a number, got '1'"):
        served.inc("1", {"route": "/"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"needs a value of the tag\(s\) route"):
        served.inc()
    with pytest.raises(ValueError, match=r"without the tag\(s\) colour"):
        served.inc(tags={"route": "/", "colour": "red"})
    with pytest.raises(TypeError, match="values of tags are strings"):
        served.inc(tags={"route": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="none of the tag_keys"):
        served.set_default_tags({"colour": "red"})


def test_names_and_kinds() -> None:
    for name in ("", "a-b", "a b", "a:b", "1a", 3):
        with pytest.raises(ValueError, match="name of a metric"):
            Counter(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tag_keys takes a tuple"):
        Counter("a", tag_keys=["route"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got 3 in it"):
        Counter("a", tag_keys=(3,))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Counter, Gauge or Histogram"):
        Metric("a")
    Counter("a").inc()
    Counter("a").inc()  # the same again, as in every task that makes it
    with pytest.raises(ValueError, match="'a' is a counter already"):
        Gauge("a")
    Histogram("h", boundaries=[1])
    with pytest.raises(ValueError, match=r"with boundaries \[1\]"):
        Histogram("h", boundaries=[2])


def test_a_gauge_has_its_last_value(registry: recorded.Registry) -> None:
    waiting = Gauge("waiting")
    waiting.set(3)
    waiting.set(2)
    waiting.set(None)
    assert [row["value"] for row in registry.rows()] == [2]


def test_a_histogram_counts_up_to_each_boundary(registry: recorded.Registry) -> None:
    with pytest.raises(ValueError, match="needs boundaries"):
        Histogram("h")
    with pytest.raises(ValueError, match="above 0, got 0"):
        Histogram("h", boundaries=[0, 1])
    latency = Histogram("h", boundaries=[1, 0.1])
    for value in (0.05, 0.1, 0.5, 3):
        latency.observe(value)
    (row,) = registry.rows()
    assert (row["boundaries"], row["counts"], row["sum"]) == ([0.1, 1], [2, 1, 1], 3.65)
    assert latency.info["boundaries"] == [0.1, 1]


@pytest.mark.parametrize(
    "metric",
    [
        lambda: Counter("c", "d", ("t",)),
        lambda: Gauge("g", "d", ("t",)),
        lambda: Histogram("h", "d", [1], ("t",)),
    ],
)
def test_metrics_travel(metric: Any) -> None:
    made = metric().set_default_tags({"t": "x"})
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is type(made) and again.info == made.info


def test_text_of_several_processes(registry: recorded.Registry) -> None:
    Counter("served", description="Requests\nserved", tag_keys=("route",)).inc(2, {"route": 'a"b'})
    Gauge("waiting").set(1.5)
    Histogram("latency", boundaries=[0.5, 1]).observe(0.7)
    one, two = values(registry), values(registry, "w2")
    assert prometheus.text([*one, *two]) == (
        "# TYPE ray_latency histogram\n"
        'ray_latency_bucket{le="0.5"} 0\n'
        'ray_latency_bucket{le="1"} 2\n'
        'ray_latency_bucket{le="+Inf"} 2\n'
        "ray_latency_sum 1.4\n"
        "ray_latency_count 2\n"
        "# HELP ray_served_total Requests\\nserved\n"
        "# TYPE ray_served_total counter\n"
        'ray_served_total{route="a\\"b"} 4\n'
        "# TYPE ray_waiting gauge\n"
        'ray_waiting{WorkerId="w1"} 1.5\n'
        'ray_waiting{WorkerId="w2"} 1.5\n'
    )
    assert prometheus.text([]) == ""


def test_the_first_process_has_the_name() -> None:
    row = {"name": "a", "description": "", "tags": {}, "worker_id": "w"}
    assert prometheus.text(
        [{**row, "kind": "counter", "value": 1}, {**row, "kind": "gauge", "value": 2}]
    ) == ("# TYPE ray_a_total counter\nray_a_total 1\n")
