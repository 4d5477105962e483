"""Shows progress bars of this process by Ray's own, which Ray draws in the driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Bars:
    """The bars of this process, each with one of Ray's.

    Args:
        make: ``ray.experimental.tqdm_ray.tqdm``.
    """

    def __init__(self, make: Any) -> None:
        self._make = make
        #: Those that are not closed, by their ids: Ray's bar, and the description and count that it shows.
        self._open: dict[str, tuple[Any, str, int]] = {}

    def show(self, state: Mapping[str, Any]) -> None:
        """Have Ray show a bar as it is now.

        Args:
            state: see ``ToolEngine.show_bar``.
        """
        desc, n = state["desc"], state["n"]
        bar, shown_desc, shown_n = self._open.get(state["id"]) or (self._made(state), desc, 0)
        self._open[state["id"]] = bar, desc, n
        bar.total = state["total"]
        if desc != shown_desc:
            bar.set_description(desc)
        bar.update(n - shown_n)  # Ray 2.50 has no other way to set the count
        if state["closed"]:
            del self._open[state["id"]]
            bar.close()

    def _made(self, state: Mapping[str, Any]) -> Any:
        return self._make(
            desc=state["desc"],
            unit=state["unit"],
            position=state["position"],
            flush_interval_s=0,  # skate's bar has an interval of its own
        )
