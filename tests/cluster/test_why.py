"""``why``: what a value waits for, in every state that a call can be in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.api import RayContext as Session
from skate.dag import InputNode
from skate.util import state
from skate.util.state import why

from .waiting import wait_for, wait_for_file


@skate.remote
def hold(path: Path) -> str:
    path.with_suffix(".began").touch()
    wait_for_file(path)
    return "held"


@skate.remote
def take(*values: Any) -> Any:
    return values


@skate.remote
class Actor:
    def hold(self, path: Path) -> str:
        path.with_suffix(".began").touch()
        wait_for_file(path)
        return "held"

    def ask(self, other: Any, path: Path) -> Any:
        return skate.get(other.hold.remote(path))

    def ask_in_time(self, other: Any, path: Path) -> Any:
        return skate.get(other.hold.remote(path), timeout=3600)


@pytest.fixture
def gate(session: Session, tmp_path: Path) -> Path:
    return tmp_path / "gate"


def test_a_running_task(gate: Path) -> None:
    ref = hold.remote(gate)
    wait_for_file(gate.with_suffix(".began"))
    first, *stack = why(ref).splitlines()
    assert re.match(
        r"hold was called [\d.]+ s ago at .*test_why\.py:\d+ in test_a_running_task; it runs in process \d+$",
        first,
    )
    assert any("in hold" in line for line in stack)
    assert why(ref.hex()).splitlines()[0].split(";")[1] == first.split(";")[1]
    assert "it runs in process" in why(ref.task_id().hex())
    gate.touch()
    assert skate.get(ref) == "held"
    assert why(ref) == "hold has finished: its value is ready"


def test_arguments(gate: Path) -> None:
    inner = hold.remote(gate)
    wait_for_file(gate.with_suffix(".began"))
    outer = take.remote(inner, take.remote(inner))
    lines = why(outer).splitlines()
    assert lines[0].endswith("it waits for its arguments:")
    assert "  hold was called" in lines[1] and "it runs in process" in lines[1]
    assert any(line.strip() == "hold (see above)" for line in lines)
    gate.touch()
    skate.get(outer)


def test_resources(gate: Path) -> None:
    held = [hold.remote(gate) for _ in range(2)]
    wait_for(lambda: skate.available_resources().get("CPU", 0) == 0, "both CPUs to be taken")
    waiting = take.remote()
    text = wait_for(
        lambda: (text := why(waiting)).count("hold in process") == 2 and text, "the holders to be named"
    )
    assert "it waits for resources: it needs {CPU: 1}; free are {CPU: 0}. Held by:" in text
    never = take.options(num_cpus=99).remote()
    assert "it needs {CPU: 99}, and the node has {CPU: 2} in all" in why(never)
    gate.touch()
    skate.get([*held, waiting])
    skate.cancel(never)


def test_actors(gate: Path) -> None:
    one, two = Actor.remote(), Actor.remote()
    asks = one.ask.remote(two, gate)
    behind = one.hold.remote(gate)
    wait_for_file(gate.with_suffix(".began"))
    lines = why(behind).splitlines()
    assert re.search(r"it is queued in process \d+ behind what runs there:$", lines[0])
    assert "Actor.ask was called" in lines[1]
    assert re.search(r"it has waited [\d.]+ s at .*test_why\.py:\d+ in ask for:", lines[2])
    assert "Actor.hold was called" in lines[3] and "it runs in process" in lines[3]
    timed = two.ask_in_time.remote(one, gate)
    gate.touch()
    skate.get([asks, behind, timed])


def test_an_actor_whose_constructor_runs(gate: Path) -> None:
    @skate.remote(num_cpus=2)
    class Slow:
        def __init__(self, path: Path) -> None:
            skate.get(Actor.remote().hold.remote(path))

        def go(self) -> None:
            pass

    ref = Slow.remote(gate).go.remote()
    wait_for_file(gate.with_suffix(".began"))
    text = wait_for(lambda: "has waited" in why(ref) and why(ref), "the constructor to wait")
    first, second, third, *_ = text.splitlines()
    assert first.endswith("it waits for its actor Slow, which is PENDING_CREATION")
    assert re.fullmatch(r"  its constructor runs in process \d+:", second)
    assert re.fullmatch(r"    it has waited [\d.]+ s at .*test_why\.py:\d+ in __init__ for:", third)
    assert "Held by" not in text
    (creation,) = state.list_tasks(
        filters=[("type", "=", "ACTOR_CREATION_TASK"), ("name", "=", "Slow.__init__")]
    )
    assert (creation.state, creation.worker_pid) == ("RUNNING", int(second.split()[-1][:-1]))
    gate.touch()
    skate.get(ref)


def test_an_actor_that_cannot_be_placed(gate: Path) -> None:
    actor = Actor.options(num_cpus=99).remote()
    ref = actor.hold.remote(gate)
    text = wait_for(lambda: "PENDING_CREATION" in why(ref) and why(ref), "the actor to be known")
    assert "the actor needs {CPU: 99}, and the node has {CPU: 2} in all" in text
    skate.cancel(ref)


def test_a_stopped_process(gate: Path) -> None:
    @skate.remote
    def stop(path: Path) -> str:
        path.with_suffix(".pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
        return "went on"

    ref = stop.remote(gate)
    wait_for(lambda: gate.with_suffix(".pid").exists() and gate.with_suffix(".pid").read_text(), "its pid")
    pid = int(gate.with_suffix(".pid").read_text())
    wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it to stop")
    assert f"it was sent to process {pid}, which does not answer" in why(ref)
    os.kill(pid, signal.SIGCONT)
    assert skate.get(ref) == "went on"


def test_failures_and_others(session: Session) -> None:
    @skate.remote
    def fail() -> None:
        raise KeyError("x")

    ref = fail.remote()
    with pytest.raises(KeyError):
        skate.get(ref)
    assert why(ref) == "fail has finished: it failed (KeyError); get() raises the error"
    assert "no unfinished task makes it" in why(skate.put(1))
    wrong: Any = 5
    with pytest.raises(TypeError, match="why.*ObjectRef"):
        why(wrong)


def test_the_command(gate: Path) -> None:
    ref = hold.remote(gate)
    wait_for_file(gate.with_suffix(".began"))
    done = subprocess.run(
        [sys.executable, "-m", "skate", "why", ref.hex(), "--address", skate.get_runtime_context().get_temp_dir()
         + "/" + skate.get_runtime_context().get_session_name()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "it runs in process" in done.stdout
    gate.touch()
    skate.get(ref)


def test_a_compiled_graph(gate: Path) -> None:
    @skate.remote(num_cpus=0)
    class Step:
        def hold(self, path: Path) -> Path:
            wait_for_file(path)
            return path

        def after(self, value: Any) -> Any:
            return value

    first, second = Step.remote(), Step.remote()
    with InputNode() as given:
        graph = second.after.bind(first.hold.bind(given)).experimental_compile()
    ref, behind = graph.execute(gate), graph.execute(gate)
    text = wait_for(lambda: "Step.hold runs in process" in (found := why(ref)) and found, "the step to run")
    assert "Step.after in process" in text
    assert "waits for Step.hold" in text
    assert "in hold\n" in text
    assert "Step.hold runs in process" in why(behind)
    assert "for execution 0 before it" in why(behind)
    assert why(f"{graph.get_id()}:0").splitlines()[0] == text.splitlines()[0]
    assert "execution 0 of the compiled graph" in why()
    gate.touch()
    assert [ref.get(), behind.get()] == [gate, gate]
    assert "has finished" in why(ref)
    # How it was set up is nobody's business.
    assert {row.name for row in state.list_tasks()} == {"Step.__init__"}


def test_what_drivers_wait_for(gate: Path) -> None:
    assert why() == "no driver waits for an object, and no call is under way"
    ref = hold.remote(gate)
    wait_for_file(gate.with_suffix(".began"))
    assert why().splitlines()[0] == "no driver waits for an object; under way:"
    assert "hold was called" in why()
    thread = threading.Thread(target=skate.get, args=(ref,))
    thread.start()
    text = wait_for(lambda: "has waited" in (found := why()) and found, "the driver to wait")
    assert text.startswith(f"driver {os.getpid()} has waited")
    assert "it runs in process" in text
    gate.touch()
    thread.join()
