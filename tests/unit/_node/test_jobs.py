"""Jobs: their roots, the driver that shows their output, and their ends."""

from __future__ import annotations

import json
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skate._node.clients import Client
from skate._node.jobs import Jobs
from skate._wire import node

CONFIG = b'{"cwd": "/home/me"}'
DRIVER = b"driver.."
ACTOR = b"a" * 16


class Connection:
    queued_bytes = 0

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


class Node:
    def __init__(self) -> None:
        self.rows: deque[Any] = deque()
        context = SimpleNamespace(settings=SimpleNamespace(node_id="ab"), remember_ended=self.rows.append)
        self.jobs = Jobs(cast(Any, context))
        self.client = Client(False)
        self.connection = Connection()
        self.client.connection = cast(Any, self.connection)
        self.client.id = self.client.job = DRIVER
        self.jobs.add_driver(self.client, CONFIG)


@pytest.fixture
def here() -> Node:
    return Node()


def test_workers_are_given_the_driver_s_configuration_and_the_node(here: Node) -> None:
    config = here.jobs.config(DRIVER)
    assert config is not None and json.loads(config) == {"cwd": "/home/me", "node_id": "ab"}
    assert here.jobs.decoded_config(DRIVER) == {"cwd": "/home/me", "node_id": "ab"}
    assert here.jobs.config(b"another.") is None


def test_the_driver_shows_output(here: Node) -> None:
    assert here.jobs.forward(DRIVER, "f", 7, False, "hello\n")
    assert here.connection.sent == [node.LogLines("f", 7, False, "hello\n")]


def test_a_driver_that_does_not_read_is_slow(here: Node) -> None:
    here.connection.queued_bytes = 1 << 20
    assert not here.jobs.forward(DRIVER, "f", 7, False, "hello\n")
    assert here.connection.sent, "what was taken out of a pipe is not lost"


def test_output_without_a_driver_is_read_and_dropped(here: Node) -> None:
    assert here.jobs.forward(b"another.", "f", 7, False, "hello\n")
    here.jobs.driver_left(here.client)
    assert here.jobs.forward(DRIVER, "f", 7, False, "hello\n")
    assert here.connection.sent == []


def test_the_output_of_a_detached_actor_s_job_is_shown_by_its_creator_s_driver(here: Node) -> None:
    here.jobs.add_detached_actor(ACTOR, CONFIG, DRIVER)
    assert here.jobs.detached_actors() == [ACTOR] and here.jobs.has(ACTOR)
    here.jobs.forward(ACTOR, "f", 7, True, "hello\n")
    assert here.connection.sent == [node.LogLines("f", 7, True, "hello\n")]


def test_the_output_of_what_a_detached_actor_creates_is_shown_by_the_same_driver(here: Node) -> None:
    here.jobs.add_detached_actor(ACTOR, CONFIG, DRIVER)
    here.jobs.add_detached_actor(b"replica.", CONFIG, ACTOR)
    here.jobs.forward(b"replica.", "f", 7, True, "hello\n")
    assert here.connection.sent == [node.LogLines("f", 7, True, "hello\n")]


def test_a_detached_actor_s_job_goes_on_when_the_driver_leaves(here: Node) -> None:
    here.jobs.add_detached_actor(ACTOR, CONFIG, DRIVER)
    here.jobs.driver_left(here.client)
    here.jobs.end(DRIVER, "the driver of its job ended")
    assert here.jobs.has(ACTOR) and not here.jobs.has(DRIVER)
    here.jobs.end(ACTOR, "it ended")
    assert not here.jobs.has(ACTOR) and here.jobs.detached_actors() == []


def test_the_end_of_a_job_reaches_all_in_their_order(here: Node) -> None:
    seen: list[Any] = []

    def first(job: bytes, reason: str) -> None:
        assert not here.jobs.has(job), "no worker of it is started any more"
        seen.append(("first", job, reason))

    here.jobs.on_ended = [first, lambda job, reason: seen.append(("second", job, reason))]
    here.jobs.end(DRIVER, "its driver left")
    assert seen == [("first", DRIVER, "its driver left"), ("second", DRIVER, "its driver left")]


def test_a_driver_that_left_is_remembered(here: Node) -> None:
    here.jobs.driver_left(here.client)
    (row,) = here.rows
    assert (row["worker_id"], row["worker_type"], row["state"]) == (DRIVER.hex(), "DRIVER", "DEAD")
