"""What tasks and actors print: on the driver's terminal, prefixed, and in the session's logs."""

from __future__ import annotations

import fcntl
import re
import sys
import termios
from pathlib import Path

import pytest

from . import processes
from .waiting import wait_for

PRINT = """
import os, sys, subprocess
import skate

@skate.remote
def speak(text):
    print(text)
    return os.getpid()

@skate.remote
class Speaker:
    def speak(self, text, error=False):
        print(text, file=sys.stderr if error else sys.stdout)
        return os.getpid()
"""


def run(folder: Path, body: str) -> tuple[list[str], list[str]]:
    """Run a driver; return the lines of its stdout and stderr."""
    done = processes.run_driver(folder, PRINT + body)
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_nothing_is_printed_when_all_goes_well(tmp_path: Path) -> None:
    out, err = run(
        tmp_path,
        """
import numpy as np

@skate.remote
def work(x):
    return x + 1

@skate.remote
class Actor:
    def work(self, x):
        return skate.get(work.remote(x))

skate.init(num_cpus=2)
actor = Actor.options(name="a", max_restarts=1).remote()
skate.get([work.remote(i) for i in range(100)] + [actor.work.remote(i) for i in range(100)])
skate.get(work.remote(skate.put(np.zeros(300_000))))
try:
    skate.get(work.remote("x"))
except TypeError:
    pass
skate.kill(actor)
skate.shutdown()
skate.init(num_cpus=1)
skate.get(work.remote(1))
""",
    )
    assert (out, err) == ([], [])


def test_lines_are_prefixed_with_their_origin(tmp_path: Path) -> None:
    out, err = run(
        tmp_path,
        """
skate.init(num_cpus=1)
pids = {"task": skate.get(speak.remote("hello"))}
pids["named"] = skate.get(speak.options(name="a name").remote("hello\\nagain"))
speaker = Speaker.remote()
pids["actor"] = skate.get(speaker.speak.remote("from an actor"))
skate.get(speaker.speak.remote("an error", True))
skate.shutdown()
for name, pid in pids.items():
    print(name, pid)
""",
    )
    pids = {line.split()[0]: line.split()[1] for line in out if not line.startswith("(")}
    printed = [line for line in out if line.startswith("(")]
    assert sorted(printed) == sorted(
        [
            f"(speak pid={pids['task']}) hello",
            f"(a name pid={pids['named']}) hello",
            f"(a name pid={pids['named']}) again",
            f"(Speaker pid={pids['actor']}) from an actor",
        ]
    )
    assert err == [f"(Speaker pid={pids['actor']}) an error"]


def test_the_log_files_of_the_session_have_it_too(tmp_path: Path) -> None:
    out, _ = run(
        tmp_path,
        """
context = skate.init(num_cpus=1, log_to_driver=False)
print(context["session_dir"])
print(skate.get(speak.remote("only in the log")))
skate.shutdown()
""",
    )
    assert len(out) == 2
    logs = [path.read_text() for path in (Path(out[0]) / "logs").iterdir()]
    assert sum("only in the log" in text for text in logs) == 1
    assert not any("\x1e" in text for text in logs)


def test_a_hundred_thousand_lines(tmp_path: Path) -> None:
    out, err = run(
        tmp_path,
        """
@skate.remote
def chatter(name, n):
    for i in range(n):
        print(name, i)

skate.init(num_cpus=2)
skate.get([chatter.remote("a", 50_000), chatter.remote("b", 50_000)])
skate.shutdown()
""",
    )
    assert err == []
    assert len(out) == 100_000
    found: dict[str, list[int]] = {"a": [], "b": []}
    for line in out:
        match = re.fullmatch(r"\(chatter pid=\d+\) ([ab]) (\d+)", line)
        assert match is not None, line
        found[match[1]].append(int(match[2]))
    assert found == {"a": list(range(50_000)), "b": list(range(50_000))}


def test_output_of_every_kind(tmp_path: Path) -> None:
    out, err = run(
        tmp_path,
        """
@skate.remote
def odd():
    print("no newline", end="")
    print()
    print("\\u00e4\\u00f6\\u00fc \\U0001f41f")
    sys.stdout.flush()
    os.write(1, b"raw \\xff bytes\\n")
    subprocess.run(["echo", "from a child"], check=True)
    print("x" * 1_000_000)
    sys.stderr.write("to stderr\\n")
    print("last words", end="")

skate.init(num_cpus=1)
skate.get(odd.remote())
skate.shutdown()
""",
    )
    lines = [re.sub(r"^\(odd pid=\d+\) ", "", line) for line in out]
    assert all(line.startswith("(odd pid=") for line in out)
    long = "".join(line for line in lines if line.startswith("xxx"))
    assert len(long) == 1_000_000
    rest = [line for line in lines if not line.startswith("xxx")]
    assert rest == ["no newline", "äöü \U0001f41f", "raw � bytes", "from a child", "last words"]
    assert [re.sub(r"pid=\d+", "pid=N", line) for line in err] == ["(odd pid=N) to stderr"]


def test_what_a_child_writes_does_not_go_by_the_name_of_an_earlier_task(tmp_path: Path) -> None:
    out, _ = run(
        tmp_path,
        """
@skate.remote
def child():
    subprocess.run(["echo", "from a child"], check=True)

skate.init(num_cpus=1)
skate.get(speak.remote("first"))
skate.get(child.remote())
skate.get(speak.remote("last"))
skate.shutdown()
""",
    )
    assert [re.sub(r"pid=\d+", "pid=N", line) for line in out] == [
        "(speak pid=N) first", "(pid=N) from a child", "(speak pid=N) last",
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["skate.shutdown()", ""])
def test_the_last_words_arrive(tmp_path: Path, end: str) -> None:
    out, _ = run(
        tmp_path,
        f"""
@skate.remote
def last():
    for i in range(1000):
        print("line", i)

skate.init(num_cpus=1)
skate.get(last.remote())
{end}
""",
    )
    assert [line.partition(") ")[2] for line in out] == [f"line {i}" for i in range(1000)]


def test_the_words_before_a_crash_arrive(tmp_path: Path) -> None:
    out, _ = run(
        tmp_path,
        """
@skate.remote(max_retries=0)
def crash():
    print("about to crash", flush=True)
    os.kill(os.getpid(), 9)

skate.init(num_cpus=1)
try:
    skate.get(crash.remote())
except skate.exceptions.WorkerCrashedError:
    pass
speaker = Speaker.remote()
skate.get(speaker.speak.remote("before the kill"))
skate.kill(speaker)
skate.shutdown()
""",
    )
    assert [line.partition(") ")[2] for line in out] == ["about to crash", "before the kill"]


def test_a_crash_in_native_code_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    out, _ = run(
        tmp_path,
        """
@skate.remote(max_retries=0)
def segfault():
    import ctypes
    ctypes.string_at(0)

context = skate.init(num_cpus=1)
print(context["session_dir"])
try:
    skate.get(segfault.remote())
except skate.exceptions.WorkerCrashedError as error:
    print(error)
skate.shutdown()
""",
    )
    assert "SIGSEGV" in out[1]
    log = re.search(r"(/\S+\.log)", "\n".join(out))
    assert log is not None
    text = Path(log[1]).read_text()
    assert "Segmentation fault" in text
    assert "in segfault" in text


def test_a_driver_whose_output_is_closed(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        PRINT
        + """
skate.init(num_cpus=1)
sys.stdout.close()
os.close(1)
os.open(os.devnull, os.O_WRONLY)
sys.stdout = None
for i in range(20):
    skate.get(speak.remote("to nobody"))
skate.shutdown()
""",
    )
    assert done.stderr == ""


def test_a_driver_that_is_slow_to_read(tmp_path: Path) -> None:
    """Its pipe is full for a while: workers wait with their output, and nothing is lost."""
    driver = processes.Driver(
        tmp_path,
        PRINT
        + """
@skate.remote
def chatter(n):
    for i in range(n):
        print("line", i, "." * 100)

skate.init(num_cpus=1)
skate.get(chatter.remote(30_000))
skate.shutdown()
""",
    )
    pipe = driver.process.stdout
    assert pipe is not None
    wait_for(lambda: _unread(pipe.fileno()) > 8_000, "the driver to have written")
    done = driver.finish()
    assert done.returncode == 0
    lines = [line.split()[3] for line in done.stdout.splitlines()]
    assert lines == [str(i) for i in range(30_000)]


def _unread(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
