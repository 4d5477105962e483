"""The life of a worker process, after the zygote forked it."""

from __future__ import annotations

import atexit
import faulthandler
import importlib
import mmap
import os
from typing import Any

from skate._base import stack_signal
from skate._base.config import Config
from skate._serialize.tracebacks import format_error
from skate._transport.dialing import dial
from skate._wire import services
from skate._wire.codec import decoder
from skate._worker.core import Core
from skate._worker.debugging import breakpoints
from skate._worker.execution import output
from skate._worker.execution.executor import Executor
from skate._worker.process import current
from skate._worker.process.exhaustion import ran_out

# Made in the zygote, once for all workers: of what peers, the daemon and the control store say.
for _messages in (
    services.PROCESS.said["process"],
    services.NODE.heard["worker"],
    services.CONTROL.heard["process"],
    frozenset(services.PROCESS.hellos),
):
    decoder(_messages)


def _run_hook(core: Core) -> str:
    """Run the setup hook of the worker's environment, if it has one; return why it failed, or ""."""
    if not core.environment:
        return ""
    from skate._environment import enter, spec

    environment = spec.decode(core.environment)
    if not environment.hook:
        return ""
    core.dead_reason = (
        f"the setup hook {environment.hook} runs before its worker is connected: it can start no tasks and "
        "fetch no objects"
    )
    try:
        enter.run_hook(environment)
    except BaseException as error:  # SystemExit too: a worker that wants to end is none
        text = format_error(error)
        return f"worker_process_setup_hook {environment.hook} raised in worker process {os.getpid()}:\n{text}"
    finally:
        core.dead_reason = ""
    return ""


def run_worker(worker_id: bytes, session: str, board_fd: int, slot: int, job: dict[str, Any]) -> int:
    """Serve until the daemon's connection ends; return the exit code."""
    output.install()
    faulthandler.enable()
    stack_signal.register()
    board = mmap.mmap(board_fd, os.fstat(board_fd).st_size)
    core = Core("worker", worker_id, session, Config(**job["config"]))
    core.job_id = bytes.fromhex(job["job_id"])
    core.job_owner = bytes.fromhex(job["job_owner"])
    core.node_id = bytes.fromhex(job["node_id"])
    core.namespace = job["namespace"]
    core.environment = job.pop("runtime_env", "").encode()
    job.pop("prepared", None)
    core.job_config = job
    if os.environ.get("SKATE_AS_RAY"):
        # By name: what users see of the runtime is above it.
        importlib.import_module("skate.compat").install()
    executor = core.executor = Executor(core, board, slot)
    core.gate.install()
    executor.interrupts.install()
    executor.title.idle()
    breakpoints.install()
    current.process.core = core
    if job.get("logging"):
        from skate._worker.reporting import structured_logs

        structured_logs.apply(core, job["logging"])
    error = _run_hook(core)
    with core.lock:
        core.peers.listen()
        core.connect_node(dial(os.path.join(session, "node.sock")), error=error)
    if error:
        core.reactor.flush()
        return 1
    core.reactor.start_background()
    try:
        code = executor.run()
    except MemoryError as exhausted:
        ran_out(core, exhausted)
        raise
    # User code's; the process ends without Python's own end.
    atexit._run_exitfuncs()
    if executor.host is not None:
        executor.host.forget()
    core.unread.close()
    return code
