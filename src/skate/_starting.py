"""Starting and stopping this process's session: what ``init`` and ``shutdown`` do, and every first call.

It chooses the engine: our runtime with its processes, or in this process alone. Modules above it ask for the
engine by ``connected_engine`` and know nothing of that choice.
"""

from __future__ import annotations

import atexit
import copy
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from skate import engine
from skate.engine import require_engine
from skate.options import check_namespace

if TYPE_CHECKING:
    from skate._launch.connect import Program
    from skate.engine.interface import Engine
    from skate.job_config import JobConfig


class Part(Protocol):
    """This process's part in a session that it started or joined."""

    def stop(self) -> None:
        """End that part, and the session if this process started it."""


class _Session:
    """The session that this process started or joined."""

    driver: Part | None = None
    #: The process that did: a forked child that ends must not end its parent's session.
    pid = 0
    #: It is being stopped.
    stopping = False


lock = threading.RLock()
"""Guards starting and stopping the session."""


def connected_engine() -> Engine:
    """Return the engine of this process; start a session with the defaults if there is none."""
    found = engine.engine()
    if found is None:
        if sys.is_finalizing():  # a finalizer of the program's; imports fail by now, too
            raise RuntimeError("the interpreter is ending: no session can be started any more")
        ensure_started()
        found = require_engine("use skate")
    return found


def ensure_started() -> None:
    """Start a session with the defaults, unless this process is connected."""
    if engine.engine() is None:
        if engine.is_forked():
            require_engine("use skate")
        if _Session.stopping:
            # Another thread, or a finalizer on one that shutdown() waits for: no new session for it.
            raise RuntimeError("the session is being shut down: no call can be made any more")
        with lock:
            if engine.engine() is None:
                start()


def start(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    object_store_memory: int | None = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    mode: str | None = None,
    _system_config: dict[str, Any] | None = None,
    **kwargs: Any,
) -> None:
    """Start a session or join one, and connect this process to it. See ``skate.init`` for the arguments.

    Called under ``lock``, in a process that is not connected.
    """
    from skate._base.config import Config
    from skate._launch import machine
    from skate._launch.connect import Driver, Program

    _Session.pid = os.getpid()
    on_ray = _on_ray(address, mode)
    if on_ray is not None:
        _Session.driver = on_ray(
            runtime_env=runtime_env, num_cpus=num_cpus, num_gpus=num_gpus, resources=resources,
            object_store_memory=object_store_memory, log_to_driver=log_to_driver, namespace=namespace,
            **kwargs,
        )  # fmt: skip
        return
    program = Program()
    if kwargs.get("job_config") is not None or kwargs.get("logging_config") is not None:
        job = _job(kwargs)
        runtime_env = runtime_env or job.runtime_env
        namespace = job.ray_namespace if namespace is None else namespace
        program = _program(job)
    environment = b""
    if runtime_env:
        from skate._environment.resolve import resolve

        environment = resolve(runtime_env, b"")
    unknown = [name for name in kwargs if not name.startswith("_") and name not in _OTHERS]
    if unknown:
        raise RuntimeError(f"init() has no such arguments. Unknown keyword argument(s): {', '.join(unknown)}")
    check_namespace(namespace)
    offer = machine.offer(
        num_cpus,
        num_gpus,
        resources,
        object_store_memory,
        kwargs.get("object_spilling_directory"),
        kwargs.get("labels"),
    )
    # A namespace of its own, as Ray's anonymous ones: names of one program do not meet another's.
    namespace = namespace or os.urandom(16).hex()
    show = log_to_driver is not False
    if _is_inline(mode, address):
        from skate._inline.session import InlineDriver

        config = Config.load(_system_config)
        _Session.driver = InlineDriver.start(offer, config, namespace, environment, program)
        return
    session_dir = _find_session(address)
    if session_dir is None:
        _Session.driver = Driver.start(
            offer, Config.load(_system_config), namespace, environment, show, program
        )
    else:
        given = {"num_cpus": num_cpus, "num_gpus": num_gpus, "resources": resources,
                 "object_store_memory": object_store_memory, "labels": kwargs.get("labels")}  # fmt: skip
        wrong = [name for name, value in given.items() if value is not None]
        if wrong:
            raise ValueError(
                f"init() joins the session at {session_dir}, whose amounts are set: leave out "
                f"{', '.join(wrong)}, or start a session of your own with init(address='local')"
            )
        _Session.driver = Driver.join(session_dir, namespace, environment, show, program)


_OTHERS = frozenset({"object_spilling_directory", "labels", "local_mode", "include_dashboard",
                     "dashboard_host", "dashboard_port", "job_config", "logging_format", "logging_config",
                     "enable_resource_isolation", "cgroup_path", "system_reserved_cpu",
                     "system_reserved_memory", "proxy_server_url"})  # fmt: skip


def _on_ray(address: str | None, mode: str | None) -> Callable[..., Part] | None:
    """Return what joins an existing Ray cluster; None: this is to be a session of our runtime.

    Raises:
        ValueError: the engine has no such name, or the mode contradicts it.
    """
    chosen = os.environ.get("SKATE_ENGINE") or "skate"
    if chosen not in ("skate", "ray"):
        raise ValueError(f"SKATE_ENGINE is 'skate' or 'ray', got {chosen!r}")
    given = address if address not in (None, "auto") else os.environ.get("RAY_ADDRESS") or address
    if address == "ray":
        given = os.environ.get("RAY_ADDRESS") or "auto"
    elif chosen != "ray" and not (isinstance(given, str) and given.startswith("ray://")):
        return None
    if mode not in (None, "cluster"):
        raise ValueError(f"init(mode={mode!r}) runs in this process: it cannot run on a Ray cluster")
    from skate._on_ray.session import RayDriver

    return functools.partial(RayDriver.start, given)


def _engine_of_ray_worker() -> Engine | None:
    from skate._on_ray.session import engine_here

    return engine_here()


if os.environ.get("SKATE_ENGINE") == "ray":
    engine.connection.elsewhere = _engine_of_ray_worker


def _is_inline(mode: str | None, address: str | None) -> bool:
    """Tell whether everything is to run in this process.

    Raises:
        ValueError: there is no such mode, or it contradicts the address.
    """
    given = mode if mode is not None else os.environ.get("SKATE_MODE") or "cluster"
    if given not in ("inline", "cluster"):
        where = "mode" if mode is not None else "SKATE_MODE"
        raise ValueError(f"{where} is 'inline' or 'cluster', got {given!r}")
    if given == "cluster":
        return False
    if address not in (None, "local"):
        if mode is None:
            return False  # the program says itself where it wants to run
        raise ValueError(f"init(mode='inline') starts a session of its own: it cannot join {address!r}")
    return True


def _job(given: Mapping[str, Any]) -> JobConfig:
    """Return the job configuration that ``init`` was given."""
    from skate.job_config import JobConfig

    job = given.get("job_config")
    if isinstance(job, Mapping):
        job = JobConfig.from_json(job)
    if job is not None and not isinstance(job, JobConfig):
        raise TypeError(f"job_config takes a skate.job_config.JobConfig, got {job!r}")
    job = copy.copy(job) if job is not None else JobConfig()
    if given.get("logging_config") is not None:
        job.set_py_logging_config(given["logging_config"])
    return job


def _program(job: JobConfig) -> Program:
    from skate._launch.connect import Program

    logging_ = job.logging_config.to_dict() if job.logging_config is not None else None
    return Program(job.metadata, logging_, job.default_actor_lifetime == "detached")


def _find_session(address: str | None) -> str | None:
    """Return the folder of the session to join; None: start one.

    Raises:
        ConnectionError: the address asks for a running one, and none is there.
    """
    from skate._launch import session

    if address is not None and not isinstance(address, str):
        raise TypeError(f"address takes a string, got {address!r}")
    if address in (None, "auto"):
        address = os.environ.get("SKATE_ADDRESS") or os.environ.get("RAY_ADDRESS") or address
    if address is None:
        return session.current()
    if address == "local":
        return None
    if address == "auto":
        living = session.living()
        found = session.current() or (living[0] if living else None)
        if found is None:
            raise ConnectionError(
                "init(address='auto'): no session of this user runs on this machine. Start one with "
                "`skate start --head`, or call init() without an address."
            )
        return found
    if os.path.isabs(address):
        return address.removesuffix("/control.sock")
    raise ConnectionError(
        f"nobody answers at {address!r}: sessions of skate are joined on their own machine only, by "
        "'auto' or the session's folder (init().address_info['address']). A Ray cluster is joined by "
        "init('ray://HOST:PORT'), or with the variable SKATE_ENGINE=ray"
    )


def stop() -> None:
    """End the session that this process started, or its part in one that it joined: see ``shutdown``."""
    with lock:
        driver, _Session.driver = _Session.driver, None
        if driver is not None and _Session.pid == os.getpid():
            _Session.stopping = True
            engine.leave()
            try:
                driver.stop()
            finally:
                _Session.stopping = False


atexit.register(stop)
