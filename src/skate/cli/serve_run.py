"""``skate serve run`` and ``deploy``: applications by import path or config file, again when files change."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import skate

if TYPE_CHECKING:
    from skate.serve.schema import ServeDeploySchema

#: Of all ``.py`` files beside those that were imported: path to (time of the last change, size).
Stamps = dict[str, tuple[int, int]]


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what ``run`` takes."""
    parser.add_argument(
        "target", help="a config file; or module:application, or module:function that returns one"
    )
    parser.add_argument("arguments", nargs="*", help="of the function: name=value, each a text")
    parser.add_argument("--name", default="default", help="of the application")
    parser.add_argument("--route-prefix", default="/", help="of the paths that reach it")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="0: any free one (default: 8000)")
    parser.add_argument("--canary", type=float, default=0.0, metavar="PERCENT",
                        help="give it a share of the requests beside the present version, until `promote` or "
                        "`rollback`")  # fmt: skip
    parser.add_argument("-r", "--reload", action="store_true", help="run it again whenever a file changes")
    parser.add_argument("--blocking", action=argparse.BooleanOptionalAction, default=True,
                        help="stay until Ctrl-C")  # fmt: skip
    parser.add_argument("--non-blocking", dest="blocking", action="store_false",
                        help="leave it running in the session of `skate start`")  # fmt: skip


def add_deploy_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what ``deploy`` takes."""
    parser.add_argument("config", help="the config file")
    parser.add_argument("--no-wait", action="store_true", help="return before the applications answer")


def run(arguments: argparse.Namespace) -> int:
    """Run what was named, until Ctrl-C if it blocks."""
    from skate.serve import _deploy, api

    if arguments.reload and not arguments.blocking:
        raise ValueError(
            "--reload looks for changed files as long as the command runs: leave out --non-blocking"
        )
    if not 0 <= arguments.canary <= 100:
        raise ValueError(f"--canary takes percent from 0 to 100, got {arguments.canary:g}")
    is_file = os.path.isfile(arguments.target)
    if not is_file and arguments.target.endswith((".yaml", ".yml")):
        raise ValueError(f"there is no file {arguments.target}")
    if is_file and arguments.arguments:
        raise ValueError(f"{arguments.target} is a config file: it has the arguments, under `args`")

    def config() -> ServeDeploySchema:
        return _from_file(arguments) if is_file else _from_arguments(arguments)

    wanted = config()
    skate.init(arguments.address, ignore_reinit_error=True)
    present = set(api.status().applications)
    names = {one.name for one in wanted.applications}
    try:
        built = _deploy.deploy(wanted, [arguments.app_dir], is_file, arguments.canary)
        failures = _failures(_deploy.wait(built))
    except KeyboardInterrupt:
        _end(names - present, bool(present))
        raise
    if failures:
        if arguments.blocking:
            _end(names - present, bool(present))
        raise RuntimeError(failures)
    _announce(wanted, is_file or arguments.host is not None or arguments.port is not None)
    if not arguments.blocking:
        return 0

    def end() -> None:
        _end(names, bool(set(api.status().applications) - names))

    if not arguments.reload:
        api.block(end=end)
        return 0

    def deploy_again() -> list[str]:
        again = _deploy.deploy(config(), [arguments.app_dir], is_file)
        failed = _failures(_deploy.wait(again))
        if failed:
            raise RuntimeError(failed)
        return [path for one in again for path in one.files]

    extra = [os.path.abspath(arguments.target)] if is_file else []
    api.block(Reloader([path for one in built for path in one.files], extra, deploy_again), end=end)
    return 0


def deploy(arguments: argparse.Namespace) -> int:
    """Run a config file's applications in the session."""
    from skate.serve import _config_file, _deploy

    wanted = _config_file.read(arguments.config)
    built = _deploy.deploy(wanted, [arguments.app_dir])
    if arguments.no_wait:
        print("The applications are on their way: see `skate serve status`")
        return 0
    failures = _failures(_deploy.wait(built))
    if failures:
        raise RuntimeError(failures)
    _announce(wanted)
    return 0


def _end(names: Iterable[str], others_run: bool) -> None:
    """End applications; and serve, unless others run that are not this command's."""
    from skate.serve import api

    if others_run:
        for name in names:
            api.delete(name)
    else:
        api.shutdown()


def _from_file(arguments: argparse.Namespace) -> ServeDeploySchema:
    from skate.serve import _config_file

    found = _config_file.read(arguments.target)
    found.http_options.host = arguments.host or found.http_options.host
    if arguments.port is not None:
        found.http_options.port = arguments.port
    return found


def _from_arguments(arguments: argparse.Namespace) -> ServeDeploySchema:
    from skate.serve.schema import ServeDeploySchema

    wrong = [one for one in arguments.arguments if "=" not in one]
    if wrong:
        raise ValueError(f"arguments have the form name=value, got {wrong[0]!r}")
    http: dict[str, Any] = {"host": arguments.host or "127.0.0.1"}
    if arguments.port is not None:
        http["port"] = arguments.port
    return ServeDeploySchema.model_validate(
        {
            "http_options": http,
            "applications": [
                {
                    "name": arguments.name,
                    "route_prefix": arguments.route_prefix or None,
                    "import_path": arguments.target,
                    "args": dict(one.split("=", 1) for one in arguments.arguments),
                }
            ],
        }
    )


def _failures(outcomes: dict[str, str]) -> str:
    return "\n".join(
        f"application {name!r} does not start: {reason}" for name, reason in outcomes.items() if reason
    )


def _announce(config: ServeDeploySchema, are_given: bool = True) -> None:
    """Say where applications answer, and if the address that was given is not that of the port."""
    from skate.serve import _instance

    address = _instance.http_address()
    host, port = config.http_options.host, config.http_options.port
    if are_given and address is not None and port and address.partition("://")[2] != f"{host}:{port}":
        print(f"HTTP is answered at {address} since before: the options of {host}:{port} have no effect",
              file=sys.stderr)  # fmt: skip
    _instance.announce({one.name: one.route_prefix for one in config.applications}, sys.stdout)


class Reloader:
    """Runs applications again when one of their files has changed, or one beside them.

    Args:
        files: the user's own modules that the applications imported.
        extra: other files.
        deploy: runs the applications again, and returns the modules that they imported now.
    """

    def __init__(self, files: Iterable[str], extra: Iterable[str], deploy: Callable[[], list[str]]) -> None:
        self._files = [*files]
        self._extra = [*extra]
        self._deploy = deploy
        self._seen = self._stamps()
        #: Changes that were seen once: an editor may be about to write more.
        self._pending = self._seen

    def __call__(self) -> None:
        """Look at the files; run the applications again if they differ from before, and have come to rest."""
        now = self._stamps()
        if now == self._seen or now != self._pending:
            self._pending = now
            return
        changed = sorted({*now.items()} ^ {*self._seen.items()})
        names = sorted({os.path.relpath(path) for path, _ in changed})
        print(f"{', '.join(names)} changed: running again", flush=True)
        self._seen = now
        try:
            self._files = self._deploy()
        except Exception as error:
            print(f"The version before goes on: {error}", file=sys.stderr, flush=True)
        else:
            self._add_new_folders()
            print("The new version answers", flush=True)

    def _add_new_folders(self) -> None:
        """Take the stamps of files that were not looked at before the applications ran."""
        for path, stamp in self._stamps().items():
            self._seen.setdefault(path, stamp)

    def _stamps(self) -> Stamps:
        found = {}
        folders = {os.path.dirname(path) for path in self._files}
        for path in [*self._extra, *(entry for folder in folders for entry in _modules_in(folder))]:
            try:
                facts = os.stat(path)
            except OSError:
                continue  # it has just been removed or replaced
            found[path] = (facts.st_mtime_ns, facts.st_size)
        return found


def _modules_in(folder: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(folder) if entry.name.endswith(".py")]
    except OSError:
        return []
