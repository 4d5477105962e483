"""Messages that a peer may say, at a time when they make no sense: about leases, objects, calls and actors that do not
exist, or not any more. Whoever gets them goes on, and nobody else notices."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, msgpack, structs
from unit._wire.samples import sample

import skate
from skate._base import ids
from skate._transport.connection import Connection
from skate._transport.dialing import dial
from skate._transport.reactor import Reactor
from skate._wire import node, services, worker
from skate._wire.handshake import GARBLED, PROTOCOL, WRONG_STATE, Refused
from skate._worker.process import current
from skate.api import RayContext as Session

from .waiting import wait_for
from .work import Counter, square


class Stranger:
    """A process that says hello as it should, and then whatever it likes. Use as a context manager."""

    def __init__(self, service: services.Service, address: str, hello: Struct) -> None:
        self.ended = False
        self._reactor = Reactor("stranger")
        handlers = dict.fromkeys(frozenset().union(*service.heard.values()), lambda connection, message: None)
        self._connection = Connection(self._reactor, dial(address), handlers, self._end)
        self.say(hello)

    def _end(self, connection: Connection) -> None:
        self.ended = True

    def say(self, message: Struct) -> None:
        with self._reactor.lock:
            self._connection.send(message)
            self._reactor.flush()

    def finish(self) -> Refused | None:
        """Hang up when the other end has read everything; return why it refused us, if it did."""
        if not self.ended:
            self._connection.sock.shutdown(socket.SHUT_WR)
        while not self.ended:
            self._reactor.turn(1.0)
        return self._connection.refused

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._reactor.lock:
            self._connection.abandon()
        self._reactor.close()


@pytest.fixture
def good_as_new(session: Session) -> Iterator[None]:
    """In the end everything works, an actor that was there before too, and all CPUs are free."""
    counter = Counter.options(num_cpus=0).remote()
    assert skate.get(counter.add.remote()) == 1
    yield
    assert skate.get(counter.add.remote()) == 2
    assert skate.get([square.remote(number) for number in range(20)]) == [n * n for n in range(20)]
    assert len(skate.get(skate.put(bytes(1 << 20)))) == 1 << 20
    assert skate.get(Counter.remote().add.remote()) == 1
    del counter
    everything = skate.cluster_resources()["CPU"]
    wait_for(lambda: skate.available_resources().get("CPU") == everything, "all CPUs to be free")
    logs = {
        path.name: path.read_text(errors="replace") for path in Path(session["session_dir"], "logs").iterdir()
    }
    assert not {name: text for name, text in logs.items() if "internal error" in text or "Traceback" in text}


def _hello(session: Session, service: services.Service, kind: str) -> tuple[str, Struct]:
    me = ids.new_worker_id()
    folder = session["session_dir"]
    address = os.path.join(folder, "s", me.hex())
    if service is services.NODE:
        job = {**current.require_core("have a job").context.job_config, "job_owner": me.hex()}
        hello = node.Hello(kind, me, os.getpid(), address, PROTOCOL, json.dumps(job).encode())
        return f"{folder}/node.sock", hello
    return "", worker.PeerHello(me, address, PROTOCOL)


#: Fields whose bytes are something in a format of its own.
FIELDS: dict[type[Struct], dict[str, Any]] = {
    node.LeaseDemand: {"resources": {"CPU": 10_000}, "environment": b"", "requirement": b""},
    node.Counts: {"rows": msgpack.encode([])},
    node.LastRows: {"rows": msgpack.encode([])},
    node.Metrics: {"rows": msgpack.encode([])},
    node.StateRows: {"rows": msgpack.encode([])},
}


def stray(message: type[Struct]) -> Struct:
    """Return one whose ids and numbers name nothing."""
    return structs.replace(sample(message), **FIELDS.get(message, {}))


def _named(messages: frozenset[type]) -> list[type]:
    return sorted(messages - {node.Shutdown}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("message", _named(services.NODE.said["driver"] - {node.Seal}))
def test_to_the_daemon(session: Session, good_as_new: None, message: type[Struct]) -> None:
    with Stranger(services.NODE, *_hello(session, services.NODE, "driver")) as stranger:
        for _ in range(2):
            stranger.say(stray(message))
        assert stranger.finish() is None


@pytest.mark.parametrize(
    ("message", "code", "what"),
    [
        (sample(node.Seal), WRONG_STATE, "sent Seal for an extent that it does not hold"),
        (
            structs.replace(stray(node.LeaseDemand), environment=b"nonsense"),
            GARBLED,
            "sent LeaseDemand with garbage for its environment or requirement: ",
        ),
        (
            structs.replace(stray(node.LeaseDemand), requirement=b"nonsense"),
            GARBLED,
            "sent LeaseDemand with garbage for its environment or requirement: ",
        ),
        (
            structs.replace(stray(node.Counts), rows=b"nonsense"),
            GARBLED,
            "sent Counts with garbage for its rows: ",
        ),
    ],
)
def test_the_daemon_refuses_a_wrong_message_by_name(
    session: Session, good_as_new: None, message: Struct, code: str, what: str
) -> None:
    with Stranger(services.NODE, *_hello(session, services.NODE, "driver")) as stranger:
        stranger.say(message)
        refused = stranger.finish()
    assert refused is not None
    assert refused.code == code
    assert refused.what.startswith(what)


def test_refs_of_nobody_leave_nothing(session: Session, good_as_new: None) -> None:
    """They come with an item of no call, in a return that it would not have, from an owner that is no process."""
    core = current.require_core("be talked to")
    _, hello = _hello(session, services.PROCESS, "process")
    folder = session["session_dir"]
    addresses = (
        "",
        "nonsense",
        "/",
        f"{folder}/node.sock",
        f"{folder}/control.sock",
        "a" * 5000,
        "a\0b",
        "/s/00ff",
    )
    with Stranger(services.PROCESS, core.context.address, hello) as stranger:
        for number, address in enumerate(addresses):
            contained = [(index, bytes([number]) * ids.OBJECT_ID_SIZE, address) for index in (0, 7, -1)]
            stranger.say(structs.replace(sample(worker.StreamItem), contained=contained))
        assert stranger.finish() is None
    wait_for(
        lambda: not [entry for entry in core.refs.entries.values() if entry.owner_address is not None],
        "the borrowed entries to be dropped",
    )


@pytest.mark.parametrize("message", _named(services.PROCESS.said["process"]))
def test_to_a_driver(session: Session, good_as_new: None, message: type[Struct]) -> None:
    """Those that only who runs calls can understand are refused."""
    peers = current.require_core("be talked to").peers
    _, hello = _hello(session, services.PROCESS, "process")
    with Stranger(services.PROCESS, current.require_core("be talked to").context.address, hello) as stranger:
        for _ in range(2):
            stranger.say(stray(message))
        refused = stranger.finish()
    assert (refused is None) == (message in peers.handlers)
