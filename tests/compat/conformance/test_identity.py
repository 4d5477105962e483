"""What a task, an actor and a driver are called: in their context, and by ``ps``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from compat.conformance.helpers import Gate, needs_processes, until

pytestmark = pytest.mark.usefixtures("session")

HERE = __name__


def told() -> dict[str, Any]:
    context = ray.get_runtime_context()
    return {
        "ids": {name: type(value).__name__ for name, value in context.get().items()},
        "name": context.get_task_name(),
        "function": context.get_task_function_name(),
        "mode": context.worker.mode,
    }


@ray.remote
class Actor:
    def __init__(self):
        self.at_start = told()

    def tell(self):
        return told()

    def tell_start(self):
        return self.at_start

    def wait(self, inside):
        return ray.get(inside[0].wait.remote())

    def pid(self):
        return os.getpid()


@ray.remote
class Async:
    async def tell(self):
        return told()


IDS = {"job_id": "JobID", "node_id": "NodeID", "namespace": "str"}


def test_a_driver() -> None:
    assert told() == {"ids": IDS, "name": None, "function": None, "mode": 0}


def test_a_task() -> None:
    task = ray.remote(told)
    expected = {"ids": IDS | {"task_id": "TaskID"}, "name": "told", "function": f"{HERE}.told", "mode": 1}
    assert ray.get(task.remote()) == expected
    assert ray.get(task.options(name="my own").remote()) == expected | {"name": "my own"}


def test_functions_inside_of_others() -> None:
    def inner():
        return told()["function"]

    assert ray.get(ray.remote(inner).remote()) == f"{HERE}.inner"
    assert ray.get(ray.remote(lambda: told()["function"]).remote()) == f"{HERE}.<lambda>"


def test_an_actor() -> None:
    actor = Actor.remote()
    ids = IDS | {"task_id": "TaskID", "actor_id": "ActorID"}
    expected = {"ids": ids, "name": "Actor.tell", "function": f"{HERE}.Actor.tell", "mode": 1}
    assert ray.get(actor.tell.remote()) == expected
    assert ray.get(actor.tell.options(name="my own").remote()) == expected | {"name": "my own"}
    start = ray.get(actor.tell_start.remote())
    assert start["name"] == "Actor.__init__"
    assert start["function"] == f"{HERE}.Actor.__init__"
    assert start["mode"] == 1
    assert start["ids"]["actor_id"] == "ActorID"
    assert ray.get(Async.remote().tell.remote())["function"] == f"{HERE}.Async.tell"


# ---------------------------------------------------------------------- titles


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")


def thread_name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@ray.remote
def waits(inside):
    ray.get(inside[0].tell_pid.remote(os.getpid()))
    ray.get(inside[1].wait.remote())


@ray.remote(num_cpus=0)
class Pid:
    def __init__(self):
        self.known = None

    def tell_pid(self, pid):
        self.known = pid

    def get(self):
        return self.known


@needs_processes(reason="is about processes")
def test_the_title_of_a_worker_says_what_runs() -> None:
    for name, task in (("waits", waits), ("my own", waits.options(name="my own"))):
        gate, pids = Gate.remote(), Pid.remote()
        waiting = task.remote([pids, gate])
        ray.get(gate.until_arrived.remote())
        pid = ray.get(pids.get.remote())
        until(lambda pid=pid, name=name: command_line(pid) == f"ray::{name}")
        until(lambda pid=pid, name=name: thread_name(pid) == f"ray::{name}"[:15])
        ray.get([gate.open.remote(), waiting])
        until(lambda pid=pid: command_line(pid) in ("ray::IDLE", ""))


@needs_processes(reason="is about processes")
def test_the_title_of_an_actor() -> None:
    actor = Actor.remote()
    pid = ray.get(actor.pid.remote())
    assert command_line(pid).startswith("ray::Actor")
    assert thread_name(pid).startswith("ray::Actor")
