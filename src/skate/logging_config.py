"""How the program's own ``logging`` is to look, in the driver and in all its workers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

_ENCODINGS = ("TEXT", "JSON")
_ATTRIBUTES = frozenset(
    ("args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "levelname", "levelno",
     "lineno", "message", "module", "msecs", "msg", "name", "pathname", "process", "processName",
     "relativeCreated", "stack_info", "taskName", "thread", "threadName")
)  # fmt: skip


@dataclass
class LoggingConfig:
    """Passed to ``init(logging_config=...)``: sets up the root logger of the driver and its workers.

    Every line says which job, process, node, actor and task logged it.

    Args:
        encoding: "TEXT" or "JSON": one object a line.
        log_level: as ``logging`` names or numbers it.
        additional_log_standard_attrs: attributes of ``logging.LogRecord`` that lines are to have too:
            ``["name", "funcName"]``.

    Raises:
        ValueError: there is no such encoding, level or attribute.

    Example:
        >>> skate.init(logging_config=skate.LoggingConfig(encoding="JSON", log_level="DEBUG"))
    """

    encoding: str = "TEXT"
    log_level: str | int = "INFO"
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in _ENCODINGS:
            raise ValueError(f"encoding is 'TEXT' or 'JSON', got {self.encoding!r}")
        if isinstance(self.log_level, str):
            import logging

            if not isinstance(logging.getLevelName(self.log_level), int):
                raise ValueError(f"log_level is a level of logging, as 'INFO', got {self.log_level!r}")
        for name in self.additional_log_standard_attrs:
            if name not in _ATTRIBUTES:
                known = ", ".join(sorted(_ATTRIBUTES))
                raise ValueError(f"records of logging have no attribute {name!r}; they have {known}")

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> LoggingConfig:
        """Return the configuration that ``to_dict`` wrote; unknown keys are ignored."""
        known = {one.name for one in fields(cls)}
        return cls(**{key: value for key, value in d.items() if key in known})
