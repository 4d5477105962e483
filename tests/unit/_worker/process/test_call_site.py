"""Where user code called the runtime."""

from __future__ import annotations

import sys
from types import CodeType

from skate._worker.process.call_site import call_site


def _sites(last: tuple[CodeType, int] | None) -> list[tuple[CodeType, int] | None]:
    return [call_site(1, last) for _ in range(2)]


def test_the_innermost_frame_of_the_program_is_found() -> None:
    site = call_site(1)
    line = sys._getframe().f_lineno - 1
    assert site == (sys._getframe().f_code, line)


def test_calls_from_one_line_share_what_is_remembered_of_it() -> None:
    first, other = _sites(None)
    assert first == other
    assert first is not other
    assert all(site is first for site in _sites(first))
    assert call_site(1, first) != first
