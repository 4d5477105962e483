"""Starts and ends the session of ``init(mode="inline")``."""

from __future__ import annotations

import sys

from msgspec.structs import replace

from skate._base.config import Config
from skate._base.process import printable
from skate._base.resources import Resources
from skate._inline.core import InlineCore
from skate._launch.connect import Program, catch_signals, job_facts, leave_signals
from skate._launch.machine import Offer
from skate._wire import control
from skate.engine.runtime import RuntimeEngine


class InlineEngine(RuntimeEngine):
    """Engine in the driver's own process. Engine describes the methods."""

    def __init__(self, core: InlineCore) -> None:
        super().__init__(core)
        self._inline = core

    def nodes(self) -> list[control.NodeInfo]:
        """See Engine."""
        here = self._inline.inline_node
        with self.core.context.lock:
            free: Resources = {name: max(0, units) for name, units in here.available().items()}
        return [replace(one, available=free) for one in super().nodes()]

    def state(self, what: str) -> tuple[list[tuple[int, str, list[dict[str, object]]]], list[int]]:
        """See RuntimeEngine."""
        rows = self.core.reporter.rows(what)
        with self.core.context.lock:
            own = self._inline.inline_node.rows(what)
        return [(self.core.context.pid, "driver", rows), (0, "daemon", own)], []


class InlineDriver:
    """The driver of an in-process session. See ``_launch.connect.Driver``."""

    def __init__(self, core: InlineCore) -> None:
        self.core = core
        catch_signals(core)

    @classmethod
    def start(
        cls, offer: Offer, config: Config, namespace: str, environment: bytes, program: Program
    ) -> InlineDriver:
        """Start a session in this process."""
        core = InlineCore(config, offer)
        context = core.context
        context.environment = environment
        context.job_config = {"detached": program.detached}
        context.job_facts = job_facts(program, environment)
        core.connect(namespace, printable(" ".join(sys.argv)))
        core.engine = InlineEngine(core)
        core.attach()
        if program.logging:
            from skate._worker.reporting import structured_logs

            structured_logs.apply(context, core.local, program.logging)
        if environment:
            context.warn(
                "init() has a runtime_env, which in-process mode does not enter: tasks run with the "
                "variables, folder and packages of this process"
            )
        return cls(core)

    def stop(self) -> None:
        """End the session."""
        self.core.detach()
        self.core.main_thread.hold_signals()
        try:
            self.core.close()
        finally:
            leave_signals(self.core)
