"""What policies of users answer, and what is made of it."""

from __future__ import annotations

import asyncio
import logging
import math
import pickle
import threading
from typing import Any

import pytest

from skate.serve._controller.policies import Policy, PolicyError, number_of, numbers_of
from skate.serve._targets import ApplicationTarget, DeploymentId

A, B = DeploymentId("A", "app"), DeploymentId("B", "app")


@pytest.mark.parametrize(
    ("answer", "found"),
    [(3, (3, {"old": 1})), (2.5, (2.5, {"old": 1})), ((3, {"new": 2}), (3, {"new": 2}))],
)
def test_answers_of_a_deployments_policy(answer: Any, found: Any) -> None:
    assert number_of(answer, {"old": 1}) == found


@pytest.mark.parametrize("answer", [None, True, "3", (None, {}), {A: 1}])
def test_answers_that_are_no_numbers(answer: Any) -> None:
    with pytest.raises(PolicyError, match="instead of a number, or"):
        number_of(answer, {})


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({A: 1, B: 2.5}, ({A: 1, B: 2.5}, {A: {"old": 1}})),
        (({A: 1}, {A: {"new": 2}}), ({A: 1}, {A: {"new": 2}})),
        (({A: 1}, None), ({A: 1}, {})),
        ({}, ({}, {A: {"old": 1}})),
    ],
)
def test_answers_of_an_applications_policy(answer: Any, found: Any) -> None:
    assert numbers_of(answer, [A, B], {A: {"old": 1}}) == found


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (3, "instead of numbers by deployment"),
        ((3, {}), "instead of numbers by deployment"),
        (({A: 1}, 3), "instead of numbers by deployment"),
        ({"A": 1}, "something for 'A', which is none of those it got: DeploymentId"),
        (({}, {DeploymentId("C", "app"): {}}), "which is none of those it got"),
        ({A: None}, "it returned None for .* instead of a number"),
        (({}, {A: 3}), "the state 3 for .* instead of a dict"),
    ],
)
def test_answers_that_are_no_numbers_by_deployment(answer: Any, text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        numbers_of(answer, [A, B], {})


class Times:
    """A policy with a number of its own."""

    def __init__(self, factor: int) -> None:
        self._factor = factor

    def __call__(self, number: int) -> int:
        return self._factor * number


def policy(code: Any, **kwargs: Any) -> Policy:
    return Policy("app", ApplicationTarget("app", None, "A", {}, policy=pickle.dumps((code, kwargs))))


def test_functions_and_classes_are_asked() -> None:
    one = policy(math.sqrt)
    one.is_asking = True
    assert (asyncio.run(one.ask(9)), one.is_asking) == (3.0, False)
    assert asyncio.run(policy(Times, factor=3).ask(2)) == 6


class Polls:
    """A policy with a task that goes on between its calls, as one has that asks another service."""

    def __init__(self) -> None:
        self._polled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, number: int) -> Any:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._poll())
        return number if self._polled.is_set() else None

    async def _poll(self) -> None:
        self._polled.set()


def test_instances_can_have_tasks() -> None:
    one = policy(Polls)
    assert asyncio.run(one.ask(3)) is None
    assert asyncio.run(one.ask(3)) == 3  # its loop runs one thing after the other
    (thread,) = [one for one in threading.enumerate() if one.name == "skate-serve-policy"]
    del one
    thread.join()


def test_failures_are_said_once_and_answer_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "skate.serve")
    logging.getLogger("skate.serve").propagate = True
    one = policy(math.sqrt)
    assert [asyncio.run(one.ask(-1)) for _ in range(2)] == [None, None]
    assert asyncio.run(policy(Times).ask(2)) is None
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith(
        "the autoscaling policy of app failed, what it decides on stays as it is: ValueError"
    )
    assert "it cannot be loaded: TypeError: " in second
