"""Tests that hang are ended, with stacks and a message; tests that a loaded machine keeps waiting are not."""

from __future__ import annotations

from pathlib import Path

from .processes import run_pytest
from .watchdog import Meter, Usage

AFTER = """
    def test_after():
        pass
"""


def test_one_that_hangs_idle(tmp_path: Path) -> None:
    source = """
    @pytest.mark.time_limit(1)
    def test_idle():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        try:
            waits_in_vain()
        finally:
            child.kill()
            child.wait()

    def waits_in_vain():
        threading.Event().wait()
    """
    done = run_pytest(tmp_path, source + AFTER)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "test_inside.py::test_idle (call): no end after" in done.stdout
    assert "in waits_in_vain" in done.stdout, "the stacks of all threads"
    assert "import time; time.sleep(1000)" in done.stdout, "the processes of the run"


def test_one_that_hangs_busy_where_there_is_little_cpu_time(tmp_path: Path) -> None:
    """Its processes keep each other waiting, so that no quiet second passes: the CPU time ends it."""
    source = """
    @pytest.mark.time_limit(0.5)
    def test_busy():
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        children = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
        try:
            while True:
                pass
        finally:
            for child in children:
                child.kill()
                child.wait()
    """
    done = run_pytest(tmp_path, source + AFTER)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "test_inside.py::test_busy (call): no end after" in done.stdout


def test_one_that_waits_for_a_condition(tmp_path: Path) -> None:
    source = """
    from cluster.waiting import wait_for, wait_until_none

    @pytest.mark.time_limit(0.5)
    def test_for():
        wait_for(lambda: [], "something")

    @pytest.mark.time_limit(0.5)
    def test_none():
        wait_until_none(lambda: [5], "a five")
    """
    done = run_pytest(tmp_path, source + AFTER)
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "waited in vain for something; the last look gave []" in done.stdout
    assert "there is still a five: [5]" in done.stdout


def test_one_that_hangs_in_its_set_up_and_its_teardown(tmp_path: Path) -> None:
    source = """
    pytestmark = pytest.mark.time_limit(0.5)

    @pytest.fixture
    def before():
        threading.Event().wait()

    finalized = []

    @pytest.fixture
    def finalizer():
        yield
        finalized.append(1)

    @pytest.fixture
    def after(finalizer):
        yield
        threading.Event().wait()

    def test_before(before): pass

    def test_one(after): pass

    def test_other_finalizers_ran():
        assert finalized == [1]
    """
    done = run_pytest(tmp_path, source + AFTER)
    assert "3 passed, 2 errors" in done.stdout, done.stdout + done.stderr
    assert "test_before (set-up): no end after" in done.stdout
    assert "test_one (teardown): no end after" in done.stdout


def test_one_that_swallows_the_exception(tmp_path: Path) -> None:
    source = """
    @pytest.mark.time_limit(0.5)
    def test_stubborn():
        for _ in range(2):
            try:
                threading.Event().wait()
            except BaseException:
                pass
        threading.Event().wait()
    """
    done = run_pytest(tmp_path, source + AFTER)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr


def test_one_that_handles_no_signal_ends_the_run(tmp_path: Path) -> None:
    source = """
    @pytest.mark.time_limit(0.5)
    def test_deaf():
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGABRT])
        cannot_hear()

    def cannot_hear():
        threading.Event().wait()
    """
    done = run_pytest(tmp_path, source + AFTER)
    assert done.returncode == -6, done.stdout + done.stderr
    assert "test_deaf (call) hangs and ends by no exception" in done.stderr
    assert "in cannot_hear" in done.stderr


def test_one_that_makes_progress_is_left_alone(tmp_path: Path) -> None:
    source = """
    from cluster.waiting import progress

    @pytest.mark.time_limit(1)
    def test_long():
        for _ in range(30):
            progress()
            time.sleep(0.1)
    """
    done = run_pytest(tmp_path, source + AFTER)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_program_that_hangs_shows_its_stacks(tmp_path: Path) -> None:
    source = """
    from pathlib import Path
    from cluster import processes

    @pytest.mark.time_limit(1)
    def test_driver(tmp_path):
        processes.run_driver(tmp_path, '''
            import threading
            print("begun", flush=True)
            def for_ever(): threading.Event().wait()
            for_ever()
        ''')
    """
    done = run_pytest(tmp_path, source + AFTER)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "the program did not end" in done.stdout
    assert "begun" in done.stdout
    assert "in for_ever" in done.stdout


# ---------------------------------------------------------------------- what is counted


def test_time_that_is_spent_waiting_for_a_cpu_is_not_quiet() -> None:
    meter = Meter()
    meter.look(100.0, {(5, 1): Usage(2.0, 7.0, 1, "R"), (6, 2): Usage(0.0, 0.0, 5, "S")})
    assert (meter.seconds, meter.quiet, meter.cpu) == (0, 0, 0), "what was before does not count"
    meter.look(110.0, {(5, 1): Usage(3.0, 13.0, 1, "R"), (6, 2): Usage(0.5, 1.0, 5, "S")})
    assert (meter.seconds, meter.quiet, meter.cpu) == (10.0, 3.0, 1.5)
    # More waited than time passed: several processes did.
    meter.look(112.0, {(5, 1): Usage(3.0, 15.0, 1, "R"), (6, 2): Usage(0.5, 3.0, 5, "S")})
    assert (meter.seconds, meter.quiet, meter.cpu) == (12.0, 3.0, 1.5)
    meter.restart()
    meter.look(113.0, {(5, 1): Usage(3.0, 15.0, 1, "S"), (6, 2): Usage(0.5, 3.0, 5, "S")})
    assert (meter.seconds, meter.quiet, meter.cpu) == (1.0, 1.0, 0.0)


def test_what_children_used_counts_once() -> None:
    meter = Meter()
    meter.look(0.0, {(5, 1): Usage(1.0, 0.0, 1, "S")})
    meter.look(1.0, {(5, 1): Usage(1.0, 0.0, 1, "S"), (6, 2): Usage(3.0, 0.0, 5, "R")})
    assert meter.cpu == 3.0
    # It used one second more, ended, and its parent waited for it.
    meter.look(2.0, {(5, 1): Usage(5.0, 0.0, 1, "S")})
    assert meter.cpu == 4.0
    # A child that nobody saw.
    meter.look(3.0, {(5, 1): Usage(7.0, 0.0, 1, "S")})
    assert meter.cpu == 6.0


def test_orphans_count_until_they_end() -> None:
    meter = Meter()
    meter.look(0.0, {(5, 1): Usage(1.0, 0.0, 1, "S"), (6, 2): Usage(2.0, 0.0, 1, "R")})
    meter.look(1.0, {(5, 1): Usage(1.0, 0.0, 1, "S"), (6, 2): Usage(3.0, 0.0, 1, "R")})
    meter.look(2.0, {(5, 1): Usage(2.0, 0.0, 1, "S")})
    assert meter.cpu == 2.0
