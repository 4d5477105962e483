"""The places of a program at which it calls the runtime."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from skate._base.process import PACKAGE, printable

if TYPE_CHECKING:
    from types import CodeType


def call_site(depth: int, last: tuple[CodeType, int] | None = None) -> tuple[CodeType, int] | None:
    """Return where user code called the runtime: the first frame outside of this package, from ``depth`` on.

    ``last``: the call site before, returned again if it is the same: many calls often come from one line.
    """
    try:
        frame: Any = sys._getframe(depth)
    except ValueError:
        return None
    while frame is not None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            if last is not None and last[0] is frame.f_code and last[1] == frame.f_lineno:
                return last
            return frame.f_code, frame.f_lineno
        frame = frame.f_back
    return None


def written(site: tuple[CodeType, int] | str | None) -> str:
    """Return a call site (see ``call_site``) as people read it; empty: it is not known here."""
    if site is None or isinstance(site, str):
        return ""
    return printable(f"{site[0].co_filename}:{site[1]} in {site[0].co_name}")
