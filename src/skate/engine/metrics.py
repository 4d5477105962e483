"""The numbers that a program records in this process, with a session or without. See ``skate.util.metrics``.

An engine reads them: ``Engine.metrics_changed`` tells it that there is something new.
"""

from skate._worker.reporting.metrics import Tags, registry

__all__ = ["Tags", "registry"]
