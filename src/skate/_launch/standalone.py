"""Starts and stops sessions that outlive the process that started them: ``skate start`` and ``skate
stop``."""

from __future__ import annotations

import os
import time

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._base.config import Config
from skate._launch import observe, session
from skate._launch.connect import prepare_limits, session_facts
from skate._launch.head import Starter
from skate._launch.machine import Offer
from skate._transport.connection import Connection
from skate._transport.dialing import dial
from skate._transport.reactor import Reactor, Waiter
from skate._wire import control, node


def start(offer: Offer, config: Config) -> str:
    """Start a session that ends when ``stop`` ends it; return its folder.

    ``init()`` on this machine joins it from now on, unless its arguments say otherwise.

    Raises:
        RuntimeError: a session runs already.
        RaySystemError: the session did not start; the message says why.
    """
    running = session.current()
    if running is not None:
        raise RuntimeError(
            f"a session runs already at {running}: init() joins it. End it with `skate stop` first."
        )
    prepare_limits()
    path, alive_fd = session.create()
    try:
        starter = Starter(path, alive_fd, lifeline=False)
        settings = {**offer._asdict(), "config": config._asdict()}
        roles = starter.both(ids.new_node_id(), settings)
        session.describe(path, session_facts(config, offer, owner=0))
        deadline = monotonic() + config.start_timeout_s
        if not _ask(path, control.ListNodes(1), deadline):
            dead = [how for how in (role.poll(100) for role in roles) if how]
            for role in roles:
                role.finish(0)
            _stop_control(path, monotonic() + 5)  # it may be a restarted one
            raise errors.RaySystemError(
                f"the session did not start: {'; '.join(dead) or 'its node daemon never registered'}. "
                f"Its logs: {os.path.join(path, 'logs')}"
            )
    finally:
        os.close(alive_fd)
    session.make_current(path)
    return path


def stop(path: str, config: Config) -> None:
    """End a session of ``skate start``, and wait for its end.

    Raises:
        RuntimeError: it is the session of a program's own ``init()``, or does not end in time.
    """
    owner = session.facts(path)["owner"]
    if owner:
        raise RuntimeError(f"the session at {path} belongs to process {owner} and ends with it")
    deadline = monotonic() + config.start_timeout_s
    _stop_node(path, deadline)
    _stop_control(path, deadline)
    while session.is_alive(path):
        if monotonic() > deadline:
            raise RuntimeError(
                f"the session at {path} did not end within {config.start_timeout_s} s; its logs: {path}/logs"
            )
        time.sleep(0.005)  # their connections are closed, so the processes end soon
    session.remove_sockets(path)
    session.sweep(config.sessions_kept, path)


def _ask(path: str, question: control.ListNodes, deadline: float) -> bool:
    """Ask the control store; tell whether it answered in time. It answers after the node has joined."""
    reactor = Reactor("starter")
    answered = Waiter()
    got: list[control.Answer] = []

    def answer(connection: Connection, message: control.Answer) -> None:
        got.append(message)
        answered.notify()

    with reactor.lock:
        connection = Connection(
            reactor, dial(os.path.join(path, "control.sock")), {control.Answer: answer},
            lambda c: answered.notify(),
        )  # fmt: skip
        connection.send(observe.hello_to_control())
        connection.send(question)
        connection.flush()
    reactor.wait(answered, deadline)
    with reactor.lock:
        connection.abandon()
    reactor.close()
    return bool(got)


def _stop_node(path: str, deadline: float) -> None:
    _tell_to_stop(os.path.join(path, "node.sock"), observe.hello_to_node(), deadline)


def _stop_control(path: str, deadline: float) -> None:
    _tell_to_stop(os.path.join(path, "control.sock"), observe.hello_to_control(), deadline)


def _tell_to_stop(socket_path: str, hello: node.Hello | control.RegisterObserver, deadline: float) -> None:
    """Ask a role to end, and wait until its connection closes. If no role answers there, do nothing."""
    try:
        sock = dial(socket_path)
    except OSError:
        return
    reactor = Reactor("stopper")
    ended = Waiter()
    with reactor.lock:
        connection = Connection(reactor, sock, {}, lambda c: ended.notify())
        connection.send(hello)
        connection.send(node.Shutdown())
        connection.flush()
    reactor.wait(ended, deadline)
    with reactor.lock:
        connection.abandon()
    reactor.close()
