"""What every test gets by where it lies.

``tests/unit``: ``skate.init`` raises. ``tests/cluster``: real processes, so a time limit, and after
each test a look for whatever it left behind.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

import pytest

import skate
import skate.api

HERE = Path(__file__).resolve().parent
# Workers have the driver's path, and import what tests of the package ``cluster`` share.
sys.path.insert(0, str(HERE))

from cluster import leaks  # noqa: E402

UNIT = HERE / "unit"
CLUSTER = HERE / "cluster"

#: Seconds until a test counts as hung. It is no measure of speed: everything ends far sooner.
TIME_LIMIT = 30
#: When even the exception of the time limit gets no hearing, the run ends after this many more.
LAST_RESORT = 60

_REPORT = pytest.StashKey[dict[str, pytest.TestReport]]()
_TERMINAL = pytest.StashKey[TextIO]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "time_limit(seconds): hung after this time, instead of the usual")
    # Output is not captured yet: the descriptor of the terminal itself, for the last resort.
    config.stash[_TERMINAL] = os.fdopen(os.dup(2), "w")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_TERMINAL].close()


def pytest_collection_finish() -> None:
    # The leak checks collect garbage many times: not among what the imports made, for that is slow.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report: pytest.TestReport = yield
    item.stash.setdefault(_REPORT, {})[report.when or ""] = report
    return report


def _passed(item: pytest.Item) -> bool:
    report = item.stash.get(_REPORT, {}).get("call")
    return report is not None and report.passed


class TestHung(Exception):
    """A test took longer than anything here can take."""

    __test__ = False


@pytest.fixture(autouse=True)
def no_runtime_in_unit_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test that starts the runtime is none."""
    if UNIT not in request.path.parents:
        return

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("a unit test called skate.init(); tests with processes lie in tests/cluster")

    monkeypatch.setattr(skate, "init", refuse)
    monkeypatch.setattr(skate.api, "init", refuse)


@pytest.fixture(autouse=True)
def time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test on processes that hangs fails, with the stacks of all threads."""
    if CLUSTER not in request.path.parents:
        yield
        return
    marker = request.node.get_closest_marker("time_limit")
    seconds = marker.args[0] if marker is not None else TIME_LIMIT

    def hung(signum: int, frame: FrameType | None) -> NoReturn:
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        raise TestHung(f"no end after {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    terminal = request.config.stash[_TERMINAL]
    faulthandler.dump_traceback_later(seconds + LAST_RESORT, file=terminal, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest, time_limit: None) -> Iterator[None]:
    """Whatever a test on processes did, it leaves nothing: see ``cluster.leaks``."""
    if CLUSTER not in request.path.parents:
        yield
        return
    before = leaks.Before.now()
    yield
    leaks.end_session(expect_empty=_passed(request.node))
    before.assert_nothing_left()


@pytest.fixture
def session(request: pytest.FixtureRequest, leak_check: None) -> Iterator[skate.api.RayContext]:
    """A session with two CPUs. The leak check ends it."""
    yield skate.init(num_cpus=2)
