"""The soak test of serve answers all kinds of requests, and says what grows."""

from __future__ import annotations

import subprocess
import sys

import pytest
from benchmarks.serve import soak, soak_clients
from benchmarks.session import ROOT, plain_environment


def course(name: str, first_s: float, last_s: float, growth: float) -> soak.Course:
    """A process of 10 MB, and that many MB an hour more."""
    times = range(int(first_s), int(last_s), 10)
    found = soak.Course(name)
    for at in times:
        found.numbers.extend(soak.Sample(at, 1e7 + growth * 1e6 * at / 3600, 0, 10, 1, 3, 1000))
    return found


def test_a_process_that_grows_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    courses = [
        course("steady", 0, 1800, 0.5),
        course("leaks", 0, 1800, 3.0),
        course("came late", 900, 1800, 100.0),
        course("went", 0, 900, 100.0),
        course("was not seen", 0, 0, 100.0),
    ]
    assert soak.report(courses, 1800.0, limit=1.0) == ["leaks grows by 3.00 MB/h"]
    out = capsys.readouterr().out
    assert "steady: slope +0.50 MB/h" in out
    assert [line.split("   ")[0].strip() for line in out.splitlines()[-2:]] == ["went", "came late"]


def test_of_the_time_before_the_warm_up_nothing_counts() -> None:
    grows = course("one", 0, 900, 100.0)
    for at in range(900, 1800, 10):
        grows.numbers.extend(soak.Sample(at, grows.samples[89].rss, 0, 10, 1))
    assert grows.slope(900) == pytest.approx(0)
    assert soak.slope([(1.0, 2.0)]) == 0.0


def test_a_short_run() -> None:
    command = [sys.executable, "-m", "benchmarks.serve.soak", "--minutes", "0.1", "--limit", "1e6"]
    done = subprocess.run(command, cwd=ROOT, env=plain_environment(), stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines()[-1] == "ok", done.stdout
    assert done.returncode == 0
    for kind in soak_clients.KINDS:
        assert f"'{kind}': " in done.stdout
    for name in ("driver", "daemon", "control", "zygote", "CONTROLLER", "GRPC", "REPLICA::steady#Front#"):
        assert name in done.stdout
