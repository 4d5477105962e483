"""What every test gets by where it lies.

All: a folder for temporary files and sessions that only this test run uses. ``tests/unit``: ``skate.init`` raises.
Everywhere else: a watchdog. ``tests/cluster``: real processes, so after each test a look for whatever it left behind.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

import skate
import skate.api

HERE = Path(__file__).resolve().parent
# Workers have the driver's path, and import what tests of the package ``cluster`` share.
sys.path.insert(0, str(HERE))

from cluster import leaks  # noqa: E402
from cluster.watchdog import Watchdog  # noqa: E402

UNIT = HERE / "unit"
CLUSTER = HERE / "cluster"

#: Seconds of a quiet machine until a phase of a test (set-up, call, teardown) counts as hung; see ``cluster.watchdog``.
#: It is no measure of speed: everything ends far sooner.
TIME_LIMIT = 30
#: Seconds after which what is waited for will not come any more; and between two looks at it.
_LONGEST_S, _INTERVAL_S = 60.0, 0.01
#: A test that starts no session of its own joins the one that such a variable names.
ADDRESSES = ("SKATE_ADDRESS", "RAY_ADDRESS")
#: More than this many bytes leave no room for the names of sockets: see ``skate._launch.session.root``.
LONGEST_FOLDER = 40

_REPORT = pytest.StashKey[dict[str, pytest.TestReport]]()
_WATCHDOG = pytest.StashKey[Watchdog]()
_FOLDER = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine", choices=("skate", "inline", "ray"), default="skate",
        help="what carries out tests that do not choose it themselves; see engines.py",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    engine = config.getoption("engine")
    if engine == "inline":
        os.environ["SKATE_MODE"] = "inline"
    elif engine == "ray":
        # Before skate is used: its engine is chosen at the first use. Small data goes to workers, too.
        os.environ |= {"SKATE_ENGINE": "ray", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
                       "SKATE_DATA_PORT": "skate"}  # fmt: skip
    config.addinivalue_line(
        "markers", "time_limit(seconds): hung after so many seconds of a quiet machine, instead of the usual"
    )
    for name in ADDRESSES:
        os.environ.pop(name, None)
    # A shell starts its background jobs with SIGINT ignored; programs that tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    base = tempfile.gettempdir()
    # Where tests have their own folders (``tmp_path``), pytest keeps those of the last runs.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", base)
    folder = Path(
        tempfile.mkdtemp(prefix="st-", dir=base if len(os.fsencode(base)) <= LONGEST_FOLDER - 12 else "/tmp")
    )
    config.stash[_FOLDER] = folder
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    # Output is not captured yet: the watchdog has the terminal itself.
    watchdog = config.stash[_WATCHDOG] = Watchdog(folder)
    config.pluginmanager.register(watchdog, "watchdog")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_WATCHDOG].close()
    with contextlib.suppress(OSError):
        config.stash[_FOLDER].rmdir()  # not if a failed run left something to look at


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the run's folder, but keep the logs of its sessions when it failed."""
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.INTERRUPTED):
        shutil.rmtree(session.config.stash[_FOLDER], ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    folder = config.stash[_FOLDER]
    if folder.exists():
        terminalreporter.write_line(f"logs of the sessions: {folder}")


def _watched(item: pytest.Item, phase: str) -> contextlib.AbstractContextManager[None]:
    if UNIT in item.path.parents or item.config.getoption("usepdb"):
        return contextlib.nullcontext()
    marker = item.get_closest_marker("time_limit")
    seconds = marker.args[0] if marker is not None else TIME_LIMIT
    return item.config.stash[_WATCHDOG].watch(f"{item.nodeid} ({phase})", seconds)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Any:
    with _watched(item, "set-up"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    with _watched(item, "call"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Any:
    with _watched(item, "teardown"):
        return (yield)


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
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test on processes did, it leaves nothing: see ``cluster.leaks``."""
    if CLUSTER not in request.path.parents:
        yield
        return
    before = leaks.Before.now()
    yield
    leaks.end_session(expect_empty=_passed(request.node))
    before.assert_nothing_left()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, leak_check: None) -> Iterator[str]:
    """A temporary folder of the test's own, with no other session in it. Short, for its sockets."""
    path = tempfile.mkdtemp(prefix="sk")
    monkeypatch.setenv("TMPDIR", path)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def session(request: pytest.FixtureRequest, leak_check: None) -> Iterator[skate.api.RayContext]:
    """A session with two CPUs. The leak check ends it."""
    yield skate.init(num_cpus=2)


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], None]:
    """A function that waits until a condition holds."""

    def wait(condition: Callable[[], object]) -> None:
        until = time.monotonic() + _LONGEST_S
        while not condition():
            assert time.monotonic() < until, "the condition did not hold in time"
            time.sleep(_INTERVAL_S)

    return wait


@pytest.fixture
def capfd(capfd: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    """``capfd`` for tests that look while workers print: pytest's own loses what is written during ``readouterr``.

    It reads its file, and then truncates it. Here nothing is truncated.
    """
    multi: Any = capfd._capture  # type: ignore[attr-defined]
    for capture in (multi.out, multi.err):
        capture.snap = _Snap(capture.tmpfile.fileno())
    return capfd


class _Snap:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._position = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self) -> str:
        data = os.pread(self._fd, os.fstat(self._fd).st_size - self._position, self._position)
        self._position += len(data)
        return self._decoder.decode(data).replace("\r\n", "\n")
