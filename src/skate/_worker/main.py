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
from skate._transport.reactor import Reactor
from skate._transport.spin import Spin
from skate._wire import services
from skate._wire.codec import decoder
from skate._worker.core import Core
from skate._worker.execution import output
from skate._worker.process.context import ProcessContext
from skate._worker.process.exhaustion import ran_out

# Made in the zygote, once for all workers: decoders of messages from peers, the daemon, the control store.
for _messages in (
    services.PROCESS.said["process"],
    services.NODE.heard["worker"],
    services.CONTROL.heard["process"],
    frozenset(services.PROCESS.hellos),
):
    decoder(_messages)


def _run_hook(context: ProcessContext) -> str:
    """Run the setup hook of the worker's environment, if it has one; return why it failed, or ""."""
    if not context.environment:
        return ""
    from skate._environment import enter, spec

    environment = spec.decode(context.environment)
    if not environment.hook:
        return ""
    context.dead_reason = (
        f"the setup hook {environment.hook} runs before its worker is connected: it can start no tasks and "
        "fetch no objects"
    )
    try:
        enter.run_hook(environment)
    except BaseException as error:  # SystemExit too: a worker that wants to end is none
        text = format_error(error)
        return f"worker_process_setup_hook {environment.hook} raised in worker process {os.getpid()}:\n{text}"
    finally:
        context.dead_reason = ""
    return ""


def run_worker(worker_id: bytes, session: str, table_fd: int, slot: int, job: dict[str, Any]) -> int:
    """Serve until the daemon's connection ends; return the exit code."""
    output.install()
    faulthandler.enable()
    stack_signal.register()
    progress_table = mmap.mmap(table_fd, os.fstat(table_fd).st_size)
    config = Config(**job["config"])
    reactor = Reactor("worker")
    reactor.spin = Spin(config.spin_us / 1e6)
    context = ProcessContext("worker", worker_id, session, config, reactor)
    context.job_id = bytes.fromhex(job["job_id"])
    context.job_owner = bytes.fromhex(job["job_owner"])
    context.node_id = bytes.fromhex(job["node_id"])
    context.namespace = job["namespace"]
    context.environment = job.pop("runtime_env", "").encode()
    job.pop("prepared", None)
    context.job_config = job
    if os.environ.get("SKATE_AS_RAY"):
        # By name: the package is above this one.
        importlib.import_module("skate.compat").install()
    core = Core(context)
    executor = core.add_executor(progress_table, slot)
    core.main_thread.gate.install()
    executor.interrupts.install()
    executor.title.idle()
    assert core.breakpoints is not None
    core.breakpoints.install()
    core.attach()
    if job.get("logging"):
        from skate._worker.reporting import structured_logs

        structured_logs.apply(context, core.local, job["logging"])
    error = _run_hook(context)
    with context.lock:
        core.peers.listen()
        core.connect_node(dial(os.path.join(session, "node.sock")), error=error)
    if error:
        reactor.flush()
        return 1
    reactor.start_background()
    try:
        code = executor.run()
    except MemoryError as exhausted:
        ran_out(context, exhausted)
        raise
    # The functions of user code; the process ends without Python's own end.
    atexit._run_exitfuncs()
    if executor.host is not None:
        executor.host.forget()
    core.unretrieved.close()
    return code
