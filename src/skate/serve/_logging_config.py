"""How a deployment's replicas log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from skate.serve.config import ValidationError


@dataclass(frozen=True)
class LoggingConfig:
    """How replicas log: for ``serve.start`` (all), ``serve.run`` (an application), ``@serve.deployment``
    (one). The
    narrower one counts, as a whole.

    Args:
        encoding: "TEXT" or "JSON", an object a line.
        log_level: of the loggers ``ray.serve`` and ``skate.serve``, as ``logging`` names or numbers it.
        logs_dir: a folder: log records are written to a file of each replica there, too, and access logs
        are there
            rather than in the session's folder.
        enable_access_log: one line for each request. Without any logging configuration there is no access
        log.
        additional_log_standard_attrs: attributes of ``logging.LogRecord`` that records show at their end.

    Raises:
        ValueError: there is no such encoding or level.

    Example:
        >>> serve.run(Model.bind(), logging_config=LoggingConfig(encoding="JSON", logs_dir="logs"))
    """

    encoding: str = "TEXT"
    log_level: str | int = "INFO"
    logs_dir: str | None = None
    enable_access_log: bool = True
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        encoding = getattr(self.encoding, "value", self.encoding)
        if encoding not in ("TEXT", "JSON"):
            raise ValidationError(f"encoding is 'TEXT' or 'JSON', got {self.encoding!r}")
        object.__setattr__(self, "encoding", encoding)
        level = self.log_level.upper() if isinstance(self.log_level, str) else self.log_level
        if isinstance(level, bool) or not isinstance(
            logging.getLevelName(level) if isinstance(level, str) else level, int
        ):
            raise ValidationError(f"log_level is a level of logging, such as 'INFO', got {self.log_level!r}")
        object.__setattr__(self, "log_level", level)
        if self.logs_dir is not None and not isinstance(self.logs_dir, str):
            raise ValidationError(f"logs_dir takes the path of a folder, got {self.logs_dir!r}")
        if not isinstance(self.enable_access_log, bool):
            raise ValidationError(f"enable_access_log takes True or False, got {self.enable_access_log!r}")
        known = {*logging.makeLogRecord({}).__dict__, "asctime", "message"}
        for name in self.additional_log_standard_attrs:
            if name not in known:
                raise ValidationError(
                    f"additional_log_standard_attrs has {name!r}; records of logging have "
                    f"{', '.join(sorted(known))}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def logging_config(given: Any) -> LoggingConfig | None:
    """Return a configuration that was given as an object or as a mapping; None for None.

    Raises:
        TypeError: neither was given, or a key is unknown.
        ValueError: a value is wrong.
    """
    if given is None or isinstance(given, LoggingConfig):
        return given
    if isinstance(given, Mapping):
        return LoggingConfig(**given)
    raise TypeError(f"logging_config takes a LoggingConfig or a dict, got {given!r}")
