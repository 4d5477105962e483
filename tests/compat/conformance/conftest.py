"""Runs the suite on skate, or with ``CONFORMANCE_ON=ray`` on the real Ray of the environment it is in.

The tests say ``import ray`` and know nothing else. A test that is known to behave otherwise on one of the
two is marked with ``helpers.differs``; there it must fail, or the run does.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

ON = os.environ.get("CONFORMANCE_ON", "skate")
#: The tests' packages are imported from here, in workers too.
TESTS = str(Path(__file__).resolve().parents[2])
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

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

#: Seconds until a test counts as hung.
TIME_LIMIT = 30 if ON == "skate" else 120
#: CPUs of the sessions: more than a small machine has, for tasks that wait need none.
CPUS = 4


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "differs(on, reason): fails on that system, 'skate' or 'ray', for that reason",
        "needs_processes: is about processes; makes no sense where tasks run in the driver's own",
    ):
        config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    inline = os.environ.get("SKATE_MODE") == "inline"
    for item in items:
        if here not in item.path.parents:
            continue
        for marker in item.iter_markers("differs"):
            if marker.kwargs["on"] == ON:
                run = marker.kwargs.get("run", True)
                item.add_marker(pytest.mark.xfail(reason=marker.kwargs["reason"], strict=True, run=run))
        marker = item.get_closest_marker("needs_processes")
        if inline and marker is not None:
            item.add_marker(pytest.mark.skip(reason=marker.kwargs.get("reason", "is about processes")))


@pytest.fixture(autouse=True)
def conformance_time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A hang is a failure; and if even that gets no hearing, the end of the run.

    In a run of all tests of this repository a watchdog sees to that, see ``cluster.watchdog``; Ray's Python has none.
    """
    if request.config.pluginmanager.has_plugin("watchdog"):
        yield
        return

    def hung(signum: int, frame: FrameType | None) -> NoReturn:
        pytest.fail(f"no end after {TIME_LIMIT} seconds")

    previous = signal.signal(signal.SIGALRM, hung)
    signal.alarm(TIME_LIMIT)
    faulthandler.dump_traceback_later(TIME_LIMIT + 60, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="module", autouse=True)
def as_ray() -> Iterator[None]:
    """What these tests start takes skate for ray."""
    if ON != "skate":
        yield
        return
    os.environ.update(_as_ray)
    names.use()
    yield
    if _before[skate.compat.VARIABLE] is None:
        _take_back()


def _init(**options: Any) -> None:
    import ray

    ray.init(num_cpus=CPUS, include_dashboard=options.pop("include_dashboard", False), **options)


@pytest.fixture(scope="module")
def session(as_ray: None) -> Iterator[None]:
    """A session for all tests of a file: starting Ray takes seconds."""
    import ray

    _init(resources={"token": 2}, object_store_memory=400_000_000)
    yield
    ray.shutdown()


@pytest.fixture
def no_session(as_ray: None) -> Iterator[None]:
    """The test starts its own."""
    import ray

    ray.shutdown()
    yield
    ray.shutdown()


# ---------------------------------------------------------------------- outcomes, for the comparison

_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember how each test ended: passed, failed, skipped, or xfailed as its marker says."""
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid.rpartition("conformance/")[2]
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        if _outcomes.get(name) != "failed":
            _outcomes[name] = outcome


def pytest_sessionfinish() -> None:
    path = os.environ.get("CONFORMANCE_OUTCOMES")
    if path:
        Path(path).write_text(json.dumps(_outcomes, indent=1))
