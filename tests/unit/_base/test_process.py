"""How a process ended, in words."""

from __future__ import annotations

import os
import signal

import pytest

from skate._base.process import cpu_count, describe_status, hint_for_status, memory_bytes


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (signal.SIGKILL, "was killed by signal 9 (SIGKILL)"),
        (signal.SIGSEGV | 0x80, "was killed by signal 11 (SIGSEGV)"),  # it left a core
        (3 << 8, "exited with code 3"),
        (0, "exited with code 0"),
    ],
)
def test_a_status_in_words(status: int, words: str) -> None:
    assert describe_status(status) == words


def test_a_signal_without_a_name() -> None:
    assert describe_status(42).startswith("was killed by signal 42")


def test_hints_say_what_usually_is_behind_it() -> None:
    assert "out of memory" in hint_for_status(signal.SIGKILL)
    assert "native code crashed" in hint_for_status(signal.SIGSEGV)
    assert hint_for_status(signal.SIGTERM) == ""
    assert hint_for_status(1 << 8) == ""


def test_what_this_process_may_use() -> None:
    assert 1 <= cpu_count() <= len(os.sched_getaffinity(0))
    assert memory_bytes() > 0
