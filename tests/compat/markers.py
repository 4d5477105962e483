"""The markers of tests that run on skate and on Ray."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

#: Folders of tests that run on both.
SUITES = ("conformance", "data", "serve")


def differs(*, on: str, reason: str, run: bool = True, before: str = "") -> Any:
    """Mark a test that fails on one system. Literals only: the tables in the documents are made of them.

    Args:
        on: "skate", "ray", or "engine" for skate's engine on Ray.
        reason: one sentence: what it does there, and why it stays so.
        run: False: it would not end, or end the whole run.
        before: a version of Ray, such as "2.60": the test fails with older ones alone. "": with all.
    """
    return pytest.mark.differs(on=on, reason=reason, run=run, before=before)


def is_before(version: str, bound: str) -> bool:
    """Tell whether a version is older than another one; any is older than ""."""
    return not bound or _numbers(version) < _numbers(bound)


def _numbers(version: str) -> list[int]:
    """Return the numbers at the start of a version: [2, 60] of "2.60.dev0"."""
    numbers = itertools.takewhile(str.isdigit, version.split("."))
    return [int(number) for number in numbers]


needs_processes = pytest.mark.needs_processes
