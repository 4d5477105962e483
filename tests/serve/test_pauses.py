"""Processes that stand still while an application is updated, and then call what has left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

import skate
from skate import serve
from skate.serve._controller import replicas as followed

from .chaos_program import frozen
from .conftest import Web, session
from .load import Load
from .processes import controller, pid_of, replicas

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)

CALLER = """
    import signal, sys
    import skate
    from skate import serve

    skate.init(address="auto")
    print(serve.get_deployment_handle("Inner", "default").remote().result(), flush=True)
    signal.pause()
"""


@serve.deployment(max_ongoing_requests=20)
class Inner:
    def __init__(self, version: str) -> None:
        self.version = version

    async def __call__(self) -> str:
        return self.version


@serve.deployment(max_ongoing_requests=20)
class Front:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, request: Any) -> str:
        return str(await self.inner.remote())


@pytest.fixture
def impatient(web: Web) -> Iterator[Web]:
    """The controller waits hardly at all until it goes on without an acknowledgement."""
    set_patience(0.05)
    yield web
    set_patience(followed._ACKNOWLEDGE_S)


def set_patience(seconds: float) -> None:
    def set_it(self: Any) -> None:
        followed._ACKNOWLEDGE_S = seconds

    skate.get(controller().__ray_call__.remote(set_it))


def test_a_caller_that_stood_still_loses_no_request(impatient: Web, wait_until: Wait) -> None:
    serve.run(Front.bind(Inner.bind("v0")))
    (front,) = replicas("Front").values()
    with Load(impatient.address, clients=16) as load:
        for number in range(3):
            wait_until(lambda: load.bodies[b"v%d" % number] > 50)  # noqa: B023
            (old,) = (pid_of(one) for one in replicas("Inner").values())
            with frozen(pid_of(front)):
                serve.run(Front.bind(Inner.bind(f"v{number + 1}")))
            wait_until(lambda: load.bodies[b"v%d" % (number + 1)] > 50)  # noqa: B023
            wait_until(lambda: not psutil.pid_exists(old))  # noqa: B023
    assert {*load.statuses} == {200}
    assert load.errors == []
    assert load.reconnects == 0


def test_what_waits_for_a_caller_ends_with_the_instance(wait_until: Wait) -> None:
    with session() as address:
        set_patience(0.05)
        serve.run(Inner.bind("v0"), route_prefix=None)
        (inner,) = (pid_of(one) for one in replicas("Inner").values())
        command = [sys.executable, "-c", textwrap.dedent(CALLER)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
            try:
                assert caller.stdout is not None and caller.stdout.readline() == "v0\n"
                with frozen(caller.pid):
                    serve.delete("default")
                    assert psutil.pid_exists(inner)
                    serve.shutdown()
                    wait_until(lambda: not psutil.pid_exists(inner))
            finally:
                os.kill(caller.pid, signal.SIGKILL)
    assert address
