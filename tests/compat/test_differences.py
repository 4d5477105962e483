"""The pages of differences say what the suites' markers say."""

from __future__ import annotations

import pytest

from . import differences


@pytest.mark.parametrize("which", differences.TABLES)
def test_the_page_has_the_table(which: str) -> None:
    _, _, make = differences.TABLES[which]
    assert differences.written(which) == make(), "run python tests/compat/differences.py --write"


@pytest.mark.parametrize("suite", differences.PAGES)
def test_every_difference_has_a_reason(suite: str) -> None:
    for one in differences.differences(suite):
        assert one.on in ("skate", "ray"), one
        assert len(one.reason) > 20, one
        assert "|" not in one.reason, one
