"""Helps to log messages once, however often the code runs."""

from __future__ import annotations

from time import monotonic

#: With periodic logging, a key may be logged again after this many seconds.
_PERIOD_S = 60.0


class _Once:
    """The messages that this process has logged, and the settings."""

    def __init__(self) -> None:
        self.enabled = True
        self.periodic = False
        #: The time of the last message, by key.
        self.logged: dict[str, float] = {}


_once = _Once()


def log_once(key: str) -> bool:
    """Tell whether to log now: True at the first call with this key in this process.

    Args:
        key: identifies the message.

    Returns:
        Whether to log. After ``enable_periodic_logging``, True again once a minute.

    Example:
        >>> if skate.util.log_once("slow disk"):
        ...     logger.warning("the disk is slow")
    """
    if not _once.enabled:
        return False
    now = monotonic()
    last = _once.logged.get(key)
    if last is not None and not (_once.periodic and now - last >= _PERIOD_S):
        return False
    _once.logged[key] = now
    return True


def disable_log_once_globally() -> None:
    """Have ``log_once`` return False from now on, for every key.

    Example:
        >>> skate.util.disable_log_once_globally()
    """
    _once.enabled = False


def enable_periodic_logging() -> None:
    """Have ``log_once`` return True once a minute for each key, instead of once.

    Example:
        >>> skate.util.enable_periodic_logging()
    """
    _once.periodic = True


def reset_log_once(key: str | None = None) -> None:
    """Forget that something was logged.

    Args:
        key: the message; None: all of them.

    Example:
        >>> skate.util.debug.reset_log_once("slow disk")
    """
    if key is None:
        _once.logged.clear()
    else:
        _once.logged.pop(key, None)
