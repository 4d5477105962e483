"""The control store is killed, again and again: it is started anew, and nobody has lost anything."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import skate
from skate._node.cluster.control_store_supervisor import LIMIT
from skate.api import RayContext as Session
from skate.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayError, RaySystemError
from skate.experimental import internal_kv
from skate.util import state

from . import processes
from .processes import Driver, roles, run_driver
from .test_detached import HEAD, standing  # noqa: F401  (a fixture)
from .waiting import wait_for, wait_for_file, wait_until_none
from .work import Counter, square, wait_and_return


def kill_control(session_dir: str) -> int:
    """Kill the control store; return the process that it was."""
    first = roles(session_dir).control
    os.kill(first, signal.SIGKILL)
    return first


@contextmanager
def without_control(session_dir: str) -> Iterator[None]:
    """What is said to the control store in the ``with`` block is lost."""
    first = roles(session_dir).control
    os.kill(first, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(first, signal.SIGKILL)


def test_everything_goes_on(session: Session, tmp_path: Path) -> None:
    home = session["session_dir"]
    job = skate.get_runtime_context().get_job_id()
    counter, named = Counter.remote(), Counter.options(name="named").remote()
    assert skate.get([counter.add.remote(), named.add.remote()]) == [1, 1]
    internal_kv._internal_kv_put(b"key", b"value")
    blocked = counter.tell_and_wait.remote(tmp_path / "told", tmp_path / "go")
    running = wait_and_return.remote(tmp_path / "go", "went on")
    wait_for_file(tmp_path / "told")
    first = kill_control(home)
    # What was recorded is there.
    assert skate.get(skate.get_actor("named").add.remote()) == 2
    assert internal_kv._internal_kv_get(b"key") == b"value"
    assert [node["Alive"] for node in skate.nodes()] == [True]
    assert [(row.job_id, row.status) for row in state.list_jobs()] == [(job, "RUNNING")]
    with pytest.raises(ValueError, match="no living actor"):
        skate.get_actor("another")
    # What is new is made.
    other = Counter.options(name="other").remote()
    with pytest.raises(ValueError, match="is already taken"):
        Counter.options(name="named").remote()
    assert skate.get([other.add.remote(), Counter.remote().add.remote()]) == [1, 1]
    skate.kill(named)
    with pytest.raises(ActorDiedError, match=r"killed by `ray\.kill`"):
        skate.get(named.add.remote())
    # What ran has gone on.
    (tmp_path / "go").touch()
    assert skate.get([blocked, running, counter.add.remote()]) == [1, "went on", 2]
    assert skate.get([square.remote(i) for i in range(100)]) == [i * i for i in range(100)]
    assert roles(home).control not in (0, first)
    texts = [event.message for event in state.list_cluster_events()]
    assert any("started anew" in text for text in texts), texts


def test_calls_made_meanwhile_are_carried_out(session: Session) -> None:
    with without_control(session["session_dir"]):
        counters = [Counter.remote() for _ in range(5)]
        refs = [counter.add.remote() for counter in counters for _ in range(3)]
        assert skate.wait(refs, timeout=0.1)[0] == []
    assert skate.get(refs) == [1, 2, 3] * 5


def test_an_actor_that_nobody_wants_any_more_ends(session: Session) -> None:
    counter = Counter.remote()
    pid = skate.get(counter.pid.remote())
    with without_control(session["session_dir"]):
        del counter
    wait_until_none(lambda: processes.alive(pid), "the actor")


def test_an_actor_that_dies_meanwhile_is_restarted(session: Session, tmp_path: Path) -> None:
    once = Counter.options(max_restarts=1).remote()
    again = Counter.options(max_restarts=1, max_task_retries=1).remote()
    pids = skate.get([once.pid.remote(), again.pid.remote()])
    begun = once.tell_and_wait.remote(tmp_path / "told", tmp_path / "go")
    queued = once.add.remote()
    repeated = again.tell_and_wait.remote(tmp_path / "told again", tmp_path / "go")
    for name in ("told", "told again"):
        wait_for_file(tmp_path / name)
    with without_control(session["session_dir"]):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until_none(lambda: [pid for pid in pids if processes.alive(pid)], "an actor")
        (tmp_path / "go").touch()
    with pytest.raises(ActorUnavailableError, match="SIGKILL"):
        skate.get(begun)  # whether it was carried out is not known: it had begun
    assert skate.get([queued, repeated]) == [1, 0]
    # Their restarts were counted: these are their last incarnations.
    for counter in (once, again):
        counter.end.remote("SIGKILL")
        with pytest.raises(RayActorError):
            skate.get(counter.add.remote())


def test_why_an_actor_died_meanwhile(session: Session) -> None:
    counter = Counter.remote()
    pid = skate.get(counter.pid.remote())
    with without_control(session["session_dir"]):
        os.kill(pid, signal.SIGSEGV)
        wait_until_none(lambda: processes.alive(pid), "the actor")
    with pytest.raises(ActorDiedError, match="SIGSEGV"):
        skate.get(counter.add.remote())
    kill_control(session["session_dir"])
    # It is not forgotten either.
    with pytest.raises(ActorDiedError, match="SIGSEGV"):
        skate.get(skate.get(handed_on.remote([counter])))
    found = state.list_actors(detail=True)
    assert [(row.state, "SIGSEGV" in str(row.death_cause)) for row in found] == [("DEAD", True)]


@skate.remote
def handed_on(counters: list[Any]) -> Any:
    """Call an actor from a process that has not met it before."""
    return next(counter.add.remote() for counter in counters)


def test_actors_are_made_and_ended_while_it_dies_again_and_again(session: Session) -> None:
    """Whatever it was about when it was killed: each actor is there exactly once, and in the end none."""
    home = session["session_dir"]

    @skate.remote
    def maker(count: int) -> list[int]:
        counters = [Counter.remote() for _ in range(count)]
        return [
            value for counter in counters for value in skate.get([counter.add.remote() for _ in range(3)])
        ]

    stop = threading.Event()

    def killer() -> None:
        for _ in range(LIMIT - 1):
            if stop.wait(0.3):
                return
            kill_control(home)
            wait_for(lambda: roles(home).control, "another control store")

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        rounds = 0
        while thread.is_alive() or rounds < 3:
            rounds += 1
            made = [maker.remote(4) for _ in range(2)]
            shared = [Counter.options(name=f"shared {rounds}", get_if_exists=True).remote() for _ in range(3)]
            assert sorted(skate.get([one.add.remote() for one in shared])) == [1, 2, 3]
            skate.kill(shared[0])
            assert skate.get(made) == [[1, 2, 3] * 4] * 2
    finally:
        stop.set()
        thread.join()
    del shared
    wait_until_none(
        lambda: [row for row in state.list_actors() if row.state != "DEAD"], "an actor that nobody refers to"
    )


def test_it_is_given_up_when_it_dies_too_often(session: Session, tmp_path: Path) -> None:
    home = session["session_dir"]
    counter = Counter.remote()
    skate.get(counter.add.remote())
    blocked = counter.tell_and_wait.remote(tmp_path / "told", tmp_path / "go")
    running = wait_and_return.remote(tmp_path / "go", "went on")
    wait_for_file(tmp_path / "told")
    for _ in range(LIMIT):
        kill_control(home)
        skate.nodes()
    kill_control(home)
    for call in (
        lambda: skate.get_actor("named"),
        lambda: Counter.options(name="other").remote(),
        lambda: skate.kill(counter),
        skate.nodes,
        lambda: skate.get(Counter.remote().add.remote()),
    ):
        with pytest.raises(RayError, match="control store"):
            call()

    @skate.remote
    def call_and_create(counter: Any) -> str:
        try:
            return str(skate.get(Counter.remote().add.remote()))
        except RayError as error:
            return str(error)

    assert "control store" in skate.get(call_and_create.remote(1))
    # What runs goes on: calls, tasks, objects.
    (tmp_path / "go").touch()
    assert skate.get([blocked, running, counter.add.remote()]) == [1, "went on", 2]
    assert skate.get([square.remote(i) for i in range(100)]) == [i * i for i in range(100)]
    assert len(skate.get(skate.put(bytes(500_000)))) == 500_000
    # Nobody will tell what became of an actor.
    with pytest.raises(RayActorError):
        skate.get(counter.end.remote("SIGKILL"))
    assert skate.get(square.remote(3)) == 9
    log = Path(home, "logs", "node.log").read_text()
    assert "the control store was killed by signal 9 (SIGKILL), and is not started anew" in log


def test_one_that_cannot_start_is_given_up(session: Session) -> None:
    home = session["session_dir"]
    for name in ("control.db", "control.db-wal", "control.db-shm"):
        Path(home, name).unlink(missing_ok=True)
        Path(home, name).mkdir()
    kill_control(home)
    with pytest.raises(RaySystemError, match="control store"):
        skate.nodes()
    assert skate.get(square.remote(3)) == 9
    assert "unable to open database" in Path(home, "logs", "control.log").read_text()


def test_killed_right_before_the_end(session: Session) -> None:
    counter = Counter.remote()
    skate.get(counter.add.remote())
    kill_control(session["session_dir"])
    skate.shutdown()
    assert processes.of_session(session["session_dir"]) == {}


def test_killed_and_started_anew_before_the_end(session: Session) -> None:
    kill_control(session["session_dir"])
    skate.nodes()
    skate.shutdown()
    assert processes.of_session(session["session_dir"]) == {}


def test_a_driver_killed_with_its_second_control_store(tmp_path: Path) -> None:
    driver = Driver(
        tmp_path,
        """
        import time, skate
        print(skate.init(num_cpus=1)["session_dir"], flush=True)
        time.sleep(1000)
        """,
    )
    assert driver.process.stdout is not None
    home = driver.process.stdout.readline().strip()
    first = kill_control(home)
    wait_for(lambda: roles(home).control not in (0, first), "another control store")
    driver.process.kill()
    driver.process.communicate()
    processes.wait_until_gone(home)


# ---------------------------------------------------------------------- of a session that stands


def test_detached_actors_outlive_it(standing: str) -> None:  # noqa: F811
    make = HEAD + "\nskate.init(namespace='ns')\n"
    run_driver(
        Path(standing),
        make
        + """
kept = Counter.options(name="kept", lifetime="detached").remote(5)
print(skate.get(kept.child.remote()))
""",
    )
    kill_control(standing)
    done = run_driver(
        Path(standing), make + "kept = skate.get_actor('kept'); print(skate.get(kept.of_child.remote()))"
    )
    assert done.stdout.split() == ["101"]
    kill_control(standing)
    run_driver(Path(standing), make + "skate.kill(skate.get_actor('kept'))")
    wait_until_none(lambda: processes.roles(standing).workers, "a worker of a detached actor that was killed")


def test_the_actors_of_a_driver_that_dies_meanwhile_end(standing: str, tmp_path: Path) -> None:  # noqa: F811
    driver = Driver(
        tmp_path,
        HEAD
        + """
skate.init(namespace='ns')
kept = Counter.options(name="kept", lifetime="detached").remote(5)
own = Counter.options(name="own", max_restarts=-1).remote()
print(skate.get(kept.add.remote()), skate.get(own.add.remote()), skate.get(own.pid.remote()), flush=True)
time.sleep(1000)
""",
    )
    assert driver.process.stdout is not None
    first, second, pid = map(int, driver.process.stdout.readline().split())
    assert (first, second) == (6, 1)
    with without_control(standing):
        driver.process.kill()
        driver.process.communicate()
    skate.init("auto", namespace="ns")
    assert skate.get(skate.get_actor("kept").add.remote()) == 7
    wait_until_none(lambda: processes.alive(pid), "an actor of the job that ended")
    wait_for(lambda: [row.name for row in state.list_actors() if row.state != "DEAD"] == ["kept"], "its end")
    skate.kill(skate.get_actor("kept"))
