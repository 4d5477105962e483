"""The life of a worker process, after the zygote forked it."""

from __future__ import annotations

import faulthandler
import importlib
import mmap
import os
from typing import Any

from skate._base.config import Config
from skate._transport.connection import dial
from skate._worker import current, output
from skate._worker.core import Core
from skate._worker.executor import Executor


def run_worker(worker_id: bytes, session: str, board_fd: int, slot: int, job: dict[str, Any]) -> int:
    """Serve until the daemon's connection ends; return the exit code."""
    output.install()
    faulthandler.enable()
    board = mmap.mmap(board_fd, os.fstat(board_fd).st_size)
    core = Core("worker", worker_id, session, Config(**job["config"]))
    core.job_id = bytes.fromhex(job["job_id"])
    core.job_owner = bytes.fromhex(job["job_owner"])
    core.namespace = job["namespace"]
    core.job_config = job
    if os.environ.get("SKATE_AS_RAY"):
        # By name: what users see of the runtime is above it.
        importlib.import_module("skate.compat").install()
    executor = core.executor = Executor(core, board, slot)
    executor.interrupts.install()
    current.process.core = core
    with core.lock:
        core.peers.listen()
        core.connect_node(dial(os.path.join(session, "node.sock")), b"")
    core.reactor.start_background()
    return executor.run()
