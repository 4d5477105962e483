"""Words to the user that are said once in a process: deprecated spellings, settings without effect."""

from __future__ import annotations

import logging
import warnings

logger = logging.getLogger("skate.data")


class _Said:
    """The notices that this process gave."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def is_first(self, key: str) -> bool:
        """Tell whether a notice is new, and remember it."""
        if key in self._keys:
            return False
        self._keys.add(key)
        return True

    def forget(self) -> None:
        """Give all notices again: for tests."""
        self._keys.clear()


said = _Said()


def deprecated(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn once that a spelling is old, and name the new one.

    Args:
        old: the spelling that the program used: ``"map(concurrency=)"``.
        new: what to write in its place.
        stacklevel: frames between this function and the user's line.
    """
    if said.is_first(f"deprecated:{old}"):
        warnings.warn(
            f"{old} still works but is deprecated: {new}.", DeprecationWarning, stacklevel=stacklevel
        )


def without_effect(setting: str, why: str) -> None:
    """Log once that a setting is accepted and not needed.

    Args:
        setting: the option.
        why: what does its work here.
    """
    if said.is_first(f"setting:{setting}"):
        logger.warning("%s is accepted and has no effect: %s.", setting, why)


def suspicious(key: str, message: str, stacklevel: int = 3) -> None:
    """Warn once of something that is probably a mistake."""
    if said.is_first(f"suspicious:{key}"):
        warnings.warn(message, UserWarning, stacklevel=stacklevel)
