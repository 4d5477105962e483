"""After each test here every descriptor and every thread is gone."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest


def _open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    gc.collect()  # what tests before this one left
    descriptors, threads = _open_descriptors(), set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= threads
    assert _open_descriptors() == descriptors
