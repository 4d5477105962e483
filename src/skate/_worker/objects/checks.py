"""Checks the arguments of ``get`` and ``wait``, before anything waits."""

from __future__ import annotations

from typing import Any

from skate._worker.objects.object_ref import ObjectRef

#: The beginning of Ray's messages, on which programs match.
_LIST = "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator"


def check_timeout(timeout: Any) -> None:
    """Raise unless it is a number of seconds that can be waited.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout takes a number of seconds, got {timeout!r}")
    if not timeout >= 0:  # NaN is not either
        raise ValueError(f"The 'timeout' argument must be nonnegative (seconds). Received {timeout!r}")


def check_wait(ray_waitables: Any, num_returns: Any, timeout: Any) -> list[ObjectRef[Any]]:
    """Return the refs as a list. It is empty only if nothing is to be waited for.

    Raises:
        TypeError, ValueError: it is no list of different refs, or ``num_returns`` does not fit it.
    """
    if isinstance(ray_waitables, ObjectRef):
        raise TypeError(f"{_LIST}, got a single ray.ObjectRef: write wait([ref])")
    if type(ray_waitables) is not list:
        if not isinstance(ray_waitables, (list, tuple)):
            raise TypeError(f"{_LIST}, got {type(ray_waitables)}")
        ray_waitables = list(ray_waitables)
    if timeout is not None:
        check_timeout(timeout)
    try:
        different = len({ref._entry for ref in ray_waitables})
    except AttributeError:
        wrong = next(ref for ref in ray_waitables if not isinstance(ref, ObjectRef))
        raise TypeError(f"{_LIST}, got list containing {type(wrong)}") from None
    if different != len(ray_waitables):
        raise ValueError("Wait requires a list of unique ray_waitables: one ref is in it twice")
    if not ray_waitables and num_returns == 1:
        return []
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise TypeError(f"num_returns takes a whole number, got {num_returns!r}")
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return {num_returns}: wait() takes at least 1")
    if num_returns > len(ray_waitables):
        raise ValueError(
            "num_returns cannot be greater than the number of ray_waitables provided to ray.wait "
            f"({len(ray_waitables)}), got {num_returns}"
        )
    return ray_waitables  # type: ignore[no-any-return]
