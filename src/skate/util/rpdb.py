"""Sets breakpoints in tasks and actors, under Ray's names."""

from __future__ import annotations

import sys

from skate._base.user_errors import traceback_of
from skate.engine import engine


def set_trace(breakpoint_uuid: bytes | None = None) -> None:
    """Stop here, as ``breakpoint()`` does; in a task or actor, wait for a debugger (docs/debugging.md).

    Args:
        breakpoint_uuid: accepted as in Ray; not used.

    Example:
        >>> skate.util.pdb.set_trace()
    """
    found, frame = engine(), sys._getframe(1)
    if found is None or not found.set_trace(frame):
        import pdb

        pdb.Pdb(nosigint=True).set_trace(frame)


def post_mortem() -> None:
    """Debug the exception that is being handled, where it was raised.

    Raises:
        ValueError: no exception is being handled.

    Example:
        >>> try:
        ...     work()
        ... except Exception:
        ...     skate.util.pdb.post_mortem()
    """
    error = sys.exc_info()[1]
    if error is None:
        raise ValueError("post_mortem() is called where an exception is handled, and there is none")
    found = engine()
    if found is None or not found.post_mortem(error):
        import pdb

        pdb.post_mortem(traceback_of(error))
