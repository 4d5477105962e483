"""One fresh child process that measures lines of one group for one system, and the end of its tree."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.measure import Effort, Sample

ROOT = Path(__file__).resolve().parent.parent
POLL_S = 0.2
GRACE_S = 3.0
"""How long processes may outlive a session that ended well, before they are killed and counted."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONUNBUFFERED": "1",
}
FOREIGN = (
    "RAY_ADDRESS",
    "SKATE_ADDRESS",
    "PYTHONASYNCIODEBUG",
    "PYTHONDEVMODE",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPROFILEIMPORTTIME",
)
"""Not passed on: they would join a running cluster, or slow down one system more than another."""


@dataclass
class Outcome:
    """What a session brought. `broken` is a step at which it stopped for good, with the reason."""

    samples: dict[str, Sample] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    broken: tuple[str, str] | None = None
    hung: bool = False
    left_behind: int = 0
    """Processes that outlived their driver by `GRACE_S` and had to be killed."""


def plain_environment() -> dict[str, str]:
    """That of the user, less what disturbs."""
    return {**{name: value for name, value in os.environ.items() if name not in FOREIGN}, **QUIET}


def _environment(scratch: str) -> dict[str, str]:
    """With the mark of the run. Temporary files go to `scratch`, which is removed afterwards."""
    return {**plain_environment(), "TMPDIR": scratch, "RAY_TMPDIR": scratch, processes.MARK_VARIABLE: scratch}


class _SilenceError(Exception):
    """Nothing was reported for too long."""


def _events(child: subprocess.Popen[bytes], report: int, timeout_s: float) -> Iterator[dict[str, Any]]:
    """What the child reports, until it exits; `_SilenceError` if `timeout_s` pass without a word."""
    buffer, heard = b"", time.monotonic()
    while True:
        exited = child.poll() is not None
        readable, _, _ = select.select([report], [], [], 0 if exited else POLL_S)
        chunk = os.read(report, 1 << 16) if readable else b""
        *complete, buffer = (buffer + chunk).split(b"\n")
        for text in complete:
            heard = time.monotonic()
            yield json.loads(text)
        if not chunk:
            if exited:
                return
            if time.monotonic() - heard > timeout_s:
                raise _SilenceError
            if readable:
                time.sleep(POLL_S)


def _obituary(returncode: int, log: Path) -> str:
    """How a child ended that did not get to say it, with the last it wrote."""
    how = f"exit code {returncode}" if returncode > 0 else f"killed by signal {-returncode}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{how}; last output: {lines[-1][:200]}" if lines else how


def run(python: str, system: str, group: str, lines: list[str], effort: Effort, timeout_s: float) -> Outcome:
    """Measure `lines` in one child. Returns in bounded time whatever happens, and leaves nothing running."""
    arguments = ["--system", system, "--group", group, "--lines", ",".join(lines)]
    arguments += ["--seconds", str(effort.seconds), "--scale", str(effort.scale)]
    return run_module(python, "benchmarks.child", arguments, timeout_s)


def run_module(
    python: str,
    module: str,
    arguments: Sequence[str],
    timeout_s: float,
    variables: Mapping[str, str] | None = None,
    watch: Callable[[str, int], Any] | None = None,
) -> Outcome:
    """Run a module that reports as `child` does: it also gets the options `--mark` and `--report`.

    `variables` are set in its environment. `watch` is called with the mark and the process id of the child.
    """
    scratch = tempfile.mkdtemp(prefix="bm")
    log = Path(scratch, "output.log")
    listen, report = os.pipe()
    command = [python, "-m", module, *arguments, "--mark", scratch, "--report", str(report)]
    outcome, step = Outcome(), "start"
    try:
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**_environment(scratch), **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[report],
                start_new_session=True,
            )
        os.close(report)
        if watch is not None:
            watch(scratch, child.pid)
        try:
            for event in _events(child, listen, timeout_s):
                if "line" in event:
                    outcome.samples[event["line"]] = Sample(event["value"], event["info"])
                elif "error" in event:
                    outcome.failed[event["step"]] = event["error"]
                else:
                    step = event["step"]
            if child.returncode:
                outcome.broken = step, outcome.failed.get(step) or _obituary(child.returncode, log)
        except _SilenceError:
            outcome.hung = True
            outcome.broken = step, f"no answer in {timeout_s:.0f} s"
        finally:
            grace_s = 0.0 if outcome.broken else GRACE_S
            driver = child.pid if child.poll() is None else None
            outcome.left_behind = processes.end(scratch, driver, grace_s)
            child.kill()
            child.wait()
            processes.reap()
    finally:
        os.close(listen)
        shutil.rmtree(scratch, ignore_errors=True)
    return outcome
