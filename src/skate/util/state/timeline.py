"""``skate.timeline``: when which worker ran what."""

from __future__ import annotations

import json
from typing import Any

from skate.engine import require_engine
from skate.util.state import merge
from skate.util.state.source import connected


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Tell when which worker ran what: a Chrome trace, for chrome://tracing or ui.perfetto.dev.

    Args:
        filename: write it there, as JSON; None: return it.

    Returns:
        The list of events, or None if it was written to a file.

    Example:
        >>> skate.timeline("trace.json")
    """
    require_engine("timeline")
    with connected() as state:
        events: list[dict[str, Any]] = merge.timeline(state.tasks())
    if filename is None:
        return events
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(events, file)
    return None
