"""Brings about what a config file says.

Each application is imported in a process of its own, with its own environment: the code may have changed
since another process imported it, and two applications may need different packages. All are built before any
is changed, so that a mistake in one leaves all as they are.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from skate import api
from skate.exceptions import RayError
from skate.serve import api as serve_api
from skate.serve._build import target_of
from skate.serve._config import ServeApplicationSchema, ServeDeploySchema
from skate.serve._instance import asked, controller, is_in_process, open_door, outcomes
from skate.serve._loading import BuildError, application_of, users_files
from skate.serve._logging_config import logging_config
from skate.serve._observing.frames import users_part
from skate.serve._targets import ApplicationTarget, with_logging
from skate.serve.config import ProxyLocation
from skate.serve.exceptions import RayServeException


class Built(NamedTuple):
    """An application that is ready to be run."""

    target: ApplicationTarget
    #: The user's own modules that it imported: a change in one of them is another version.
    files: list[str]


def build(config: dict[str, Any], folders: Sequence[str]) -> Built:
    """Import an application and return what it is to be. Runs in a process of its own.

    Args:
        config: a ``ServeApplicationSchema`` as plain data.
        folders: where modules are looked for first.
    """
    try:
        return _built(ServeApplicationSchema.model_validate(config), folders)
    except Exception as error:
        part = users_part(error.__traceback__)
        if part is None and isinstance(error, TypeError | ValueError):
            raise BuildError(str(error)) from None  # it says all, and nothing but serve's code has run
        if part is None and isinstance(error, SyntaxError):
            raise BuildError("".join(traceback.format_exception_only(error)).strip()) from None
        raise error.with_traceback(part)


def _built(schema: ServeApplicationSchema, folders: Sequence[str]) -> Built:
    before = set(sys.modules)
    application = application_of(schema.import_path, schema.args, folders)
    files = users_files(before)
    target = target_of(
        application,
        schema.name,
        schema.route_prefix,
        config=schema,
        files=files,
        external_scaler_enabled=schema.external_scaler_enabled,
    )
    return Built(with_logging(target, logging_config(schema.logging_config)), files)


def build_all(config: ServeDeploySchema, folders: Sequence[str]) -> list[Built]:
    """Import all applications of a config file, at the same time. A session must be there.

    Args:
        config: the file.
        folders: where modules are looked for first.

    Raises:
        RuntimeError: one cannot be imported or built. The message has the error of the user's code.
    """
    kind: Any = api.remote
    places = [os.path.abspath(one) for one in folders]
    refs = [
        kind(num_cpus=0, max_calls=1, max_retries=0, runtime_env=one.runtime_env or None)(build).remote(
            one.model_dump(), places
        )
        for one in config.applications
    ]
    found = []
    for one, ref in zip(config.applications, refs, strict=True):
        try:
            found.append(api.get(ref))
        except RayError as error:
            cause = getattr(error, "cause", None)
            reason = cause if isinstance(cause, BuildError) else error
            raise RuntimeError(
                f"application {one.name!r} cannot be built from {one.import_path!r}; nothing was changed: "
                f"{reason}"
            ) from None
    return found


def deploy(
    config: ServeDeploySchema, folders: Sequence[str] = (".",), is_file: bool = True, canary: float = 0.0
) -> list[Built]:
    """Run the applications of a config file, and remove those of the file before that it does not name.

    Args:
        config: the file.
        folders: where modules are looked for first.
        is_file: False: applications that are not named stay; and a file that does not name these leaves them.
        canary: have them beside their present versions, with this share of the requests (percent).

    Returns:
        The applications. ``wait`` waits until they answer.

    Raises:
        RuntimeError: one cannot be built, another application has its prefix, or the port is in use. Nothing
            was changed.
    """
    start(config, folders)
    if is_in_process():
        raise RuntimeError(
            "applications by import path need a session with processes: leave out SKATE_MODE=inline"
        )
    found = build_all(config, folders)
    if not is_file:
        found = [one._replace(target=replace(one.target, config=None)) for one in found]
    try:
        canaries = {one.target.name: canary for one in found}
        percent = config.target_capacity if is_file else None
        asked(controller().deploy.remote([one.target for one in found], canaries, is_file, percent))
    except RayServeException as error:
        raise RuntimeError(f"nothing was changed: {error}") from None
    return found


def start(config: ServeDeploySchema, folders: Sequence[str] = ()) -> None:
    """Start serve as a config file says. An instance that runs stays as it is.

    Args:
        config: the file.
        folders: where the modules of its gRPC services are looked for first.
    """
    needs_http = any(one.route_prefix is not None for one in config.applications)
    serve_api.start(
        config.proxy_location if needs_http else ProxyLocation.Disabled,
        config.http_options,
        None,
        config.logging_config,
        config.tracing_config,
        config.controller_options,
    )
    is_open = needs_http and config.proxy_location is not ProxyLocation.Disabled
    if is_open and config.grpc_options.grpc_servicer_functions and not is_in_process():
        open_door(controller(), config.grpc_options, config.http_options, folders)


def wait(built: Sequence[Built]) -> dict[str, str]:
    """Wait until applications answer, or cannot.

    Returns:
        Their names and "", or the reason with the traceback of the user's code.
    """
    return outcomes({one.target.name: one.target.number for one in built})
