"""``skate serve``: run applications from the command line, and look at them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import skate
from skate import compat
from skate.cli import serve_observe, serve_run, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    commands = parser.add_subparsers(
        dest="what",
        required=True,
        metavar="start | run | promote | rollback | deploy | build | config | status | why | shutdown",
    )
    start = commands.add_parser("start", help="start serve in the session of `skate start`")
    _add_address(start)
    start.add_argument("--http-host", default="127.0.0.1", help="address to listen on")
    start.add_argument("--http-port", type=int, default=8000, help="0: any free one")
    start.add_argument("--proxy-location", choices=("Disabled", "HeadOnly", "EveryNode"), default="EveryNode",
                       help="Disabled: no HTTP")  # fmt: skip
    start.add_argument("--grpc-port", type=int, default=9000, help="0: any free one")
    start.add_argument("--admin-port", type=int, help="answer the REST API there, too; 0: any free one")
    run_ = commands.add_parser("run", help="run an application, or a config file's, until Ctrl-C")
    serve_run.add_run_arguments(run_)
    deploy = commands.add_parser("deploy", help="run a config file's applications in the session")
    serve_run.add_deploy_arguments(deploy)
    promote = commands.add_parser("promote", help="make an application's canary its only version")
    rollback = commands.add_parser(
        "rollback", help="remove an application's canary, or bring back its version before"
    )
    for one in (promote, rollback):
        one.add_argument("-n", "--name", default="default", help="of the application")
        _add_address(one)
    build = commands.add_parser("build", help="write a config file for applications")
    build.add_argument("targets", nargs="+", metavar="MODULE:APPLICATION")
    build.add_argument("-o", "--output-path", metavar="FILE", help="default: print it")
    for one in (start, build):
        one.add_argument("--grpc-servicer-functions", action="append", default=[], metavar="MODULE.FUNCTION",
                         help="answer gRPC for this service; may be given several times")  # fmt: skip
        one.add_argument("--grpc-disable-reflection", action="store_true",
                         help="do not describe the services to clients")  # fmt: skip
    for one in (start, run_, deploy, build):
        one.add_argument("-d", "--app-dir", default=".", help="where modules are looked for first")
    for one in (run_, deploy):
        _add_address(one)
    config = commands.add_parser("config", help="print what config files say of the applications that run")
    _add_address(config)
    status = commands.add_parser("status", help="show the applications of the session")
    _add_address(status)
    status.add_argument("--json", action="store_true", help="for programs")
    for one in (config, status):
        one.add_argument("-n", "--name", help="one application only")
    shutdown = commands.add_parser("shutdown", help="remove all applications, and end serve")
    _add_address(shutdown)
    shutdown.add_argument("-y", "--yes", action="store_true", help="do not ask")
    serve_observe.add_commands(commands)


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--address", help="the session's folder (default: the one that runs)")


def run(arguments: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    try:
        return _run(arguments)
    except ImportError as error:  # user code is imported elsewhere: a package of serve's own is missing
        raise RuntimeError(str(error)) from None


def _run(arguments: argparse.Namespace) -> int:
    if arguments.what in ("start", "run", "deploy", "build"):
        compat.install()  # applications may be written for Ray Serve: they import `ray`, as under `skate run`
    if arguments.what == "run":
        return serve_run.run(arguments)
    if arguments.what == "build":
        return _build(arguments)
    if arguments.what == "shutdown" and not arguments.yes and sys.stdin.isatty():
        answer = input("This removes all applications of the session. Go on? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            return 1
    skate.init(arguments.address or "auto")
    try:
        if serve_observe.is_ours(arguments):
            return serve_observe.run(arguments)
        command = {
            "start": _start,
            "promote": _promote,
            "rollback": _rollback,
            "deploy": serve_run.deploy,
            "config": _config,
            "status": _status,
            "shutdown": _shutdown,
        }[arguments.what]
        return command(arguments)
    finally:
        skate.shutdown()


def _start(arguments: argparse.Namespace) -> int:
    from skate import serve
    from skate.serve import _instance

    http = serve.HTTPOptions(arguments.http_host, arguments.http_port)
    serve.start(arguments.proxy_location, http)
    address = _instance.http_address()
    print("Serve runs" + ("; HTTP is off" if address is None else f" at {address}/"))
    if arguments.grpc_servicer_functions and arguments.proxy_location != "Disabled":
        grpc = serve.config.gRPCOptions(
            arguments.grpc_port,
            arguments.grpc_servicer_functions,
            enable_reflection=not arguments.grpc_disable_reflection,
        )
        _instance.open_door(_instance.controller(), grpc, http, [arguments.app_dir])
        print(f"gRPC at {_instance.door_address()}")
    if arguments.admin_port is not None:
        from skate.serve import _admin

        address, file = _admin.start(arguments.admin_port, [arguments.app_dir])
        print(f"REST API at {address}/api/serve/applications/; the token is in {file}")
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    from skate import serve

    _in_one_line(serve.promote, arguments.name)
    print(f"All requests to {arguments.name} go to what was the canary")
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from skate import serve

    _in_one_line(serve.rollback, arguments.name)
    print(f"{arguments.name} is what it was before")
    return 0


def _in_one_line(command: Callable[[str], None], name: str) -> None:
    """Do something with an application; a mistake is one line."""
    from skate.serve.exceptions import RayServeException

    try:
        command(name)
    except RayServeException as error:
        raise ValueError(str(error)) from None


def _build(arguments: argparse.Namespace) -> int:
    from skate.serve import _config_file

    text = _config_file.written(
        arguments.targets,
        arguments.app_dir,
        arguments.grpc_servicer_functions,
        not arguments.grpc_disable_reflection,
    )
    if arguments.output_path is None:
        print(text, end="")
    else:
        with open(arguments.output_path, "w") as file:
            file.write(text)
        print(
            f"Wrote {arguments.output_path}: edit it, then run `skate serve deploy {arguments.output_path}`"
        )
    return 0


def _config(arguments: argparse.Namespace) -> int:
    from skate.serve import _config_file, _instance

    configs = {
        name: one["deployed_app_config"]
        for name, one in _instance.details()["applications"].items()
        if one["deployed_app_config"] is not None
    }
    if arguments.name is not None:
        configs = {name: one for name, one in configs.items() if name == arguments.name}
    if not configs:
        which = "No application" if arguments.name is None else f"No application {arguments.name!r}"
        raise ValueError(f"{which} of the session comes from a config file")
    print("\n---\n\n".join(_config_file.dumped(one) for one in configs.values()), end="")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from skate import serve

    found = serve.status()
    if arguments.name is not None:
        if arguments.name not in found.applications:
            raise ValueError(f"there is no application {arguments.name!r}; the session has "
                             f"{', '.join(found.applications) or 'none'}")  # fmt: skip
        found.applications = {arguments.name: found.applications[arguments.name]}
    if arguments.json:
        show.as_json(asdict(found))
    else:
        _print(found)
    return 0


def _print(found: Any) -> None:
    for address, state in found.proxies.items():
        print(f"http       {address} {state}")
    if found.target_capacity is not None:
        print(f"capacity   {found.target_capacity:g} percent of the replicas of config files")
    if not found.applications:
        print("no applications")
    for name, one in found.applications.items():
        print(f"{name:10} {one.status}")
        for deployment, of in one.deployments.items():
            counts = ", ".join(
                f"{number} {state.lower()}" for state, number in sorted(of.replica_states.items())
            )
            print(f"           {deployment}: {of.status}, {counts or 'no replicas'}")
        for line in one.message.splitlines():
            print(f"           {line}")


def _shutdown(arguments: argparse.Namespace) -> int:
    from skate import serve

    serve.shutdown()
    return 0
