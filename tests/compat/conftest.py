"""Runs the suites on skate, with ``CONFORMANCE_ON=ray`` on the real Ray of the environment it is in, or with "engine"
by skate's engine on that Ray (see ``on_ray``).

The suites are the folders ``conformance`` (the core), ``data`` and ``serve``. Their tests say ``import ray`` and know
nothing else. A test that is known to behave otherwise on one of the two is marked with ``markers.differs``; there it must
fail, or the run does.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

ON = os.environ.get("CONFORMANCE_ON", "skate")
HERE = Path(__file__).resolve().parent
#: The tests' packages are imported from here, in workers too.
TESTS = str(HERE.parent)
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

from compat.markers import SUITES, is_before  # noqa: E402

if ON == "skate":
    import skate.compat
    from skate._as_ray import environment, names

    _before = {name: os.environ.get(name) for name in environment.VARIABLES}
    skate.compat.install()
    # Other tests of the run know the classes by skate's names, and start programs that shall not inherit it:
    # see the fixture ``as_ray``.
    _as_ray = {name: os.environ[name] for name in environment.VARIABLES}


def _take_back() -> None:
    names.undo()
    for name, value in _before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


if ON == "skate":
    if _before[skate.compat.VARIABLE] is None:
        _take_back()
else:
    # Workers of Ray have what their driver's environment has.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")]))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ["RAY_DEDUP_LOGS"] = "0"


def _suite(path: Path) -> str | None:
    """Return the suite that a file belongs to, or None: it is a test of this folder's own."""
    return next((suite for suite in SUITES if HERE / suite in path.parents), None)


def _time_limit(suite: str) -> int:
    """Return the seconds until a test of a suite counts as hung."""
    return 30 if ON == "skate" else {"data": 300, "serve": 240}.get(suite, 120)


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "differs(on, reason): fails on that system, 'skate' or 'ray', for that reason; see compat.markers",
        "needs_processes: is about processes; makes no sense where tasks run in the driver's own",
    ):
        config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    inline = os.environ.get("SKATE_MODE") == "inline"
    for item in items:
        if _suite(item.path) is None:
            continue
        for marker in item.iter_markers("differs"):
            if ON != "skate" and not is_before(version("ray"), marker.kwargs.get("before", "")):
                continue
            if marker.kwargs["on"] == ON:
                run = marker.kwargs.get("run", True)
                item.add_marker(pytest.mark.xfail(reason=marker.kwargs["reason"], strict=True, run=run))
            elif ON == "engine":
                # skate above and Ray below: either may show.
                run = marker.kwargs["on"] != "ray" or marker.kwargs.get("run", True)
                item.add_marker(pytest.mark.xfail(reason=marker.kwargs["reason"], strict=False, run=run))
        marker = item.get_closest_marker("needs_processes")
        if inline and marker is not None:
            item.add_marker(pytest.mark.skip(reason=marker.kwargs.get("reason", "is about processes")))


@pytest.fixture(autouse=True)
def conformance_time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A hang is a failure; and if even that gets no hearing, the end of the run.

    In a run of all tests of this repository a watchdog sees to that, see ``cluster.watchdog``; Ray's Python has none.
    """
    suite = _suite(request.path)
    if suite is None or request.config.pluginmanager.has_plugin("watchdog"):
        yield
        return
    seconds = _time_limit(suite)

    def hung(signum: int, frame: FrameType | None) -> NoReturn:
        pytest.fail(f"no end after {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + 60, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, previous)


def _named_ray() -> Iterator[None]:
    """What is started meanwhile takes skate for ray."""
    if ON != "skate":
        yield
        return
    os.environ.update(_as_ray)
    names.use()
    yield
    if _before[skate.compat.VARIABLE] is None:
        _take_back()


#: For a file of tests.
as_ray = pytest.fixture(scope="module", name="as_ray")(_named_ray)


@pytest.fixture(scope="session")
def named_ray() -> Callable[[], AbstractContextManager[None]]:
    """For a folder of them: a fixture of this file's folder would last until the tests here have ended, too."""
    return contextmanager(_named_ray)


# ---------------------------------------------------------------------- outcomes, for the comparison

_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember how each test ended: passed, failed, skipped, or xfailed as its marker says."""
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid.rpartition("compat/")[2]
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        if _outcomes.get(name) != "failed":
            _outcomes[name] = outcome


def pytest_sessionfinish() -> None:
    path = os.environ.get("CONFORMANCE_OUTCOMES")
    if path:
        Path(path).write_text(json.dumps(_outcomes, indent=1))
