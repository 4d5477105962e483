"""The pytest plugin. Found by its entry point; see docs/testing.md.

It costs a test run that does not use it one small import: skate itself is loaded by the fixtures.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from skate.api import RayContext

_MODES = ("cluster", "inline")
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Define ``--skate-mode``, ``--skate-num-cpus`` and the ini options of the same names."""
    group = parser.getgroup("skate", "sessions of skate")
    group.addoption(
        "--skate-mode",
        choices=_MODES,
        help="what the fixture skate_session is: 'cluster', a real session (the default), or 'inline'",
    )
    group.addoption("--skate-num-cpus", type=int, help="CPUs of the sessions that fixtures start (default 2)")
    parser.addini("skate_mode", "as --skate-mode", default="")
    parser.addini("skate_num_cpus", "as --skate-num-cpus", default="")


@pytest.hookimpl(hookwrapper=True)  # the older way: older versions of pytest load this file too
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Remember whether a test failed: then its report holds its variables, and refs among them."""
    outcome = yield
    if outcome.get_result().failed:
        item.stash[_FAILED] = True


def _mode(config: pytest.Config) -> str:
    given = config.getoption("--skate-mode") or config.getini("skate_mode") or os.environ.get("SKATE_MODE")
    mode = str(given or "cluster")
    if mode not in _MODES:
        raise pytest.UsageError(f"skate_mode is one of {', '.join(_MODES)}, not {mode!r}")
    return mode


def _num_cpus(config: pytest.Config) -> int:
    given: Any = config.getoption("--skate-num-cpus")
    if given is None:
        given = config.getini("skate_num_cpus") or 2
    try:
        return int(given)
    except ValueError:
        raise pytest.UsageError(f"skate_num_cpus takes a whole number, not {given!r}") from None


class _Shared:
    """The session of ``skate_session``: started when a test needs it, again if one has ended it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._context: RayContext | None = None

    def get(self) -> RayContext:
        """Return the session, running."""
        import skate

        if self._context is not None and skate.is_initialized():
            return self._context
        if skate.is_initialized():
            pytest.fail("skate_session: the program has started a session of its own: end it by shutdown()")
        self._context = skate.init(
            "local", num_cpus=_num_cpus(self._config), mode=_mode(self._config), include_dashboard=False
        )
        return self._context

    def stop(self) -> None:
        """End it, if it runs."""
        if self._context is not None:
            import skate

            self._context = None
            skate.shutdown()


@pytest.fixture(scope="session")
def _skate_shared(request: pytest.FixtureRequest) -> Iterator[_Shared]:
    shared = _Shared(request.config)
    yield shared
    shared.stop()


@pytest.fixture
def skate_session(request: pytest.FixtureRequest, _skate_shared: _Shared) -> Iterator[RayContext]:
    """A session that all tests of the run share; what a test leaves in it is that test's error.

    Left behind may be neither a call that goes on, nor an actor, nor an object; what was there before
    the test does not count. (Objects of a test that failed do not either: its report holds them.)
    """
    import skate
    from skate.testing.leaks import Living, left_since

    context = _skate_shared.get()
    before = Living.now()
    yield context
    if not skate.is_initialized():
        return  # the test ended it itself: the next one gets a new one
    try:
        left = left_since(before, objects=not request.node.stash.get(_FAILED, False))
    except Exception:
        # It is lost: the test killed its daemon, say. Whether that is an error is the test's to tell.
        _skate_shared.stop()
        return
    if left:
        _skate_shared.stop()  # the next test gets a clean one
        lines = "".join(f"\n  {line}" for line in left)
        pytest.fail(f"{request.node.name} left behind in the session:{lines}", pytrace=False)


@pytest.fixture
def skate_inline(request: pytest.FixtureRequest, _skate_shared: _Shared) -> Iterator[RayContext]:
    """A session of the test's own, in the test's own process: see docs/testing.md. It starts in
    milliseconds, and ends with the test."""
    import skate

    if "skate_session" in request.fixturenames:
        pytest.fail("a test uses skate_session or skate_inline, not both", pytrace=False)
    _skate_shared.stop()  # a process is connected to one session at a time
    context = skate.init(mode="inline", num_cpus=_num_cpus(request.config))
    yield context
    skate.shutdown()


__all__ = ["skate_inline", "skate_session"]
