"""Settings and helpers of the tests that break things."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skate.data import _notices
from skate.data.context import DataContext

sys.path.append(str(Path(__file__).parent))  # random_programs.py, whose functions workers import


@pytest.fixture(autouse=True)
def settings() -> Iterator[DataContext]:
    """Settings of a test's own."""
    _notices.said.forget()
    before = DataContext.get_current()
    context = DataContext()
    context.enable_progress_bars = False
    DataContext._set_current(context)
    yield context
    DataContext._set_current(before)


@pytest.fixture
def far(session: Any, settings: DataContext) -> DataContext:
    """Settings with which everything runs in processes of a session, and pools end with their execution."""
    settings.local_limit_bytes = 0
    settings.pool_linger_s = 0
    return settings
