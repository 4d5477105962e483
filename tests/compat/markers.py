"""The markers of tests that run on skate and on Ray."""

from __future__ import annotations

from typing import Any

import pytest

#: Folders of tests that run on both.
SUITES = ("conformance", "data")


def differs(*, on: str, reason: str, run: bool = True) -> Any:
    """Mark a test that fails on one system. Literals only: the tables in the documents are made of them.

    Args:
        on: "skate" or "ray".
        reason: one sentence: what it does there, and why it stays so.
        run: False: it would not end, or end the whole run.
    """
    return pytest.mark.differs(on=on, reason=reason, run=run)


needs_processes = pytest.mark.needs_processes
