"""The lock of the tables: no collection under it, and a program that finds the collector as it left it."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from skate._transport import table_lock
from skate._transport.table_lock import TableLock, resume, state, suspend

from .threads import Background, meet


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.enable()


def suspended() -> bool:
    """Tell whether the real flag is off: nothing is collected however much is allocated."""
    seen: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        seen.append(phase)

    gc.callbacks.append(note)
    try:
        gc.set_threshold(5)
        kept = [[] for _ in range(100)]
        del kept
    finally:
        gc.callbacks.remove(note)
    return not seen


def test_nothing_is_collected_under_the_lock() -> None:
    lock = TableLock()
    assert not suspended()
    with lock:
        assert suspended()
    assert not suspended()


def test_a_finalizer_never_runs_under_the_lock() -> None:
    lock = TableLock()
    found: list[bool] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            found.append(lock.is_owned())

    gc.set_threshold(3)
    for _ in range(300):
        Cycle()
        with lock:
            kept = [[] for _ in range(10)]
            del kept
    gc.collect()
    assert len(found) == 300
    assert not any(found)


def test_the_written_out_form_does_the_same() -> None:
    lock = TableLock()
    suspend()
    lock.acquire()
    suspend()
    try:
        assert lock.is_owned()
        assert suspended()
    finally:
        if state.wanted:
            resume()
        lock.release()
    assert not lock.is_owned()
    assert not suspended()


def test_the_program_sees_what_it_asked_for() -> None:
    lock = TableLock()
    assert gc.isenabled()
    with lock:
        assert gc.isenabled(), "another thread that looks now would restore the wrong state later"
    gc.disable()
    assert not gc.isenabled()
    with lock:
        assert not gc.isenabled()
    assert suspended(), "the lock enabled what the program had disabled"
    gc.enable()
    assert gc.isenabled()
    assert not suspended()


def test_another_thread_disables_the_collector_meanwhile() -> None:
    lock = TableLock()
    with lock:
        Background(gc.disable).result()
    assert suspended()
    assert not gc.isenabled()


def test_another_thread_enables_the_collector_meanwhile() -> None:
    lock = TableLock()
    gc.disable()
    with lock:
        asked = Background(gc.enable)  # waits for the lock, or takes effect when it is released
        assert suspended()
    asked.result()
    assert gc.isenabled()
    assert not suspended()


def test_all_locks_are_one() -> None:
    """Otherwise the one that is released first would resume collection under the other."""
    one, other = TableLock(), TableLock()
    entered = threading.Event()
    with one:
        assert other.is_owned()

        def enter() -> None:
            with other:
                entered.set()

        thread = Background(enter)
        assert not entered.is_set()
    thread.result()
    meet(entered, "it never entered")


def test_try_enter_does_not_wait() -> None:
    lock = TableLock()
    with lock:
        assert not Background(lock.try_enter).result()
        assert suspended()
    assert lock.try_enter()
    assert suspended()
    lock.__exit__(None, None, None)
    assert not suspended()


def test_a_trace_function_may_enter_again() -> None:
    lock = TableLock()
    with lock, lock:
        assert lock.is_owned()
    assert not lock.is_owned()


def test_a_child_gets_a_free_lock_and_a_collector_that_runs() -> None:
    lock = TableLock()
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            leave.wait(5)

    thread = Background(hold)
    meet(held, "it never entered")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if not suspended() and lock.try_enter() else 2
        finally:
            os._exit(code)
    leave.set()
    thread.result()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_install_is_done_once() -> None:
    TableLock()
    before = gc.enable
    table_lock.install()
    assert gc.enable is before is table_lock.enable
