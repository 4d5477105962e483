"""A connection is nothing until its hello: for every role, with the tables and handlers that it really has."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from skate._base.config import Config
from skate._control.server import ControlStore
from skate._node import main
from skate._node.daemon import Daemon
from skate._node.settings import NodeSettings
from skate._transport import acceptor
from skate._transport.acceptor import Acceptor
from skate._transport.connection import Connection
from skate._transport.dialing import dial
from skate._transport.reactor import Reactor
from skate._wire import control, node, services, worker
from skate._wire.codec import append_frame
from skate._wire.framing import MAX_FRAME, MAX_HELLO
from skate._wire.handshake import GARBLED, LATE, PROTOCOL, WRONG_PEER, WRONG_PROTOCOL, WRONG_STATE, Refused
from skate._wire.services import Service
from skate._worker.core import Core
from skate._worker.process.context import ProcessContext

from .samples import all_of, framed, name_of, sample
from .test_handshake import hello

ME = bytes(range(8))


class Role:
    """One role in this process, its reactor turned by hand."""

    service: Service
    #: By kind of peer, a hello that the role accepts.
    hellos: dict[str, msgspec.Struct]

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.bugs: list[BaseException] = []
        reactor.on_bug = self.bugs.append
        self._clients: list[Client] = []

    def state(self) -> Any:
        """Return all that a message could have changed."""
        raise NotImplementedError

    def connect(self) -> socket.socket:
        """Return our end of a connection that the role accepted."""
        raise NotImplementedError

    def client(self) -> Client:
        client = Client(self)
        self._clients.append(client)
        return client

    def turn(self) -> None:
        for _ in range(4):
            self.reactor.turn(0)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.turn()
        self.reactor.close()


class Client:
    """A peer that says what it likes."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.sock = role.connect()
        self.heard: list[Any] = []
        self.ended = self.closed = False
        mine = Reactor("client")
        handlers = dict.fromkeys(all_of(role.service.heard), lambda c, m: self.heard.append(m))
        self._connection = Connection(mine, self.sock, handlers, lambda c: setattr(self, "ended", True))
        self._reactor = mine

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._connection.abandon()
            self._reactor.close()

    @property
    def refused(self) -> Refused | None:
        return self._connection.refused

    def say(self, *messages: msgspec.Struct) -> None:
        frames = bytearray()
        for message in messages:
            append_frame(message, frames)
        self.send(bytes(frames))

    def send(self, data: bytes) -> None:
        try:
            self.sock.setblocking(True)
            self.sock.sendall(data)
        except BrokenPipeError:
            pass
        finally:
            self.sock.setblocking(False)
        self.role.turn()
        while self._connection.read():
            pass


class Control(Role):
    service = services.CONTROL
    hellos = {
        "node": control.RegisterNode(b"n" * 16, "/x", "host", 1, {"CPU": 20_000}, PROTOCOL),
        "process": control.RegisterJob(1, ME, b"", "space", "program", PROTOCOL),
        "observer": control.RegisterObserver(1, PROTOCOL),
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(Reactor("control store"))
        self.store = ControlStore(self.reactor, _NoRecords())

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with self.reactor.lock:
            self.store._accept(theirs)
        return ours

    def state(self) -> Any:
        store = self.store
        return [[(driver, job["status"]) for driver, job in store._jobs.items()], dict(store._nodes), dict(store._actors.records), store._actors.names(), dict(store._groups._groups.records),
                self.reactor.is_stopped, len(store._early), repr(vars(store._watchers))]  # fmt: skip


class _NoRecords:
    def put(self, kind: str, key: bytes, value: bytes) -> None: ...
    def delete(self, kind: str, key: bytes) -> None: ...
    def commit(self) -> None: ...
    def all(self, kind: str) -> list[tuple[bytes, bytes]]:
        return []

    def close(self) -> None: ...


class Node(Role):
    service = services.NODE
    hellos = {
        "driver": node.Hello("driver", ME, 1, "/x", PROTOCOL, b"{}"),
        "worker": node.Hello("worker", b"w" * 8, 1, "/x", PROTOCOL, b""),
        "observer": node.Hello("observer", b"o" * 8, 1, "", PROTOCOL, b""),
    }

    def __init__(self, folder: Path) -> None:
        board = os.memfd_create("board")
        os.ftruncate(board, 16 * 8192)
        settings = NodeSettings(
            spill_folder="", session_dir=str(folder), driver_fd=-1, listen_fd=-1, node_id="ab" * 16, hostname="host",
            resources={"CPU": 20_000}, store_capacity=1 << 20, config=Config()._asdict(), gpus=[], labels={},
        )  # fmt: skip
        self.effects = main.effects(settings, [], board)
        self.daemon = Daemon(settings, self.effects)
        super().__init__(self.effects.reactor)
        self.effects.launcher.spawn = self._spawn  # type: ignore[method-assign]
        self.effects.launcher.start = lambda: None  # type: ignore[method-assign]
        self.daemon.environments.start_ahead = lambda *args: None  # type: ignore[method-assign]
        self.daemon.worker_table.add(b"w" * 8, ME, self.effects.progress.take_slot())
        (folder / "logs").mkdir()

    def _spawn(self, worker_id: bytes, slot: int, job: bytes, out: int, err: int) -> None:
        os.close(out)
        os.close(err)

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with self.reactor.lock:
            self.daemon.accept(theirs)
        return ours

    def close(self) -> None:
        self.daemon.context.closing = True
        super().close()
        os.close(self.effects.progress.fd)

    def state(self) -> Any:
        daemon = self.daemon
        leases = daemon.lease_table
        return [dict(leases.leases), dict(leases.free), leases.waiting,
                [(one.id, one.state) for one in daemon.worker_table], daemon.context.clients.ids(),
                dict(daemon.store.objects), daemon.store.allocator.used, daemon.context.closing,
                self.reactor.is_stopped]  # fmt: skip


class Process(Role):
    service = services.PROCESS
    hellos = {"process": worker.PeerHello(b"p" * 8, f"/s/{(b'p' * 8).hex()}", PROTOCOL)}

    def __init__(self, folder: Path) -> None:
        (folder / "s").mkdir()
        context = ProcessContext("worker", ME, str(folder), Config(), Reactor("worker"))
        core = self.core = Core(context)
        super().__init__(context.reactor)
        core.add_executor(mmap.mmap(-1, 4096), 0)
        ours, theirs = socket.socketpair()
        with context.lock:
            core.connect_node(theirs)
            core.peers.listen()
        self.node = ours

    def connect(self) -> socket.socket:
        sock = dial(self.core.context.address)
        self.turn()
        return sock

    def state(self) -> Any:
        core = self.core
        assert core.executor is not None
        return [dict(core.refs.entries), list(core.executor._queue), dict(core.peers._by_address),
                [c.peer.functions for c in core.peers.connections if c.peer.functions]]  # fmt: skip

    def close(self) -> None:
        self.core.peers.close()
        assert self.core.daemon.connection is not None
        self.core.daemon.connection.abandon()
        self.node.close()
        super().close()


ROLES: list[type[Role]] = [Control, Node, Process]
every_role = pytest.mark.parametrize("role", ROLES, indirect=True, ids=lambda role: role.__name__)


@pytest.fixture
def role(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Role]:
    made = request.param(tmp_path)
    yield made
    made.close()


# ---------------------------------------------------------------------- before the hello


@every_role
def test_every_message_before_the_hello_changes_nothing_and_is_refused(role: Role) -> None:
    before = role.state()
    for message in framed():
        if message in role.service.hellos or message is Refused:
            continue
        client = role.client()
        client.say(sample(message))
        assert client.refused == Refused(WRONG_STATE, f"sent {message.__name__} before its hello")
        assert client.ended
        assert client.heard == []
        assert role.state() == before, name_of(message)
    assert role.bugs == []


@every_role
def test_the_message_behind_a_refused_one_is_not_read(role: Role) -> None:
    before = role.state()
    for kind in role.hellos:
        client = role.client()
        client.say(sample(next(iter(role.service.said[kind]))), role.hellos[kind])
        assert client.refused is not None
        assert client.refused.code == WRONG_STATE
    assert role.state() == before
    assert role.bugs == []


def test_a_demand_before_the_hello_takes_no_cpus(tmp_path: Path) -> None:
    """It was taken for one of the control store's, whose leases nobody gives back."""
    role = Node(tmp_path)
    try:
        for owner_hello in ([], [node.Hello("driver", b"", 1, "/x", PROTOCOL, b"{}")]):
            client = role.client()
            client.say(*owner_hello, node.LeaseDemand(1, {"CPU": 20_000}, 1, 0))
            assert client.refused is not None
            client.close()
            role.turn()
            assert role.daemon.lease_table.free["CPU"] == 20_000
            assert not role.daemon.lease_table.waiting
    finally:
        role.close()


@every_role
@pytest.mark.parametrize(
    "garbage",
    [b"\x00\x00\x00\x00", b"\x01\x00\x00\x00\xc1", b"\x03\x00\x00\x00\x92\x00\x00", b"GET / HTTP/1.1\r\n\r\n",
     (MAX_HELLO + 1).to_bytes(4, "little"), (MAX_FRAME + 1).to_bytes(4, "little"),
     b"\x10\x27\x00\x00" + b"\x91" * 10_000],
    ids=["empty", "no msgpack", "unknown tag", "http", "large for a hello", "large", "nested"],
)  # fmt: skip
def test_garbage_before_the_hello_is_refused(role: Role, garbage: bytes) -> None:
    before = role.state()
    client = role.client()
    client.send(garbage)
    assert client.refused is not None
    assert client.refused.code == GARBLED
    assert client.ended
    assert role.state() == before
    assert role.bugs == []


@every_role
def test_a_hello_cut_anywhere_counts_when_it_is_complete_only(role: Role) -> None:
    kind, said = next(iter(role.hellos.items()))
    frame = bytearray()
    append_frame(said, frame)
    for cut in range(1, len(frame), 7):
        client = role.client()
        before = role.state()
        client.send(bytes(frame[:cut]))
        assert role.state() == before, f"a {kind} after {cut} bytes"
        assert not client.ended
        client.close()
        role.turn()
        assert role.state() == before
    assert role.bugs == []


@every_role
def test_another_protocol_is_told_so(role: Role) -> None:
    before = role.state()
    for said in role.hellos.values():
        client = role.client()
        client.say(msgspec.structs.replace(said, protocol=PROTOCOL + 1))
        assert client.refused is not None
        assert client.refused.code == WRONG_PROTOCOL
    assert role.state() == before


@every_role
def test_a_connection_that_says_nothing_is_dropped_in_time(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [acceptor.HELLO_TIMEOUT_S]
    quiet, greeting = role.client(), role.client()
    greeting.say(next(iter(role.hellos.values())))
    from skate._transport import reactor

    real = reactor.monotonic
    monkeypatch.setattr(reactor, "monotonic", lambda: real() + now[0] + 1)
    quiet.send(b"")
    assert quiet.refused is not None
    assert quiet.refused.code == LATE
    assert quiet.ended
    greeting.send(b"")
    assert not greeting.ended


# ---------------------------------------------------------------------- after the hello


@every_role
def test_what_its_kind_does_not_say_is_refused_and_changes_nothing(role: Role) -> None:
    for kind, said in role.hellos.items():
        if kind == "worker":
            continue  # one that is refused ends, which its daemon has to notice: see below
        first = role.client()
        first.say(said)
        assert first.refused is None
        first.close()
        role.turn()
        before = role.state()
        for message in framed():
            if message in role.service.said[kind] or message is Refused:
                continue
            client = role.client()
            client.say(said, sample(message))
            assert client.refused is not None, (kind, name_of(message))
            assert client.refused.code == (WRONG_STATE if message in role.service.hellos else WRONG_PEER)
            assert client.ended
            client.close()
            role.turn()
            assert role.state() == before, (kind, name_of(message))
    assert role.bugs == []


def test_a_worker_that_says_what_workers_do_not_say_is_ended(tmp_path: Path) -> None:
    role = Node(tmp_path)
    ended: list[bytes] = []
    role.daemon.worker_table.disconnected = lambda worker_id: ended.append(worker_id)  # type: ignore[method-assign,assignment,return-value]
    try:
        client = role.client()
        client.say(role.hellos["worker"], node.Shutdown())
        assert client.refused == Refused(
            WRONG_PEER, "sent Shutdown, which a worker must not send to the node daemon"
        )
        assert ended == [b"w" * 8]
        assert not role.daemon.context.closing
    finally:
        role.close()


def test_nobody_takes_the_name_of_another_process(tmp_path: Path) -> None:
    role = Node(tmp_path)
    try:
        driver, again, impostor = role.client(), role.client(), role.client()
        driver.say(role.hellos["driver"])
        again.say(role.hellos["driver"])
        impostor.say(node.Hello("worker", b"x" * 8, 1, "/x", PROTOCOL, b""))
        assert driver.refused is None
        for other in (again, impostor):
            assert other.refused is not None
            assert other.refused.code == WRONG_PEER
        assert role.daemon.context.clients.ids() == [ME]
        assert not driver.ended
    finally:
        role.close()


def test_a_peer_whose_id_is_not_that_of_its_address_is_refused(tmp_path: Path) -> None:
    role = Process(tmp_path)
    try:
        client = role.client()
        client.say(worker.PeerHello(b"p" * 8, "/s/other", PROTOCOL))
        assert client.refused is not None
        assert client.refused.code == WRONG_PEER
    finally:
        role.close()


# ---------------------------------------------------------------------- the tables


def test_each_role_handles_what_the_table_says_and_nothing_else(tmp_path: Path) -> None:
    made: list[tuple[Role, Callable[[Any], Any]]] = [
        (Control(tmp_path), lambda role: role.store.handlers),
        (Node(tmp_path), lambda role: role.daemon.handlers),
        (Process(tmp_path), lambda role: role.core.peers.handlers),
    ]
    for role, handlers in made:
        service = role.service
        hellos = set() if isinstance(role, Process) else set(service.hellos)
        assert set(handlers(role)) == all_of(service.said) | hellos
        role.close()


def test_what_a_process_hears_from_the_daemon_is_what_the_table_says(tmp_path: Path) -> None:
    role = Process(tmp_path)
    try:
        assert role.core.daemon.connection is not None
        assert set(role.core.daemon.connection._handlers) == services.NODE.heard["worker"]
        assert set(role.core.control.handlers) == services.CONTROL.heard["process"]
    finally:
        role.close()


def test_every_hello_of_the_table_is_tried_here() -> None:
    for role in ROLES:
        assert set(role.hellos) == set(role.service.said)
        for kind in role.hellos:
            hello(role.service, kind)


# ---------------------------------------------------------------------- the gate itself


def test_the_gate_is_out_of_the_way_after_the_hello() -> None:
    """No check per message: the connection has the decoder and the handlers of its kind, as if dialled."""
    reactor = Reactor("test")
    ours, theirs = socket.socketpair()
    handlers = dict.fromkeys([*services.PROCESS.hellos, *services.PROCESS.said["process"]], lambda c, m: None)
    connection = Acceptor(reactor, services.PROCESS, handlers, lambda c: None).accept(theirs, None)
    said = bytearray()
    append_frame(Process.hellos["process"], said)
    ours.send(said)
    reactor.turn(0)
    there = Connection(
        reactor, ours, {m: handlers[m] for m in services.PROCESS.said["process"]}, lambda c: None
    )
    assert connection._decode is there._decode
    assert connection._handlers == there._handlers
    assert connection.hello_timer is None
    for one in (connection, there):
        one.abandon()
    reactor.close()
