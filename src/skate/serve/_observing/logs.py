"""Log records of a replica: each has the deployment, the replica and the request that it belongs to."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from skate.serve._logging_config import LoggingConfig
from skate.serve._observing import requests
from skate.serve._observing.access import AccessLog, stamp
from skate.serve._observing.frames import users_part
from skate.serve.context import process, request
from skate.serve.exceptions import RayServeException

#: Attributes of records made in a replica, besides those of ``logging``.
_ATTRIBUTES = ("application", "deployment", "replica", "request_id", "route")
#: Loggers whose level ``log_level`` is: Ray's, which programs use, and our own.
_LOGGERS = ("ray.serve", "skate.serve")


class RequestFilter(logging.Filter):
    """Gives records the attributes ``application``, ``deployment``, ``replica``, ``request_id`` and ``route``
    where they have none of their own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        replica, context = process.replica, request.get()
        values = (
            replica.app_name if replica is not None else "",
            replica.deployment if replica is not None else "",
            replica.replica_tag if replica is not None else "",
            context.request_id or "-",
            context.route or "-",
        )
        fields = record.__dict__
        for name, value in zip(_ATTRIBUTES, values, strict=True):
            fields.setdefault(name, value)
        if record.name in _LOGGERS and record.exc_info:
            record.exc_info = _shortened(record.exc_info)
        return True


def _shortened(info: Any) -> Any:
    """Return what a record says of an error, without the frames that lead to the user's code, as tasks and
    actors have it."""
    kind, error, trace = info
    if os.environ.get("SKATE_FULL_TRACEBACKS", "0") not in ("", "0"):
        return info
    part = users_part(trace)
    if part is None and not isinstance(error, RayServeException):
        return info  # a mistake of ours, or in what the user has returned
    return kind, error, part


class _Text(logging.Formatter):
    """One line: time, level, deployment, replica, request, message."""

    def __init__(self, more: list[str]) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(application)s/%(deployment)s %(replica)s %(request_id)s %(message)s"
            + "".join(f" %({name})s" for name in more)
        )


class _Json(logging.Formatter):
    """One object a line."""

    def __init__(self, more: list[str]) -> None:
        super().__init__()
        self._more = more

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {"time": stamp(record.created), "levelname": record.levelname}
        fields |= {name: getattr(record, name, "") for name in _ATTRIBUTES}
        fields |= {"message": record.getMessage()}
        fields |= {name: getattr(record, name, None) for name in self._more}
        if record.exc_info:
            fields["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class _Process:
    """The handlers that serve has set up in this process, and the configuration that they follow."""

    handlers: list[logging.Handler] = []
    config: LoggingConfig | None = None
    is_set_up = False


def set_up(config: LoggingConfig | None, folder: str, loop: Any) -> None:
    """Set up the logs of this replica, or change them.

    Without a configuration, records that no handler of the user takes are written to stderr with the
    request's id;
    with one, handlers of ours write all. There is an access log only where a configuration asks for it.

    Args:
        config: of the deployment, the application or the instance; None: none was given.
        folder: of logs, where the configuration names none.
        loop: of the replica.
    """
    if _Process.is_set_up and config == _Process.config:
        return
    _Process.is_set_up, _Process.config = True, config
    root = logging.getLogger()
    for old in _Process.handlers:
        root.removeHandler(old)
        old.close()
    _Process.handlers = []
    wanted = config or LoggingConfig(enable_access_log=False)
    formatter = (_Json if wanted.encoding == "JSON" else _Text)(wanted.additional_log_standard_attrs)
    console = logging.StreamHandler()
    handlers: list[logging.Handler] = [console]
    path = _path(wanted.logs_dir or folder)
    if wanted.logs_dir is not None:
        os.makedirs(wanted.logs_dir, exist_ok=True)
        handlers.append(logging.FileHandler(f"{path}.log", encoding="utf-8"))
    for one in handlers:
        one.setFormatter(formatter)
        one.addFilter(RequestFilter())
    if config is None:
        logging.lastResort = console
    else:
        _Process.handlers = handlers
        for one in handlers:
            root.addHandler(one)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(wanted.log_level)
    before, requests.this.access = requests.this.access, None
    if before is not None:
        before.close()
    if wanted.enable_access_log:
        requests.this.access = AccessLog(f"{path}.access.log", wanted.encoding == "JSON", loop)


def cover_handlers() -> None:
    """Give the attributes to the records of the handlers that the user's code has added."""
    for name in (None, *_LOGGERS):
        for one in logging.getLogger(name).handlers:
            if not any(isinstance(known, RequestFilter) for known in one.filters):
                one.addFilter(RequestFilter())


def close() -> None:
    """Write what the access log has not written yet: the replica ends."""
    if requests.this.access is not None:
        requests.this.access.close()


def _path(folder: str) -> str:
    """Return the path of this replica's logs, without their ending."""
    assert process.replica is not None
    named = process.replica
    return os.path.join(
        folder, f"replica_{named.app_name}_{named.deployment}_{named.replica_tag}".replace("/", "_")
    )
