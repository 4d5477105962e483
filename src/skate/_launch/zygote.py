"""Runs the zygote: a small process that has imported everything and forks workers.

The daemon executes it; it has one thread. It reaps its workers and reports how each one ended. When the
daemon's socket closes, it kills its workers and ends: a worker whose user code holds the interpreter lock
forever would not notice by itself.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import select
import signal
import socket
import sys
import types
from typing import Any

import msgspec

from skate._base import descriptors
from skate._base.process import native
from skate._launch.preloading import Preloading
from skate._wire import zygote as wire
from skate._wire.codec import GARBAGE
from skate._worker import main as process


def main(socket_fd: int, table_fd: int, session: str) -> None:
    """Serve the daemon until it closes the socket."""
    sock = socket.socket(fileno=socket_fd)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    workers: dict[int, bytes] = {}
    importlib.import_module("cloudpickle")
    gc.collect()
    gc.freeze()
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    try:
        preloading = Preloading()
        while True:
            ready = poll.poll(preloading.wait_ms)
            if not ready:
                # The first workers are forked; import modules that later ones need.
                preloading.step()
            for fd, _ in ready:
                if fd == wake_read:
                    os.read(wake_read, 512)
                    _reap(sock, workers)
                else:
                    data, fds, _, _ = socket.recv_fds(sock, wire.MAX_MESSAGE, 2)
                    if not data:
                        return
                    try:
                        message = wire.decode_request(data)
                    except GARBAGE as error:
                        # Only a bug of the daemon can cause this; its workers must not end for it.
                        print(f"the zygote ignores a message of its daemon: {error}", file=sys.stderr)
                        _close(fds)
                        continue
                    if isinstance(message, wire.Preload):
                        preloading.ask(message.modules)
                        continue
                    wake_fds = (wake_read, wake_write)
                    _spawn(sock, workers, message, fds, wake_fds, table_fd, session, preloading)
    except (BrokenPipeError, ConnectionResetError):
        return
    finally:
        for pid in workers:
            _kill_group(pid)
        for pid in workers:
            os.waitpid(pid, 0)


def _spawn(
    sock: socket.socket,
    workers: dict[int, bytes],
    spawn: wire.Spawn,
    fds: list[int],
    wake_fds: tuple[int, int],
    table_fd: int,
    session: str,
    preloading: Preloading,
) -> None:
    if len(fds) < 2:  # the kernel delivered only the descriptors for which this process had room
        lost = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        error = f"its zygote {descriptors.explain(lost)}"
        sock.send(wire.encode(wire.Spawned(spawn.worker_id, 0, error)))
        _close(fds)
        return
    try:
        pid = os.fork()
    except OSError as failed:
        sock.send(wire.encode(wire.Spawned(spawn.worker_id, 0, str(failed))))
        pid = -1
    if pid == 0:
        code = 1
        try:
            os.setsid()
            sock.close()
            for fd in wake_fds:
                os.close(fd)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            job = msgspec.json.decode(spawn.job_config)
            _become_worker(job, fds)
            preloading.forget_other_versions("runtime_env" in job)
            code = process.run_worker(spawn.worker_id, session, table_fd, spawn.slot, job)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
    _close(fds)
    if pid > 0:
        workers[pid] = spawn.worker_id
        sock.send(wire.encode(wire.Spawned(spawn.worker_id, pid, "")))


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _become_worker(job: dict[str, Any], fds: list[int]) -> None:
    """Set up the child: the driver's paths, folder and environment, the log pipes, new random seeds."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(fds[0], 1)
    os.dup2(fds[1], 2)
    for fd in (null, *fds):
        os.close(fd)
    os.environ.clear()
    os.environ.update({native(name): native(value) for name, value in job["environment"].items()})
    try:
        os.chdir(native(job["cwd"]))
    except OSError:
        pass  # the driver's folder was deleted; the driver could not use it either
    sys.path[:] = [native(path) for path in job["sys_path"]]
    sys.argv = [native(argument) for argument in job["argv"]]
    if "runtime_env" in job:
        # Imported here, as most programs have no environment.
        from skate._environment import enter, spec

        enter.enter(spec.decode(job["runtime_env"]), job["prepared"])
    sys.modules["__main__"] = types.ModuleType("__main__")
    for name in ("random", "numpy.random"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()


def _reap(sock: socket.socket, workers: dict[int, bytes]) -> None:
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        # Kill its children first, while its pid still names its group.
        _kill_group(ended.si_pid)
        pid, status = os.waitpid(ended.si_pid, 0)
        worker_id = workers.pop(pid, None)
        if worker_id is not None:
            sock.send(wire.encode(wire.Exited(worker_id, pid, status)))


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(pid, signal.SIGKILL)  # the worker was forked, but had no session of its own yet
        except ProcessLookupError:
            pass
