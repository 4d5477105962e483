"""How actors end, what they do then, and how they come back."""

from __future__ import annotations

import gc
import os

import pytest
import ray
from ray.exceptions import ActorDiedError, RayActorError

from compat.conformance.helpers import Counter, Gate, Record, dead, differs, needs_processes, until

pytestmark = pytest.mark.usefixtures("session")


# ---------------------------------------------------------------------- ends


def test_kill() -> None:
    counter = Counter.remote()
    ray.get(counter.add.remote())
    ray.kill(counter)
    until(lambda: dead(counter), "the end of the actor")
    with pytest.raises(ActorDiedError):
        ray.get(counter.add.remote())


def test_kill_fails_what_runs() -> None:
    gate, counter = Gate.remote(), Counter.remote()
    ref = counter.wait.remote(gate)
    ray.get(gate.until_arrived.remote())
    ray.kill(counter)
    with pytest.raises(RayActorError):
        ray.get(ref)


def test_kill_takes_handles_only() -> None:
    with pytest.raises((TypeError, ValueError)):
        ray.kill(ray.put(1))


def test_kill_twice() -> None:
    counter = Counter.remote()
    ray.get(counter.add.remote())
    ray.kill(counter)
    ray.kill(counter)
    until(lambda: dead(counter), "the end of the actor")
    ray.kill(counter)


def test_exit_actor() -> None:
    @ray.remote(max_restarts=5)
    class Leaver:
        def leave(self):
            ray.actor.exit_actor()

        def here(self):
            return True

    leaver = Leaver.remote()
    assert ray.get(leaver.here.remote())
    with pytest.raises(RayActorError):
        ray.get(leaver.leave.remote())
    with pytest.raises(ActorDiedError):
        ray.get(leaver.here.remote())


def test_exit_actor_outside_of_an_actor() -> None:
    with pytest.raises(TypeError):
        ray.actor.exit_actor()


@needs_processes
def test_an_actor_ends_with_the_actor_that_made_it() -> None:
    @ray.remote
    class Parent:
        def make(self):
            self.child = Counter.remote(5)
            ray.get(self.child.add.remote())
            return self.child

    parent = Parent.remote()
    child = ray.get(parent.make.remote())
    assert ray.get(child.add.remote()) == 7
    ray.kill(parent)
    until(lambda: dead(child), "the end of the child")


@needs_processes
def test_a_detached_actor_outlives_the_actor_that_made_it() -> None:
    @ray.remote
    class Parent:
        def make(self):
            self.child = Counter.options(name="outliving", lifetime="detached").remote(5)
            return ray.get(self.child.add.remote())

    parent = Parent.remote()
    assert ray.get(parent.make.remote()) == 6
    ray.kill(parent)
    until(lambda: dead(parent), "the end of the parent")
    child = ray.get_actor("outliving")
    assert ray.get(child.add.remote()) == 7
    ray.kill(child)


@needs_processes
def test_a_crash() -> None:
    counter = Counter.remote()
    with pytest.raises(ActorDiedError):
        ray.get(counter.crash.remote())
    with pytest.raises(RayActorError):
        ray.get(counter.add.remote())


def test_a_constructor_that_raises() -> None:
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("at birth")

        def call(self):
            return 1

    broken = Broken.remote()
    with pytest.raises(ActorDiedError, match="at birth"):
        ray.get(broken.call.remote())
    with pytest.raises(RayActorError):
        ray.get(broken.call.remote())


def test_a_constructor_whose_argument_failed() -> None:
    @ray.remote
    def broken():
        raise ValueError("upstream")

    counter = Counter.remote(broken.remote())
    with pytest.raises(RayActorError):
        ray.get(counter.add.remote())


# ---------------------------------------------------------------------- the last thing it does

ENDS = {
    "terminate": lambda actor: actor.__ray_terminate__.remote(),
    "exit": lambda actor: actor.leave.remote(),
}


@ray.remote
class Parting:
    def __init__(self, path):
        import atexit

        self.path = path
        atexit.register(self.write, "atexit")

    def write(self, what):
        (self.path / what).touch()

    def __ray_shutdown__(self):
        self.write("shutdown")

    def __del__(self):
        self.write("del")

    def open(self):
        self.file = (self.path / "text").open("w")
        self.file.write("all of it")

    def leave(self):
        ray.actor.exit_actor()


def parted(path, how) -> None:
    actor = Parting.remote(path)
    ray.get(actor.write.remote("begun"))
    ENDS[how](actor)


@needs_processes
@pytest.mark.parametrize("how", ENDS)
def test_the_shutdown_hook_runs_at_a_graceful_end(tmp_path, how) -> None:
    parted(tmp_path, how)
    until(lambda: (tmp_path / "shutdown").exists(), "the hook")


@needs_processes
@pytest.mark.parametrize("how", ENDS)
def test_atexit_handlers_run_at_a_graceful_end(tmp_path, how) -> None:
    parted(tmp_path, how)
    until(lambda: (tmp_path / "atexit").exists(), "the handler")


@needs_processes
@pytest.mark.parametrize("how", ENDS)
def test_the_instance_is_let_go_at_a_graceful_end(tmp_path, how) -> None:
    actor = Parting.remote(tmp_path)
    ray.get(actor.open.remote())
    ENDS[how](actor)
    until(lambda: (tmp_path / "del").exists(), "the destructor")
    until(lambda: (tmp_path / "text").read_text() == "all of it", "what was written to a file left open")


@differs(
    on="ray",
    before="2.60",
    reason="Ray 2.50 kills an actor that has no handles left: its hook, its handlers and its destructor do not run.",
)
@needs_processes
def test_the_end_without_handles_is_graceful(tmp_path) -> None:
    actor = Parting.remote(tmp_path)
    ray.get(actor.open.remote())
    del actor
    gc.collect()
    traces = [tmp_path / what for what in ("shutdown", "atexit", "del")]
    until(lambda: all(trace.exists() for trace in traces), "the hook, the handler and the destructor")
    until(lambda: (tmp_path / "text").read_text() == "all of it", "what was written to a file left open")


@needs_processes
def test_neither_runs_when_it_is_killed(tmp_path) -> None:
    actor = Parting.remote(tmp_path)
    ray.get(actor.write.remote("begun"))
    ray.kill(actor)
    until(lambda: dead(actor), "the end of the actor")
    assert [file.name for file in tmp_path.iterdir()] == ["begun"]


# ---------------------------------------------------------------------- restarts


@ray.remote
class Mortal:
    def __init__(self, record):
        self.record = record
        self.calls = 0
        ray.get(record.add.remote("init"))

    def call(self):
        self.calls += 1
        return self.calls

    def pid(self):
        return os.getpid()

    def crash_until(self, times):
        seen = ray.get(self.record.add.remote("call"))
        if seen < times:
            os._exit(1)
        return "through"

    def fail_until(self, times):
        seen = ray.get(self.record.add.remote("call"))
        if seen < times:
            raise ValueError(f"attempt {seen}")
        return "through"

    def restarted(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


@needs_processes
def test_a_handle_stays_valid_over_a_restart() -> None:
    record = Record.remote()
    mortal = Mortal.options(max_restarts=1).remote(record)
    assert ray.get([mortal.call.remote(), mortal.call.remote()]) == [1, 2]
    assert not ray.get(mortal.restarted.remote())
    ray.kill(mortal, no_restart=False)

    def restarted():
        try:
            return ray.get(mortal.restarted.remote())
        except ray.exceptions.ActorUnavailableError:
            return None

    until(restarted, "the restart")
    assert ray.get(mortal.call.remote()) == 1
    assert ray.get(record.all.remote()) == ["init", "init"]


@needs_processes
def test_restarts_are_counted() -> None:
    record = Record.remote()
    mortal = Mortal.options(max_restarts=1, max_task_retries=-1).remote(record)
    with pytest.raises(ActorDiedError):
        ray.get(mortal.crash_until.remote(10))
    assert ray.get(record.all.remote()).count("init") == 2


@needs_processes
def test_max_task_retries() -> None:
    record = Record.remote()
    mortal = Mortal.options(max_restarts=-1, max_task_retries=20).remote(record)
    # init call init call init call: the sixth entry is the third call.
    assert ray.get(mortal.crash_until.remote(6)) == "through"


@needs_processes
def test_without_task_retries_a_crash_fails_the_call_and_the_actor_comes_back() -> None:
    record = Record.remote()
    mortal = Mortal.options(max_restarts=1).remote(record)
    with pytest.raises(RayActorError):
        ray.get(mortal.crash_until.remote(10))

    def call():
        try:
            return ray.get(mortal.call.remote())
        except ray.exceptions.ActorUnavailableError:
            return None

    assert until(call, "the restart") == 1


@needs_processes
def test_task_retries_of_a_single_method() -> None:
    record = Record.remote()
    mortal = Mortal.options(max_restarts=-1).remote(record)
    assert ray.get(mortal.crash_until.options(max_task_retries=20).remote(4)) == "through"


def test_retry_exceptions_of_methods() -> None:
    @ray.remote(max_task_retries=3)
    class Flaky:
        def __init__(self):
            self.attempts = 0

        @ray.method(retry_exceptions=[ValueError])
        def listed(self, times, kind=ValueError):
            self.attempts += 1
            if self.attempts < times:
                raise kind
            return self.attempts

        @ray.method(retry_exceptions=True)
        def always(self, times):
            return self.listed(times, KeyError)

    assert ray.get(Flaky.remote().listed.remote(3)) == 3
    assert ray.get(Flaky.remote().always.remote(3)) == 3
    with pytest.raises(KeyError):
        ray.get(Flaky.remote().listed.remote(3, KeyError))


def test_max_pending_calls() -> None:
    gate = Gate.remote()
    counter = Counter.options(max_pending_calls=2).remote()
    refs = [counter.wait.remote(gate), counter.add.remote()]
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded):
        for _ in range(3):
            refs.append(counter.add.remote())
    ray.get(gate.open.remote())
    ray.get(refs)
    assert ray.get(counter.add.remote()) >= 2


def test_max_pending_calls_zero_is_without_limit() -> None:
    gate = Gate.remote()
    counter = Counter.options(max_pending_calls=0).remote()
    refs = [counter.wait.remote(gate), *(counter.add.remote() for _ in range(5))]
    ray.get(gate.open.remote())
    assert ray.get(refs)[-1] == 5
