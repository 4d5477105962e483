"""The instance of serve in this session: its controller, and the port. Started where there is none."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, TextIO

from skate import api
from skate.engine import engine
from skate.exceptions import RayError
from skate.serve._build import import_path, pickled
from skate.serve._client import client as clients
from skate.serve._controller.controller import Controller
from skate.serve._grpc.calls import DOOR
from skate.serve._http.keys import hashed
from skate.serve._http.sharing import listen
from skate.serve._left_out import refuse
from skate.serve._observing.watcher import OBSERVING
from skate.serve._targets import (
    CONTROLLER,
    NAMESPACE,
    GRPCTarget,
    HTTPTarget,
    Middlewares,
    TLSFiles,
)
from skate.serve.config import HTTPOptions, api_keys, gRPCOptions
from skate.serve.exceptions import RayServeException
from skate.serve.schema import ServeInstanceDetails
from skate.util.state import list_actors, list_nodes
from skate.util.state.common import ActorState

logger = logging.getLogger("skate.serve")

#: Packages of the extra ``serve``, without which nothing answers HTTP.
_HTTP_PACKAGES = ("uvicorn", "httptools", "starlette")
#: Modules of the processes of serve, and those of the ones that answer HTTP. A process that starts with them
#: is there a fifth of a second earlier, and shares their memory with all others.
_IMPORTS = ("asyncio", "skate.serve._controller.controller", "skate.serve._replica.replica")
_HTTP_IMPORTS = (
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "skate.serve._http.entrance",
    "skate.serve._replica.http",
    "starlette.requests",
    "starlette.responses",
)
#: RPCs under way when serve is shut down may take this time; those of applications have ended by then
#: (seconds).
_GRACE_S = 1.0
#: So many actors are looked through for the facts of replicas.
_MOST_ACTORS = 10_000


def is_in_process() -> bool:
    """Tell whether this session has no processes but this one; start a session if there is none."""
    api.init(ignore_reinit_error=True)
    found = engine()
    return found is not None and found.name == "in-process"


def controller() -> Any:
    """Return the controller.

    Raises:
        RayServeException: there is none.
    """
    if engine() is None:
        raise RayServeException("There is no Serve instance running: call serve.run(...) first")
    return clients.controller()


def start_controller() -> Any:
    """Return the controller. Start it, and a session, if there is none."""
    session = api.init(ignore_reinit_error=True)
    found = engine()
    if found is None or found.name == "ray":
        raise refuse("a session on a Ray cluster")
    found.preload(_IMPORTS if _missing_packages() else (*_IMPORTS, *_HTTP_IMPORTS))
    return _lasting(Controller, CONTROLLER).remote(session["session_dir"])


def _lasting(kind: type, name: str, **options: Any) -> Any:
    """Return a class of actors whose only one outlives programs, and is started anew when it dies."""
    return api.remote(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=1_000_000,
        num_cpus=0,
        scheduling_strategy="DEFAULT",  # outside of a placement group that captures what the caller starts
        **options,
    )(kind)


def _missing_packages() -> list[str]:
    """Return the packages that HTTP needs and that are not installed."""
    return [name for name in _HTTP_PACKAGES if find_spec(name) is None]


def open_port(found: Any, options: HTTPOptions) -> None:
    """Have HTTP answered, unless it is.

    Args:
        found: the controller.
        options: of the port.

    Raises:
        ImportError: a package is missing.
        AddressUnavailableError: the port is in use.
        RayServeException: TLS cannot be had with the files that were given.
    """
    missing = _missing_packages()
    if missing:
        raise ImportError(
            f"serve answers HTTP with the packages {', '.join(missing)}, which are not installed: pip "
            "install 'skate-runtime[serve]'. With route_prefix=None an application needs none of them"
        )
    target = _http_target(options)
    are_given = options.api_keys is not None or options.api_keys_file is not None
    asked(found.start.remote(target, replaces_keys=are_given))


def open_door(found: Any, options: gRPCOptions, http: HTTPOptions, folders: Sequence[str] = ()) -> None:
    """Have gRPC answered, unless it is.

    Args:
        found: the controller.
        options: of the port.
        http: where HTTP is answered, unless it is: of an instance that runs, its own options count.
        folders: where the modules of services are looked for first.

    Raises:
        ImportError: grpcio is missing.
        RayServeException: a service cannot be found, or TLS cannot be had with the files that were given.
        AddressUnavailableError: the port is in use.
    """
    if find_spec("grpc") is None:
        raise ImportError(
            "serve answers gRPC with the package grpcio, which is not installed: pip install "
            "'skate-runtime[serve-grpc]'"
        )
    if door_address() is not None:
        return
    from skate.serve._grpc.door import Door

    present = api.get(found.http.remote()) or _http_target(http)
    if present.tls is not None and present.tls.password is not None:
        raise RayServeException(
            "gRPC cannot use a TLS key with a password: give ssl_keyfile in http_options without one, in a "
            "file that only its user can read"
        )
    target = GRPCTarget(
        options.port or _free_port(present.host),
        tuple(options.grpc_servicer_functions),
        options.request_timeout_s or None,
        options.enable_reflection,
        (*(os.path.abspath(one) for one in folders), *import_path()),
    )
    door = _lasting(Door, DOOR, concurrency_groups={OBSERVING: 16}).remote(target, present)
    try:
        asked(door.open.remote())
    except Exception:
        api.kill(door)
        raise


def door_address() -> str | None:
    """Return where gRPC is answered in this session, such as "127.0.0.1:9000"; None: gRPC is off."""
    try:
        return api.get(api.get_actor(DOOR, namespace=NAMESPACE).address.remote())  # type: ignore[no-any-return]
    except (ValueError, RayError):
        return None


def close_door() -> None:
    """Answer gRPC no more, if it was."""
    try:
        door = api.get_actor(DOOR, namespace=NAMESPACE)
        api.get(door.close.remote(_GRACE_S))
        api.kill(door)
        api.get(door.address.remote())  # returns when it is gone
    except (ValueError, RayError):
        return


def _free_port(host: str) -> int:
    """Return a port that nobody uses. The door has the same one when it starts anew."""
    found = listen(host, 0)
    try:
        return int(found.getsockname()[1])
    finally:
        found.close()


def _http_target(options: HTTPOptions) -> HTTPTarget:
    """Return the port as all processes are to have it.

    Raises:
        RayServeException: TLS cannot be had with the files that were given.
    """
    keys = api_keys(options, os.environ)
    host = options.host or "127.0.0.1"
    if not keys and not _is_loopback(host):
        logger.warning(
            "serve answers everybody who reaches %s:%s: requests need no key. Give api_keys in http_options",
            host,
            options.port,
        )
    target = HTTPTarget(
        host,
        options.port,
        options.root_path,
        options.request_timeout_s,
        options.keep_alive_timeout_s,
        options.max_body_bytes,
        options.header_timeout_s,
        options.body_timeout_s,
        options.max_queued_body_bytes,
        hashed(keys, os.urandom(16)) if keys else None,
        _tls_files(options),
        options.root_url,
        _middlewares(options.middlewares),
    )
    if target.tls is not None:
        from skate.serve._http.tls import context_of

        context_of(target.tls)  # it raises here, rather than in each replica
    return target


def _middlewares(given: Sequence[Any]) -> Middlewares | None:
    """Return the middlewares as every process gets them.

    Raises:
        TypeError: one cannot be pickled.
    """
    if not given:
        return None
    layers = [
        (one.cls, tuple(one.args), dict(one.kwargs)) if hasattr(one, "cls") else (one, (), {})
        for one in given
    ]
    code = [kind for kind, _, _ in layers]
    return Middlewares(pickled(layers, code), tuple(import_path()))


def _tls_files(options: HTTPOptions) -> TLSFiles | None:
    """Return the files of TLS as every process finds them."""
    if not options.ssl_certfile or not options.ssl_keyfile:
        return None
    ca_certs = os.path.abspath(options.ssl_ca_certs) if options.ssl_ca_certs else None
    files = os.path.abspath(options.ssl_certfile), os.path.abspath(options.ssl_keyfile)
    return TLSFiles(*files, options.ssl_keyfile_password, ca_certs)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def http_address() -> str | None:
    """Return where HTTP is answered in this session, such as "http://127.0.0.1:8000"; None: HTTP is off."""
    try:
        found = api.get(controller().http.remote())
    except RayServeException:
        return None
    return None if found is None else f"http{'s' if found.tls else ''}://{found.host}:{found.port}"


def announce(prefixes: Mapping[str, str | None], file: TextIO) -> None:
    """Print where applications answer, a line each.

    Args:
        prefixes: application to the prefix of its paths; None: handles only.
        file: where to.
    """
    address = http_address()
    if address is not None and (http := api.get(controller().http.remote())).root_url:
        address = http.root_url.rstrip("/")
    for name, prefix in prefixes.items():
        where = f"at {address}{prefix}" if prefix and address else "by handles"
        print(f"Application {name!r} answers {where}", file=file, flush=True)


def asked(ref: Any) -> Any:
    """Return what the controller answers to a call. A refusal is raised without the traceback of the
    controller's process: nothing there is at fault.

    Args:
        ref: of the call.

    Raises:
        RayServeException: the controller refuses.
    """
    try:
        return api.get(ref)
    except RayServeException as error:
        refusal: Exception = getattr(error, "cause", error)
        raise refusal from None


def outcomes(numbers: Mapping[str, int]) -> dict[str, str]:
    """Wait until applications are as they were asked for, or cannot be.

    Args:
        numbers: of what was asked for, by application.

    Returns:
        Their names and "", or the reason with the traceback of the user's code.
    """
    found = controller()
    refs = [found.outcome.remote(name, number) for name, number in numbers.items()]
    return dict(zip(numbers, api.get(refs), strict=True))


def series() -> dict[str, Any]:
    """Return the metrics of each process of serve, by the process: see ``skate.serve._observing.metrics``.

    Raises:
        RayServeException: serve does not run.
    """
    return api.get(controller().snapshots.remote())  # type: ignore[no-any-return]


def details() -> dict[str, Any]:
    """Return all that is known of the applications, as plain data of which ``ServeInstanceDetails`` can be
    made."""
    try:
        found: dict[str, Any] = api.get(controller().details.remote())
    except RayServeException:
        return ServeInstanceDetails.get_empty_schema_dict()
    rows = {
        row.actor_id: row
        for row in list_actors(filters=[("ray_namespace", "=", NAMESPACE)], limit=_MOST_ACTORS, detail=True)
    }
    addresses = {row.node_id: row.node_ip for row in list_nodes()}
    for row in rows.values():
        if row.name == CONTROLLER and row.state != "DEAD":
            found["controller_info"] = {"actor_id": row.actor_id, **_process_of(row, addresses)}
    for application in found["applications"].values():
        for deployment in application["deployments"].values():
            for replica in deployment["replicas"]:
                known = rows.get(replica["actor_id"])
                started = (known.start_time_ms or known.creation_time_ms or 0) if known is not None else 0
                replica |= {
                    **_process_of(known, addresses),
                    "pid": known and known.pid,
                    "start_time_s": started / 1000,
                }
    if (door := door_address()) is not None:
        found["grpc_options"] = {"port": int(door.rpartition(":")[2])}
    return found


def _process_of(row: ActorState | None, addresses: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of an actor's process; of None, all are None."""
    return {
        "node_id": row and row.node_id,
        "node_ip": addresses.get(row.node_id) if row is not None and row.node_id is not None else None,
        "node_instance_id": None,
        "actor_name": row and row.name,
        "worker_id": row and row.worker_id,
        "log_file_path": f"/worker-{row.worker_id}.log" if row is not None and row.worker_id else None,
    }
