"""Seams for simulation: roles name no sockets, no clocks and no sources of randomness of their own (ADR 27).

A simulator replaces ``Reactor``, the functions of ``_base.clock`` and ``ids.random_bytes``, and nothing else.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .imports import imported
from .sources import PACKAGE

ROLES = ("_control", "_node", "_worker")
#: They live in the simulator's time, too: the roles stand on them, or they stand in for the roles.
IN_TIME = (*ROLES, "_inline", "_transport", "_store", "_scheduling", "_wire", "_base")

#: What only the transport may name.
SOCKETS = (
    "socket",
    "socketserver",
    "select",
    "selectors",
    "asyncio.open_unix_connection",
    "skate._transport.dialing",
)
#: Modules of the roles that do, and why.
WITH_SOCKETS = {
    "_control/main.py": "adopts the sockets that its process was started with",
    "_node/main.py": "adopts the sockets that its process was started with",
    "_worker/execution/watching_loop.py": "the selector of an actor's own asyncio loop",
    "_worker/main.py": "waits in the queue of the daemon's socket, before it has a loop",
    "_node/cluster/control_store_supervisor.py": "starts a process, with descriptors and a lifeline",
    "_node/workers/launcher.py": "an effect of the daemon: passes descriptors to the zygote",
    "_node/workers/zygote_start.py": "an effect of the daemon: executes the zygote, before anything is imported",
}

CLOCKS = ("time", "datetime", "sched")
RANDOMNESS = ("random", "secrets", "uuid", "os.urandom", "os.getrandom", "tempfile")
#: Where the seams themselves are, and other exceptions.
AT_THE_SOURCE = {
    ("_base/clock.py", "time"): "the clock itself",
    ("_base/ids.py", "os.urandom"): "the source itself",
}


def _modules(packages: tuple[str, ...]) -> list[str]:
    return sorted(
        str(path.relative_to(PACKAGE)) for package in packages for path in (PACKAGE / package).rglob("*.py")
    )


def named(module: str, source: str, forbidden: tuple[str, ...]) -> list[str]:
    """Return what a module names of that, itself or a part of it."""
    tree = ast.parse(source)
    imports = set(imported(module, tree))
    # ``os`` may be imported for other things.
    used = imports | {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    found = {
        one for one in forbidden
        for name in (used if one.startswith("os.") else imports)
        if name == one or name.startswith(f"{one}.")
    }  # fmt: skip
    return sorted(found)


def _source(module: str) -> str:
    return Path(PACKAGE / module).read_text()


@pytest.mark.parametrize("module", _modules(ROLES))
def test_roles_dial_and_listen_through_their_reactor(module: str) -> None:
    found = named(module, _source(module), SOCKETS)
    assert module in WITH_SOCKETS or not found, f"{module} names {found}: use reactor.dial and reactor.listen"


@pytest.mark.parametrize("module", WITH_SOCKETS)
def test_an_exception_for_sockets_is_needed(module: str) -> None:
    assert named(module, _source(module), SOCKETS)


@pytest.mark.parametrize("source", ["import socket", "from select import poll", "from skate._transport.dialing import dial",
                                    "from skate._transport import dialing", "def f():\n    import socket"])  # fmt: skip
def test_a_planted_socket_is_seen(source: str) -> None:
    assert named("_worker/process/peers.py", source, SOCKETS)


@pytest.mark.parametrize("module", _modules(IN_TIME))
def test_time_and_randomness_come_from_one_place(module: str) -> None:
    found = [
        one for one in named(module, _source(module), CLOCKS + RANDOMNESS)
        if (module, one) not in AT_THE_SOURCE
    ]  # fmt: skip
    assert not found, f"{module} names {found}: use _base.clock and ids.random_bytes"


@pytest.mark.parametrize(("module", "what"), AT_THE_SOURCE)
def test_an_exception_for_time_is_needed(module: str, what: str) -> None:
    assert what in named(module, _source(module), CLOCKS + RANDOMNESS)


@pytest.mark.parametrize("source", ["import time", "from time import sleep", "import os\nos.urandom(3)", "import uuid",
                                    "from os import urandom", "from random import choice"])  # fmt: skip
def test_a_planted_clock_is_seen(source: str) -> None:
    assert named("_worker/process/peers.py", source, CLOCKS + RANDOMNESS)


def test_random_bytes_are_not_taken_by_name() -> None:
    """A module that binds the function at its import would keep it when a test sets another one."""
    taken = [module for module in _modules(IN_TIME) if "skate._base.ids.random_bytes" in named(
        module, _source(module), ("skate._base.ids.random_bytes",))]  # fmt: skip
    assert taken == []
