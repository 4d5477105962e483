"""One session a module: the helpers are tested on the public API, as a user would use them."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest

import skate

#: Seconds until a test counts as hung: its stacks are printed and the run ends.
TIME_LIMIT = 120


@pytest.fixture(scope="module")
def runtime() -> Iterator[None]:
    """A session with two CPUs."""
    skate.init(num_cpus=2)
    yield
    skate.shutdown()


@pytest.fixture(autouse=True)
def hung() -> Iterator[None]:
    faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
