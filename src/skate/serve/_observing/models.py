"""Which models this process's replica has, and which it loads."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

#: So many loads are the latest.
_LOADS = 16


class Models:
    """The ids of the models of all loaders of one process."""

    def __init__(self) -> None:
        self._loaded: Counter[str] = Counter()
        self._loading: Counter[str] = Counter()
        self._load_times: deque[float] = deque(maxlen=_LOADS)
        #: Called at each change; None: nobody wants to know, and nothing is kept.
        self.changed: Callable[[], object] | None = None

    @property
    def loaded(self) -> frozenset[str]:
        """Models that are there."""
        return frozenset(+self._loaded)

    @property
    def loading(self) -> frozenset[str]:
        """Models that will be."""
        return frozenset(+self._loading)

    @property
    def load_s(self) -> float:
        """How long the longest of the latest loads took (seconds)."""
        return max(self._load_times, default=0.0)

    def begun(self, model_id: str) -> None:
        """A load begins."""
        self._change(model_id, 0, 1)

    def ended(self, model_id: str, is_loaded: bool, seconds: float) -> None:
        """A load has ended after so long."""
        self._load_times.append(seconds)
        self._change(model_id, int(is_loaded), -1)

    def dropped(self, model_id: str) -> None:
        """A model is there no more."""
        self._change(model_id, -1, 0)

    def _change(self, model_id: str, loaded: int, loading: int) -> None:
        if self.changed is None:
            return
        for counter, by in ((self._loaded, loaded), (self._loading, loading)):
            counter[model_id] += by
            if counter[model_id] <= 0:
                del counter[model_id]
        self.changed()


this = Models()
"""Those of this process."""
