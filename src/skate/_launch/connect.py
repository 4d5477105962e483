"""``init`` and ``shutdown``: a driver and its session."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from _queue import SimpleQueue  # the module "queue" imports more than it gives
from typing import Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._base.config import Config
from skate._launch import head, session
from skate._launch.head import Role
from skate._transport.reactor import Waiter
from skate._wire import control, node
from skate._worker import current
from skate._worker.core import Core


class Driver:
    """This process as a driver: its runtime and the roles that it started."""

    def __init__(self, core: Core, roles: list[Role], config: Config) -> None:
        self.core = core
        self.config = config
        self._roles = roles
        self._log_ended = Waiter()
        self._previous_handler: Any = None
        self._lines: SimpleQueue[node.LogLines | None] = SimpleQueue()
        self._printer: threading.Thread | None = None

    # ------------------------------------------------------------------ start

    @classmethod
    def start(
        cls,
        resources: dict[str, int],
        store_capacity: int,
        config: Config,
        namespace: str,
        environment: dict[str, str],
        log_to_driver: bool,
    ) -> Driver:
        """Start a session of this process's own and connect to it."""
        session_dir = session.create()
        node_id = os.urandom(ids.NODE_ID_SIZE)
        settings = {
            "resources": resources,
            "store_capacity": store_capacity,
            "config": config._asdict(),
        }
        roles = [head.start_node(session_dir, node_id, settings), head.start_control(session_dir)]
        core = Core("driver", ids.new_worker_id(), session_dir, config)
        core.namespace = namespace
        driver = cls(core, roles, config)
        try:
            driver._connect(environment, log_to_driver)
        except BaseException:
            driver.stop()
            raise
        return driver

    def _connect(self, environment: dict[str, str], log_to_driver: bool) -> None:
        core, (node_role, control_role) = self.core, self._roles
        core.on_node_lost = self._node_lost
        if log_to_driver:
            core.on_log = self._print
        registered = Waiter()
        welcomed = core.on_welcome = Waiter()
        deadline = monotonic() + self.config.start_timeout_s
        with core.lock:
            core.peers.listen()
            box = core.connect_control(control_role.connection, b"", " ".join(sys.argv), registered)
        # While they start: the first task will need it, and it takes 30 ms.
        import cloudpickle  # noqa: F401

        if not core.reactor.wait(registered, deadline) or not box:
            raise self._start_failed(control_role)
        answer: control.Answer = box[0]
        if answer.error:
            raise RuntimeError(answer.error)
        core.job_id = answer.data
        job_config = {
            "sys_path": [os.path.abspath(path) for path in sys.path],
            "cwd": os.getcwd(),
            "argv": [sys.argv[0] if sys.argv else ""],
            "environment": {**os.environ, **environment},
            "config": self.config._asdict(),
            "job_id": core.job_id.hex(),
            "job_owner": core.worker_id.hex(),
            "namespace": core.namespace,
        }
        with core.lock:
            core.connect_node(node_role.connection, json.dumps(job_config).encode())
        if not core.reactor.wait(welcomed, deadline) or core.welcome is None:
            raise self._start_failed(node_role)
        core.reactor.start_background()
        current.process.core = core
        self._catch_interrupts()

    def _start_failed(self, role: Role) -> Exception:
        log = os.path.join(self.core.session_dir, "logs")
        connection = self.core.control if role is self._roles[1] else self.core.node
        if connection is None or connection.closed:
            role.finish(1)  # it is ending, or is as good as ended: see how
        how = (
            role.poll()
            or f"the {role.name} (pid {role.pid}) did not answer within {self.config.start_timeout_s} s"
        )
        return errors.RaySystemError(f"init() failed: {how}; see its log in {log}")

    def _catch_interrupts(self) -> None:
        """Make Ctrl-C safe in the middle of our own code, unless the program has its own handler."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous_handler = signal.signal(signal.SIGINT, self.core.interrupt)

    # ------------------------------------------------------------------ while it runs

    def _print(self, message: node.LogLines) -> None:
        """Have it shown what a worker printed. Under the core's lock: a terminal may be slow."""
        if self._printer is None:
            self._printer = threading.Thread(target=self._print_lines, name="skate-log", daemon=True)
            self._printer.start()
        self._lines.put(message)

    def _print_lines(self) -> None:
        while (message := self._lines.get()) is not None:
            self._show(message)

    def _show(self, message: node.LogLines) -> None:
        """Show whole lines, each with its origin."""
        prefix = f"({message.name + ' ' if message.name else ''}pid={message.pid}) "
        text = "".join(prefix + line + "\n" for line in message.text.splitlines())
        stream = sys.stderr if message.error else sys.stdout
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the program closed its output; the session's log files have it

    def _node_lost(self, reason: str) -> None:
        """The daemon's connection ended. Under the core's lock."""
        self._log_ended.notify()
        if self.core.dead_reason or self.core.reactor.stopped:
            return
        how = self._roles[0].poll(500) or f"the node daemon closed its connection ({reason})"
        self.core.fail_everything(
            f"{how}, and with it the session ended: its workers are gone. Its log: "
            f"{os.path.join(self.core.session_dir, 'logs', 'node.log')}. "
            "Call shutdown() and init() to start anew."
        )

    # ------------------------------------------------------------------ end

    def stop(self) -> None:
        """End the session: workers, daemon, control store; their last output is shown."""
        core = self.core
        if current.process.core is core:
            current.process.core = None
        in_main = threading.current_thread() is threading.main_thread()
        if self._previous_handler and in_main and signal.getsignal(signal.SIGINT) == core.interrupt:
            signal.signal(signal.SIGINT, self._previous_handler)
        if core.node is not None and not core.node.closed:
            with core.lock:
                core.dead_reason = "this session was shut down"
                core.node.send(node.Shutdown())
                core.node.flush()
            core.reactor.wait(self._log_ended, monotonic() + 5)
        core.close()
        if self._printer is not None:
            self._lines.put(None)
            self._printer.join(5)
        for role in self._roles:
            role.connection.close()  # where the connection was never used
            role.finish(5)
        session.remove_sockets(core.session_dir)
        session.sweep(self.config.sessions_kept, core.session_dir)
