"""Descriptors run out, in every process: an error names the limit, or it goes on later. Nothing hangs or spins."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skate
from skate._base import descriptors
from skate.api import RayContext as Session
from skate.exceptions import (
    ActorUnavailableError,
    ObjectFetchTimedOutError,
    ObjectStoreFullError,
    RaySystemError,
    TaskUnschedulableError,
)

from .processes import roles, run_driver
from .scarcity import cut, without_descriptors
from .waiting import AGES, wait_for, wait_for_file
from .work import Counter, square

LIMIT = "no file descriptors left.*RLIMIT_NOFILE.*ulimit -n"
MB = 1 << 20


@skate.remote(num_cpus=0)
class Holder:
    """Owns objects, borrows them, and can be short of descriptors."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def pid(self) -> int:
        return os.getpid()

    def put(self, value: Any) -> list[Any]:
        self.kept = [skate.put(value)]
        return self.kept

    def keep(self, box: list[Any]) -> None:
        self.kept = box

    def get_without(self) -> tuple[str, Any]:
        """Return the error of a get without descriptors, and what the next one gives."""
        with without_descriptors():
            try:
                return "", skate.get(self.kept[0])
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
        return text, wait_for(lambda: _value(self.kept[0]), "the value")[0]

    def call(self, other: Any) -> Any:
        return skate.get(other.pid.remote())

    def be_short(self, told: Path, path: Path) -> None:
        with without_descriptors():
            told.mkdir()  # a file would need one
            wait_for_file(path)


def _value(ref: Any) -> Any:
    try:
        return [skate.get(ref)]
    except ObjectFetchTimedOutError:
        return None  # still the error of a moment ago


# ---------------------------------------------------------------------- a driver


def test_calls_of_actors_end_and_later_ones_work(session: Session) -> None:
    actors = [Holder.remote() for _ in range(6)]
    with without_descriptors(spare=2):
        refs = [actor.pid.remote() for actor in actors]
        ready, waiting = skate.wait(refs, num_returns=len(refs), timeout=AGES)
        assert not waiting
        outcomes = []
        for ref in ready:
            try:
                outcomes.append(skate.get(ref))
            except ActorUnavailableError as error:
                assert "no file descriptors left" in str(error)
                assert "RLIMIT_NOFILE" in str(error)
                assert "was not sent" in str(error)
    assert len(outcomes) < 6
    assert len(set(skate.get([actor.pid.remote() for actor in actors]))) == 6


def test_a_call_goes_through_when_there_are_some_again(session: Session) -> None:
    actor = Counter.remote()
    short = without_descriptors()
    with short:
        ref = actor.add.remote()
        assert skate.wait([ref], timeout=0.2) == ([], [ref])
    assert skate.get(ref) == 1


def test_tasks_end_and_later_ones_work(session: Session) -> None:
    with without_descriptors(), pytest.raises(RaySystemError, match=f"square was not sent.*{LIMIT}"):
        skate.get(square.remote(2))
    assert skate.get([square.remote(i) for i in range(10)]) == [i * i for i in range(10)]


def test_large_objects_are_refused_and_later_ones_are_not(session: Session) -> None:
    with without_descriptors():
        with pytest.raises(ObjectStoreFullError, match=LIMIT):
            skate.put(bytes(MB))
        assert skate.get(skate.put(1)) == 1  # needs none
    assert skate.get(skate.put(bytes(MB))) == bytes(MB)


def test_a_large_result_is_read_when_there_are_some_again(session: Session) -> None:
    @skate.remote
    def make() -> Any:
        return np.ones(MB, np.uint8)

    ref = make.remote()
    skate.wait([ref])
    with without_descriptors(), pytest.raises(OSError, match=f"cannot read object.*{LIMIT}"):
        skate.get(ref)
    assert skate.get(ref).sum() == MB


def test_a_fork_without_descriptors_harms_nobody(tmp_path: Path) -> None:
    """What the child sees stays until its parent ends, since nothing tells of its own end."""
    run_driver(
        tmp_path,
        """
        import os, resource, skate
        skate.init(num_cpus=1)
        view = skate.get(skate.put(bytearray(1 << 20)))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        pid = os.fork()
        if pid == 0:
            os._exit(int(len(view) != 1 << 20))
        assert os.waitpid(pid, 0)[1] == 0
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert skate.get(skate.put(view)) == view
        """,
    )


# ---------------------------------------------------------------------- workers


@pytest.mark.parametrize("size", [1, MB], ids=["small", "large"])
def test_a_borrower_without_descriptors_does_not_call_the_owner_dead(session: Session, size: int) -> None:
    owner, borrower = Holder.remote(), Holder.remote()
    skate.get(borrower.keep.remote(skate.get(owner.put.remote(b"x" * size))))
    text, value = skate.get(borrower.get_without.remote())
    assert "OwnerDiedError" not in text
    assert value == b"x" * size
    if text:  # else it had a connection already, and a descriptor of the segment
        assert "no file descriptors left" in text


def test_who_calls_an_actor_without_descriptors_is_told_so(session: Session, tmp_path: Path) -> None:
    """Its listener refuses after a while, so nobody waits in its queue for ever."""
    short, caller = Holder.remote(), Holder.remote()
    assert skate.get(caller.pid.remote()) != skate.get(short.pid.remote())
    blocked = short.be_short.remote(tmp_path / "told", tmp_path / "go")
    wait_for_file(tmp_path / "told")
    with pytest.raises(
        ActorUnavailableError, match="the process that it dialled has no file descriptors left"
    ):
        skate.get(caller.call.remote(short))
    (tmp_path / "go").touch()
    skate.get(blocked)
    assert skate.get(caller.call.remote(short)) == skate.get(short.pid.remote())


# ---------------------------------------------------------------------- the roles


def test_a_daemon_without_descriptors_starts_workers_when_it_has_some(session: Session) -> None:
    daemon = roles(session["session_dir"]).daemon
    with without_descriptors(daemon):
        actors = [Holder.remote() for _ in range(20)]
        refs = [actor.pid.remote() for actor in actors]
        skate.wait(refs, num_returns=20, timeout=0.5)
    assert len(set(skate.get(refs))) == 20


@pytest.mark.time_limit(90)
def test_a_daemon_that_stays_without_them_says_so(session: Session) -> None:
    @skate.remote(runtime_env={"env_vars": {"ANOTHER": "1"}})
    def other() -> int:
        return 1

    with without_descriptors(roles(session["session_dir"]).daemon):
        with pytest.raises(TaskUnschedulableError, match=f"the node daemon has {LIMIT}"):
            skate.get(other.remote())
        with pytest.raises(ObjectStoreFullError, match=f"the node daemon has {LIMIT}"):
            skate.put(bytes(MB))
    assert skate.get(other.remote()) == 1
    assert skate.get(skate.put(bytes(MB))) == bytes(MB)


def test_a_zygote_that_dies_meanwhile_is_replaced_later(session: Session) -> None:
    assert skate.get(square.remote(1)) == 1
    here = roles(session["session_dir"])
    with without_descriptors(here.daemon):
        os.kill(here.zygote, 9)
        refs = [Holder.remote().pid.remote() for _ in range(3)]
        skate.wait(refs, num_returns=3, timeout=0.5)
    assert len(set(skate.get(refs))) == 3


def test_a_control_store_without_descriptors_is_waited_for(session: Session) -> None:
    @skate.remote
    def create() -> int:
        return skate.get(Counter.remote().add.remote())

    with without_descriptors(roles(session["session_dir"]).control):
        ref = create.remote()  # its worker dials the control store
        assert skate.wait([ref], timeout=0.3) == ([], [ref])
    assert skate.get(ref) == 1


# ---------------------------------------------------------------------- limits


def test_every_process_raises_its_limit(session: Session) -> None:
    @skate.remote
    def limit() -> tuple[int, int]:
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    here = roles(session["session_dir"])
    limits = [skate.get(limit.remote()), resource.getrlimit(resource.RLIMIT_NOFILE)]
    limits += [
        resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in (here.daemon, here.control, here.zygote)
    ]
    for soft, hard in limits:
        assert soft >= min(hard, descriptors.MAX_SOFT_LIMIT)


def _run(code: str, *limits: tuple[int, int]) -> subprocess.CompletedProcess[str]:
    def lower() -> None:
        for which, value in limits:
            resource.setrlimit(which, (value, value))

    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, preexec_fn=lower, check=False)


def test_sixteen_descriptors_are_too_few_and_the_message_says_so() -> None:
    done = _run("import skate; skate.init()", (resource.RLIMIT_NOFILE, 16))
    assert done.returncode == 1
    assert "init() failed: this process may have 16 file descriptors (RLIMIT_NOFILE)" in done.stderr
    assert f"at least {descriptors.MIN_DESCRIPTORS}. Raise the limit: `ulimit -n" in done.stderr


def test_the_least_number_of_descriptors_is_enough() -> None:
    code = "import skate; skate.init(num_cpus=1); f = skate.remote(abs); print(skate.get(f.remote(-7)))"
    done = _run(code, (resource.RLIMIT_NOFILE, descriptors.MIN_DESCRIPTORS))
    assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr


def test_a_limit_of_file_sizes_is_named() -> None:
    code = "import skate; skate.init(num_cpus=1); {}"
    done = _run(code.format("pass"), (resource.RLIMIT_FSIZE, 1 << 20))
    assert "init() failed: this process may write files of 1048576 bytes (RLIMIT_FSIZE)" in done.stderr
    done = _run(code.format("skate.put(bytes(10**6))"), (resource.RLIMIT_FSIZE, descriptors.MIN_FILE_BYTES))
    assert "ObjectStoreFullError" in done.stderr
    assert f"its limit is {descriptors.MIN_FILE_BYTES} bytes (RLIMIT_FSIZE)" in done.stderr
    task = "print(skate.get(skate.remote(abs).remote(-7)))"
    done = _run(code.format(task), (resource.RLIMIT_FSIZE, descriptors.MIN_FILE_BYTES))
    assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr


# ---------------------------------------------------------------------- connections that are lost


def test_an_actor_whose_connection_is_lost_is_dialled_again(session: Session, tmp_path: Path) -> None:
    actor = Counter.remote()
    pid = skate.get(actor.pid.remote())
    blocked = actor.tell_and_wait.remote(tmp_path / "told", tmp_path / "go")
    wait_for_file(tmp_path / "told")
    behind = actor.add.remote()
    cut()
    with pytest.raises(ActorUnavailableError, match="the connection to it was lost"):
        skate.get(blocked)
    (tmp_path / "go").touch()
    with pytest.raises(ActorUnavailableError):
        skate.get(behind)
    assert skate.get(actor.pid.remote()) == pid  # it has not died


def test_calls_with_retries_are_sent_again(session: Session, tmp_path: Path) -> None:
    actor = Counter.options(max_task_retries=1).remote()
    blocked = actor.tell_and_wait.remote(tmp_path / "told", tmp_path / "go")
    behind = [actor.add.remote() for _ in range(3)]
    wait_for_file(tmp_path / "told")
    cut()
    (tmp_path / "go").touch()
    assert skate.get([blocked, *behind]) == [0, 1, 2, 3]


def test_a_task_whose_connection_is_lost_runs_again(session: Session, tmp_path: Path) -> None:
    @skate.remote(max_retries=1)
    def work(told: Path, go: Path) -> str:
        told.touch()
        wait_for_file(go)
        return "done"

    ref = work.remote(tmp_path / "told", tmp_path / "go")
    wait_for_file(tmp_path / "told")
    cut()
    (tmp_path / "told").unlink()
    wait_for_file(tmp_path / "told")
    (tmp_path / "go").touch()
    assert skate.get(ref) == "done"


def test_an_owner_whose_connection_is_lost_is_not_dead(session: Session, tmp_path: Path) -> None:
    @skate.remote(num_cpus=0)
    class Owner:
        def make(self, go: Path) -> list[Any]:
            @skate.remote
            def late() -> str:
                wait_for_file(go)
                return "value"

            return [late.remote(), skate.put("kept")]

    owner = Owner.remote()
    pending, there = skate.get(owner.make.remote(tmp_path / "go"))
    assert skate.wait([pending], timeout=0.1) == ([], [pending])
    cut()
    assert skate.get(there) == "kept"
    (tmp_path / "go").touch()
    assert skate.get(pending) == "value"
