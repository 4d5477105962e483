"""Options in the words of Ray."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from skate._on_ray import calls
from skate.options import retry_blob


def test_options_are_passed_on_as_they_were_written() -> None:
    given = {"num_cpus": 2, "resources": {"disk": 1}, "max_retries": None, "runtime_env": {"env_vars": {}}}
    assert calls.task_options(given, None) == {
        "num_cpus": 2, "resources": {"disk": 1}, "runtime_env": {"env_vars": {}},
    }  # fmt: skip


def test_options_of_actors_that_ray_says_otherwise() -> None:
    given = {"lifetime": "non_detached", "concurrency_groups": {"io": 2}, "name": "x"}
    assert calls.actor_options(given, None) == {"name": "x"}


def test_older_options_of_placement_groups_are_a_strategy() -> None:
    given = {"placement_group": None, "placement_group_bundle_index": -1}
    assert "placement_group" not in calls.task_options(given, None)


@pytest.mark.parametrize(
    ("retry", "expected"), [(True, True), ([ValueError, KeyError], [ValueError, KeyError])]
)
def test_exceptions_after_which_a_method_runs_again(retry: Any, expected: Any) -> None:
    blob = retry_blob(retry)
    assert blob is not None
    found = calls.method_options({"retry_exceptions": blob.decode("latin-1"), "takes": "...", "is_async": 1})
    assert found == {"retry_exceptions": expected}


def test_options_of_a_call_of_a_method() -> None:
    given = {"num_returns": 2, "concurrency_group": "io", "enable_task_events": 0, "is_generator": 1}
    assert calls.method_options(given) == {
        "num_returns": 2, "concurrency_group": "io", "enable_task_events": False,
    }  # fmt: skip


class Adder:
    def __call__(self, a: int, b: int = 1) -> int:
        return a + b


def test_a_callable_object_becomes_a_function() -> None:
    found = calls.plain_function(Adder(), streams=False)
    assert inspect.isfunction(found)
    assert found(1) == 2


def test_a_function_is_itself() -> None:
    assert calls.plain_function(test_a_function_is_itself, streams=False) is test_a_function_is_itself


def test_items_come_from_a_function_with_yield() -> None:
    found = calls.plain_function(lambda n: iter(range(n)), streams=True)
    assert inspect.isgeneratorfunction(found)
    assert list(found(3)) == [0, 1, 2]
