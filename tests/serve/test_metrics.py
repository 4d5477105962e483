"""Metrics of deployments: tags of the replica and of the request."""

from __future__ import annotations

from typing import Any

import pytest

from skate import cloudpickle, serve
from skate.engine.metrics import registry
from skate.serve import metrics
from skate.serve.handle import DeploymentHandle


@serve.deployment
class Counting:
    """Counts its calls, with a metric that it makes and one that it got."""

    def __init__(self, given: metrics.Gauge) -> None:
        self.own = metrics.Counter("own", tag_keys=("model", "route"))
        self.own.set_default_tags({"model": "m"})
        self.sizes = metrics.Histogram("sizes", boundaries=[1.0])
        self.given = given

    def __call__(self) -> dict[str, Any]:
        self.own.inc()
        self.sizes.observe(0.5)
        self.given.set(3, tags={"colour": "red"})
        return {"own": self.own.info, "sizes": self.sizes.info, "given": self.given.info}

    def wrong(self) -> None:
        metrics.Counter("wrong", tag_keys=("replica",))


def run(given: metrics.Gauge) -> DeploymentHandle:
    handle = serve.run(Counting.bind(given), name="shop", _local_testing_mode=True)
    assert isinstance(handle, DeploymentHandle)
    return handle


def test_values_say_which_replica_they_are_of() -> None:
    given = metrics.Gauge("given", tag_keys=("colour",))
    assert given.info["tag_keys"] == ("colour",)
    handle = run(given)
    found = handle.remote().result()
    replica = found["own"]["default_tags"]["replica"]
    own = {"application": "shop", "deployment": "Counting", "replica": replica}
    assert found["own"]["tag_keys"] == ("deployment", "replica", "application", "model", "route")
    assert found["own"]["default_tags"] == {**own, "model": "m"}
    assert found["sizes"]["default_tags"] == own
    serve.shutdown()


def test_a_metric_that_is_sent_to_a_replica() -> None:
    made = metrics.Counter("sent", tag_keys=("a",))
    made.set_default_tags({"a": "1"})
    again = cloudpickle.loads(cloudpickle.dumps(made))
    assert again.info == made.info


def test_the_tags_of_a_replica_are_its_own() -> None:
    handle = run(metrics.Gauge("given", tag_keys=("colour",)))
    with pytest.raises(ValueError, match="'replica' tag is reserved"):
        handle.wrong.remote().result()
    serve.shutdown()


def test_the_route_is_that_of_the_request() -> None:
    made = metrics.Counter("routed", tag_keys=("route",))
    made.inc(tags={"route": "/given"})
    made.inc()
    assert [one["tags"] for one in registry.rows() if one["name"] == "routed"] == [
        {"route": "/given"},
        {"route": ""},
    ]
