"""SIGKILL at named points, Ctrl-C, forks: a right answer or a clear error, never a hang, nothing left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import skate
from skate import ObjectRef
from skate.api import RayContext as Session
from skate.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    LocalRayletDiedError,
    RayActorError,
    RayError,
    RaySystemError,
    WorkerCrashedError,
)

from . import processes
from .processes import Driver, alive, roles
from .stored import stored, worker_pids
from .waiting import attempt, end_process, meet, wait_for, wait_for_file, wait_until_none, within
from .work import Counter, square, wait_and_return

#: "A driver killed with SIGKILL leaves no process and no shared memory within two seconds."
PROMISED_S = 2.0


@skate.remote
def tell_and_wait(told: Path, path: Path, value: Any) -> Any:
    """Write down the process, then wait."""
    told.with_suffix(".part").write_text(str(os.getpid()))
    told.with_suffix(".part").rename(told)
    wait_for_file(path)
    return value


def read_pid(path: Path) -> int:
    return int(wait_for(lambda: path.exists() and path.read_text(), f"a number in {path.name}"))


# ---------------------------------------------------------------------- the driver

DRIVER = """
import os, subprocess, sys, time
import numpy as np
import skate

@skate.remote
def sleep():
    child = subprocess.Popen(["sleep", "1000"])
    mark(child.pid)
    time.sleep(1000)

@skate.remote
def work(x):
    return x

@skate.remote
class Actor:
    def __init__(self):
        self.held = np.ones(500_000)
    def work(self, x):
        return x

@skate.remote
def deeper(n):
    if n < 40:
        return skate.get(deeper.remote(n + 1))
    mark(n)
    time.sleep(1000)

MARKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "marks")
os.mkdir(MARKS)

def mark(name):
    open(os.path.join(MARKS, str(name)), "w").close()

def wait_for_marks(count):
    while len(os.listdir(MARKS)) < count:
        time.sleep(0.01)

def ready():
    print("ready", skate.init(ignore_reinit_error=True)["session_dir"], flush=True)

skate.init(num_cpus=2)
held = [skate.put(np.ones(500_000)) for _ in range(10)]
view = skate.get(held[0])[10:]
"""

POINTS = {
    "idle": "skate.get(work.remote(1)); ready(); time.sleep(1000)",
    "in get, tasks and actors at work": """
actors = [Actor.remote() for _ in range(3)]
skate.get([actor.work.remote(1) for actor in actors])
tasks = [sleep.remote() for _ in range(2)]
wait_for_marks(2)
ready()
skate.get(tasks)
""",
    "submitting": """
ready()
while True:
    refs = [work.remote(i) for i in range(1000)]
    skate.wait(refs)
""",
    "putting": """
ready()
while True:
    refs = [skate.put(np.ones(300_000)) for _ in range(5)]
""",
    "in a recursion": "ref = deeper.remote(0); wait_for_marks(1); ready(); skate.get(ref)",
    "creating actors": """
ready()
while True:
    actors = [Actor.remote() for _ in range(4)]
    skate.get(actors[0].work.remote(1))
""",
    "shutting down": "skate.get([Actor.remote().work.remote(1) for _ in range(4)]); ready(); skate.shutdown()",
}


@pytest.mark.parametrize("point", POINTS)
def test_a_driver_killed_leaves_nothing(tmp_path: Path, point: str) -> None:
    driver = Driver(tmp_path, DRIVER + POINTS[point])
    out = driver.process.stdout
    assert out is not None
    line = out.readline()
    assert line.startswith("ready"), driver.finish()
    children = [int(name) for name in os.listdir(tmp_path / "marks")] if "tasks" in point else []
    session_dir = line.split()[1]
    pids = [driver.pid, *processes.of_session(session_dir)]
    memory = processes.shared_memory(pids)
    with within(PROMISED_S, "everything to be gone"):
        driver.process.kill()
        wait_until_none(lambda: processes.of_session(session_dir), "a process of the session")
        wait_until_none(lambda: [pid for pid in children if alive(pid)], "a process that a task had started")
        wait_until_none(lambda: processes.shared_memory(psutil.pids()) & memory, "shared memory")
    assert len(children) == (2 if "tasks" in point else 0)
    assert memory or "shutting" in point
    driver.finish()


def test_a_driver_killed_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    for processes_first in (1, 2, 3, 4):
        driver = Driver(tmp_path, DRIVER)
        wait_for(
            lambda n=processes_first, d=driver: (
                len(processes.of_driver(d.pid)) >= n or d.process.poll() is not None
            ),  # type: ignore[misc]
            "the first processes of the session",
        )
        with within(PROMISED_S, "everything to be gone"):
            driver.process.kill()
            wait_until_none(lambda d=driver: processes.of_driver(d.pid), "a process of the session")  # type: ignore[misc]
        driver.finish()


# ---------------------------------------------------------------------- workers


@pytest.mark.parametrize(
    ("how", "says"),
    [("SIGKILL", "SIGKILL"), ("SIGSEGV", "SIGSEGV"), ("SIGTERM", "SIGTERM"), ("exit", "exited with code 7")],
)
def test_a_worker_that_dies_in_a_task(session: Session, tmp_path: Path, how: str, says: str) -> None:
    @skate.remote
    def die(path: Path, times: int) -> int:
        made = attempt(path)
        if made <= times:
            end_process(how)
        return made

    assert skate.get(die.remote(tmp_path / "twice", 2)) == 3
    with pytest.raises(WorkerCrashedError, match=says) as caught:
        skate.get(die.options(max_retries=1, name="a fragile task").remote(tmp_path / "always", 10))
    assert "a fragile task" in str(caught.value)
    assert "max_retries" in str(caught.value)
    assert attempt(tmp_path / "always") == 3
    with pytest.raises(WorkerCrashedError, match=says):
        skate.get(die.options(max_retries=0).remote(tmp_path / "never again", 10))
    assert skate.get(die.options(max_retries=-1).remote(tmp_path / "stubborn", 5)) == 6
    assert skate.get(square.remote(3)) == 9


def test_a_worker_killed_from_outside(session: Session, tmp_path: Path) -> None:
    ref = tell_and_wait.remote(tmp_path / "pid", tmp_path / "go", "done")
    first = read_pid(tmp_path / "pid")
    (tmp_path / "pid").unlink()
    os.kill(first, signal.SIGKILL)
    assert read_pid(tmp_path / "pid") != first
    (tmp_path / "go").touch()
    assert skate.get(ref) == "done"


def test_idle_workers_killed(session: Session) -> None:
    for _ in range(3):
        assert skate.get([square.remote(i) for i in range(50)]) == [i * i for i in range(50)]
        for pid in worker_pids():
            os.kill(pid, signal.SIGKILL)
    assert skate.get([square.remote(i) for i in range(50)]) == [i * i for i in range(50)]


def test_workers_killed_while_they_start(session: Session, tmp_path: Path) -> None:
    seen: set[int] = set()
    for _ in range(5):
        refs = [square.remote(i) for i in range(10)]
        for pid in set(roles(session["session_dir"]).workers) - seen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            seen.add(pid)
        assert skate.get(refs) == [i * i for i in range(10)]


def test_tasks_not_begun_cost_no_retry(session: Session, tmp_path: Path) -> None:
    @skate.remote(max_retries=0)
    def step(crash: bool) -> int:
        if crash:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1

    skate.get([step.remote(False) for _ in range(300)])  # short: many are sent ahead to a worker
    refs = [step.remote(i == 50) for i in range(200)]
    with pytest.raises(WorkerCrashedError, match="step.*SIGKILL"):
        skate.get(refs[50])
    assert skate.get(refs[51:]) == [1] * 149


def test_a_worker_that_dies_in_get_is_retried_with_its_children(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def parent(folder: Path) -> int:
        number = attempt(folder / "attempts")
        refs = [tell_and_wait.remote(folder / f"child-{number}", folder / "go", 5), square.remote(3)]
        (folder / f"parent-{number}").write_text(str(os.getpid()))
        return sum(skate.get(refs))

    ref = parent.remote(tmp_path)
    child = read_pid(tmp_path / "child-1")
    os.kill(read_pid(tmp_path / "parent-1"), signal.SIGKILL)
    wait_until_none(lambda: alive(child), "the child of the dead worker")
    read_pid(tmp_path / "child-2")
    (tmp_path / "go").touch()
    assert skate.get(ref) == 14


def test_the_children_of_a_worker_end_with_it(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def start(folder: Path) -> None:
        for i in range(2):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            (folder / str(i)).write_text(str(child.pid))
        end_process("SIGKILL")

    with pytest.raises(WorkerCrashedError):
        skate.get(start.options(max_retries=0).remote(tmp_path))
    wait_until_none(
        lambda: [i for i in "01" if alive(int((tmp_path / i).read_text()))], "a child of the worker"
    )


def test_results_arrive_before_a_call_that_may_take_long_begins(session: Session) -> None:
    @skate.remote(max_retries=0)
    def answer(i: int) -> int:
        return i

    @skate.remote(max_retries=0)
    def die() -> None:
        end_process("SIGKILL")

    for _ in range(3):
        refs = [answer.remote(i) for i in range(200)]
        crash = die.remote()
        assert skate.get(refs) == list(range(200))
        with pytest.raises(WorkerCrashedError):
            skate.get(crash)


def test_no_task_begins_twice_that_may_not(session: Session, tmp_path: Path) -> None:
    """At most once: what has no retries is not run again, whatever dies around it."""

    @skate.remote(max_retries=0)
    def count(path: Path, crash: bool) -> int:
        made = attempt(path)
        if crash:
            end_process("SIGKILL")
        return made

    crashes = {30, 31, 90, 150}
    refs = [count.remote(tmp_path / str(i), i in crashes) for i in range(200)]
    outcomes = []
    for ref in refs:
        try:
            outcomes.append(skate.get(ref))
        except WorkerCrashedError:
            outcomes.append(0)
    assert all(outcomes[i] == 0 for i in crashes)
    assert set(outcomes) == {0, 1}
    for i, outcome in enumerate(outcomes):
        times = os.path.getsize(tmp_path / str(i)) if (tmp_path / str(i)).exists() else 0
        assert times == 1 if outcome else times <= 1


def test_a_process_killed_while_it_writes_objects() -> None:
    skate.init(num_cpus=1, object_store_memory=32 << 20)

    @skate.remote
    class Writer:
        def write(self) -> None:
            held: list[ObjectRef[bytes]] = []
            while True:
                held = [*held, skate.put(bytes(1 << 20))][-5:]

        def pid(self) -> int:
            return os.getpid()

    for _ in range(3):
        writer = Writer.remote()
        pid = skate.get(writer.pid.remote())
        writing = writer.write.remote()
        wait_for(lambda: stored().objects >= 3, "objects of the writer")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ActorDiedError):
            skate.get(writing)
        wait_for(lambda: stored().used == 0, "the writer's memory to be free")
        # All of it, also what the writer held for its next objects.
        assert len(skate.get(skate.put(bytes(28 << 20)))) == 28 << 20


def test_a_worker_stopped_and_continued(session: Session, tmp_path: Path) -> None:
    """Liveness never comes from the time that a reply takes."""
    counter = Counter.remote()
    pid = skate.get(counter.pid.remote())
    os.kill(pid, signal.SIGSTOP)
    ref = counter.add.remote()
    assert skate.wait([ref], timeout=0.3)[0] == []
    os.kill(pid, signal.SIGCONT)
    assert skate.get(ref) == 1


# ---------------------------------------------------------------------- actors


@pytest.mark.parametrize(
    ("how", "says"), [("SIGKILL", "SIGKILL"), ("SIGABRT", "SIGABRT"), ("exit", "exited with code 7")]
)
def test_an_actor_that_dies_tells_why(session: Session, how: str, says: str) -> None:
    counter = Counter.remote()
    with pytest.raises(ActorDiedError, match=says):
        skate.get(counter.end.remote(how))
    with pytest.raises(ActorDiedError, match=says):
        skate.get(counter.add.remote())

    @skate.remote
    def call(counter: Any) -> int:
        return skate.get(counter.add.remote())

    with pytest.raises(ActorDiedError, match=says):
        skate.get(call.remote(counter))


def test_an_idle_actor_killed_from_outside(session: Session) -> None:
    mortal, restarted = Counter.remote(), Counter.options(max_restarts=1).remote()
    pids = skate.get([mortal.pid.remote(), restarted.pid.remote()])
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until_none(lambda: [pid for pid in pids if alive(pid)], "the processes")
    with pytest.raises(ActorDiedError, match="SIGKILL"):
        skate.get(mortal.add.remote())
    # Sent before the news came, a call may be lost; then it says so.
    try:
        assert skate.get(restarted.add.remote()) == 1
    except ActorUnavailableError as error:
        assert "SIGKILL" in str(error)
    assert skate.get(restarted.pid.remote()) not in pids


def test_an_actor_killed_again_and_again(session: Session) -> None:
    counter = Counter.options(max_restarts=-1, max_task_retries=-1).remote()
    for _ in range(10):
        refs = [counter.add.remote() for _ in range(20)]
        os.kill(skate.get(counter.pid.remote()), signal.SIGKILL)
        refs += [counter.add.remote() for _ in range(20)]
        found = skate.get(refs)
        # Counts up, but for one step back to the start.
        assert sum(b != a + 1 for a, b in zip(found, found[1:], strict=False)) <= 1


def test_no_call_begins_twice_that_may_not(session: Session, tmp_path: Path) -> None:
    @skate.remote(max_restarts=-1)
    class Counting:
        def count(self, path: Path, crash: bool) -> int:
            made = attempt(path)
            if crash:
                end_process("SIGKILL")
            return made

    counting = Counting.remote()
    crashes = {20, 21, 60, 130}
    refs = [counting.count.remote(tmp_path / str(i), i in crashes) for i in range(200)]
    outcomes = []
    for ref in refs:
        try:
            outcomes.append(skate.get(ref))
        except ActorUnavailableError:
            outcomes.append(0)
    assert all(outcomes[i] == 0 for i in crashes)
    assert set(outcomes) == {0, 1}
    for i, outcome in enumerate(outcomes):
        times = os.path.getsize(tmp_path / str(i)) if (tmp_path / str(i)).exists() else 0
        assert times == 1 if outcome else times <= 1
    assert sum(outcomes) > 100


def test_a_name_survives_restarts(session: Session) -> None:
    counter = Counter.options(name="phoenix", max_restarts=1).remote()
    skate.get(counter.add.remote())
    with pytest.raises(ActorUnavailableError):
        skate.get(counter.end.remote("SIGKILL"))
    assert skate.get(skate.get_actor("phoenix").add.remote()) == 1
    with pytest.raises(ActorDiedError):
        skate.get(counter.end.remote("SIGKILL"))
    with pytest.raises(ValueError, match="phoenix"):
        skate.get_actor("phoenix")


# ---------------------------------------------------------------------- the node daemon


def expect_lost(call: Callable[[], Any]) -> None:
    with pytest.raises((LocalRayletDiedError, RaySystemError, RayActorError)) as caught:
        call()
    assert "node daemon" in str(caught.value)


def test_the_daemon_killed_while_everything_waits(session: Session, tmp_path: Path) -> None:
    counter = Counter.remote()
    skate.get(counter.add.remote())
    small, large = skate.put(1), skate.put(bytes(500_000))
    waiting = [wait_and_return.remote(tmp_path / "never", 1) for _ in range(2)]
    call = counter.wait_for.remote(tmp_path / "never")
    behind, dependent = counter.add.remote(), square.remote(waiting[0])
    future = waiting[1].future()
    errors: list[Exception] = []

    def wait_in_a_thread() -> None:
        try:
            skate.get(waiting[1])
        except RayError as error:
            errors.append(error)

    thread = threading.Thread(target=wait_in_a_thread)
    thread.start()
    found = roles(session["session_dir"])
    os.kill(found.daemon, signal.SIGKILL)
    with pytest.raises(LocalRayletDiedError, match="node daemon.*SIGKILL") as caught:
        skate.get(waiting[0])
    assert "node.log" in str(caught.value)
    assert "init()" in str(caught.value)
    thread.join()
    assert not thread.is_alive()
    assert isinstance(errors[0], LocalRayletDiedError)
    assert isinstance(future.exception(), LocalRayletDiedError)
    for ref in (call, behind, dependent):
        expect_lost(lambda ref=ref: skate.get(ref))  # type: ignore[misc]
    # Nothing new can begin, and says so at once.
    expect_lost(lambda: skate.get(square.remote(1)))
    expect_lost(lambda: skate.put(bytes(500_000)))
    expect_lost(lambda: skate.get(counter.add.remote()))
    expect_lost(lambda: skate.get(Counter.remote().add.remote()))
    for call_ in (
        lambda: Counter.options(name="x").remote(),
        lambda: skate.get_actor("x"),
        lambda: skate.get(small),
        lambda: skate.get(large),
        lambda: skate.wait([small]),
        lambda: skate.kill(counter),
        skate.nodes,
    ):
        with contextlib.suppress(RayError, ValueError):
            call_()
    skate.shutdown()
    processes.wait_until_gone(session["session_dir"])
    skate.init(num_cpus=1)
    assert skate.get(square.remote(3)) == 9


def test_the_daemon_killed_in_a_submit_loop(session: Session) -> None:
    daemon = roles(session["session_dir"]).daemon
    threading.Timer(0.2, os.kill, (daemon, signal.SIGKILL)).start()
    with pytest.raises(LocalRayletDiedError, match="node daemon"):
        while True:
            skate.get([square.remote(i) for i in range(100)])
    skate.shutdown()
    processes.wait_until_gone(session["session_dir"])


def test_the_daemon_killed_ends_the_workers(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def spin(path: Path) -> None:
        path.write_text(str(os.getpid()))
        while True:
            pass

    spin.remote(tmp_path / "pid")
    pid = read_pid(tmp_path / "pid")
    found = roles(session["session_dir"])
    os.kill(found.daemon, signal.SIGKILL)
    wait_until_none(
        lambda: [one for one in (pid, found.zygote, *found.workers) if alive(one)],
        "a worker of the dead daemon",
    )
    skate.shutdown()


def test_a_daemon_that_is_stopped_is_only_slow(session: Session, tmp_path: Path) -> None:
    found = roles(session["session_dir"])
    skate.get(square.remote(1))
    os.kill(found.daemon, signal.SIGSTOP)
    counter = Counter.remote()
    refs = [counter.add.remote(), square.options(num_cpus=0.5).remote(3)]
    assert skate.wait(refs, timeout=0.2)[0] == []
    os.kill(found.daemon, signal.SIGCONT)
    assert skate.get(refs) == [1, 9]


# ---------------------------------------------------------------------- the zygote


def test_the_zygote_killed(session: Session, tmp_path: Path) -> None:
    counter = Counter.remote()
    skate.get(counter.add.remote())
    running = tell_and_wait.remote(tmp_path / "pid", tmp_path / "go", "went on")
    read_pid(tmp_path / "pid")
    first = roles(session["session_dir"]).zygote
    os.kill(first, signal.SIGKILL)
    second = wait_for(
        lambda: (now := roles(session["session_dir"]).zygote) not in (0, first) and now, "another zygote"
    )
    assert second != first
    # What ran goes on, in the same processes.
    (tmp_path / "go").touch()
    assert skate.get([running, counter.add.remote()]) == ["went on", 2]
    # And there are new workers.
    together = skate.remote(num_cpus=0)(meet)
    assert skate.get([together.remote(tmp_path / "meeting", i, 5) for i in range(5)]) == [5] * 5
    assert skate.get([Counter.remote().add.remote() for _ in range(3)]) == [1] * 3
    # The death of a process that nobody can reap is noticed as well.
    with pytest.raises(ActorDiedError, match="process"):
        skate.get(counter.end.remote("SIGKILL"))
    assert skate.get([square.remote(i) for i in range(10)]) == [i * i for i in range(10)]


def test_the_zygote_killed_while_it_forks(session: Session) -> None:
    for _ in range(3):
        counters = [Counter.remote() for _ in range(10)]
        refs = [counter.add.remote() for counter in counters]
        os.kill(roles(session["session_dir"]).zygote, signal.SIGKILL)
        assert skate.get(refs) == [1] * 10
        del counters, refs
    assert skate.get(square.remote(3)) == 9


def test_the_zygote_killed_before_the_end(session: Session, tmp_path: Path) -> None:
    counters = [Counter.remote() for _ in range(3)]
    skate.get([counter.add.remote() for counter in counters])
    wait_and_return.remote(tmp_path / "never", 1)
    os.kill(roles(session["session_dir"]).zygote, signal.SIGKILL)
    skate.shutdown()
    assert processes.of_session(session["session_dir"]) == {}


# ---------------------------------------------------------------------- Ctrl-C

CTRL_C = """
import os, sys, time
import skate

@skate.remote
def sleep():
    time.sleep(1000)

@skate.remote
def work(x):
    return x

@skate.remote
class Actor:
    def sleep(self):
        time.sleep(1000)
    def work(self, x):
        return x

def ready():
    print("ready", skate.init(ignore_reinit_error=True)["session_dir"], flush=True)

skate.init(num_cpus=2)
skate.get(work.remote(1))
"""

INTERRUPTED = {
    "in get": "refs = [sleep.remote() for _ in range(4)]; ready(); skate.get(refs)",
    "in get of an actor's": "actor = Actor.remote(); ref = actor.sleep.remote(); ready(); skate.get(ref)",
    "in wait": "refs = [sleep.remote() for _ in range(4)]; ready(); skate.wait(refs)",
    "in get with a timeout": "ref = sleep.remote(); ready(); skate.get(ref, timeout=1000)",
    "in its own code": "ref = sleep.remote(); ready(); time.sleep(1000)",
    "in a submit loop": "ready()\nwhile True: work.remote(1)",
    "in a submit and get loop": "ready()\nwhile True: skate.get([work.remote(i) for i in range(50)])",
    "in an actor loop": "actor = Actor.remote(); ready()\nwhile True: skate.get(actor.work.remote(1))",
    "in a put loop": "ready()\nwhile True: skate.put(bytes(200_000))",
}


@pytest.mark.parametrize("point", INTERRUPTED)
def test_ctrl_c_ends_the_driver_cleanly(tmp_path: Path, point: str) -> None:
    driver = Driver(tmp_path, CTRL_C + INTERRUPTED[point])
    out = driver.process.stdout
    assert out is not None
    line = out.readline()
    assert line.startswith("ready"), driver.finish()
    session_dir = line.split()[1]
    assert processes.of_session(session_dir)
    time.sleep(0.1)  # not needed to pass; it makes it likely that the loop has begun
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to the whole group
    done = driver.finish()
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt", done.stderr
    assert done.stderr.count("Traceback") == 1, done.stderr
    assert "internal error" not in done.stderr
    assert processes.of_session(session_dir) == {}


def test_a_program_that_catches_ctrl_c_goes_on(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        CTRL_C
        + """
import signal, threading

skate.shutdown()
skate.init(num_cpus=3)
slow = sleep.remote()
for wait in (lambda: skate.get(slow), lambda: skate.wait([slow]), lambda: skate.get([slow], timeout=3600)):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        wait()
    except KeyboardInterrupt:
        print("caught")
    assert skate.get([work.remote(i) for i in range(100)]) == list(range(100))
assert skate.get(Actor.remote().work.remote(2)) == 2
assert skate.wait([slow], timeout=0)[0] == []  # the task was not touched
print("fine")
""",
    )
    assert done.stdout.split() == ["caught"] * 3 + ["fine"]
    assert done.stderr == ""


def test_a_hundred_interrupts_break_nothing(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        CTRL_C
        + """
import gc, random, signal, threading
from skate.engine import engine

main, caught, stop, begin = threading.main_thread(), 0, False, threading.Event()

def interrupt():
    chance = random.Random(7)
    begin.wait()  # until the thread's own start is over
    while not stop:
        time.sleep(chance.random() * 0.02)
        if not stop:
            os.kill(os.getpid(), signal.SIGINT)

actor = Actor.remote()
thread = threading.Thread(target=interrupt)
thread.start()
while caught < 100:
    try:
        begin.set()
        while True:
            refs = [work.remote(i) for i in range(20)] + [actor.work.remote(i) for i in range(20)]
            refs += [skate.put(bytes(150_000)), work.remote(bytes(150_000))]
            found = skate.get(refs)
            assert found[:40] == [*range(20), *range(20)] and len(found[40]) == len(found[41]) == 150_000
            skate.wait(refs, num_returns=len(refs))
    except KeyboardInterrupt:
        caught += 1
while thread.is_alive():
    try:
        stop = True
        thread.join()
        time.sleep(0.1)  # the last one may be on its way
    except KeyboardInterrupt:
        pass
found = refs = None
assert skate.get([work.remote(i) for i in range(100)]) == list(range(100))
assert skate.get([actor.work.remote(i) for i in range(100)]) == list(range(100))
actor = None
while True:
    gc.collect()
    [(_, _, [report])] = engine().state("store")[0]
    if not report["objects"] and not engine().core.refs.entries:
        break
    time.sleep(0.01)
print("fine")
""",
    )
    assert done.stdout == "fine\n"
    assert done.stderr == ""


def test_ctrl_c_beside_a_handler_of_the_programs_own(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        """
        import os, signal, time
        called = []
        signal.signal(signal.SIGINT, lambda *_: called.append(1))
        import skate
        skate.init(num_cpus=1)
        os.kill(os.getpid(), signal.SIGINT)
        assert skate.get(skate.remote(lambda: 5).remote()) == 5
        os.kill(os.getpid(), signal.SIGINT)
        skate.shutdown()
        assert len(called) == 2
        print("fine")
        """,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_the_handler_is_gone_with_the_session() -> None:
    before = signal.getsignal(signal.SIGINT)
    skate.init(num_cpus=1)
    skate.shutdown()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


# ---------------------------------------------------------------------- forks of user code


def test_multiprocessing_in_a_task(session: Session) -> None:
    @skate.remote
    def pool(n: int) -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, range(-n, 0))

    assert skate.get([pool.remote(10) for _ in range(3)]) == [list(range(10, 0, -1))] * 3
    assert skate.get(square.remote(3)) == 9


def test_the_api_in_a_forked_child_says_what_is_wrong(session: Session) -> None:
    @skate.remote
    def fork_and_call() -> list[str]:
        import multiprocessing

        context = multiprocessing.get_context("fork")
        said = context.SimpleQueue()
        ref = skate.put(1)

        def child() -> None:
            for call in (
                lambda: square.remote(1),
                lambda: skate.get(ref),
                lambda: skate.put(1),
                lambda: skate.wait([ref]),
                lambda: Counter.remote(),
                lambda: skate.get_actor("x"),
                lambda: skate.nodes(),
            ):
                try:
                    call()
                    said.put("no error")
                except RuntimeError as error:
                    said.put(str(error))
            said.put("done")

        process = context.Process(target=child)
        process.start()
        found = list(iter(said.get, "done"))
        process.join()
        assert skate.get(square.remote(2)) == 4
        return [*found, str(process.exitcode)]

    *found, code = skate.get(fork_and_call.remote())
    assert code == "0"
    assert len(found) == 7
    for text in found:
        assert "forked" in text
        assert "spawn" in text


def test_forks_of_the_driver(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        """
        import multiprocessing, os, subprocess, sys, warnings
        from concurrent.futures import ProcessPoolExecutor
        import numpy as np
        import skate

        # Python 3.12 and later say this of every fork of a process that has threads, as each driver has.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        skate.init(num_cpus=2)
        square = skate.remote(lambda x: x * x)
        actor = skate.remote(type("Actor", (), {"work": lambda self, x: x})).remote()
        array = skate.get(skate.put(np.ones(300_000)))

        def check():
            assert skate.get([square.remote(3), actor.work.remote(4)]) == [9, 4]

        def call(_):
            try:
                skate.get(square.remote(1))
            except RuntimeError as error:
                return "forked" in str(error)

        check()
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            assert list(pool.map(call, range(4))) == [True] * 4
        check()
        for end in ("exit", "_exit", "exception"):
            pid = os.fork()
            if not pid:
                assert int(array.sum()) == 300_000
                del array
                if end == "exit":
                    sys.exit(5)
                if end == "_exit":
                    os._exit(5)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                raise ValueError("ends the child")
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (1 if end == "exception" else 5), end
            check()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        check()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
        check()
        skate.shutdown()
        print("fine")
        """,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_a_spawned_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        """
        import multiprocessing
        import skate

        def child(x):
            with skate.init(num_cpus=1):
                return skate.get(skate.remote(lambda: x * x).remote())

        if __name__ == "__main__":
            skate.init(num_cpus=1)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(child, [3]))
            print(skate.get(skate.remote(lambda: 5).remote()))
        """,
    )
    assert (done.stdout, done.stderr) == ("[9]\n5\n", "")


def test_a_forked_child_that_outlives_its_task(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def fork(folder: Path) -> int:
        pid = os.fork()
        if not pid:
            wait_for_file(folder / "go")
            os._exit(0)
        return pid

    child = skate.get(fork.remote(tmp_path))
    refs: list[ObjectRef[int]] = [square.remote(i) for i in range(50)]
    assert skate.get(refs) == [i * i for i in range(50)]
    (tmp_path / "go").touch()
    wait_until_none(lambda: alive(child), "the child")
    assert skate.get(square.remote(3)) == 9


def test_a_crash_in_native_code_shows_where(session: Session) -> None:
    @skate.remote(max_retries=0)
    def crash() -> None:
        import ctypes

        ctypes.string_at(0)

    with pytest.raises(WorkerCrashedError, match=r"SIGSEGV.*Segmentation fault") as info:
        skate.get(crash.remote())
    text = str(info.value)
    assert re.search(r"test_life_and_death\.py\", line \d+ in crash", text)
    assert "executor.py" not in text


def test_a_kill_says_where_it_was_asked_for(session: Session) -> None:
    @skate.remote
    class Victim:
        def pid(self) -> int:
            return os.getpid()

    victim = Victim.remote()
    skate.get(victim.pid.remote())
    skate.kill(victim)
    with pytest.raises(
        ActorDiedError,
        match=r"kill\(\) was called in driver process \d+ at .*test_life_and_death\.py:\d+ in test_a_kill",
    ):
        skate.get(victim.pid.remote())


def test_a_driver_ends_in_peace_while_a_future_waits(tmp_path: Path) -> None:
    """At the interpreter's end no thread for callbacks can be started any more."""
    done = processes.run_driver(
        tmp_path,
        """
import skate, time

@skate.remote
def slow():
    time.sleep(3600)

skate.init(num_cpus=1)
future = slow.remote().future()
future.add_done_callback(print)
print("end")
""",
    )
    assert (done.stdout, done.stderr) == ("end\n", "")
