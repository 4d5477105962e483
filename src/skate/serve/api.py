"""Running applications: ``run``, ``status``, ``delete``, handles by name."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skate import api
from skate.engine import engine
from skate.exceptions import RayActorError, RayError
from skate.serve import _local, config, context
from skate.serve._build import target_of
from skate.serve._client import client as clients
from skate.serve._client import watching
from skate.serve._http.routes import check_prefix
from skate.serve._instance import (
    announce,
    asked,
    close_door,
    controller,
    door_address,
    is_in_process,
    open_door,
    open_port,
    outcomes,
    start_controller,
)
from skate.serve._left_out import refuse
from skate.serve._logging_config import logging_config as as_logging_config
from skate.serve._observing import why as words
from skate.serve._targets import ADMIN, NAMESPACE, DeploymentId, with_logging
from skate.serve.config import HTTPOptions, ProxyLocation, gRPCOptions
from skate.serve.deployment import Application
from skate.serve.exceptions import RayServeException
from skate.serve.handle import DeploymentHandle
from skate.serve.schema import ProxyStatus, ServeStatus

__all__ = [
    "RunTarget",
    "delete",
    "get_app_handle",
    "get_deployment_handle",
    "promote",
    "rollback",
    "run",
    "run_many",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
    "why",
]


def start(
    proxy_location: str | ProxyLocation | None = None,
    http_options: HTTPOptions | Mapping[str, Any] | None = None,
    grpc_options: gRPCOptions | Mapping[str, Any] | None = None,
    logging_config: Any = None,
    tracing_config: Any = None,
    controller_options: Any = None,
    **kwargs: Any,
) -> None:
    """Start serve in this session, and a session if there is none. ``run`` does it by itself, with the
    defaults.

    Args:
        proxy_location: "Disabled": no HTTP; every other place is this machine.
        http_options: where HTTP is answered: an ``HTTPOptions``, or a dict of its fields. An instance that
            runs already stays as it is, but for ``api_keys`` that are given: those replace its own.
        grpc_options: where gRPC is answered, and which services: a ``gRPCOptions``, or a dict of its fields.
            An instance that answers gRPC already goes on as it is.
        logging_config: how replicas log whose application and deployment say nothing: a ``LoggingConfig``,
            or a dict of its fields. The first call counts.

    Raises:
        RuntimeError: the port is in use.
        RayServeException: TLS cannot be had with the files that were given, or a gRPC service not be found.
        NotImplementedError: an option of Ray's that is not there; or the session runs on a Ray cluster.

    Example:
        >>> serve.start(http_options={"port": 9000})
    """
    for name, value in (
        ("tracing_config", tracing_config),
        ("controller_options", controller_options),
    ):
        if value is not None:
            raise refuse(name)
    if kwargs:
        raise TypeError(f"serve.start() has no option {', '.join(kwargs)}")
    options, grpc = config.http_options(http_options), config.grpc_options(grpc_options)
    location = ProxyLocation(proxy_location or options.location or ProxyLocation.EveryNode)
    if is_in_process():
        return
    logs = as_logging_config(logging_config)
    found = start_controller()
    if logs is not None:
        api.get(found.log.remote(logs))
    if location is not ProxyLocation.Disabled and options.host is not None:
        open_port(found, options)
    if location is not ProxyLocation.Disabled and grpc.grpc_servicer_functions:
        open_door(found, grpc, options)


def run(
    target: Application,
    blocking: bool = False,
    name: str = "default",
    route_prefix: str | None = "/",
    logging_config: Any = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: Any = None,
    canary: float = 0.0,
) -> DeploymentHandle:
    """Run an application, or update the one of that name; return when it answers.

    Replicas whose code, constructor arguments and actor options are as before go on; others are replaced one
    after the other, new ones first, and no request is lost. If the new version does not start, the old one
    goes on.

    Args:
        target: what ``Deployment.bind()`` returned.
        blocking: stay until Ctrl-C, then shut down.
        name: of the application.
        route_prefix: paths below it reach the application by HTTP; None: handles only.
        canary: leave the present version as it is, and give the new one this share of the requests (percent),
            until ``promote`` or ``rollback``. (Not in Ray.)
        logging_config: how its replicas log, except those of deployments that say it themselves: a
            ``LoggingConfig``, or a dict of its fields.
        external_scaler_enabled: programs outside may change the number of replicas by the REST API.

    Returns:
        The handle of its entrance.

    Raises:
        TypeError: it is no Application.
        ValueError: it cannot be a prefix.
        RuntimeError: it does not start. The message has the error of the user's code.
        RayServeException: another application has the prefix.
        NotImplementedError: the session runs in-process, or on a Ray cluster.

    Example:
        >>> handle = serve.run(Model.bind("weights.bin"))
        >>> handle.remote("a text").result()
    """
    (handle,) = run_many(
        [RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled, canary)],
        blocking,
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )
    return handle


@dataclass(frozen=True)
class RunTarget:
    """One application of ``run_many``. Its fields are the arguments of ``run``.

    Args:
        target: what ``Deployment.bind()`` returned.
        name: of the application.
        route_prefix: paths below it reach the application by HTTP; None: handles only.
        logging_config: how its replicas log, except those of deployments that say it themselves.
        external_scaler_enabled: programs outside may change the number of replicas by the REST API.
        canary: the share of the requests for a new version beside the present one (percent; not in Ray).
    """

    target: Application
    name: str = "default"
    route_prefix: str | None = "/"
    logging_config: Any = None
    external_scaler_enabled: bool = False
    canary: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.target, Application):
            raise TypeError(
                "`serve.run` expects an `Application` returned by `Deployment.bind()`, got "
                f"{type(self.target).__name__}: {self.target!r:.80}"
            )
        check_prefix(self.route_prefix)
        if not isinstance(self.name, str) or not self.name:
            raise RayServeException(f"an application's name is a string that is not empty, got {self.name!r}")
        if not 0 <= self.canary <= 100:
            raise ValueError(f"canary takes percent from 0 to 100, got {self.canary!r}")


def run_many(
    targets: Sequence[RunTarget],
    blocking: bool = False,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: Any = None,
) -> list[DeploymentHandle]:
    """Run several applications, or update those of their names; they start at the same time.

    Args:
        targets: the applications.
        blocking: stay until Ctrl-C, then shut down.
        wait_for_ingress_deployment_creation: taken for Ray's sake: it is always waited for.
        wait_for_applications_running: return when all answer; else when they are to be brought about.

    Returns:
        The handles of their entrances, in their order.

    Raises:
        ValueError: two have the same name, or one has what cannot be a prefix.
        RuntimeError: one does not start. The message has the error of the user's code; the others run.
        RayServeException: another application has a prefix. Nothing was changed.

    Example:
        >>> serve.run_many([
        ...     serve.RunTarget(Model.bind(), "model", "/model"),
        ...     serve.RunTarget(Search.bind(), "search", "/search"),
        ... ])
    """
    if controller_options:
        raise refuse("controller_options")
    for what in ("name", "route_prefix"):
        values = [value for one in targets if (value := getattr(one, what)) is not None]
        if len({*values}) < len(values):
            raise ValueError(f"two of the applications have the same {what}: {', '.join(values)}")
    if _local_testing_mode or is_in_process():
        _local.refuse_canaries({one.name: one.canary for one in targets})
        handles = [_local.run(one.target, one.name) for one in targets]
        if blocking:
            block()
        return handles
    wanted = [
        with_logging(
            target_of(
                one.target,
                one.name,
                one.route_prefix,
                external_scaler_enabled=one.external_scaler_enabled,
            ),
            as_logging_config(one.logging_config),
        )
        for one in targets
    ]
    found = start_controller()
    if any(one.route_prefix is not None for one in targets):
        open_port(found, HTTPOptions())
    asked(found.deploy.remote(wanted, {one.name: one.canary for one in targets}))
    if wait_for_applications_running:
        _await_outcomes({one.name: one.number for one in wanted}, "Deploying")
    if blocking:
        announce({one.name: one.route_prefix for one in wanted}, sys.stderr)
        block()
    return [DeploymentHandle(one.ingress, one.name) for one in wanted]


def _await_outcomes(numbers: Mapping[str, int], what: str) -> None:
    found = outcomes(numbers).items()
    failures = [f"{what} application {name} failed: {failure}" for name, failure in found if failure]
    if failures:
        raise RuntimeError("\n".join(failures))


def promote(name: str = "default") -> None:
    """Make the canary of an application its one version; return when all its replicas run.

    Args:
        name: of the application.

    Raises:
        RayServeException: it has no canary, or does not exist.
        RuntimeError: it cannot be brought about; the version before goes on.

    Example:
        >>> serve.run(Model.bind("new.bin"), canary=5)
        >>> serve.promote()
    """
    _await_outcomes({name: asked(controller().promote.remote(name))}, "Promoting")


def rollback(name: str = "default") -> None:
    """Remove the canary of an application; without one, bring back the version before the present one.

    The last three versions are kept.

    Args:
        name: of the application.

    Raises:
        RayServeException: there is neither, or no such application.
        RuntimeError: the version before does not start any more.

    Example:
        >>> serve.rollback()
    """
    _await_outcomes({name: asked(controller().roll_back.remote(name))}, "Rolling back")


def block(
    poll: Callable[[], object] | None = None,
    interval_s: float = 0.2,
    end: Callable[[], object] | None = None,
) -> None:
    """Wait for Ctrl-C or SIGTERM, then shut down.

    Args:
        poll: called meanwhile.
        interval_s: between two calls of it (seconds).
        end: called then; None: ``shutdown``.
    """
    ended = threading.Event()
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        while not ended.wait(3600 if poll is None else interval_s):
            if poll is not None:
                poll()
    except KeyboardInterrupt:
        pass
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
        (end or shutdown)()


def delete(name: str, _blocking: bool = True) -> None:
    """Remove an application. Requests that are under way are finished first.

    Args:
        name: of the application; nothing happens if there is none.

    Example:
        >>> serve.delete("default")
    """
    if _local.delete(name):
        return
    try:
        ref = controller().delete.remote(name)
    except RayServeException:
        return
    if _blocking:
        api.get(ref)


def status() -> ServeStatus:
    """Return how all applications stand; empty if serve does not run.

    Example:
        >>> serve.status().applications["default"].status
        'RUNNING'
    """
    try:
        found: ServeStatus = api.get(controller().status.remote())
    except RayServeException:
        found = ServeStatus()
    else:
        if (door := door_address()) is not None:
            found.proxies[f"grpc://{door}"] = ProxyStatus.HEALTHY
    found.applications.update(_local.statuses())
    return found


def why(request_id: str) -> list[str]:
    """Say where a request is and what it waits for, or how it ended.

    Args:
        request_id: as in the header ``x-request-id``, in logs, and of a response: ``response.request_id``.

    Returns:
        Sentences. Each replica, and the process of the caller, knows the requests that are in it and the
        last 1,000
        that ended there.

    Raises:
        RayServeException: serve does not run.

    Example:
        >>> serve.why(response.request_id)
        ['Request 6f2c... runs in replica x1 of Model (application default) for 2.5 s, at a.py:12 in f.']
    """
    answers, missing = api.get(controller().find.remote(request_id))
    facts = [(process, fact) for process, found in answers.items() for fact in found.facts]
    if context.process.replica is None:
        facts += [
            ("this process", one)
            for one in watching.facts(clients.this_process(), "this process", request_id)
        ]
    ongoing = {process: found.ongoing for process, found in answers.items() if found.ongoing >= 0}
    return words.sentences(request_id, facts, ongoing, missing, time.monotonic())


def shutdown() -> None:
    """Remove all applications and end serve in this session. Requests under way are finished first.

    Does nothing where serve does not run.

    Example:
        >>> serve.shutdown()
    """
    _local.shutdown()
    try:
        found = controller()
    except RayServeException:
        clients.close()
        return
    try:
        _end_admin()
        api.get(found.shutdown.remote())
        close_door()
        api.kill(found)
        api.get(found.http.remote())  # returns when it is gone
    except RayActorError:
        pass
    except RayError:
        if engine() is not None:
            raise
    finally:
        clients.close()


def _end_admin() -> None:
    try:
        api.kill(api.get_actor(ADMIN, namespace=NAMESPACE))
    except ValueError:
        return  # the REST API was not started


async def shutdown_async() -> None:
    """The same as ``shutdown``, for coroutines."""
    await asyncio.to_thread(shutdown)


def get_app_handle(name: str) -> DeploymentHandle:
    """Return the handle of an application's entrance.

    Args:
        name: of the application.

    Raises:
        RayServeException: there is no such application.

    Example:
        >>> serve.get_app_handle("default").remote().result()
    """
    if (local := _local.find(name)) is not None:
        return local.handle(local.ingress)
    ingress = api.get(controller().ingress.remote(name))
    if ingress is None:
        raise RayServeException(f"Application '{name}' does not exist.")
    return DeploymentHandle(ingress, name)


def get_deployment_handle(
    deployment_name: str,
    app_name: str | None = None,
    _check_exists: bool = True,
    _record_telemetry: bool = True,
) -> DeploymentHandle:
    """Return the handle of a deployment.

    Args:
        deployment_name: the deployment.
        app_name: its application; None, in a replica: the replica's own.

    Raises:
        RayServeException: no application was named, and this is no replica.
        KeyError: there is no such deployment.

    Example:
        >>> serve.get_deployment_handle("Model", "default").remote().result()
    """
    if app_name is None:
        replica = context.this_replica()
        if replica is None:
            raise RayServeException(
                "Please specify an application name when getting a deployment handle outside of a Serve "
                "application."
            )
        app_name = replica.app_name
    name = DeploymentId(deployment_name, app_name)
    if (local := _local.find(app_name)) is not None:
        if deployment_name not in local.deployments:
            raise KeyError(f"{name} does not exist.")
        return local.handle(deployment_name)
    # On a replica's loop nothing may wait.
    is_checked = _check_exists and not clients.this_process().is_here()
    if is_checked and not api.get(controller().has_deployment.remote(name)):
        raise KeyError(f"{name} does not exist.")
    return DeploymentHandle(deployment_name, app_name)
