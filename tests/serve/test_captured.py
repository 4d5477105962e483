"""Serve is started from within a placement group that captures what is started there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import skate
from skate import serve
from skate.util import get_current_placement_group, placement_group, remove_placement_group
from skate.util.scheduling_strategies import PlacementGroupSchedulingStrategy

pytestmark = pytest.mark.time_limit(120)


@serve.deployment
def group(request: Any = None) -> Any:
    return get_current_placement_group()


@skate.remote(num_cpus=1)
def run() -> Any:
    serve.run(group.bind(), route_prefix=None)
    return get_current_placement_group()


@pytest.fixture
def session() -> Iterator[None]:
    skate.shutdown()
    skate.init(num_cpus=2)
    yield
    serve.shutdown()
    skate.shutdown()


def test_serve_is_outside_of_it_and_outlives_it(session: None) -> None:
    captures = placement_group([{"CPU": 2}])
    strategy = PlacementGroupSchedulingStrategy(captures, placement_group_capture_child_tasks=True)
    assert skate.get(run.options(scheduling_strategy=strategy).remote()) == captures
    assert serve.get_app_handle("default").remote().result() is None
    remove_placement_group(captures)
    assert serve.get_app_handle("default").remote().result() is None
    assert serve.status().applications["default"].status == "RUNNING"
