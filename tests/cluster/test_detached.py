"""Sessions that several drivers share, and actors that outlive their drivers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import skate
from skate._base.config import Config
from skate._launch import machine, session, standalone
from skate.api import RayContext as Session
from skate.exceptions import ActorDiedError, LocalRayletDiedError

from . import processes
from .processes import Driver, run_driver
from .waiting import wait_for, wait_until_none

#: Common to the programs below; they take the session's folder, or nothing for the one that runs.
HEAD = """
import os, sys, signal, time
import skate
address = sys.argv[1] if len(sys.argv) > 1 else "auto"

@skate.remote
def square(x):
    return x * x

@skate.remote
class Counter:
    def __init__(self, start=0):
        self.n = start
    def add(self, k=1):
        self.n += k
        return self.n
    def pid(self):
        return os.getpid()
    def squares(self, n):
        return skate.get([square.remote(i) for i in range(n)])
    def child(self):
        self.inner = Counter.remote(100)
        return skate.get(self.inner.pid.remote())
    def of_child(self):
        return skate.get(self.inner.add.remote())
    def says(self, text):
        print(text)
"""


@pytest.fixture
def standing(folder: str, leak_check: None) -> Iterator[str]:
    """A session that nobody's end ends, started by a process that is gone."""
    code = (
        "from skate._launch import machine, standalone; from skate._base.config import Config; "
        "print(standalone.start(machine.offer(2, None, None, 200_000_000, None), Config()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path = done.stdout.strip()
    yield path
    skate.shutdown()
    standalone.stop(path, Config())
    processes.wait_until_gone(path)


def kill_and_wait(pid: int) -> None:
    """End a process and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_until_none(lambda: processes.alive(pid), f"process {pid}")


def test_a_driver_joins_and_leaves(standing: str) -> None:
    for _ in range(2):
        done = run_driver(
            Path(standing), HEAD + "skate.init(); print(skate.get(square.remote(4)), skate.is_initialized())"
        )
        assert done.stdout.split() == ["16", "True"]
        assert session.is_alive(standing)
    wait_until_none(lambda: processes.roles(standing).workers, "a worker of a driver that left")


@pytest.mark.parametrize("how", ["none", "auto", "folder", "environment"])
def test_ways_to_name_it(standing: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "environment":
        monkeypatch.setenv("RAY_ADDRESS", standing)
    address = {"auto": "auto", "folder": standing}.get(how)
    assert skate.init(address)["session_dir"] == standing


def test_local_means_a_session_of_its_own(standing: str) -> None:
    assert skate.init("local", num_cpus=1)["session_dir"] != standing


def test_its_amounts_cannot_be_changed(standing: str) -> None:
    with pytest.raises(ValueError, match="num_cpus.*address='local'"):
        skate.init("auto", num_cpus=2)
    assert not skate.is_initialized()


def test_nobody_there(folder: str, leak_check: None) -> None:
    with pytest.raises(ConnectionError, match="skate start --head"):
        skate.init("auto")
    with pytest.raises(ConnectionError, match="no session answers"):
        skate.init(folder)
    with pytest.raises(ConnectionError, match="on their own machine only"):
        skate.init("127.0.0.1:6379")
    with pytest.raises(TypeError):
        skate.init(17)  # type: ignore[arg-type]
    assert not skate.is_initialized()


def test_two_cannot_be_started(standing: str) -> None:
    with pytest.raises(RuntimeError, match="runs already.*skate stop"):
        standalone.start(machine.offer(1, None, None, 10_000_000, None), Config())


def test_a_session_of_init_is_joined_too(folder: str, leak_check: None, tmp_path: Path) -> None:
    own = skate.init(num_cpus=2)
    counter = Keeper.options(name="counter", namespace="ns").remote(5)
    skate.get(counter.add.remote())
    done = run_driver(
        tmp_path,
        HEAD
        + """
context = skate.init("auto", namespace="ns")
counter = skate.get_actor("counter")
print(context["session_dir"], skate.get(counter.add.remote()), skate.get(square.remote(3)))
""",
    )
    assert done.stdout.split() == [own["session_dir"], "7", "9"]
    assert skate.get(counter.add.remote()) == 8
    with pytest.raises(RuntimeError, match=f"process {os.getpid()}"):
        standalone.stop(own["session_dir"], Config())
    assert skate.get(counter.add.remote()) == 9


@skate.remote
class Keeper:
    def __init__(self, start: int = 0) -> None:
        self.n = start

    def add(self, k: int = 1) -> int:
        self.n += k
        return self.n

    def pid(self) -> int:
        return os.getpid()


def test_who_joined_learns_that_it_ended(folder: str, leak_check: None, tmp_path: Path) -> None:
    keeper = Driver(
        tmp_path, "import skate, time; print(skate.init()['session_dir'], flush=True); time.sleep(1000)"
    )
    assert keeper.process.stdout is not None
    path = keeper.process.stdout.readline().strip()
    skate.init(path)
    actor = Keeper.remote()
    pid = skate.get(actor.pid.remote())
    keeper.process.kill()
    keeper.finish()
    wait_until_none(lambda: processes.alive(pid), "the actor of a session that ended")
    with pytest.raises(LocalRayletDiedError, match="joined a session that it did not start"):
        skate.get(skate.put(bytes(1_000_000)))
    processes.wait_until_gone(path)


# ---------------------------------------------------------------------- detached actors


def test_a_detached_actor_outlives_its_driver(standing: str, tmp_path: Path) -> None:
    made = run_driver(
        tmp_path,
        HEAD
        + """
skate.init(address, namespace="ns")
big = bytes(1_000_000)
counter = Counter.options(name="counter", lifetime="detached").remote(3)
print(skate.get(counter.add.remote()), skate.get(counter.pid.remote()))
""",
    ).stdout.split()
    assert made[0] == "4"
    for expected in (5, 6):
        found = run_driver(
            tmp_path,
            HEAD
            + """
skate.init(address, namespace="ns")
counter = skate.get_actor("counter")
print(skate.get(counter.add.remote()), skate.get(counter.pid.remote()))
""",
        ).stdout.split()
        assert found == [str(expected), made[1]]
    skate.init(namespace="ns")
    actor = skate.get_actor("counter")
    assert skate.get(actor.squares.remote(5)) == [0, 1, 4, 9, 16]
    skate.kill(actor)
    with pytest.raises(ActorDiedError):
        skate.get(actor.add.remote())
    with pytest.raises(ValueError, match="no living actor"):
        skate.get_actor("counter")
    wait_until_none(lambda: processes.alive(int(made[1])), "the killed actor's process")


def test_its_driver_may_be_killed(standing: str, tmp_path: Path) -> None:
    driver = Driver(
        tmp_path,
        HEAD
        + """
skate.init(address, namespace="ns")
counter = Counter.options(name="counter", lifetime="detached", max_restarts=-1).remote(3)
plain = Counter.options(name="plain").remote()
print(skate.get(counter.add.remote()), skate.get(plain.pid.remote()), flush=True)
time.sleep(1000)
""",
    )
    assert driver.process.stdout is not None
    _, plain = driver.process.stdout.readline().split()
    driver.process.kill()
    driver.finish()
    wait_until_none(lambda: processes.alive(int(plain)), "an actor of a driver that was killed")
    skate.init(namespace="ns")
    actor = skate.get_actor("counter")
    assert skate.get(actor.add.remote()) == 5
    with pytest.raises(ValueError, match="no living actor"):
        skate.get_actor("plain")
    # It is restarted without the driver that made it, and what it starts works.
    kill_and_wait(skate.get(actor.pid.remote()))
    assert wait_for(lambda: _try(actor), "the restarted actor") == 4
    assert skate.get(actor.squares.remote(3)) == [0, 1, 4]
    skate.kill(actor)


def _try(actor: skate.ActorHandle) -> int | None:  # type: ignore[type-arg]
    try:
        return int(skate.get(actor.add.remote()))
    except skate.exceptions.ActorUnavailableError:
        return None


def test_large_arguments_are_there_when_it_is_restarted(standing: str, tmp_path: Path) -> None:
    run_driver(
        tmp_path,
        HEAD
        + """
skate.init(address, namespace="ns")

@skate.remote
class Holder:
    def __init__(self, data):
        self.data = data
    def size(self):
        return len(self.data)
    def pid(self):
        return os.getpid()

holder = Holder.options(name="holder", lifetime="detached", max_restarts=1, max_task_retries=-1)
skate.get(holder.remote(bytes(3_000_000)).size.remote())
""",
    )
    skate.init(namespace="ns")
    holder = skate.get_actor("holder")
    kill_and_wait(skate.get(holder.pid.remote()))
    assert skate.get(holder.size.remote()) == 3_000_000
    skate.kill(holder)


def test_what_it_started_lives_and_ends_with_it(standing: str, tmp_path: Path) -> None:
    child = run_driver(
        tmp_path,
        HEAD
        + """
skate.init(address, namespace="ns")
counter = Counter.options(name="counter", lifetime="detached").remote()
print(skate.get(counter.child.remote()))
""",
    ).stdout.strip()
    skate.init(namespace="ns")
    actor = skate.get_actor("counter")
    assert skate.get(actor.of_child.remote()) == 101
    skate.kill(actor)
    wait_until_none(lambda: processes.alive(int(child)), "the child of a detached actor that ended")


def test_handles_and_get_if_exists(standing: str) -> None:
    skate.init(namespace="ns")
    options = Keeper.options(name="one", lifetime="detached", get_if_exists=True)
    first = options.remote(10)
    assert skate.get(first.add.remote()) == 11
    pid = skate.get(first.pid.remote())
    del first
    second = options.remote(20)
    assert skate.get([second.add.remote(), second.pid.remote()]) == [12, pid]

    @skate.remote
    def use(handle: skate.ActorHandle) -> int:  # type: ignore[type-arg]
        return int(skate.get(handle.add.remote()))

    assert skate.get(use.remote(second)) == 13
    skate.kill(second)


def test_lifetime_takes_known_words(standing: str) -> None:
    skate.init()
    with pytest.raises(ValueError, match="lifetime.*'for ever'"):
        Keeper.options(lifetime="for ever")
    actor = Keeper.options(lifetime="non_detached").remote()
    assert skate.get(actor.add.remote()) == 1


def test_namespaces(standing: str, tmp_path: Path) -> None:
    """Without a name of its own each driver has a namespace that no other knows."""
    run_driver(
        tmp_path,
        HEAD
        + """
skate.init(address)
Counter.options(name="hidden", lifetime="detached").remote()
Counter.options(name="known", namespace="shared", lifetime="detached").remote()
""",
    )
    skate.init()
    with pytest.raises(ValueError, match="no living actor"):
        skate.get_actor("hidden")
    assert skate.get(skate.get_actor("known", namespace="shared").add.remote()) == 1


def test_output_of_a_driver_that_joined(standing: str, tmp_path: Path) -> None:
    done = run_driver(
        tmp_path,
        HEAD
        + """
skate.init(address)
counter = Counter.remote()
skate.get([counter.says.remote(f"line {i}") for i in range(100)])
""",
    )
    lines = [line.partition(") ")[2] for line in done.stdout.splitlines()]
    assert lines == [f"line {i}" for i in range(100)]


def test_drivers_share_the_machine(standing: str, tmp_path: Path) -> None:
    """Two drivers with many tasks each, at the same time: both get on."""
    source = (
        HEAD
        + """
skate.init(address)
print(sum(skate.get([square.remote(i) for i in range(2000)])))
"""
    )
    (tmp_path / "b").mkdir()
    drivers = [Driver(tmp_path, source), Driver(tmp_path / "b", source)]
    for driver in drivers:
        assert driver.finish().stdout.strip() == str(sum(i * i for i in range(2000)))


def test_a_session_that_was_killed_is_swept(folder: str, leak_check: None, tmp_path: Path) -> None:
    keeper = Driver(
        tmp_path, "import skate, time; print(skate.init()['session_dir'], flush=True); time.sleep(1000)"
    )
    assert keeper.process.stdout is not None
    path = keeper.process.stdout.readline().strip()
    assert session.living() == [path]
    pids = (*processes.of_session(path), keeper.pid)
    for sent in (signal.SIGSTOP, signal.SIGKILL):  # none is to see the end of another
        for pid in pids:
            os.kill(pid, sent)
    keeper.finish()
    processes.wait_until_gone(path)
    assert session.living() == []
    own: Session = skate.init(num_cpus=1)
    skate.shutdown()
    assert sorted(os.listdir(path)) == ["logs"]
    assert own["session_dir"] != path
