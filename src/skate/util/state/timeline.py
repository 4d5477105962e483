"""Provides ``skate.timeline``, a trace of the calls that each worker ran."""

from __future__ import annotations

import json
from typing import Any

from skate.engine import require_engine
from skate.util.state import merge
from skate.util.state.source import connected


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Return the calls of each worker as a Chrome trace, for chrome://tracing or ui.perfetto.dev.

    Args:
        filename: write it there, as JSON; None: return it.

    Returns:
        The list of events, or None if it was written to a file.

    Example:
        >>> skate.timeline("trace.json")
    """
    elsewhere = getattr(require_engine("timeline"), "timeline", None)
    if elsewhere is not None:
        return elsewhere(filename)  # type: ignore[no-any-return]
    with connected() as state:
        events: list[dict[str, Any]] = merge.timeline(state.tasks())
    if filename is None:
        return events
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(events, file)
    return None
