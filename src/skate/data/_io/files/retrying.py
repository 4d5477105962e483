"""Reads that are tried again: object stores refuse calls now and then."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_ATTEMPTS = 10
_FIRST_WAIT_S = 0.2
_MOST_WAIT_S = 16.0


class Retries:
    """Tries a call again after errors that pass.

    Args:
        patterns: texts, or regular expressions, that messages of such errors contain.
        sleep: waits some seconds.

    Example:
        >>> Retries(["AWS Error SLOW_DOWN"]).call(lambda: filesystem.read(path, size))  # doctest: +SKIP
    """

    def __init__(self, patterns: Sequence[str] = (), sleep: Callable[[float], None] = time.sleep) -> None:
        self._patterns = tuple(patterns)
        self._sleep = sleep

    def call(self, function: Callable[[], T]) -> T:
        """Return what a function returns; raise its error if it does not pass, or after ten attempts."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return function()
            except Exception as error:
                if attempt == _ATTEMPTS or not self._is_passing(error):
                    raise
                # Tasks that were refused together should not come back together.
                wait = min(_MOST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
                self._sleep(wait * (0.5 + random.random() / 2))  # noqa: S311 - no secret
        raise AssertionError("unreachable")

    def _is_passing(self, error: Exception) -> bool:
        text = str(error)
        return any(_is_match(pattern, text) for pattern in self._patterns)


def _is_match(pattern: str, text: str) -> bool:
    if pattern in text:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False
