"""Hypothesis: the same everywhere, and the same each time where ``CI`` is set."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from .effort import examples

# No deadlines: a test that measures time fails on a busy machine. For the same reason slow data is fine.
_COMMON = settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
settings.register_profile("skate", _COMMON)
settings.register_profile("ci", _COMMON, derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--hypothesis-profile", None):
        settings.load_profile("ci" if os.environ.get("CI") else "skate")
