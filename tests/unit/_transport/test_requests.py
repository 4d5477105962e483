"""Numbered requests: each answer reaches the thread that waits for it, and nothing stays behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from skate._transport.requests import Request, Requests


class Waits:
    """A reactor whose waits do what a test says happens meanwhile."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], Any] = lambda: None

    def wait(self, request: Request, deadline: float | None) -> bool:
        self.meanwhile()
        return request.done


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def requests(waits: Waits) -> Requests:
    return Requests(waits, contextlib.nullcontext())  # type: ignore[arg-type]


def answer(number: int) -> Any:
    return SimpleNamespace(request=number)


def test_answers_find_their_requests(requests: Requests, waits: Waits) -> None:
    first, second = requests.add(lambda number: f"what {number}"), requests.add(lambda number: number)
    assert (first.message, second.message) == ("what 1", 2)
    late = answer(2)
    waits.meanwhile = lambda: requests.answered(late)
    assert requests.wait(second) is late
    assert [*requests] == [first]
    assert not requests.answered(answer(2))
    assert not requests.answered(answer(9))


def test_a_wait_that_ends_without_an_answer_leaves_nothing(requests: Requests) -> None:
    assert requests.wait(requests.add(int), 0.0) is None
    assert not [*requests]
    assert not requests.answered(answer(1))


def test_the_end_of_all_waits(requests: Requests, waits: Waits) -> None:
    waited, posted = requests.add(int), requests.add(int)
    posted.posted = True
    waits.meanwhile = lambda: requests.end_waits(forget_posted=False)
    assert requests.wait(waited) is None
    assert [*requests] == [posted]
    requests.end_waits()
    assert posted.done
    assert not [*requests]


@pytest.mark.parametrize("answered", [True, False])
def test_an_interrupted_wait_passes_on_an_answer_that_came(
    requests: Requests, waits: Waits, answered: bool
) -> None:
    unclaimed: list[Any] = []
    request, late = requests.add(int), answer(1)

    def interrupted() -> None:
        if answered:
            requests.answered(late)
        raise KeyboardInterrupt

    waits.meanwhile = interrupted
    with pytest.raises(KeyboardInterrupt):
        requests.wait(request, unclaimed=unclaimed.append)
    assert unclaimed == ([late] if answered else [])
    # One that comes now is nobody's: its receiver decides.
    assert not requests.answered(late)
