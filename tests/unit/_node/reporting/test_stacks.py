"""Stacks that the fault handler wrote, as `skate stack` shows them; and whom nobody sends its signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from skate._base import stack_signal
from skate._node.reporting.stacks import Dump, shown

TEXT = """\
Thread 0x00007f01 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait
  File "/x/skate/_transport/reactor.py", line 300 in _lead

Current thread 0x00007f02 (most recent call first):
  File "/home/me/app.py", line 9 in inner
  File "/home/me/app.py", line 12 in outer
  File "/x/skate/_worker/execution/executor.py", line 387 in _invoke
  File "<frozen runpy>", line 88 in _run_code
"""


def test_the_innermost_frame_is_last_and_ours_are_left_out() -> None:
    first, second = shown(TEXT)
    assert first == "thread 0x00007f01:\n  (in the runtime itself: it waits, or has nothing to do)\n"
    assert second == (
        "thread 0x00007f02:\n"
        '  File "/home/me/app.py", line 12 in outer\n'
        '  File "/home/me/app.py", line 9 in inner\n'
    )


def test_what_is_cut_off_is_no_thread() -> None:
    assert shown("") == shown("Thread 0x1 (most rec") == []


def test_a_process_that_did_not_register_is_left_alone() -> None:
    assert Dump.of(os.getpid()) is None
    assert Dump.of(2**22 + 1) is None


def test_a_process_that_gave_the_signal_up_is_left_alone() -> None:
    """The file is still there; the signal would end it."""
    fd = stack_signal.register()
    try:
        assert Dump.of(os.getpid()) is not None
        assert stack_signal.SIGNAL is not None
        signal.signal(stack_signal.SIGNAL, signal.SIG_DFL)
        assert Dump.of(os.getpid()) is None
    finally:
        stack_signal.unregister(fd)


def test_a_signal_that_the_program_uses_is_left_to_it() -> None:
    assert stack_signal.SIGNAL is not None
    signal.signal(stack_signal.SIGNAL, lambda *_: None)
    try:
        assert stack_signal.register() == -1
    finally:
        signal.signal(stack_signal.SIGNAL, signal.SIG_DFL)


PROGRAM = """
import ctypes, os
from skate._base import stack_signal
stack_signal.register()
def inner():
    reading, _ = os.pipe()
    print("ready", flush=True), ctypes.PyDLL(None).read(reading, ctypes.create_string_buffer(1), 1)
inner()
"""


def test_a_process_in_native_code_that_holds_the_interpreter_is_read() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            for _ in range(2):  # the second time, only what is written then
                dump = Dump.of(process.pid)
                assert dump is not None and dump.ask()
                while not dump.complete():
                    assert process.poll() is None
                (text,) = dump.read()
                assert 'File "<string>", line 7 in inner\n' in text
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            assert Dump.of(process.pid) is None, "it would write when it goes on"
        finally:
            process.kill()
