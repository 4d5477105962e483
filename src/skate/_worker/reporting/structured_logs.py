"""Sets up ``logging`` in this process for ``init(logging_config=...)``: level, text or JSON, ids.

Not imported unless a program asks: ``logging`` costs ten milliseconds.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from skate._worker.execution.local import Local
from skate._worker.process import current
from skate._worker.process.context import ProcessContext

#: The attributes of every record; the program added all others (``extra=...``).
STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime"}
_TEXT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"


class _Formatter(logging.Formatter):
    """Formats records as text or JSON, with the ids of the job, task and actor that runs."""

    def __init__(self, context: ProcessContext, local: Local, as_json: bool, more: list[str]) -> None:
        super().__init__(_TEXT)
        self._context = context
        self._local = local
        self._as_json = as_json
        self._more = more

    def format(self, record: logging.LogRecord) -> str:
        """Return one line (and a traceback, as text)."""
        found = {name: getattr(record, name, None) for name in self._more}
        found |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        found |= self._ids()
        found["timestamp_ns"] = int(record.created * 1e9)
        if not self._as_json:
            return f"{super().format(record)} {' '.join(f'{name}={value}' for name, value in found.items())}"
        line: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
        }
        if record.exc_info:
            line["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(line | found, default=str)

    def _ids(self) -> dict[str, str]:
        context = self._context
        found = {
            "job_id": context.job_id.hex(),
            "worker_id": context.worker_id.hex(),
            "node_id": context.node_id.hex(),
        }
        host = self._local.hosted()
        if host is not None:
            found |= {"actor_id": host.actor_id.hex(), "actor_name": host.spec.name}
        call = current.call.get()
        if call.owner:
            found |= {"task_id": call.task_id.hex(), "task_name": call.name, "task_func_name": call.name}
        return found


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the stderr of the moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The stream to write to."""
        import sys

        return sys.stderr


def apply(context: ProcessContext, local: Local, config: dict[str, Any]) -> None:
    """Set up the root logger of this process. May be repeated; the last call counts."""
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    handler = _Handler()
    more = list(config["additional_log_standard_attrs"])
    handler.setFormatter(_Formatter(context, local, config["encoding"] == "JSON", more))
    handler.setLevel(config["log_level"])
    root.addHandler(handler)
    root.setLevel(config["log_level"])
