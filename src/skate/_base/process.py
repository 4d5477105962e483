"""Reads facts about processes and the machine, and describes in words how a process ended."""

from __future__ import annotations

import os
import signal
import sys

#: A process that ends itself writes this to its log, followed by the reason.
LAST_WORDS = "skate: fatal: "
#: Kinds of processes, by the numbers that Ray gives them.
SCRIPT_MODE, WORKER_MODE = 0, 1
#: The folder of this package; the files of the runtime's own code lie in it.
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def describe_status(status: int) -> str:
    """Return a wait status in words: ``was killed by signal 9 (SIGKILL)``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unknown"
        return f"was killed by signal {number} ({name})"
    return f"exited with code {os.WEXITSTATUS(status)}"


def hint_for_status(status: int) -> str:
    """Return the usual cause of such an end, or an empty string."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            return "a process sent SIGKILL, or the kernel ran out of memory (see dmesg)"
        if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
            return "native code crashed; its traceback is in the worker's log"
    return ""


def cpu_count() -> int:
    """Return how many CPUs this process may use: affinity and cgroup limits respected."""
    count = float(len(os.sched_getaffinity(0)))
    quota = _cgroup_cpus()
    if quota is not None:
        count = min(count, quota)
    return max(1, int(count))


def memory_bytes() -> int:
    """Return how much memory this machine or container has, in bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(path)
        if text is not None and text.isdigit():
            total = min(total, int(text))
    return total


def working_folder() -> str:
    """Return the working folder of this process; "" if it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def absolute(path: str) -> str:
    """Return the absolute form of a path.

    Raises:
        FileNotFoundError: the path is relative, and the working folder was deleted.
    """
    try:
        return os.path.abspath(path)
    except OSError:
        raise FileNotFoundError(
            f"{path!r} is relative to the working folder of this process, which was deleted: give an "
            "absolute path, or os.chdir() to a folder that exists"
        ) from None


def import_paths() -> list[str]:
    """Return ``sys.path`` as other processes can use it, without paths relative to a deleted folder."""
    folder = working_folder()
    return [os.path.abspath(path) for path in sys.path if folder or os.path.isabs(path)]


def portable(text: str) -> str:
    """Return a variable or a path of the system, which need not be UTF-8, in a form that messages can
    carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "\0" + os.fsencode(text).hex()
    return text


def native(text: str) -> str:
    """Return the text that ``portable`` was given."""
    return os.fsdecode(bytes.fromhex(text[1:])) if text.startswith("\0") else text


def printable(text: str) -> str:
    """Return a text of the system in a form that people can read."""
    return text.encode(errors="backslashreplace").decode()


def _cgroup_cpus() -> float | None:
    text = _read("/sys/fs/cgroup/cpu.max")
    if text is not None:
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            return int(quota) / int(period)
        return None
    quota_text = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    period_text = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if quota_text is not None and period_text is not None and int(quota_text) > 0:
        return int(quota_text) / int(period_text)
    return None


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


def end_process_group() -> None:
    """End this process and every process that it started, at once."""
    os.killpg(os.getpgrp(), signal.SIGKILL)
