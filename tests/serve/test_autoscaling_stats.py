"""Policies decide by what user code of replicas records: real processes, with short intervals."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skate import serve
from skate.serve.config import AutoscalingPolicy
from skate.serve.context import ReplicaID

from .conftest import Web
from .processes import kill_controller, replicas

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)


def by_depth(context: Any) -> int:
    """Ask for as many replicas as the depths of all of them say."""
    found = context.aggregated_metrics.get("depth", {})
    assert {*found} <= {*context.running_replicas}
    for replica, values in context.raw_metrics.get("depth", {}).items():
        assert isinstance(replica, ReplicaID)
        assert all(abs(one.timestamp - context.current_time) < 60 for one in values)
        assert min(one.value for one in values) <= found[replica] <= max(one.value for one in values)
    return math.ceil(max(found.values(), default=context.target_num_replicas))


SCALING: dict[str, Any] = {
    "metrics_interval_s": 0.05,
    "look_back_period_s": 0.1,
    "upscale_delay_s": 0,
    "downscale_delay_s": 0,
    "max_replicas": 4,
    "policy": AutoscalingPolicy(policy_function=by_depth),
}


class Queue:
    """Says how deep it is, as a file says."""

    def __init__(self, path: str) -> None:
        self.path = path

    def depth(self) -> Any:
        with open(self.path) as file:
            return eval(file.read())

    def __call__(self, request: Any = None) -> int:
        return os.getpid()


@serve.deployment(name="Model", autoscaling_config=SCALING)
class Plain(Queue):
    def record_autoscaling_stats(self) -> Any:
        return {"depth": self.depth(), "time": time.time()}


@serve.deployment(name="Model", autoscaling_config=SCALING)
class Async(Queue):
    async def record_autoscaling_stats(self) -> Any:
        return {"depth": self.depth()}


@pytest.fixture
def write(tmp_path: Any) -> Any:
    """Replaces what the file says."""

    def write(text: str) -> str:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(tmp_path / "depth")
        return str(tmp_path / "depth")

    return write


@pytest.mark.parametrize("model", [Plain, Async])
def test_a_policy_sees_what_replicas_record(web: Web, wait_until: Wait, write: Any, model: Any) -> None:
    serve.run(model.bind(write("1")), route_prefix=None)
    assert len(replicas("Model")) == 1
    write("3")
    wait_until(lambda: len(replicas("Model")) == 3)
    write("2")
    wait_until(lambda: len(replicas("Model")) == 2)


def test_a_restarted_controller_hears_of_them_again(web: Web, wait_until: Wait, write: Any) -> None:
    serve.run(Plain.bind(write("2")), route_prefix=None)
    wait_until(lambda: len(replicas("Model")) == 2)
    kill_controller()
    write("3")
    wait_until(lambda: len(replicas("Model")) == 3)


@pytest.mark.parametrize("wrong", ["1 / 0", "'deep'"])
def test_what_is_no_number_changes_nothing(
    web: Web, wait_until: Wait, write: Any, tmp_path: Path, wrong: str
) -> None:
    serve.run(Plain.bind(write("2")), route_prefix=None)
    wait_until(lambda: len(replicas("Model")) == 2)
    write(f"[open(self.path + '.seen', 'w').close(), {wrong}][1]")
    wait_until((tmp_path / "depth.seen").exists)
    assert len(replicas("Model")) == 2
    write("3")  # the replicas are asked again
    wait_until(lambda: len(replicas("Model")) == 3)
