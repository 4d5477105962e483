"""What a value waits for, in words, in every state that a call can be in."""

from __future__ import annotations

from typing import Any

import pytest

from skate._base import ids
from skate._base.resources import UNIT
from skate._base.waits import Call, Lane, Situation, Wait, constructor
from skate._scheduling import requirements
from skate.util.state.reasons import Facts, explain

OWNER = b"owner___"
WORKER = b"worker__".hex()
PID = 17


def task_id(seq: int) -> str:
    return ids.task_id(OWNER, seq).hex()


def object_id(seq: int, index: int = 0) -> str:
    return ids.object_id(OWNER, seq, index).hex()


class Session:
    """A session told of in rows, as the processes tell it."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Any]] = {}
        self.lanes: list[Lane] = []
        self.waits: list[Wait] = []
        self.facts: dict[str, Any] = {
            "finished": {}, "workers": {WORKER: {"pid": PID, "worker_id": WORKER}}, "actors": {},
            "stacks": {PID: ["Thread 1\n  f at app.py:3\n"]}, "free": {"CPU": 0.0}, "total": {"CPU": 2.0},
        }  # fmt: skip

    def call(self, seq: int, name: str, **more: Any) -> str:
        """Add an unfinished call; return the id of its object."""
        row = {
            "task_id": task_id(seq), "name": name, "worker": "", "actor": "", "needs": [], "resources": {},
            "environment": "", "seconds": 2.0, "site": "",
        }  # fmt: skip
        self.calls[task_id(seq)] = row | more
        return object_id(seq)

    def runs(self, *seqs: int, queued: tuple[int, ...] = (), slots: int = 1) -> None:
        self.lanes.append(Lane(WORKER, slots, tuple(map(task_id, seqs)), tuple(map(task_id, queued))))

    def waits_for(self, caller: int, *objects: str, certain: bool = True) -> None:
        self.waits.append(Wait(WORKER, 1, task_id(caller), objects, certain, "app.py:7 in g", 90.0))

    def why(self, wanted: str) -> list[str]:
        calls = {
            key: Call(key, row["name"], row["worker"], row["actor"], tuple(row["needs"]))
            for key, row in self.calls.items()
        }
        situation = Situation(calls, tuple(self.lanes), tuple(self.waits))
        return explain(wanted, Facts(situation, self.calls, **self.facts))

    def said(self, wanted: str) -> str:
        return "\n".join(self.why(wanted))


@pytest.fixture
def session() -> Session:
    return Session()


# ---------------------------------------------------------------------- not under way


def test_nothing_makes_it(session: Session) -> None:
    assert "no unfinished task makes it: it was put()" in session.said(object_id(1))


def test_it_is_there(session: Session) -> None:
    session.facts["finished"] = {
        task_id(1): {"name": "f", "state": "FINISHED"},
        task_id(2): {"name": "g", "state": "FAILED", "error_type": "ValueError"},
        task_id(3): {"name": "h", "state": "FAILED", "error_type": None},
    }
    assert session.why(object_id(1)) == ["f has finished: its value is ready"]
    assert session.why(object_id(2)) == ["g has finished: it failed (ValueError); get() raises the error"]
    assert session.why(object_id(3)) == ["h has finished: it failed (an error); get() raises the error"]


def test_the_object_or_its_task_may_be_asked_for(session: Session) -> None:
    wanted = session.call(1, "f", worker=WORKER)
    session.runs(1)
    assert session.why(wanted) == session.why(task_id(1)) == session.why(object_id(1, 5))


# ---------------------------------------------------------------------- at a worker


def test_it_runs_and_where(session: Session) -> None:
    wanted = session.call(1, "f", worker=WORKER, site="app.py:9 in main")
    session.runs(1)
    assert session.why(wanted) == [
        f"f was called 2.0 s ago at app.py:9 in main; it runs in process {PID}",
        "  Thread 1",
        "    f at app.py:3",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(1.26, "1.3 s"), (119.0, "119.0 s"), (600.0, "10 min")])
def test_for_how_long(session: Session, seconds: float, words: str) -> None:
    wanted = session.call(1, "f", worker=WORKER, seconds=seconds)
    session.runs(1)
    assert session.why(wanted)[0].startswith(f"f was called {words} ago; ")


def test_it_waits_for_others(session: Session) -> None:
    inner = session.call(2, "inner", worker=WORKER)
    wanted = session.call(1, "outer", worker=WORKER)
    session.runs(1)
    session.runs(2)
    session.waits_for(1, inner, certain=False)
    assert session.why(wanted)[:3] == [
        f"outer was called 2.0 s ago; it runs in process {PID}",
        "  it has waited 90.0 s at app.py:7 in g (with a timeout) for:",
        f"    inner was called 2.0 s ago; it runs in process {PID}",
    ]


def test_it_is_queued_behind_what_runs(session: Session) -> None:
    for seq, name in enumerate(["first", "second", "third"], 1):
        session.call(seq, name, worker=WORKER, actor="a")
    session.runs(1, queued=(2, 3))
    assert session.why(object_id(3))[:2] == [
        f"third was called 2.0 s ago; it is queued in process {PID} behind what runs there, and behind 1 more:",
        f"  first was called 2.0 s ago; it runs in process {PID}",
    ]
    assert session.why(object_id(2))[0].endswith("behind what runs there:")


def test_it_was_sent_ahead_of_what_runs(session: Session) -> None:
    session.call(1, "long", worker=WORKER)
    wanted = session.call(2, "short", worker=WORKER)
    session.facts["workers"][WORKER]["begun"] = (OWNER.hex(), 1)
    session.runs(1)
    assert session.why(wanted)[0].endswith(f"it was sent ahead to process {PID}, which still runs:")
    assert session.why(wanted)[1].startswith("  long was called")


def test_it_is_between_processes(session: Session) -> None:
    wanted = session.call(1, "f", worker=WORKER)
    session.facts["workers"][WORKER]["begun"] = (OWNER.hex(), 1)
    assert session.said(wanted).endswith(f"it is on its way to or from process {PID}")


def test_its_process_does_not_answer(session: Session) -> None:
    wanted = session.call(1, "f", worker=WORKER)
    session.facts["stacks"] = {}
    assert f"it was sent to process {PID}, which does not answer" in session.said(wanted)


# ---------------------------------------------------------------------- at its caller


def test_it_waits_for_arguments_each_told_once(session: Session) -> None:
    needs = [session.call(seq, f"part{seq}", worker=WORKER) for seq in range(2, 7)]
    session.runs(*range(2, 7), slots=5)
    session.facts["stacks"] = {PID: []}
    wanted = session.call(1, "whole", needs=[*needs, needs[0]])
    found = session.why(wanted)
    assert found[0] == "whole was called 2.0 s ago; it waits for its arguments:"
    assert [line.split(" ")[2] for line in found[1:4]] == ["part2", "part3", "part4"]
    assert found[4:] == ["  and 2 more"]


def test_what_was_told_is_not_told_again(session: Session) -> None:
    root = session.call(1, "root", worker=WORKER)
    left, right = session.call(2, "left", needs=[root]), session.call(3, "right", needs=[root])
    session.runs(1)
    wanted = session.call(4, "end", needs=[left, right])
    assert session.why(wanted)[-1] == "    root (see above)"


def test_calls_that_wait_for_each_other_come_to_an_end(session: Session) -> None:
    session.call(1, "f", needs=[object_id(2)])
    session.call(2, "g", needs=[object_id(1)])
    assert session.why(object_id(1))[-1] == "    f (see above)"


def test_a_long_chain_is_told_in_part(session: Session) -> None:
    for seq in range(1, 30):
        session.call(seq, f"f{seq}", needs=[object_id(seq + 1)])
    found = session.why(object_id(1))
    assert len(found) == 9
    assert found[-1].endswith("it waits for more than is shown here")


# ---------------------------------------------------------------------- for resources


def test_what_it_needs_is_held_by_others(session: Session) -> None:
    session.call(1, "busy", worker=WORKER)
    session.facts["workers"] = {
        WORKER: {"pid": 17, "resources": {"CPU": 1.0}, "begun": (OWNER.hex(), 1)},
        "w2": {"pid": 18, "resources": {"CPU": 0.5, "GPU": 0.0}, "name": "an actor", "begun": None},
        "w3": {"pid": 19, "resources": {"CPU": 0.5}},
        "w4": {"pid": 20, "resources": {"GPU": 1.0}},
        "w5": {"pid": 21},
    }
    wanted = session.call(2, "f", resources={"CPU": UNIT})
    assert session.why(wanted) == [
        "f was called 2.0 s ago; it waits for resources: it needs {CPU: 1}; free are {CPU: 0}. Held by:",
        "  busy in process 17: {CPU: 1}",
        "  an actor in process 18: {CPU: 0.5}",
        "  an idle lease in process 19: {CPU: 0.5}",
    ]


def test_there_is_never_enough(session: Session) -> None:
    wanted = session.call(1, "f", resources={"GPU": UNIT})
    assert session.said(wanted).endswith(
        "it needs {GPU: 1}, and the node has {GPU: 0} in all: it waits until that changes"
    )


def test_there_is_enough(session: Session) -> None:
    session.facts["free"] = {"CPU": 2.0}
    wanted = session.call(1, "f", resources={"CPU": UNIT})
    assert session.said(wanted).endswith(
        "it needs {CPU: 1}, which is free: a process is being started for it"
    )
    wanted = session.call(2, "g")
    assert "it needs no resources, only a process, which is free" in session.said(wanted)


def test_no_node_has_the_labels(session: Session) -> None:
    packed = requirements.encode({"label_selector": {"zone": "north"}})
    session.facts["labels"] = {"zone": "south"}
    wanted = session.call(1, "f", resources={"CPU": UNIT}, requirement=packed.hex())
    said = session.said(wanted)
    assert "it waits until that changes: it needs a node with" in said
    assert "the only node has zone=south" in said


def test_its_environment_is_being_prepared(session: Session) -> None:
    session.facts["environments"] = [
        {"state": "ready", "key": "k", "runtime_env": {}, "log": "", "actors": []},
        {"state": "preparing", "key": "k", "runtime_env": {"pip": 1, "env_vars": 2}, "log": "/s/e.log",
         "actors": ["a"]},
    ]  # fmt: skip
    wanted = session.call(1, "f", environment="k")
    assert session.said(wanted).endswith(
        "its environment (env_vars, pip) is being prepared; the output of that is in /s/e.log"
    )
    session.facts["actors"] = {
        "a": {"state": "PENDING_CREATION", "class_name": "A", "placement": {}, "required_resources": {}}
    }
    wanted = session.call(2, "A.go", actor="a")
    assert session.why(wanted)[1].startswith("  its environment (env_vars, pip) is being prepared")


# ---------------------------------------------------------------------- for an actor


def test_nobody_knows_the_actor(session: Session) -> None:
    wanted = session.call(1, "A.go", actor="a")
    assert "which this session does not know (any more)" in session.said(wanted)


def test_earlier_calls_hold_it_up(session: Session) -> None:
    session.facts["actors"] = {"a": {"state": "ALIVE", "class_name": "A"}}
    wanted = session.call(1, "A.go", actor="a")
    assert "it waits behind earlier calls of its actor" in session.said(wanted)


def test_the_actor_restarts_and_waits_itself(session: Session) -> None:
    session.facts["actors"] = {
        "a": {
            "state": "RESTARTING",
            "class_name": "A",
            "death_cause": "signal 9",
            "placement": {"CPU": 1.0},
            "required_resources": {"CPU": 1.0},
        }
    }
    wanted = session.call(1, "A.go", actor="a")
    assert session.why(wanted)[:2] == [
        "A.go was called 2.0 s ago; it waits for its actor A, which is RESTARTING (signal 9)",
        "  the actor waits for resources: it needs {CPU: 1}; free are {CPU: 0}. Held by:",
    ]


def test_the_constructor_of_the_actor_runs(session: Session) -> None:
    """Not: that it waits for the CPU that it holds itself."""
    session.facts["actors"] = {
        "a": {"state": "PENDING_CREATION", "class_name": "A", "placement": {"CPU": 1.0}, "death_cause": ""}
    }
    session.facts["workers"][WORKER] |= {"actor_id": "a", "resources": {"CPU": 1.0}, "name": "A"}
    wanted = session.call(1, "A.go", actor="a")
    assert session.why(wanted) == [
        "A.go was called 2.0 s ago; it waits for its actor A, which is PENDING_CREATION",
        "  its constructor runs in process 17:",
        "    Thread 1",
        "      f at app.py:3",
    ]


def test_the_constructor_of_the_actor_waits(session: Session) -> None:
    session.facts["actors"] = {"a": {"state": "RESTARTING", "class_name": "A", "placement": {"CPU": 1.0}}}
    session.facts["workers"][WORKER] |= {"actor_id": "a"}
    other = session.call(2, "f", worker=WORKER)
    session.waits.append(Wait(WORKER, 1, constructor(WORKER), (other,), True, "app.py:7 in __init__", 9.0))
    lines = session.why(session.call(1, "A.go", actor="a"))
    assert lines[1] == "  its constructor runs in process 17:"
    assert lines[2] == "    it has waited 9.0 s at app.py:7 in __init__ for:"
    assert lines[3].startswith("      f was called")


def test_the_process_that_constructs_does_not_answer(session: Session) -> None:
    session.facts["actors"] = {
        "a": {"state": "PENDING_CREATION", "class_name": "A", "placement": {}, "required_resources": {}}
    }
    session.facts["workers"][WORKER] |= {"actor_id": "a"}
    session.facts["stacks"] = {}
    assert "process 17 has it, and does not answer" in session.said(session.call(1, "A.go", actor="a"))


def test_a_default_actor_waits_for_no_cpu(session: Session) -> None:
    session.facts["actors"] = {
        "a": {"state": "PENDING_CREATION", "class_name": "A", "placement": {"CPU": 1.0},
              "required_resources": {}}
    }  # fmt: skip
    said = session.said(session.call(1, "A.go", actor="a"))
    assert "the actor needs no resources, only a process, which is free" in said


def test_a_default_actor_waits_for_a_node_with_a_cpu(session: Session) -> None:
    session.facts["total"] = {"GPU": 1.0}
    session.facts["actors"] = {
        "a": {"state": "PENDING_CREATION", "class_name": "A", "placement": {"CPU": 1.0},
              "required_resources": {}}
    }  # fmt: skip
    said = session.said(session.call(1, "A.go", actor="a"))
    assert "the actor needs {CPU: 1}, and the node has {CPU: 0} in all" in said


def test_the_actor_is_dead(session: Session) -> None:
    session.facts["actors"] = {"a": {"state": "DEAD", "class_name": "A", "death_cause": ""}}
    wanted = session.call(1, "A.go", actor="a")
    assert session.why(wanted) == ["A.go was called 2.0 s ago; it waits for its actor A, which is DEAD"]


def test_a_call_that_was_not_told_of(session: Session) -> None:
    """It is not said to be through, where there are more calls than were told."""
    assert "finished long ago" in session.said(object_id(9))
    session.facts["unseen"] = "70000 more are under way"
    assert session.said(object_id(9)) == "it is none of the calls looked at; 70000 more are under way"
