"""Ends tests that hang. Its limits are in seconds of a quiet machine: a loaded one does not stretch them.

A process of its own looks every few seconds at the processes of the test run, and counts for the phase of the test
(set-up, call, teardown) that runs:

* quiet seconds: the time that passed, less the time for which processes of the run waited for a CPU. A test that
  hangs idle, or polls, reaches its limit in as many seconds; one that other programs keep from running does not.
* CPU seconds of all processes of the run, for a test that hangs busy: CPU_SHARE times the limit.

``progress()`` begins both counts anew, for tests that consist of many steps. At a limit the main thread of the test
run gets a signal whose handler prints the stacks of all threads and raises ``waiting.Hung``. If that is swallowed,
it comes again after as long; if the handler does not even run, the whole test run is aborted, with stacks.

All processes of a run have RUN in their environment, and so do those of runs inside it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

#: The environment variable that says of which test run a process is.
RUN = "SKATE_TEST_RUN"
#: The environment variable that names the file whose time ``waiting.progress`` changes.
PROGRESS = "SKATE_TEST_PROGRESS"

#: CPU seconds that a test may use for each second of its limit.
CPU_SHARE = 4
#: Seconds between two looks, as a share of the limit, and at most: a look costs milliseconds of CPU time.
_INTERVAL_SHARE, _LONGEST_INTERVAL_S = 0.1, 2.0
#: Seconds between two looks at what the test run says.
_TICK_S = 0.2
#: A test run whose main thread does not handle the signal is aborted after so many times the limit.
_LAST_RESORT = 2
#: Signals that a test may swallow before its run is aborted.
_MOST_SIGNALS = 5
#: Nobody else uses it: not the runtime, and no test.
SIGNAL = signal.SIGRTMIN + 7

_TICKS = os.sysconf("SC_CLK_TCK")

#: A process id, and when it started.
Identity = tuple[int, int]


class Usage(NamedTuple):
    """What a process used in its life so far, with those of its children that it waited for."""

    cpu: float
    #: Seconds for which its threads were ready to run and did not.
    waited: float
    parent: int
    state: str


class Meter:
    """Adds up, from one look to the next, what the processes of a run used."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._last: dict[Identity, Usage] = {}
        self.restart()

    def restart(self) -> None:
        """Count from zero, and from the last look on."""
        self.seconds = self.quiet = self.cpu = 0.0

    def look(self, now: float, found: dict[Identity, Usage]) -> None:
        """Take in what the processes have used by now."""
        none = Usage(0.0, 0.0, 0, "")
        before = {one: self._last.get(one, none) for one in found}
        if self._at is not None:
            cpu = sum(usage.cpu - before[one].cpu for one, usage in found.items())
            pids = {pid for pid, _ in found}
            # What ended since was counted while it lived, and is now in the count of its parent.
            cpu -= sum(old.cpu for one, old in self._last.items() if one not in found and old.parent in pids)
            waited = sum(max(0.0, usage.waited - before[one].waited) for one, usage in found.items())
            self.seconds += now - self._at
            self.quiet += max(0.0, now - self._at - waited)
            self.cpu += max(0.0, cpu)
        self._at, self._last = now, found


class Processes:
    """Finds the processes of a test run, and reads what they used."""

    def __init__(self, root: int, run: str) -> None:
        self._root = root
        self._mark = f"{RUN}={run}".encode()
        #: The processes that were seen, and whether they are of the run.
        self._known: dict[Identity, bool] = {}

    def look(self) -> dict[Identity, Usage]:
        """Return the processes of the run that live, but for this one."""
        living: dict[Identity, Usage] = {}
        for name in os.listdir("/proc"):
            if name.isdecimal() and int(name) != os.getpid():
                with contextlib.suppress(OSError):
                    fields = _read(f"/proc/{name}/stat").rpartition(b") ")[2].split()
                    cpu = sum(map(int, fields[11:15])) / _TICKS
                    living[int(name), int(fields[19])] = Usage(cpu, 0.0, int(fields[1]), fields[0].decode())
        self._known = {one: known for one, known in self._known.items() if one in living}
        ours = {pid for (pid, _), known in self._known.items() if known} | {self._root}
        # Parents before their children.
        for one in sorted(living, key=lambda one: one[1]):
            if one not in self._known:
                self._known[one] = one[0] in ours or living[one].parent in ours or self._has_mark(one[0])
                if self._known[one]:
                    ours.add(one[0])
        return {
            one: usage._replace(waited=_waited(one[0])) for one, usage in living.items() if self._known[one]
        }

    def _has_mark(self, pid: int) -> bool:
        try:
            return self._mark in _read(f"/proc/{pid}/environ")
        except OSError:
            return False  # it ended, or is somebody else's


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _waited(pid: int) -> float:
    """Return the seconds for which the threads of a process waited for a CPU; 0 where the kernel does not say."""
    waited = 0
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                waited += int(_read(f"/proc/{pid}/task/{thread}/schedstat").split()[1])
    return waited / 1e9


def _command(pid: int) -> str:
    try:
        arguments = _read(f"/proc/{pid}/cmdline")
    except OSError:
        return "(ended)"
    return " ".join(arguments.decode(errors="replace").replace("\n", " ").split("\0"))[:150]


# ---------------------------------------------------------------------- in the process that watches


class _Phase:
    """The phase of a test that runs now."""

    def __init__(self, number: int, limit: float, name: str) -> None:
        self.number = number
        self.limit = limit
        self.name = name
        #: Seconds between two looks.
        self.interval = min(_LONGEST_INTERVAL_S, limit * _INTERVAL_SHARE)
        #: Signals that were sent, and that the test run's handler has confirmed.
        self.sent = self.heard = 0


class _Watcher:
    """Watches a test run, until that ends."""

    def __init__(self, parent: int, run: str, folder: str) -> None:
        self._parent = parent
        self._processes = Processes(parent, run)
        self._folder = Path(folder)
        self._meter = Meter()
        self._phase: _Phase | None = None
        self._next_look = 0.0
        self._rest = b""
        self._progress = 0

    def watch(self) -> None:
        os.set_blocking(0, False)
        while os.getppid() == self._parent:
            time.sleep(_TICK_S)
            try:
                while data := os.read(0, 65536):
                    self._rest += data
                return  # the test run has ended
            except BlockingIOError:
                pass
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                self._obey(*line.decode().split("\t"))
            if self._phase is not None and time.monotonic() >= self._next_look:
                self._check(self._phase)
                self._next_look = time.monotonic() + self._phase.interval

    def _obey(self, what: str, *rest: str) -> None:
        if what == "begin":
            number, limit, name = rest
            self._phase = _Phase(int(number), float(limit), name)
            self._meter = Meter()
            self._next_look = time.monotonic() + self._phase.interval / 2  # most phases have ended by then
        elif what == "end":
            self._phase = None
        elif self._phase is not None and int(rest[0]) == self._phase.number:
            self._phase.heard = self._phase.sent

    def _check(self, phase: _Phase) -> None:
        self._meter.look(time.monotonic(), self._processes.look())
        progress = os.stat(os.environ[PROGRESS]).st_mtime_ns
        if progress != self._progress:
            self._progress = progress
            self._meter.restart()
        deaf = phase.sent > phase.heard
        limit = phase.limit * (_LAST_RESORT if deaf else 1)
        if self._meter.quiet >= limit or self._meter.cpu >= CPU_SHARE * limit:
            if deaf or phase.sent >= _MOST_SIGNALS:
                self._abort(phase)
            else:
                self._report(phase)

    def _verdict(self) -> str:
        meter = self._meter
        return (
            f"no end after {meter.quiet:.0f} s of a quiet machine and {meter.cpu:.0f} s of CPU time "
            f"({meter.seconds:.0f} s by the clock)"
        )

    def _report(self, phase: _Phase) -> None:
        found = self._processes.look()
        lines = [f"{phase.name}: {self._verdict()}", "processes of the test run:"]
        lines += [
            f"  {pid} {usage.state} {usage.cpu:7.2f} s CPU  {_command(pid)}"
            for (pid, _), usage in found.items()
        ]
        draft = self._folder / "hung.draft"
        draft.write_text(f"{phase.number}\n" + "\n".join(lines))
        draft.replace(self._folder / "hung")
        phase.sent += 1
        self._meter.restart()
        os.kill(self._parent, SIGNAL)

    def _abort(self, phase: _Phase) -> None:
        print(
            f"\n{phase.name} hangs and ends by no exception: {self._verdict()}. The test run is aborted.",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os.kill(self._parent, signal.SIGABRT)  # pytest has faulthandler print the stacks
        for _ in range(50):
            if os.getppid() != self._parent:
                sys.exit(1)
            time.sleep(0.1)
        os.kill(self._parent, signal.SIGKILL)
        sys.exit(1)


# ---------------------------------------------------------------------- in the test run


class Watchdog:
    """The watchdog of this process, which is a test run.

    Args:
        folder: one of the run's own; its name is the run's.
    """

    def __init__(self, folder: Path) -> None:
        import pytest

        from .waiting import Hung, progress

        class HungTest(Hung, pytest.fail.Exception):  # type: ignore[misc]
            """In a teardown, pytest goes on to the next finalizer after no other kind of BaseException."""

        self._hung, self._progress = HungTest, progress
        self._folder = folder
        self._number = 0
        self._running = False
        #: Restored in the end.
        self._variables = {name: os.environ.get(name) for name in (RUN, PROGRESS)}
        run = os.environ[RUN] = os.path.join(os.environ.get(RUN, ""), folder.name)
        if PROGRESS not in os.environ:  # else the run that this one is part of shall see it too
            progress = folder / "progress"
            progress.touch()
            os.environ[PROGRESS] = str(progress)
        self._handler = signal.signal(SIGNAL, self._handle)
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(os.getpid()), run, str(folder)],
            stdin=subprocess.PIPE, bufsize=0, start_new_session=True,
        )  # fmt: skip

    @contextlib.contextmanager
    def watch(self, name: str, limit: float) -> Iterator[None]:
        """In the ``with`` block, raise ``Hung`` when it takes longer than the limit."""
        self._number += 1
        self._progress()  # for the test of another run that this one is part of
        self._tell("begin", self._number, limit, name)
        try:
            self._running = True
            yield
        finally:
            self._running = False
            self._tell("end")

    def _tell(self, *words: object) -> None:
        assert self._process.stdin is not None
        line = "\t".join(str(word).replace("\t", " ").replace("\n", " ") for word in words)
        self._process.stdin.write(line.encode(errors="replace") + b"\n")

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        number, _, report = (self._folder / "hung").read_text(errors="replace").partition("\n")
        if self._running and int(number) == self._number:
            self._tell("heard", number)
            self._raise(report)

    def _raise(self, report: str) -> NoReturn:
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        raise self._hung(report)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        signal.signal(SIGNAL, self._handler)
        for name, value in self._variables.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if __name__ == "__main__":
    _Watcher(int(sys.argv[1]), sys.argv[2], sys.argv[3]).watch()
