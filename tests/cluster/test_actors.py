"""Actors: state and order, handles, names, restarts, ends, and exceptions of constructors."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.api import RayContext as Session
from skate.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from .processes import alive
from .waiting import AGES, attempt, meet, wait_for, wait_for_file, wait_until_none


@skate.remote
class Counter:
    """Counts; also tells its process and ends it."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, n: int = 1) -> int:
        self.value += n
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def wait_for(self, path: Path) -> int:
        wait_for_file(path)
        return self.value

    def fail(self) -> None:
        raise ValueError("on purpose")


@skate.remote
class Log:
    """Remembers what it was told, in order."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def write(self, line: Any) -> None:
        self.lines.append(line)

    def read(self) -> list[Any]:
        return self.lines


@skate.remote
def add_through(counter: Any, n: int) -> int:
    return skate.get(counter.add.remote(n))


# ---------------------------------------------------------------------- state and processes


def test_state_lives_in_a_process_of_its_own(session: Session) -> None:
    first, second = Counter.remote(), Counter.remote(10)
    assert skate.get([first.add.remote() for _ in range(5)]) == [1, 2, 3, 4, 5]
    assert skate.get(second.add.remote(5)) == 15
    pids = skate.get([first.pid.remote(), second.pid.remote(), first.pid.remote()])
    assert pids[0] == pids[2] != pids[1]
    assert os.getpid() not in pids


def test_more_actors_than_cpus(session: Session) -> None:
    counters = [Counter.remote(i) for i in range(8)]
    assert skate.get([counter.add.remote() for counter in counters]) == list(range(1, 9))
    assert len(set(skate.get([counter.pid.remote() for counter in counters]))) == 8


def test_actors_with_explicit_resources_hold_them(session: Session, tmp_path: Path) -> None:
    big = Counter.options(num_cpus=1)
    first, second, third = big.remote(1), big.remote(2), big.remote(3)
    assert skate.get([first.add.remote(), second.add.remote()]) == [2, 3]
    waiting = third.add.remote()
    assert skate.wait([waiting], timeout=0.2) == ([], [waiting])
    skate.kill(first)
    assert skate.get(waiting) == 4


def test_default_actors_leave_the_cpus_to_tasks(session: Session, tmp_path: Path) -> None:
    counters = [Counter.remote() for _ in range(4)]
    skate.get([counter.add.remote() for counter in counters])

    @skate.remote
    def together(name: int) -> int:
        return meet(tmp_path, name, 2)

    assert skate.get([together.remote(i) for i in range(2)]) == [2, 2]


def test_an_exception_leaves_the_actor_alive(session: Session) -> None:
    counter = Counter.remote()
    skate.get(counter.add.remote())
    with pytest.raises(ValueError, match="on purpose"):
        skate.get(counter.fail.remote())
    assert skate.get(counter.add.remote()) == 2


def test_methods_of_every_kind(session: Session) -> None:
    class Base:
        def inherited(self) -> str:
            return "inherited"

    @skate.remote
    class Many(Base):
        @skate.method(num_returns=2)
        def pair(self) -> tuple[int, int]:
            return 1, 2

        @staticmethod
        def static(x: int) -> int:
            return x

        @classmethod
        def name(cls) -> str:
            return cls.__name__

        def __call__(self, x: int) -> int:
            return -x

        def keywords(self, *args: int, **kwargs: int) -> Any:
            return args, kwargs

    many = Many.remote()
    first, second = many.pair.remote()
    assert skate.get([second, first]) == [2, 1]
    assert skate.get(many.pair.options(num_returns=1).remote()) == (1, 2)
    assert skate.get(many.inherited.remote()) == "inherited"
    assert skate.get(many.static.remote(3)) == 3
    assert skate.get(many.name.remote()) == "Many"
    assert skate.get(many.__call__.remote(3)) == -3
    assert skate.get(many.keywords.remote(1, skate.put(2), a=skate.put(3))) == ((1, 2), {"a": 3})
    assert many.keywords.options(num_returns=0).remote() is None


def test_built_in_methods(session: Session) -> None:
    counter = Counter.remote(5)
    assert skate.get(counter.__ray_ready__.remote()) is True
    assert skate.get(counter.__ray_call__.remote(lambda self, n: self.value + n, 2)) == 7
    with pytest.raises(ActorDiedError):
        skate.get(counter.__ray_terminate__.remote())


def test_the_actor_knows_itself(session: Session) -> None:
    @skate.remote
    class Self:
        def look(self) -> Any:
            context = skate.get_runtime_context()
            return context.get_actor_id(), context.get_actor_name(), context.was_current_actor_reconstructed

        def me(self) -> Any:
            return skate.get_runtime_context().current_actor

        def value(self) -> int:
            return 42

    actor = Self.options(name="narcissus").remote()
    actor_id, name, again = skate.get(actor.look.remote())
    assert (actor_id, name, again) == (actor._actor_id.hex(), "narcissus", False)
    me = skate.get(actor.me.remote())
    assert me == actor
    assert skate.get(me.value.remote()) == 42


# ---------------------------------------------------------------------- order


def test_calls_of_one_caller_run_in_order(session: Session) -> None:
    log = Log.remote()
    for i in range(2000):
        log.write.remote(i)
    assert skate.get(log.read.remote()) == list(range(2000))


def test_results_do_not_wait_for_a_short_method_that_takes_long(session: Session, tmp_path: Path) -> None:
    """Replies that are kept for what follows leave by themselves when that does not end."""

    @skate.remote
    class Gate:
        def enter(self, path: Path | None = None) -> None:
            if path is not None:
                wait_for_file(path)

        def hold(self, path: Path) -> None:
            wait_for_file(path)

    late = tmp_path / "late"
    gate = Gate.remote()
    skate.get([gate.enter.remote() for _ in range(3)])  # now it is known to be short
    gate.hold.remote(tmp_path / "go")
    quick = [gate.enter.remote() for _ in range(3)]
    slow = gate.enter.remote(late)
    assert skate.wait(quick, timeout=0.2)[0] == []  # and the worker's other thread sleeps by now
    (tmp_path / "go").touch()
    assert skate.get(quick, timeout=AGES) == [None] * 3
    assert skate.wait([slow], timeout=0) == ([], [slow])
    late.touch()
    skate.get(slow)


def test_a_call_whose_arguments_are_late_holds_its_place(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def late(path: Path) -> str:
        wait_for_file(path)
        return "late"

    log = Log.remote()
    log.write.remote("first")
    log.write.remote(late.remote(tmp_path / "go"))
    written = log.write.remote("last")
    assert skate.wait([written], timeout=0.2)[0] == []
    (tmp_path / "go").touch()
    assert skate.get(log.read.remote()) == ["first", "late", "last"]


def test_a_call_whose_argument_failed_lets_the_next_pass(session: Session) -> None:
    @skate.remote
    def fail() -> None:
        raise KeyError("gone")

    log = Log.remote()
    failed = log.write.remote(fail.remote())
    log.write.remote("next")
    with pytest.raises(KeyError):
        skate.get(failed)
    assert skate.get(log.read.remote()) == ["next"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_actor_ends_though_its_last_call_failed_on_an_argument(
    session: Session, tmp_path: Path, when: str
) -> None:
    @skate.remote
    def fail(path: Path) -> None:
        wait_for_file(path)
        raise KeyError("gone")

    log, failing = Log.remote(), fail.remote(tmp_path / "go")
    pid = skate.get(log.__ray_call__.remote(lambda self: os.getpid()))
    if when == "before":
        (tmp_path / "go").touch()
        skate.wait([failing])
    failed = log.write.remote(failing)
    del log
    (tmp_path / "go").touch()
    with pytest.raises(KeyError):
        skate.get(failed)
    wait_until_none(lambda: alive(pid), "the process of the actor")


def test_each_caller_has_an_order_of_its_own(session: Session) -> None:
    log = Log.remote()

    @skate.remote
    def write(log: Any, name: str) -> None:
        skate.get([log.write.remote((name, i)) for i in range(100)])

    skate.get([write.remote(log, name) for name in "abcd"])
    lines = skate.get(log.read.remote())
    assert len(lines) == 400
    for name in "abcd":
        assert [i for who, i in lines if who == name] == list(range(100))


def test_threads_of_one_driver_share_an_actor(session: Session) -> None:
    counter, seen = Counter.remote(), deque[int]()

    def call() -> None:
        for _ in range(50):
            seen.append(skate.get(counter.add.remote()))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, 201))


# ---------------------------------------------------------------------- handles


def test_handles_go_everywhere(session: Session) -> None:
    @skate.remote
    class Holder:
        def __init__(self, held: dict[str, Any]) -> None:
            self.held = held

        def add(self, n: int) -> int:
            return skate.get(self.held["counters"][0].add.remote(n))

        def give(self) -> Any:
            return self.held

    counter = Counter.remote()
    holder = Holder.remote({"counters": [counter]})
    assert skate.get(add_through.remote(counter, 1)) == 1
    assert skate.get(holder.add.remote(2)) == 3
    assert skate.get(skate.get(holder.give.remote())["counters"][0].add.remote(3)) == 6
    assert skate.get(skate.get(skate.put([counter]))[0].add.remote(4)) == 10
    assert skate.get(holder.give.remote())["counters"] == [counter]


def test_an_actor_lives_on_in_the_handle_that_another_holds(session: Session) -> None:
    @skate.remote
    class Holder:
        def hold(self, counter: Any) -> None:
            self.counter = counter

        def add(self) -> int:
            return skate.get(self.counter.add.remote())

        def drop(self) -> None:
            del self.counter

    holder, counter = Holder.remote(), Counter.remote()
    pid = skate.get(counter.pid.remote())
    skate.get(holder.hold.remote(counter))
    del counter
    assert skate.get([holder.add.remote() for _ in range(3)]) == [1, 2, 3]
    assert alive(pid)
    skate.get(holder.drop.remote())
    wait_until_none(lambda: alive(pid), "the process of the actor")


def test_a_task_makes_an_actor_and_returns_its_handle(session: Session) -> None:
    @skate.remote
    def make(start: int) -> Any:
        counter = Counter.remote(start)
        skate.get(counter.add.remote())
        return counter

    counter = skate.get(make.remote(10))
    assert skate.get(counter.add.remote()) == 12


def test_the_last_handle_ends_the_actor_when_its_calls_are_done(session: Session, tmp_path: Path) -> None:
    counter = Counter.remote(3)
    pid = skate.get(counter.pid.remote())
    waiting = counter.wait_for.remote(tmp_path / "go")
    del counter
    assert alive(pid)
    (tmp_path / "go").touch()
    assert skate.get(waiting) == 3
    wait_until_none(lambda: alive(pid), "the process of the actor")


def test_a_call_through_a_handle_that_nobody_keeps(session: Session) -> None:
    assert skate.get(Counter.remote(1).add.remote()) == 2
    assert skate.get([Counter.remote(i).add.remote() for i in range(5)]) == [1, 2, 3, 4, 5]


def test_actors_call_each_other(session: Session) -> None:
    @skate.remote
    class Player:
        def play(self, other: Any, me: Any, left: int) -> int:
            return 1 + skate.get(other.rest.remote(left - 1)) if left else 0

        def rest(self, left: int) -> int:
            return left

    ping, pong = Player.remote(), Player.remote()
    assert skate.get(ping.play.remote(pong, ping, 10)) == 10
    assert skate.get(pong.play.remote(ping, pong, 5)) == 5


def test_a_queue_with_producers_and_consumers(session: Session) -> None:
    @skate.remote
    class Queue:
        def __init__(self) -> None:
            self.items: deque[int] = deque()
            self.open = 0

        def join(self) -> None:
            self.open += 1

        def leave(self) -> None:
            self.open -= 1

        def put(self, item: int) -> None:
            self.items.append(item)

        def take(self) -> tuple[str, int]:
            if self.items:
                return "item", self.items.popleft()
            return ("wait" if self.open else "end"), 0

    @skate.remote(num_cpus=0)
    def produce(queue: Any, start: int) -> None:
        for i in range(start, start + 50):
            queue.put.remote(i)
        skate.get(queue.leave.remote())

    @skate.remote(num_cpus=0)
    def consume(queue: Any) -> list[int]:
        found: list[int] = []
        while True:
            kind, item = skate.get(queue.take.remote())
            if kind == "end":
                return found
            if kind == "item":
                found.append(item)

    queue = Queue.remote()
    skate.get([queue.join.remote() for _ in range(3)])
    consumers = [consume.remote(queue) for _ in range(3)]
    skate.get([produce.remote(queue, 50 * i) for i in range(3)])
    assert sorted(sum(skate.get(consumers), [])) == list(range(150))


# ---------------------------------------------------------------------- names


def test_named_actors(session: Session) -> None:
    counter = Counter.options(name="the counter").remote()
    skate.get(counter.add.remote())
    assert skate.get(skate.get_actor("the counter").add.remote()) == 2
    assert skate.get_actor("the counter") == counter

    @skate.remote
    def find() -> int:
        return skate.get(skate.get_actor("the counter").add.remote())

    assert skate.get(find.remote()) == 3
    with pytest.raises(ValueError, match="the counter"):
        Counter.options(name="the counter").remote()
    assert skate.get(counter.add.remote()) == 4


def test_a_name_is_free_again_after_the_end(session: Session) -> None:
    first = Counter.options(name="counter").remote()
    skate.get(first.add.remote())
    skate.kill(first)
    with pytest.raises(ValueError, match="counter"):
        skate.get_actor("counter")
    second = Counter.options(name="counter").remote(100)
    assert skate.get(skate.get_actor("counter").add.remote()) == 101
    pid = skate.get(second.pid.remote())
    del second
    wait_until_none(lambda: alive(pid), "the process of the actor")
    with pytest.raises(ValueError, match="counter"):
        skate.get_actor("counter")


def test_names_live_in_namespaces() -> None:
    skate.init(num_cpus=2, namespace="mine")
    mine = Counter.options(name="counter").remote(1)
    theirs = Counter.options(name="counter", namespace="theirs").remote(100)
    assert skate.get(skate.get_actor("counter").add.remote()) == 2
    assert skate.get(skate.get_actor("counter", namespace="mine").add.remote()) == 3
    assert skate.get(skate.get_actor("counter", namespace="theirs").add.remote()) == 101
    with pytest.raises(ValueError, match="nowhere"):
        skate.get_actor("counter", namespace="nowhere")
    assert skate.get_runtime_context().namespace == "mine"
    assert mine != theirs


def test_get_if_exists(session: Session) -> None:
    shared = Counter.options(name="shared", get_if_exists=True)
    first, second = shared.remote(10), shared.remote(20)
    assert first == second
    assert skate.get([first.add.remote(), second.add.remote()]) == [11, 12]

    @skate.remote
    def find_or_make(i: int) -> int:
        counter = Counter.options(name="raced for", get_if_exists=True).remote(1000)
        return skate.get(counter.add.remote())

    keep = Counter.options(name="raced for", get_if_exists=True).remote(1000)
    assert sorted(skate.get([find_or_make.remote(i) for i in range(6)])) == list(range(1001, 1007))
    del keep


# ---------------------------------------------------------------------- constructors


def test_constructor_arguments(session: Session) -> None:
    @skate.remote
    class Holder:
        def __init__(self, value: Any, refs: list[Any], *, big: bytes) -> None:
            self.value, self.refs, self.big = value, refs, big

        def look(self) -> Any:
            return self.value, skate.get(self.refs), len(self.big)

    ref = skate.put(5)
    holder = Holder.remote(ref, [ref], big=bytes(300_000))
    del ref
    assert skate.get(holder.look.remote()) == (5, [5], 300_000)


def test_an_exception_in_a_constructor_reaches_every_caller(session: Session) -> None:
    @skate.remote
    class Broken:
        def __init__(self) -> None:
            raise ZeroDivisionError("cannot be built")

        def work(self) -> int:
            return 1

    @skate.remote
    def call(broken: Any) -> str:
        try:
            skate.get(broken.work.remote())
        except ActorDiedError as error:
            return str(error)
        return ""

    broken = Broken.options(max_restarts=5).remote()
    for ref in [broken.work.remote() for _ in range(3)]:
        with pytest.raises(ActorDiedError, match="cannot be built") as caught:
            skate.get(ref)
        assert caught.value.actor_init_failed
        assert "ZeroDivisionError" in str(caught.value)
        assert "Broken" in str(caught.value)
        assert isinstance(caught.value, RayActorError)
    for text in skate.get([call.remote(broken) for _ in range(3)]):
        assert "cannot be built" in text
        assert "ZeroDivisionError" in text
    with pytest.raises(ActorDiedError, match="cannot be built"):
        skate.get(broken.work.remote())


def test_an_error_in_a_constructor_argument_reaches_the_callers(session: Session) -> None:
    @skate.remote
    def fail() -> int:
        raise ValueError("no start")

    counter = Counter.remote(fail.remote())
    with pytest.raises(ActorDiedError, match="no start"):
        skate.get(counter.add.remote())


def test_a_constructor_that_kills_its_process_is_no_hang(session: Session) -> None:
    @skate.remote
    class Doomed:
        def __init__(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def work(self) -> int:
            return 1

    doomed = Doomed.remote()
    with pytest.raises(ActorDiedError, match="SIGKILL"):
        skate.get(doomed.work.remote())


# ---------------------------------------------------------------------- ends


def test_kill_ends_calls_and_process(session: Session, tmp_path: Path) -> None:
    counter = Counter.remote()
    pid = skate.get(counter.pid.remote())
    under_way = counter.wait_for.remote(tmp_path / "never")
    behind = counter.add.remote()
    skate.kill(counter)
    for ref in (under_way, behind, counter.add.remote()):
        with pytest.raises(ActorDiedError, match="kill"):
            skate.get(ref)
    wait_until_none(lambda: alive(pid), "the process of the actor")
    skate.kill(counter)


def test_kill_from_a_task(session: Session) -> None:
    @skate.remote
    def end(counter: Any) -> None:
        skate.kill(counter)

    counter = Counter.remote()
    pid = skate.get(counter.pid.remote())
    skate.get(end.remote(counter))
    # Another process killed it: until it is gone, a call from here may still reach it.
    wait_until_none(lambda: alive(pid), "the process of the actor")
    with pytest.raises(ActorDiedError):
        skate.get(counter.add.remote())


def test_kill_before_the_actor_is_up(session: Session) -> None:
    counters = [Counter.remote() for _ in range(5)]
    refs = [counter.add.remote() for counter in counters]
    for counter in counters:
        skate.kill(counter)
    for ref in refs:
        try:
            assert skate.get(ref) == 1
        except ActorDiedError:
            pass
    waiting = Counter.options(resources={"unicorn": 1}).remote()
    ref = waiting.add.remote()
    skate.kill(waiting)
    with pytest.raises(ActorDiedError):
        skate.get(ref)


def test_kill_gives_the_resources_back(session: Session) -> None:
    for _ in range(3):
        counter = Counter.options(num_cpus=2).remote()
        assert skate.get(counter.add.remote()) == 1
        skate.kill(counter)
    wait_for(lambda: skate.available_resources().get("CPU") == 2, "the CPUs to come back")


def test_kill_with_a_restart(session: Session) -> None:
    counter = Counter.options(max_restarts=1).remote()
    first = skate.get(counter.pid.remote())
    skate.kill(counter, no_restart=False)
    wait_until_none(lambda: alive(first), "the process of the actor")
    second = wait_for(lambda: _pid_or_none(counter) or 0, "the restart")
    assert second != first
    skate.kill(counter, no_restart=False)
    wait_until_none(lambda: alive(second), "the process of the actor")
    with pytest.raises(ActorDiedError):
        skate.get(counter.add.remote())


def _pid_or_none(counter: Any) -> int | None:
    try:
        return skate.get(counter.pid.remote())
    except ActorUnavailableError:
        return None


def test_exit_actor(session: Session) -> None:
    @skate.remote(max_restarts=5, max_task_retries=5)
    class Leaver:
        def leave(self) -> None:
            skate.actor.exit_actor()

        def work(self) -> int:
            return 1

    leaver = Leaver.remote()
    assert skate.get(leaver.work.remote()) == 1
    leaving, later = leaver.leave.remote(), leaver.work.remote()
    for ref in (leaving, later, leaver.work.remote()):
        with pytest.raises(ActorDiedError, match="exit_actor"):
            skate.get(ref)


def test_results_sent_before_the_end_arrive(session: Session) -> None:
    counter = Counter.remote()
    refs = [counter.add.remote() for _ in range(100)]
    crashed = counter.crash.remote()
    assert skate.get(refs) == list(range(1, 101))
    with pytest.raises(ActorDiedError):
        skate.get(crashed)


# ---------------------------------------------------------------------- crashes and restarts


def test_a_crash_names_the_signal(session: Session) -> None:
    counter = Counter.remote()
    skate.get(counter.add.remote())
    crashed, behind = counter.crash.remote(), counter.add.remote()
    for ref in (crashed, behind, counter.add.remote()):
        with pytest.raises(ActorDiedError, match="SIGKILL") as caught:
            skate.get(ref)
        assert "Counter" in str(caught.value)


def test_a_restart_begins_anew(session: Session) -> None:
    counter = Counter.options(max_restarts=2).remote(100)
    for _ in range(2):
        assert skate.get(counter.add.remote()) == 101
        with pytest.raises(ActorUnavailableError, match="SIGKILL"):
            skate.get(counter.crash.remote())
        # Calls made while it restarts wait for it.
        assert skate.get([counter.add.remote(), counter.add.remote(-1)]) == [101, 100]
    with pytest.raises(ActorDiedError, match="2 times"):
        skate.get(counter.crash.remote())


def test_calls_are_repeated_as_often_as_they_may(session: Session, tmp_path: Path) -> None:
    @skate.remote(max_restarts=-1)
    class Fragile:
        def survive(self, path: Path, attempts: int) -> int:
            made = attempt(path)
            if made < attempts:
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        def again(self) -> bool:
            return skate.get_runtime_context().was_current_actor_reconstructed

    fragile = Fragile.options(max_task_retries=2).remote()
    assert skate.get(fragile.survive.remote(tmp_path / "three", 3)) == 3
    assert skate.get(fragile.again.remote()) is True
    with pytest.raises(ActorUnavailableError):
        skate.get(fragile.survive.remote(tmp_path / "four", 4))
    once = fragile.survive.options(max_task_retries=0)
    with pytest.raises(ActorUnavailableError):
        skate.get(once.remote(tmp_path / "two", 2))


def test_calls_not_begun_are_repeated_for_free(session: Session, tmp_path: Path) -> None:
    counter = Counter.options(max_restarts=1).remote()
    blocked = counter.wait_for.remote(tmp_path / "go")
    crash = counter.crash.remote()
    behind = [counter.add.remote() for _ in range(20)]
    (tmp_path / "go").touch()
    assert skate.get(blocked) == 0
    with pytest.raises(ActorUnavailableError):
        skate.get(crash)
    # max_task_retries is 0, but these had not begun: they run, in order, in the second incarnation.
    assert skate.get(behind) == list(range(1, 21))


def test_other_callers_survive_a_restart(session: Session) -> None:
    counter = Counter.options(max_restarts=-1, max_task_retries=-1).remote()

    @skate.remote
    def call(counter: Any, n: int) -> int:
        for _ in range(n):
            skate.get(counter.add.remote())
        return n

    calls = [call.remote(counter, 30) for _ in range(2)]
    crashes = [counter.crash.options(max_task_retries=0).remote() for _ in range(3)]
    assert skate.get(calls) == [30, 30]
    for ref in crashes:
        with pytest.raises(ActorUnavailableError):
            skate.get(ref)


def test_constructor_arguments_are_kept_for_restarts(session: Session) -> None:
    @skate.remote(max_restarts=1)
    class Holder:
        def __init__(self, value: bytes, refs: list[Any]) -> None:
            self.value, self.refs = value, refs

        def look(self) -> Any:
            return len(self.value), len(skate.get(self.refs[0]))

        def crash(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    holder = Holder.remote(skate.put(bytes(200_000)), [skate.put(bytes(300_000))])
    assert skate.get(holder.look.remote()) == (200_000, 300_000)
    with pytest.raises(ActorUnavailableError):
        skate.get(holder.crash.remote())
    assert skate.get(holder.look.remote()) == (200_000, 300_000)


def test_many_actors_come_and_go(session: Session) -> None:
    pids = set()
    for _ in range(3):
        counters = [Counter.remote(i) for i in range(10)]
        assert skate.get([counter.add.remote() for counter in counters]) == list(range(1, 11))
        pids |= set(skate.get([counter.pid.remote() for counter in counters]))
        del counters
        time.sleep(0)
    wait_until_none(lambda: [pid for pid in pids if alive(pid)], "a process of an actor")


@skate.remote
class Parent:
    def __init__(self, depth: int) -> None:
        self.child = Parent.remote(depth - 1) if depth else None

    def depth(self) -> int:
        return 1 + skate.get(self.child.depth.remote()) if self.child is not None else 0


def test_an_actor_starts_actors_of_its_own_class(session: Session) -> None:
    @skate.remote
    class Local:
        def pid(self) -> int:
            return os.getpid()

        def other(self) -> int:
            return skate.get(Local.remote().pid.remote())

    assert skate.get(Parent.remote(3).depth.remote()) == 3
    actor = Local.remote()
    assert skate.get(actor.pid.remote()) != skate.get(actor.other.remote())
