"""The value of a hook that no part has set."""

from __future__ import annotations


def unset(*_: object) -> None:
    """Do nothing."""
