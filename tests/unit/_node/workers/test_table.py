"""Worker processes, from fork to exit report."""

from __future__ import annotations

import signal

import pytest

from skate._node.workers.table import WorkerProcess, Workers, WorkerState

JOB = b"job"
LOG = "/logs/worker.log"


def started(workers: Workers, worker_id: bytes = b"w1") -> WorkerProcess:
    worker = workers.add(worker_id, JOB, 0)
    worker.pid = 42
    assert workers.connected(worker_id, object(), "/s/w1") is worker
    return worker


def test_a_worker_is_ready_when_it_said_hello() -> None:
    workers = Workers()
    worker = workers.add(b"w1", JOB, 3)
    assert worker.state is WorkerState.STARTING
    assert workers.connected(b"w1", "connection", "/s/w1") is worker
    assert (worker.state, worker.connection, worker.address) == (WorkerState.READY, "connection", "/s/w1")


def test_strangers_and_second_hellos_are_refused() -> None:
    workers = Workers()
    started(workers)
    assert workers.connected(b"w1", object(), "/s/w1") is None
    assert workers.connected(b"w2", object(), "/s/w2") is None


@pytest.mark.parametrize("exited_first", [True, False])
def test_it_is_dead_when_its_status_is_known_and_its_last_words_are_read(exited_first: bool) -> None:
    workers = Workers()
    worker = started(workers)
    if exited_first:
        assert workers.exited(b"w1", 0) is None
        assert workers.get(b"w1") is worker
        assert workers.disconnected(b"w1") is worker
    else:
        assert workers.disconnected(b"w1") is None
        assert workers.get(b"w1") is worker
        assert workers.exited(b"w1", 0) is worker
    assert worker.state is WorkerState.DEAD
    assert workers.get(b"w1") is None
    assert len(workers) == 0


def test_one_that_never_said_hello_is_dead_when_it_ended() -> None:
    workers = Workers()
    worker = workers.add(b"w1", JOB, 0)
    assert workers.exited(b"w1", None) is worker


def test_it_dies_once() -> None:
    workers = Workers()
    started(workers)
    workers.exited(b"w1", 0)
    workers.disconnected(b"w1")
    assert workers.exited(b"w1", 0) is None
    assert workers.disconnected(b"w1") is None


def test_workers_are_found_by_job() -> None:
    workers = Workers()
    one, other = workers.add(b"w1", JOB, 0), workers.add(b"w2", b"another", 1)
    assert workers.of_job(JOB) == [one]
    assert list(workers) == [one, other]


def test_a_worker_that_refuses_to_be_an_actor_is_none() -> None:
    workers = Workers()
    worker = workers.add(b"w1", JOB, 0)
    workers.become_actor(b"w1", (b"actor", 2), "Counter", True)
    assert (worker.actor, worker.name, worker.restartable) == ((b"actor", 2), "Counter", True)
    workers.refused_actor(b"w1")
    assert (worker.actor, worker.name, worker.restartable) == (None, "", False)


def test_workers_may_die_while_they_are_counted() -> None:
    workers = Workers()
    for number in range(3):
        workers.add(b"w%d" % number, JOB, number)
    for worker in workers:
        workers.exited(worker.id, 0)
    assert len(workers) == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (signal.SIGKILL, ["was killed by signal 9 (SIGKILL)", "out of memory", LOG]),
        (signal.SIGSEGV, ["was killed by signal 11 (SIGSEGV)", "native code crashed", LOG]),
        (1 << 8, ["exited with code 1", LOG]),
        (None, ["its exit status is unknown", LOG]),
    ],
)
def test_the_exit_report_has_the_evidence_and_where_to_look(status: int | None, words: list[str]) -> None:
    workers = Workers()
    worker = started(workers)
    workers.exited(b"w1", status)
    text = worker.describe_exit(LOG)
    assert text.startswith("worker process 42 ")
    for word in words:
        assert word in text


def test_the_exit_report_names_who_ended_it() -> None:
    worker = started(Workers())
    worker.status = signal.SIGKILL
    worker.left = "sys.exit() was called"
    assert worker.describe_exit(LOG) == "worker process 42 left: sys.exit() was called"
    worker.reason = "the session ended"
    assert worker.describe_exit(LOG) == "worker process 42 was ended by the runtime: the session ended"


def test_the_exit_report_has_what_the_worker_wrote_before_it_died() -> None:
    worker = started(Workers())
    worker.status, worker.evidence = signal.SIGSEGV, "Fatal Python error: f at app.py:3"
    text = worker.describe_exit(LOG)
    assert text == (
        f"worker process 42 was killed by signal 11 (SIGSEGV): Fatal Python error: f at app.py:3. Its log: {LOG}"
    )


def test_the_kind_of_end_in_rays_words() -> None:
    worker = started(Workers())
    assert worker.exit_type() == "SYSTEM_ERROR"
    worker.intended = True
    assert worker.exit_type() == "INTENDED_SYSTEM_EXIT"
    worker.actor = (b"actor", 0)
    assert worker.exit_type() == "INTENDED_USER_EXIT"
    worker.failed_to_construct = True
    assert worker.exit_type() == "USER_ERROR"
    worker.out_of_memory = True
    assert worker.exit_type() == "NODE_OUT_OF_MEMORY"
