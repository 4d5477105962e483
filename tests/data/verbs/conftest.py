"""What the tests of the verbs share."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from skate.data import _notices
from skate.data.context import DataContext


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    """Each test has settings of its own, and hears every notice again."""
    _notices.said.forget()
    before = DataContext.get_current()
    context = DataContext()
    if os.environ.get("SKATE_DATA_PORT") == "skate":
        context.local_limit_bytes = 0  # whatever runs, runs on a session
    DataContext._set_current(context)
    yield
    DataContext._set_current(before)


@pytest.fixture
def printed() -> Callable[[Callable[[], Any]], str]:
    """Return a function that returns what a call prints."""

    def run(call: Callable[[], Any]) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            call()
        return out.getvalue()

    return run
