"""The state of a session, told to its driver and to the command line beside it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skate
from skate import ObjectRef
from skate.api import RayContext as Session
from skate.util import state
from skate.util.state import RayStateApiException

from .waiting import wait_for, wait_for_file


@skate.remote
def add(a: int, b: int) -> int:
    return a + b


@skate.remote
def fails() -> None:
    raise ValueError("on purpose")


@skate.remote
def held(path: Path) -> str:
    wait_for_file(path)
    return "done"


@skate.remote
def spins(path: Path) -> int:
    n = 0
    while not os.path.exists(path):
        n += 1
    return n


@skate.remote
class Keeper:
    def __init__(self) -> None:
        self.kept: Any = None

    def keep(self, value: Any) -> int:
        self.kept = value
        return os.getpid()


@skate.remote
class Waiter:
    async def wait(self, path: Path) -> None:
        while not path.exists():
            await asyncio.sleep(0.01)


def command(*arguments: str, session: Session, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skate", *arguments, "--address", session["session_dir"]],
        capture_output=True, text=True, check=check,
    )  # fmt: skip


def states(name: str) -> list[str]:
    return [row.state for row in state.list_tasks(filters=[("name", "=", name)])]


def test_tasks_from_call_to_end(session: Session, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first, second = held.remote(go), held.remote(go)
    waiting = held.remote(go)
    late = add.remote(1, held.options(name="sleeper").remote(go))  # type: ignore[arg-type]
    wait_for(lambda: states("held").count("RUNNING") == 2, "two to run")
    assert sorted(states("held")) == ["PENDING_NODE_ASSIGNMENT", "RUNNING", "RUNNING"]
    assert states("add") == ["PENDING_ARGS_AVAIL"]
    row = state.get_task(first)
    assert row is not None
    assert (row.name, row["type"], row.get("state")) == ("held", "NORMAL_TASK", "RUNNING")
    assert f"{__file__}:" in str(row.call_site)
    assert row.worker_pid in [worker.pid for worker in state.list_workers(filters=[("running", "=", "held")])]
    go.touch()
    skate.get([first, second, waiting])
    with pytest.raises(TypeError):
        skate.get(late)
    assert states("held") == ["FINISHED"] * 3
    row = state.get_task(first.task_id().hex())
    assert row is not None
    assert row.creation_time_ms is not None
    assert row.creation_time_ms <= row.start_time_ms <= row.end_time_ms  # type: ignore[operator]


def test_what_failed_says_how(session: Session) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        skate.get(fails.remote())
    (row,) = state.list_tasks(filters=[("state", "=", "FAILED")])
    assert row.error_type == "ValueError"
    assert "on purpose" in str(row.error_message)

    @skate.remote(max_retries=0)
    def crashes() -> None:
        os._exit(3)

    with pytest.raises(skate.exceptions.WorkerCrashedError):
        skate.get(crashes.remote())
    (row,) = state.list_tasks(filters=[("name", "=", "crashes")])
    assert (row.state, row.error_type) == ("FAILED", "WorkerCrashedError")


def test_tasks_of_tasks(session: Session) -> None:
    @skate.remote
    def outer() -> int:
        return skate.get(add.remote(1, 2))

    assert skate.get(outer.remote()) == 3
    (row,) = state.list_tasks(filters=[("name", "=", "add")])
    assert row.owner_pid != os.getpid()


def test_tasks_of_a_process_that_left(session: Session) -> None:
    @skate.remote(max_calls=1)
    def outer() -> int:
        return skate.get(add.remote(1, 2))

    @skate.remote
    class Caller:
        def call(self) -> int:
            return skate.get(add.remote(3, 4))

    caller = Caller.remote()
    assert skate.get([outer.remote(), caller.call.remote()]) == [3, 7]
    del caller
    rows = wait_for(
        lambda: (
            (found := state.list_tasks(filters=[("name", "=", "add")], detail=True))
            and {row.pid for row in state.list_workers() if row.is_alive}.isdisjoint(
                row.owner_pid for row in found
            )
            and found
        ),
        "the end of both callers",
    )
    assert [row.state for row in rows] == ["FINISHED"] * 2
    assert {row.call_site.partition(":")[0] for row in rows} == {__file__}


def test_actors(session: Session) -> None:
    named, plain = Keeper.options(name="keeper").remote(), Keeper.remote()
    pid = skate.get(named.keep.remote(1))
    skate.get(plain.keep.remote(1))
    rows = {row.name: row for row in state.list_actors()}
    assert (rows["keeper"].pid, rows["keeper"].state, rows["keeper"].class_name) == (pid, "ALIVE", "Keeper")
    skate.kill(plain)
    (dead,) = state.list_actors(filters=[("state", "=", "DEAD")])
    assert dead.death_cause is not None
    assert "kill()" in dead.death_cause["actor_died_error_context"]["error_message"]
    assert dead.why_dead == dead.death_cause["actor_died_error_context"]["error_message"]
    assert state.get_actor(rows["keeper"].actor_id) == rows["keeper"]
    assert state.summarize_actors()["cluster"]["summary"]["Keeper"]["state_counts"] == {"ALIVE": 1, "DEAD": 1}
    calls = state.list_tasks(filters=[("type", "=", "ACTOR_TASK"), ("name", "=", "Keeper.keep")])
    assert [row.state for row in calls] == ["FINISHED", "FINISHED"]


def test_objects_by_line_and_holder(session: Session) -> None:
    keeper = Keeper.remote()
    ref = skate.put(np.zeros(100_000))
    pid = skate.get(keeper.keep.remote([ref]))
    viewer = Keeper.remote()
    reader = skate.get(viewer.keep.remote(ref))

    def holders() -> dict[int, str]:
        return {row.pid: row.reference_type for row in state.get_objects(ref.hex())}

    wait_for(lambda: len(holders()) == 3, "all holders to be known")
    assert holders() == {os.getpid(): "LOCAL_REFERENCE", pid: "LOCAL_REFERENCE", reader: "PINNED_IN_MEMORY"}
    (own,) = [row for row in state.get_objects(ref.hex()) if row.owned]
    assert own.object_size is not None
    assert own.object_size >= 800_000
    assert (own.where, own.borrowers, own.type) == ("memory", 1, "DRIVER")
    line = f"{__file__}:{test_objects_by_line_and_holder.__code__.co_firstlineno + 2}"
    assert own.call_site.startswith(line)
    assert any(site.startswith(line) for site in state.summarize_objects()["cluster"]["summary"])
    out = command("memory", session=session).stdout
    assert line in out
    assert f"held by Keeper {pid}: 1 ref (received in Keeper.keep)" in out
    assert f"held by worker {reader}: a view" in out


def test_workers_nodes_and_jobs(session: Session) -> None:
    skate.get(add.remote(1, 2))
    rows = state.list_workers()
    assert os.getpid() in [row.pid for row in rows if row.worker_type == "DRIVER"]
    assert all(row.memory and row.worker_launch_time_ms for row in rows)
    (node,) = state.list_nodes()
    assert node.resources_total["CPU"] == 2
    assert state.get_node(node.node_id) is not None
    (job,) = state.list_jobs()
    assert job.status == "RUNNING"
    assert state.get_job(job.job_id) == job
    assert state.get_worker(rows[0].worker_id) is not None
    assert state.get_worker("nobody") is None


def test_wrong_questions(session: Session) -> None:
    skate.get(add.remote(1, 2))
    with pytest.raises(RayStateApiException, match="no column 'colour'.*task_id"):
        state.list_tasks(filters=[("colour", "=", "red")])
    with pytest.raises(RayStateApiException, match="'=' or '!='"):
        state.list_tasks(filters=[("name", "<", "red")])
    with pytest.raises(RayStateApiException, match="no session answers"):
        state.list_tasks(address="/nowhere")
    assert len(state.list_tasks(limit=0)) == 0


def test_a_stopped_process_is_named(session: Session) -> None:
    keeper = Keeper.remote()
    pid = skate.get(keeper.keep.remote(1))
    os.kill(pid, signal.SIGSTOP)
    try:
        done = command("list", "tasks", session=session)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "Keeper.keep" in done.stdout
    assert f"no answer within a second from process {pid}" in done.stderr


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def busy(session: Session, tmp_path: Path) -> Any:
    """A session in which something of everything runs."""
    waiter = Waiter.options(name="waiter").remote()
    refs: list[ObjectRef[Any]] = [waiter.wait.remote(tmp_path / "go")]
    wait_for(lambda: states("Waiter.wait") == ["RUNNING"], "the call to run")
    refs += [spins.remote(tmp_path / "go"), held.remote(tmp_path / "go")]
    wait_for(lambda: states("spins") == states("held") == ["RUNNING"], "both to run")
    yield session
    (tmp_path / "go").touch()
    skate.get(refs)


def test_stacks(busy: Session) -> None:
    out = command("stack", session=busy).stdout
    by_process = {part.split(" (pid")[0]: part for part in out.split("== ")[1:]}
    assert "in spins" in by_process["spins"]
    assert "while not os.path.exists(path)" in by_process["spins"]
    assert "in held" in by_process["held"]
    assert "in wait\n" in by_process["Waiter.wait"]
    assert "coroutine" in by_process["Waiter.wait"]
    assert "/skate/_worker/" not in out
    pid = int(by_process["held"].split("(pid ")[1].split(")")[0])
    (only,) = json.loads(command("stack", str(pid), "--json", session=busy).stdout)
    assert only["what"] == "held"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("status", ["2 of 2 in use", "spins runs in process", "1 ALIVE", "drivers    1"]),
        ("list tasks", ["spins", "RUNNING", "called at", "test_state.py"]),
        ("list tasks --filter name=held", ["held"]),
        ("list actors", ["Waiter", "waiter", "ALIVE"]),
        ("list workers", ["driver", "leased", "spins", "MB"]),
        ("list objects", ["inline", "LOCAL_REFERENCE"]),
        ("list nodes", ["CPU 2 of 2 in use"]),
        ("list jobs", ["RUNNING", "00000001"]),
        ("summary tasks", ["spins", "RUNNING"]),
        ("summary actors", ["Waiter", "ALIVE"]),
        ("summary objects", ["test_state.py"]),
        ("memory", ["in memory", "on disk"]),
    ],
)
def test_commands(busy: Session, arguments: str, expected: list[str]) -> None:
    done = command(*arguments.split(), session=busy)
    for text in expected:
        assert text in done.stdout
    assert done.stderr == ""
    assert json.loads(command(*arguments.split(), "--json", session=busy).stdout)


def test_logs(session: Session) -> None:
    @skate.remote
    class Speaker:
        def say(self, text: str) -> int:
            print(text)
            return os.getpid()

    speaker = Speaker.options(name="speaker").remote()
    pid = skate.get(speaker.say.remote("a line of text"))
    (row,) = state.list_actors()
    wait_for(lambda: "a line of text" in command("logs", "speaker", session=session).stdout, "the line")
    for who in (row.actor_id, str(pid)):
        assert "a line of text" in command("logs", who, session=session).stdout
    assert "node.log" in command("logs", session=session).stdout
    wrong = command("logs", "nobody", session=session, check=False)
    assert wrong.returncode == 1
    assert "no log of 'nobody'" in wrong.stderr


def test_timeline(session: Session, tmp_path: Path) -> None:
    skate.get([add.remote(i, i) for i in range(10)])
    events = skate.timeline()
    assert events is not None
    assert [event["name"] for event in events] == ["add"] * 10
    assert {event["ph"] for event in events} == {"X"}
    skate.timeline(str(tmp_path / "a.json"))
    command("timeline", str(tmp_path / "b.json"), session=session)
    for name in ("a.json", "b.json"):
        assert len(json.loads((tmp_path / name).read_text())) == 10


def test_an_observer_starts_nothing(session: Session) -> None:
    skate.get([add.remote(1, 1) for _ in range(10)])
    wait_for(lambda: all(row.state != "STARTING" for row in state.list_workers()), "the workers")
    before = {row.pid for row in state.list_workers()}
    for _ in range(5):
        command("status", session=session)
    assert {row.pid for row in state.list_workers()} == before
    assert len(state.list_jobs()) == 1


def _counts() -> dict[str, dict[str, int]]:
    """Return the states of the calls of each name."""
    found = state.summarize_tasks()["cluster"]["summary"]
    return {name: one["state_counts"] for name, one in found.items()}


def test_the_rings_are_bounded_and_the_counts_are_exact(session: Session) -> None:
    @skate.remote(max_retries=0)
    def fail() -> None:
        raise ValueError

    @skate.remote
    class Adder:
        def add(self) -> None:
            pass

    adder = Adder.remote()
    skate.wait([fail.remote() for _ in range(3)], num_returns=3)
    for _ in range(3):
        skate.get([add.remote(i, i) for i in range(2500)])
    skate.get([add.options(name="named").remote(1, 1) for _ in range(10)])
    skate.get([adder.add.remote() for _ in range(5500)])
    rows = state.list_tasks(limit=1_000_000)
    assert Counter(row.state for row in rows) == {"FINISHED": 5000 + 1, "FAILED": 3}  # one is a constructor
    assert _counts() == {
        "add": {"FINISHED": 7500}, "named": {"FINISHED": 10}, "fail": {"FAILED": 3},
        "Adder.add": {"FINISHED": 5500}, "Adder.__init__": {"FINISHED": 1},
    }  # fmt: skip
    summary = state.summarize_tasks()["cluster"]
    assert (summary["total_tasks"], summary["total_actor_tasks"]) == (7513, 5500)
    with pytest.warns(UserWarning, match="8,010 more calls have finished and are no longer remembered"):
        state.list_tasks(_explain=True)
    assert "8,010 more calls" in command("list", "tasks", session=session).stdout


def test_counts_of_what_is_under_way(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def wait(path: Path) -> None:
        path.with_suffix(".began").touch()
        wait_for_file(path)

    refs = [wait.options(num_cpus=2).remote(tmp_path / "go") for _ in range(3)]
    behind = add.remote(refs[-1], 1)
    wait_for_file(tmp_path / "go.began")
    assert _counts() == {
        "wait": {"RUNNING": 1, "PENDING_NODE_ASSIGNMENT": 2}, "add": {"PENDING_ARGS_AVAIL": 1}
    }  # fmt: skip
    (tmp_path / "go").touch()
    skate.wait([*refs, behind], num_returns=4)
    assert _counts() == {"wait": {"FINISHED": 3}, "add": {"FAILED": 1}}


def test_counts_of_processes_that_are_gone(session: Session) -> None:
    """One leaves by itself, one is killed: what it counted up to a second before its end is known."""

    @skate.remote(max_calls=1)
    def outer() -> None:
        skate.get([add.remote(i, i) for i in range(40)])

    @skate.remote
    class Caller:
        def call(self) -> int:
            skate.get([add.remote(i, i) for i in range(60)])
            return os.getpid()

    caller = Caller.remote()
    _, pid = skate.get([outer.remote(), caller.call.remote()])
    wait_for(lambda: _counts()["add"] == {"FINISHED": 100}, "the end of the first")
    wait_for(lambda: _told(pid) == 60, "the daemon to be told")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in {row.pid for row in state.list_workers() if row.is_alive}, "its end")
    assert _counts()["add"] == {"FINISHED": 100}


def _told(pid: int) -> int:
    """Return how many calls the daemon knows of a process by what it was told: as if that did not answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        return _counts()["add"]["FINISHED"] - 40
    finally:
        os.kill(pid, signal.SIGCONT)


def test_one_object_among_many(session: Session) -> None:
    refs = [skate.put(i) for i in range(21_000)]
    (row,) = state.list_objects(filters=[("object_id", "=", refs[-1].hex())])
    assert row.object_id == refs[-1].hex()
    with pytest.warns(UserWarning, match="1,000 more objects were too many to tell"):
        state.list_objects(_explain=True)


def test_a_process_that_holds_the_interpreter_shows_its_stack(session: Session, tmp_path: Path) -> None:
    @skate.remote(max_retries=0)
    def hold(path: Path) -> None:
        reading, _ = os.pipe()
        path.touch()
        ctypes.PyDLL(None).read(reading, ctypes.create_string_buffer(1), 1)  # with the interpreter's lock

    ref = hold.remote(tmp_path / "began")
    wait_for_file(tmp_path / "began")
    (row,) = wait_for(lambda: state.list_tasks(filters=[("state", "=", "RUNNING")]), "it to run")
    text = state.why(ref)
    assert f"process {row.worker_pid}, which does not answer: it is stopped, or in C code" in text
    assert f'File "{__file__}"' in text and " in hold" in text
    shown = command("stack", session=session).stdout
    assert f"== hold (pid {row.worker_pid})" in shown and " in hold\n" in shown
    assert skate.get(add.remote(1, 1)) == 2, "nothing ended by it"
    os.kill(row.worker_pid, signal.SIGKILL)
    with pytest.raises(skate.exceptions.WorkerCrashedError):
        skate.get(ref)
