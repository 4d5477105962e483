"""The columns of the state API beyond names and states; what ended; logs; the commands about single things."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.api import RayContext as Session
from skate.util import state
from skate.util.state import RayStateApiException, StateApiClient
from skate.util.state.common import (
    GetApiOptions,
    ListApiOptions,
    StateResource,
    SummaryApiOptions,
    SummaryResource,
    WorkerState,
)

from .waiting import first_time, wait_for, wait_for_file


@skate.remote
def pid() -> int:
    return os.getpid()


class Plain:
    def pid(self) -> int:
        return os.getpid()

    def say(self, *lines: str) -> None:
        for line in lines:
            print(line)


@skate.remote
class Actor(Plain):
    pass


@skate.remote
class Named(Plain):
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Named({self.name})"


def command(*arguments: str, session: Session, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skate", *arguments, "--address", session["session_dir"]],
        capture_output=True, text=True, check=check,
    )  # fmt: skip


def dead(process: int) -> WorkerState:
    """Return the row of a process that ended, when it is there."""

    def look() -> list[WorkerState]:
        return state.list_workers(filters=[("pid", "=", process), ("is_alive", "=", False)], limit=1000)

    return wait_for(look, f"the death of {process}")[0]


# ---------------------------------------------------------------------- tasks


def test_what_is_known_of_a_task(session: Session) -> None:
    @skate.remote(num_cpus=0.5, runtime_env={"env_vars": {"MODE": "test"}})
    def outer() -> str:
        return skate.get(inner.remote())

    @skate.remote
    def inner() -> str:
        return skate.get_runtime_context().get_task_id() or ""

    inner_id = skate.get(outer.remote())
    row, under = state.list_tasks(filters=[("name", "=", "outer")])[0], state.get_task(inner_id)
    assert under is not None
    assert (row.attempt_number, row.language, row.is_debugger_paused) == (0, "PYTHON", False)
    assert row.required_resources == {"CPU": 0.5}
    assert json.loads((row.runtime_env_info or {})["serialized_runtime_env"]) == {
        "env_vars": {"MODE": "test"}
    }
    assert under.parent_task_id == row.task_id
    job = skate.JobID.from_hex(skate.get_runtime_context().get_job_id())
    assert row.parent_task_id == skate.TaskID.for_driver_task(job).hex()
    assert row.events is not None
    assert [one["state"] for one in row.events] == ["PENDING_ARGS_AVAIL", "RUNNING", "FINISHED"]
    assert [one["created_ms"] for one in row.events] == sorted(one["created_ms"] for one in row.events)
    assert (row.task_log_info or {})["stdout_file"] == f"worker-{row.worker_id}.log"


def test_what_an_actor_starts_has_it_as_its_parent(session: Session) -> None:
    @skate.remote
    class Starter:
        def __init__(self) -> None:
            skate.get(pid.options(name="of the constructor").remote())
            self.inner = Actor.options(num_cpus=0).remote()

        def start(self) -> str:
            skate.get([pid.options(name="of the call").remote(), self.inner.pid.remote()])
            return skate.get_runtime_context().get_task_id() or ""

    starter = Starter.options(num_cpus=0).remote()
    call = skate.get(starter.start.remote())
    rows = {row.name: row for row in state.list_tasks()}
    constructor = skate.TaskID.for_actor_creation_task(starter._actor_id).hex()
    assert rows["Starter.__init__"].task_id == constructor
    assert rows["of the constructor"].parent_task_id == constructor
    assert rows["of the call"].parent_task_id == rows["Actor.pid"].parent_task_id == call
    assert (rows["of the call"].func_or_class_name, rows["Actor.pid"].func_or_class_name) == (
        "pid",
        "Actor.pid",
    )


def test_attempts_are_counted(session: Session, tmp_path: Path) -> None:
    @skate.remote(max_retries=2)
    def crashes_once() -> int:
        if first_time(tmp_path / "once"):
            os._exit(1)
        return os.getpid()

    ref = crashes_once.remote()
    last = skate.get(ref)
    (row,) = state.list_tasks(filters=[("name", "=", "crashes_once")])
    assert (row.attempt_number, row.state, row.worker_pid) == (1, "FINISHED", last)
    (held,) = state.get_objects(ref.hex())
    assert held.attempt_number == 2


def test_a_constructor_is_a_task(session: Session) -> None:
    class Broken:
        def __init__(self) -> None:
            raise ValueError("on purpose")

        def ready(self) -> None: ...

    actor, broken = Actor.remote(), skate.remote(Broken).remote()
    skate.get(actor.pid.remote())
    with pytest.raises(skate.exceptions.ActorDiedError):
        skate.get(broken.ready.remote())
    rows = {row.name: row for row in state.list_tasks(filters=[("type", "=", "ACTOR_CREATION_TASK")])}
    made, failed = rows["Actor.__init__"], rows["Broken.__init__"]
    assert (made.state, made.actor_id) == ("FINISHED", actor._actor_id.hex())
    assert made.task_id == skate.TaskID.for_actor_creation_task(actor._actor_id).hex()
    assert f"{__file__}:" in str(made.call_site)
    assert (failed.state, failed.error_type) == ("FAILED", "ActorDiedError")
    assert state.summarize_tasks()["cluster"]["total_actor_scheduled"] == 2


def test_tasks_that_are_not_to_be_recorded(session: Session, tmp_path: Path) -> None:
    @skate.remote(enable_task_events=False)
    def hidden(path: Path) -> int:
        wait_for_file(path)
        return skate.get(shown.remote())

    @skate.remote
    def shown() -> int:
        return 1

    @skate.remote(enable_task_events=False)
    class Hidden:
        def quiet(self) -> int:
            return 1

        @skate.method(enable_task_events=True)
        def loud(self) -> int:
            return 1

    actor, other = Hidden.remote(), Actor.remote()
    ref = hidden.remote(tmp_path / "go")
    skate.get([actor.quiet.remote(), actor.loud.remote()])
    skate.get([other.pid.options(enable_task_events=False).remote(), other.say.remote()])
    names = {"Hidden.loud", "Actor.say", "Hidden.__init__", "Actor.__init__"}
    assert {row.name for row in state.list_tasks()} == names  # while it runs
    (tmp_path / "go").touch()
    assert skate.get(ref) == 1
    assert {row.name for row in state.list_tasks()} == names | {"shown"}


# ---------------------------------------------------------------------- actors, workers, nodes, jobs


def test_what_is_known_of_an_actor(session: Session) -> None:
    named = Named.options(name="it", runtime_env={"env_vars": {"A": "1"}}, num_cpus=0.5).remote("one")
    process = skate.get(named.pid.remote())
    row = state.get_actor(named._actor_id.hex())
    assert row is not None
    assert (row.repr_name, row.pid, row.required_resources) == ("Named(one)", process, {"CPU": 0.5})
    assert json.loads(row.serialized_runtime_env or "") == {"env_vars": {"A": "1"}}
    assert f"{__file__}:" in str(row.call_site)
    assert row.death_cause is None and row.end_time_ms is None
    assert row.creation_time_ms and row.start_time_ms and row.creation_time_ms <= row.start_time_ms
    assert named._actor_id.job_id().hex() == row.job_id
    skate.kill(named)
    row = state.get_actor(named._actor_id.hex())
    assert row is not None and row.end_time_ms
    context = (row.death_cause or {})["actor_died_error_context"]
    assert (context["name"], context["never_started"]) == ("it", False)


def test_how_processes_ended(session: Session) -> None:
    killed, crashed, left = (Actor.remote() for _ in range(3))
    pids = skate.get([one.pid.remote() for one in (killed, crashed, left)])
    skate.kill(killed)
    os.kill(pids[1], signal.SIGSEGV)
    skate.get(left.__ray_call__.remote(lambda self: None))
    with pytest.raises(skate.exceptions.ActorDiedError):
        skate.get(left.__ray_terminate__.remote())
    assert [dead(one).exit_type for one in pids] == [
        "INTENDED_USER_EXIT",
        "SYSTEM_ERROR",
        "INTENDED_USER_EXIT",
    ]
    row = dead(pids[1])
    assert (row.state, row.worker_type, row.is_alive) == ("DEAD", "WORKER", False)
    assert "signal 11 (SIGSEGV)" in str(row.exit_detail)
    times = row.worker_launch_time_ms, row.worker_launched_time_ms, row.start_time_ms, row.end_time_ms
    assert all(times) and list(times) == sorted(times)  # type: ignore[type-var]
    assert state.get_worker(row.worker_id) == row

    class Broken:
        def __init__(self) -> None:
            os.environ["BROKEN"] = "1"
            raise ValueError(os.getpid())

        def ready(self) -> None: ...

    with pytest.raises(skate.exceptions.ActorDiedError) as raised:
        skate.get(skate.remote(Broken).remote().ready.remote())
    found = re.search(r"ValueError: (\d+)", str(raised.value))
    assert found is not None
    assert dead(int(found[1])).exit_type == "USER_ERROR"


def test_a_task_that_crashed_has_its_process(session: Session) -> None:
    @skate.remote(max_retries=0)
    def crashes() -> None:
        os._exit(7)

    with pytest.raises(skate.exceptions.WorkerCrashedError):
        skate.get(crashes.remote())
    (row,) = wait_for(
        lambda: [row for row in state.list_workers(limit=1000) if row.exit_type == "SYSTEM_ERROR"],
        "the certificate",
    )
    assert "exited with code 7" in str(row.exit_detail)


def test_nodes_and_jobs(session: Session) -> None:
    (node,) = state.list_nodes()
    assert node.labels["ray.io/node-id"] == node.node_id
    assert node.start_time_ms and node.end_time_ms is None
    assert state.get_node(node.node_id) == node
    (job,) = state.list_jobs()
    assert (job.driver_info or {})["pid"] == str(os.getpid())
    assert (job.metadata, job.runtime_env, job.driver_node_id) == ({}, {}, node.node_id)


def test_there_are_no_placement_groups_unless_somebody_makes_one(session: Session) -> None:
    assert state.list_placement_groups() == []
    assert state.get_placement_group("00") is None


def test_events(session: Session) -> None:
    actor = Actor.options(max_restarts=1).remote()
    process = skate.get(actor.pid.remote())
    os.kill(process, signal.SIGKILL)
    found = wait_for(
        lambda: [row for row in state.list_cluster_events() if row.source_type == "ACTORS"], "the restart"
    )[0]
    assert found.severity == "WARNING" and f"process {process} was killed by signal 9" in found.message
    kinds = {row.source_type for row in state.list_cluster_events()}
    assert {"JOBS", "NODES", "WORKERS", "ACTORS"} <= kinds
    assert state.list_cluster_events(filters=[("event_id", "=", found.event_id)]) == [found]
    assert "is being restarted" in command("list", "cluster-events", session=session).stdout


def test_the_client(session: Session) -> None:
    skate.get([pid.remote() for _ in range(3)])
    client = StateApiClient()
    assert (
        client.get_address() == session["session_dir"] == StateApiClient(session["session_dir"]).get_address()
    )
    assert client.get_version() == skate.__version__
    rows = client.list(StateResource.TASKS, ListApiOptions(limit=2), raise_on_missing_output=True)
    assert len(rows) == 2
    assert client.get(StateResource.TASKS, rows[0].task_id, GetApiOptions()) == rows[0]
    assert client.get(StateResource.NODES, "nobody", None) is None
    assert client.get(StateResource.OBJECTS, "00" * 16, None) == []
    with pytest.raises(RayStateApiException, match="have no ids"):
        client.get(StateResource.RUNTIME_ENVS, "x", None)
    with pytest.warns(UserWarning):
        both = ListApiOptions(filters=[("state", "=", "A"), ("state", "=", "B")])
        assert client.list(StateResource.TASKS, both, raise_on_missing_output=True) == []
    options = SummaryApiOptions(filters=[("name", "=", "pid")])
    found = client.summary(SummaryResource.TASKS, options, raise_on_missing_output=True)["cluster"]
    assert found["summary"]["pid"]["state_counts"] == {"FINISHED": 3}
    tree = client.summary(SummaryResource.TASKS, SummaryApiOptions(summary_by="lineage"), True)["cluster"][
        "summary"
    ]
    assert [(one["name"], one["type"], len(one["children"])) for one in tree] == [("pid", "GROUP", 3)]
    assert client.summary(SummaryResource.ACTORS, None, True)["cluster"]["total_actors"] == 0
    assert client.summary(SummaryResource.OBJECTS, None, True)["cluster"]["summary_by"] == "callsite"
    with pytest.raises(RayStateApiException, match="'func_name' or 'lineage'"):
        client.summary(SummaryResource.TASKS, SummaryApiOptions(summary_by="colour"), True)
    with pytest.raises(RayStateApiException, match="no session answers"):
        StateApiClient("/nowhere").list(StateResource.TASKS, ListApiOptions(), True)


def test_filters_are_checked_even_if_there_is_nothing(session: Session) -> None:
    with pytest.raises(RayStateApiException, match="no column 'colour'"):
        state.list_actors(filters=[("colour", "=", "red")])
    assert state.list_actors(filters=[("state", "=", "alive")]) == []


# ---------------------------------------------------------------------- logs


def test_logs_by_actor_task_and_process(session: Session) -> None:
    actor = Actor.remote()
    ref = actor.say.remote("\x1b[31mred\x1b[0m", "second", "third")
    process = skate.get(actor.pid.remote())
    skate.get(ref)

    def printed(**which: Any) -> str:
        return "".join(map(str, state.get_log(**which)))

    hexed = actor._actor_id.hex()
    wait_for(
        lambda: state.list_logs(glob_filter="worker-*") and "third" in printed(actor_id=hexed), "the lines"
    )
    whole = printed(actor_id=hexed)
    assert whole.splitlines()[-3:] == ["\x1b[31mred\x1b[0m", "second", "third"]
    assert printed(task_id=ref.task_id().hex()) == printed(pid=process) == whole
    assert printed(actor_id=hexed, tail=1) == "third\n"
    assert printed(actor_id=hexed, tail=0) == ""
    assert printed(actor_id=hexed, tail=1000) == whole
    assert "red\n" in printed(actor_id=hexed, filter_ansi_code=True)
    assert b"".join(state.get_log(pid=process, encoding=None)) == whole.encode()  # type: ignore[arg-type]
    (name,) = state.list_logs(glob_filter="worker-*")["worker"]
    assert printed(filename=name) == whole
    following = state.get_log(actor_id=hexed, follow=True, tail=1, _interval=0.01)
    assert next(following) == "third\n"
    actor.say.remote("fourth")
    assert next(following) == "fourth\n"
    following.close()  # type: ignore[attr-defined]


def test_logs_that_are_not_there(session: Session) -> None:
    assert state.list_logs()["control"] == ["control.log"]
    for which, text in (
        ({}, "which log"), ({"actor_id": "00"}, "does not know the actor 00"), ({"filename": "x.log"}, "no log 'x.log'"),
        ({"pid": 1}, "does not know the process 1"), ({"filename": "../control.db"}, "name in the folder"),
        ({"submission_id": "raysubmit_1"}, "no job submission"),
    ):  # fmt: skip
        with pytest.raises(RayStateApiException, match=text):
            state.get_log(**which)  # type: ignore[arg-type]
    with pytest.raises(RayStateApiException, match="no such file|No such file|no session"):
        state.list_logs(address="/nowhere")


# ---------------------------------------------------------------------- the command line


def test_get_shows_everything_of_one_thing(session: Session) -> None:
    named = Named.options(name="it").remote("one")
    skate.get(named.pid.remote())
    hexed = named._actor_id.hex()
    out = command("get", "actor", hexed, session=session).stdout
    assert re.search(r"^repr_name +Named\(one\)$", out, re.MULTILINE)
    assert command("get", "actors", hexed[:10], session=session).stdout == out
    (row,) = json.loads(command("get", "actor", hexed, "--json", session=session).stdout)
    assert row["name"] == "it"
    wrong = command("get", "task", "ffff", session=session, check=False)
    assert wrong.returncode == 1 and "no task_id 'ffff'; `skate list tasks`" in wrong.stderr
    assert "labels" in command("list", "nodes", "--detail", session=session).stdout
    assert (
        json.loads(command("list", "nodes", "--format", "json", session=session).stdout)[0]["state"]
        == "ALIVE"
    )


def test_kill_actor(session: Session) -> None:
    one = Actor.options(name="one", max_restarts=1).remote()
    first = skate.get(one.pid.remote())
    assert "was asked to end" in command("kill-actor", "one", session=session).stdout
    assert wait_for(lambda: (state.get_actor(one._actor_id.hex()) or one).num_restarts, "the restart") == 1
    again = skate.get(one.pid.options(max_task_retries=-1).remote())
    assert again != first
    command("kill-actor", "--name", "one", "--no-restart", "--force", session=session)
    with pytest.raises(skate.exceptions.ActorDiedError, match="killed by `skate kill-actor`"):
        skate.get(one.pid.remote())
    for arguments, text in (
        (("one",), "no living actor"),
        ((), "which actor"),
        (("--name", "x"), "no living actor"),
    ):
        wrong = command("kill-actor", *arguments, session=session, check=False)
        assert wrong.returncode == 1 and text in wrong.stderr


def test_kill_actor_asks_for_the_namespace_where_names_meet(session: Session) -> None:
    actors = [Actor.options(name="one", namespace=space).remote() for space in ("a", "b")]
    skate.get([actor.pid.remote() for actor in actors])
    wrong = command("kill-actor", "one", session=session, check=False)
    assert "say --namespace, one of a, b" in wrong.stderr
    command("kill-actor", "one", "--namespace", "b", session=session)
    with pytest.raises(skate.exceptions.ActorDiedError):
        skate.get(actors[1].pid.remote())
    assert skate.get(actors[0].pid.remote())


def test_health_check(session: Session) -> None:
    assert command("health-check", session=session).stdout.startswith("healthy: 1 node(s), 2 CPUs")
    wrong = subprocess.run(
        [sys.executable, "-m", "skate", "health-check", "--address", "/nowhere"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert wrong.returncode == 1 and "no session answers" in wrong.stderr


def test_logs_in_rays_words(session: Session) -> None:
    actor = Actor.remote()
    ref = actor.say.remote("a line")
    process = skate.get(actor.pid.remote())
    wait_for(lambda: "a line" in command("logs", str(process), session=session).stdout, "the line")
    for arguments in (
        ("actor", "--id", actor._actor_id.hex()), ("worker", "--pid", str(process)), ("task", "--id", ref.task_id().hex()),
        ("actor", "--pid", str(process), "--tail", "1"), ("cluster", f"worker-{_worker(process)}.log"),
    ):  # fmt: skip
        assert "a line" in command("logs", *arguments, session=session).stdout
    assert command("logs", "cluster", "node*", session=session).stdout.splitlines()[1].startswith("node.log")
    wrong = command("logs", "actor", session=session, check=False)
    assert wrong.returncode == 1 and "Say --id or --pid" in wrong.stderr


def _worker(process: int) -> str:
    return state.list_workers(filters=[("pid", "=", process)])[0].worker_id


def test_microbenchmark() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "skate", "microbenchmark", "--seconds", "0.01", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = json.loads(made.stdout)
    assert len(rows) == 7 and all(row["rate"] > 0 for row in rows)
