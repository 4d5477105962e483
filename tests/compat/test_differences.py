"""The pages of differences say what the suites' markers say."""

from __future__ import annotations

import pytest

from . import differences
from .markers import is_before


@pytest.mark.parametrize("which", differences.TABLES)
def test_the_page_has_the_table(which: str) -> None:
    _, _, make = differences.TABLES[which]
    assert differences.written(which) == make(), "run python tests/compat/differences.py --write"


@pytest.mark.parametrize("suite", differences.PAGES)
def test_every_difference_has_a_reason(suite: str) -> None:
    for one in differences.differences(suite):
        assert one.on in ("skate", "ray", "engine"), one
        assert len(one.reason) > 20, one
        assert "|" not in one.reason, one


@pytest.mark.parametrize(
    ("version", "bound", "expected"),
    [
        ("2.50.1", "2.60", True),
        ("2.9.3", "2.60", True),
        ("2.60.0", "2.60", False),
        ("2.60.0", "2.60.1", True),
        ("3.0.0.dev0", "2.60", False),
        ("2.60.0", "", True),
    ],
)
def test_versions_of_a_marker(version: str, bound: str, expected: bool) -> None:
    assert is_before(version, bound) is expected
