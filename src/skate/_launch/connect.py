"""Implements ``init`` and ``shutdown`` of a driver and its session."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import threading
from _queue import SimpleQueue  # the module "queue" has slow imports
from typing import Any, NamedTuple

from skate._base import descriptors, errors, ids, stack_signal, threads
from skate._base.clock import monotonic
from skate._base.config import Config
from skate._base.process import import_paths, portable, printable, working_folder
from skate._launch import session
from skate._launch.head import Role, Starter
from skate._launch.machine import Offer
from skate._transport.dialing import dial
from skate._transport.reactor import Reactor
from skate._transport.spin import Spin
from skate._wire import node
from skate._worker.core import Core
from skate._worker.process.context import ProcessContext

#: The module that draws the progress bars of tqdm_ray, and the prefix of lines that report them.
_BARS = "skate.experimental.tqdm_ray"
_BAR_MARK = "\x1fskate-bar "


class Program(NamedTuple):
    """Holds the settings of a job that its program gives."""

    #: Text of its own, by key.
    metadata: dict[str, str] = {}
    #: The configuration of ``logging``, as plain data; None: unchanged.
    logging: dict[str, Any] | None = None
    #: Whether actors without an explicit lifetime are detached.
    detached: bool = False


_NOTHING = Program()


class Driver:
    """Represents this process as a driver: its runtime, and the roles if it started them."""

    def __init__(self, core: Core, roles: list[Role], alive_fd: int) -> None:
        self.core = core
        #: The node daemon and the control store of a session that this driver started. Empty: it joined a
        #: session.
        self._roles = roles
        self._alive_fd = alive_fd
        self._lines: SimpleQueue[node.LogLines | node.Stopped | node.Resumed | None] = SimpleQueue()
        self._program = _NOTHING
        self._printer: threading.Thread | None = None
        #: The console for breakpoints; made at the first stop.
        self._console: Any = None
        self._stacks = stack_signal.register()

    # ------------------------------------------------------------------ start

    @classmethod
    def start(
        cls,
        offer: Offer,
        config: Config,
        namespace: str,
        environment: bytes,
        log_to_driver: bool,
        program: Program = _NOTHING,
    ) -> Driver:
        """Start a session that belongs to this process, and connect to it.

        Raises:
            RaySystemError: the session did not start, or a limit of this process is too low for it.
        """
        prepare_limits()
        session_dir, alive_fd = session.create()
        starter = Starter(session_dir, alive_fd, lifeline=True)
        settings = {**offer._asdict(), "config": config._asdict()}
        roles = starter.both(ids.new_node_id(), settings)
        session.describe(session_dir, session_facts(config, offer, owner=os.getpid()))
        driver = cls(_core(session_dir, config), roles, alive_fd)
        driver._program = program
        to_node, to_control = (role.connection for role in roles)
        assert to_node is not None
        assert to_control is not None
        driver._connect(to_node, to_control, namespace, environment, log_to_driver)
        return driver

    @classmethod
    def join(
        cls,
        session_dir: str,
        namespace: str,
        environment: bytes,
        log_to_driver: bool,
        program: Program = _NOTHING,
    ) -> Driver:
        """Connect to a session that runs already.

        Raises:
            ConnectionError: no session answers there.
            RuntimeError: the session runs another version of Python.
            RaySystemError: a limit of this process is too low.
        """
        prepare_limits()
        try:
            facts = session.facts(session_dir)
            to_node = dial(os.path.join(session_dir, "node.sock"))
            to_control = dial(os.path.join(session_dir, "control.sock"))
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"no session answers at {session_dir!r} ({error}). `skate status` shows what runs; start one "
                "with `skate start --head`, or call init() without an address."
            ) from None
        mine = python_version()
        if facts["python"] != mine:
            raise RuntimeError(
                f"the session at {session_dir} runs Python {facts['python']}, this program {mine}: code "
                "cannot be sent between them. Run both with the same Python."
            )
        driver = cls(_core(session_dir, Config(**facts["config"])), [], -1)
        driver._program = program
        driver._connect(to_node, to_control, namespace, environment, log_to_driver)
        return driver

    def _connect(
        self,
        to_node: socket.socket,
        to_control: socket.socket,
        namespace: str,
        environment: bytes,
        log_to_driver: bool,
    ) -> None:
        self.core.context.namespace = namespace
        self.core.context.environment = environment
        try:
            self._register(to_node, to_control, log_to_driver)
        except BaseException:
            self.stop()
            raise

    def _register(
        self,
        to_node: socket.socket,
        to_control: socket.socket,
        log_to_driver: bool,
    ) -> None:
        core = self.core
        core.daemon.on_lost = self._node_lost
        core.context.job_facts = job_facts(self._program, core.context.environment)
        if log_to_driver:
            core.daemon.on_log = self._print
        core.daemon.on_stop = self._print
        welcomed = core.daemon.welcomed
        deadline = monotonic() + core.context.config.start_timeout_s
        with core.context.lock:
            core.peers.listen()
            registered = core.control.join(to_control, printable(" ".join(sys.argv)))
        # Imported while the roles start: the first task needs it, and the import takes 30 ms.
        import cloudpickle  # noqa: F401

        answer = registered.answer if core.context.reactor.wait(registered, deadline) else None
        if answer is None:
            raise self._start_failed("control store", 1)
        if answer.error:
            raise RuntimeError(answer.error)
        core.context.job_id = answer.data
        core.context.job_config = {
            "sys_path": [portable(path) for path in import_paths()],
            "cwd": portable(working_folder()),
            "argv": [portable(argument) for argument in sys.argv[:1]] or [""],
            "environment": {
                portable(name): portable(value)
                for name, value in {**os.environ, **self._hidden_gpus()}.items()
            },
            "config": core.context.config._asdict(),
            "job_id": core.context.job_id.hex(),
            "job_owner": core.context.worker_id.hex(),
            "namespace": core.context.namespace,
            "logging": self._program.logging,
            "detached": self._program.detached,
        }
        with core.context.lock:
            core.connect_node(to_node, json.dumps(core.context.job_config).encode())
        if not core.context.reactor.wait(welcomed, deadline) or core.daemon.welcome is None:
            raise self._start_failed("node daemon", 0)
        core.context.reactor.start_background()
        core.attach()
        if self._program.logging:
            from skate._worker.reporting import structured_logs

            structured_logs.apply(core.context, core.local, self._program.logging)
        catch_signals(core)

    def _hidden_gpus(self) -> dict[str, str]:
        """Return variables that hide GPUs from tasks that asked for none, as in Ray. With
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 there are none."""
        override = os.environ.get("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
        has_gpus = session.facts(self.core.context.session_dir)["has_gpus"]
        return {"CUDA_VISIBLE_DEVICES": ""} if has_gpus and override not in ("0", "false", "False") else {}

    def _start_failed(self, name: str, index: int) -> Exception:
        core = self.core
        how = f"the {name} did not answer within {core.context.config.start_timeout_s} s"
        if index and core.control.gone:
            how = f"the {name} is gone: {core.control.gone}"
        connection = core.control.connection if index else core.daemon.connection
        if not index and connection is not None and connection.refused is not None:
            how = f"the {name} refused this program, because it {connection.refused.what}"
        if self._roles:
            role = self._roles[index]
            if connection is None or connection.closed:
                role.finish(1)  # the role is ending: find out how
            how = role.poll() or how
        return errors.RaySystemError(
            f"init() failed: {how}; see its log in {os.path.join(core.context.session_dir, 'logs')}"
        )

    # ------------------------------------------------------------------ while it runs

    def _print(self, message: node.LogLines | node.Stopped | node.Resumed) -> None:
        """Queue a worker's output, or its stop at a breakpoint, to be shown in this order. Called under the
        core's lock, so it does not write to the terminal, which may be slow."""
        if self._printer is None:
            try:
                self._printer = threads.start("skate-log", self._print_lines)
            except RuntimeError:
                pass  # the next line tries again, and the end of the session shows all of them
        self._lines.put(message)

    def _print_lines(self) -> None:
        while (message := self._lines.get()) is not None:
            if type(message) is node.LogLines:
                self._show(message)
            else:
                self._stop_news(message)

    def _stop_news(self, message: Any) -> None:
        console = self._console
        if console is None:
            # Imported at first need: most programs have no breakpoint.
            console = self._console = importlib.import_module("skate._launch.console").Console(self.core)
            self.core.main_thread.gate.takes_interrupt = console.interrupt
        if type(message) is node.Stopped:
            console.stopped(message)
        else:
            console.resumed(message.address)

    def _show(self, message: node.LogLines) -> None:
        """Show whole lines, each with its origin."""
        prefix = f"({message.name + ' ' if message.name else ''}pid={message.pid}) "
        stream = sys.stderr if message.error else sys.stdout
        try:
            if _BARS in sys.modules or _BAR_MARK in message.text:
                # Imported by name: progress bars belong to the layers above this one.
                importlib.import_module(_BARS).show(message.text, stream, prefix)
                return
            stream.write("".join(prefix + line + "\n" for line in message.text.splitlines()))
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the program closed its output; the session's log files have the lines

    def _node_lost(self, reason: str) -> None:
        """Handle the end of the daemon's connection. Called under the core's lock."""
        self.core.daemon.left.notify()
        if self.core.context.dead_reason or self.core.context.reactor.is_stopped:
            return
        how = (
            self._roles and self._roles[0].poll(500)
        ) or f"the node daemon closed its connection ({reason})"
        joined = "" if self._roles else " (this program had joined a session that it did not start)"
        self.core.fail_everything(
            f"{how}, and the session ended with it: its workers are gone{joined}. Its log: "
            f"{os.path.join(self.core.context.session_dir, 'logs', 'node.log')}. "
            "Call shutdown() and init() to start a new session."
        )

    # ------------------------------------------------------------------ end

    def stop(self) -> None:
        """End this job, and the session if it belongs to this process; show the last output."""
        core = self.core
        core.detach()
        core.main_thread.hold_signals()
        try:
            self._stop()
        finally:
            leave_signals(core)

    def _stop(self) -> None:
        core = self.core
        if core.daemon.is_open:
            with core.context.lock:
                core.context.dead_reason = "this session was shut down"
                if not self._roles:
                    core.reporter.send_history()
                core.daemon.send(node.Shutdown())
                core.daemon.flush()
            core.context.reactor.wait(core.daemon.left, monotonic() + 5)
        if self._console is not None:
            self._console.close()
        stacks, self._stacks = self._stacks, -1
        stack_signal.unregister(stacks)
        core.close()
        self._lines.put(None)
        if self._printer is not None:
            self._printer.join(5)
        else:
            self._print_lines()
        for role in self._roles:
            if role.connection is not None:
                role.connection.close()  # the connection may never have been used
            role.finish(5)
        if self._roles:
            os.close(self._alive_fd)
            session.remove_sockets(core.context.session_dir)
            session.sweep(core.context.config.sessions_kept, core.context.session_dir)


def _core(session_dir: str, config: Config) -> Core:
    """Return the runtime of a driver, which is not connected yet."""
    reactor = Reactor("driver")
    reactor.spin = Spin(config.spin_us / 1e6)
    return Core(ProcessContext("driver", ids.new_worker_id(), session_dir, config, reactor))


def catch_signals(core: Core) -> None:
    """Keep the program's signal handlers out of the runtime's own code."""
    core.main_thread.gate.install()
    shell = _ipython()
    if shell is not None:
        shell.events.register(
            "pre_run_cell", core.main_thread.gate.adopt
        )  # a kernel sets its own handlers for each cell


def leave_signals(core: Core) -> None:
    """Give the program its handlers back; deferred handlers run now, and may raise."""
    shell = _ipython()
    if shell is not None and core.main_thread.gate.adopt in shell.events.callbacks["pre_run_cell"]:
        shell.events.unregister("pre_run_cell", core.main_thread.gate.adopt)
    core.main_thread.gate.uninstall()


def _ipython() -> Any:
    """Return IPython's shell, in a notebook or in its terminal; else None."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def prepare_limits() -> None:
    """Raise this process's limit of descriptors for connections to actors and workers, as Ray does.

    Raises:
        RaySystemError: a limit is too low for a session, and cannot be raised.
    """
    descriptors.raise_limit()
    problem = descriptors.too_low()
    if problem:
        raise errors.RaySystemError(f"init() failed: {problem}")


def job_facts(program: Program, environment: bytes) -> bytes:
    """Return the facts of a job as JSON."""
    facts = {"pid": os.getpid(), "metadata": program.metadata, "runtime_env": _shown(environment)}
    return json.dumps(facts).encode()


def _shown(environment: bytes) -> dict[str, Any]:
    """Return an encoded environment in the form that its user wrote."""
    if not environment:
        return {}
    from skate._environment.spec import decode

    return dict(decode(environment).shown)


def python_version() -> str:
    """Return the Python version, which two processes must share to send each other code."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def session_facts(config: Config, offer: Offer, *, owner: int) -> dict[str, Any]:
    """Return the facts that other processes need to join a session. ``owner``: the process it ends with, or
    0."""
    return {"config": config._asdict(), "python": python_version(), "owner": owner,
            "has_gpus": bool(offer.gpus)}  # fmt: skip
