"""The page of differences says what the suite's markers say."""

from __future__ import annotations

from . import differences


def test_the_page_has_the_table_of_the_markers() -> None:
    assert differences.written() == differences.table(), "run python tests/compat/differences.py --write"


def test_every_difference_has_a_reason() -> None:
    for one in differences.differences():
        assert one.on in ("skate", "ray"), one
        assert len(one.reason) > 20, one
        assert "|" not in one.reason, one
