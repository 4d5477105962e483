"""User code re-enters the runtime while this thread is inside it: by signals, by finalizers."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate._worker.process import current

from . import processes, storm
from .processes import run_driver
from .waiting import AGES
from .waiting import wait_for as wait_until

Session = Any
#: Alarms a run, and runs: more by this variable, for a long look.
FACTOR = int(os.environ.get("SKATE_STORM_FACTOR", "1"))


@skate.remote
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@skate.remote
def same(value: Any) -> Any:
    return value


@pytest.fixture
def alarm() -> Iterator[None]:
    """SIGUSR1 is the test's."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.time_limit(280)
@pytest.mark.parametrize(
    "flags", [[], ["call", "raise"]], ids=["quiet handlers", "calling, raising handlers"]
)
@pytest.mark.parametrize("where, mode", [
    ("driver", "real"), ("task", "real"), ("serial", "real"), ("async", "real"), ("threaded", "real"),
    ("driver", "inline"),
])  # fmt: skip
def test_a_storm_of_alarms(where: str, mode: str, flags: list[str]) -> None:
    for seed in range(FACTOR):
        done = processes.run(
            [sys.executable, "-X", "faulthandler", storm.__file__, where, mode, seed, 1_000, *flags]
        )
        told = f"seed {seed}: {done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        assert done.returncode == 0, told
        assert "internal error" not in done.stderr, told
        fired, raised, _ = map(
            int, done.stdout.splitlines()[-1].removeprefix("alarms, raised, rounds:").split()
        )
        assert fired >= 1_000, told
        assert raised > 0 or "raise" not in flags or where == "threaded", told


def kill_main(number: int = signal.SIGUSR1) -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)


def when_main_waits(then: Any) -> threading.Thread:
    """Call something as soon as the main thread waits for objects."""
    core = current.process.core
    assert core is not None

    def look() -> None:
        wait_until(core.main_thread.main_waits, "the main thread to wait")
        then()

    thread = threading.Thread(target=look)
    thread.start()
    return thread


@pytest.mark.parametrize("what", ["get", "put and get", "large", "wait", "actor", "kill", "many"])
def test_a_handler_calls_the_runtime_while_the_main_thread_waits(
    session: Session, alarm: None, what: str
) -> None:
    found: list[Any] = []

    def handler(*_: object) -> None:
        if what == "get":
            found.append(skate.get(same.remote(1)))
        elif what == "put and get":
            found.append(skate.get(skate.put({"a": 1})))
        elif what == "large":
            found.append(len(skate.get(same.remote(skate.put(bytes(3_000_000))))))
        elif what == "wait":
            found.append(len(skate.wait([same.remote(1)], timeout=AGES)[0]))
        elif what == "actor":
            found.append(skate.get(storm.Counter.remote().add.remote()))
        elif what == "kill":
            counter = storm.Counter.remote()
            skate.kill(counter)
            with pytest.raises(skate.exceptions.RayActorError):
                skate.get(counter.add.remote())
            found.append("killed")
        else:
            found.append(skate.get([same.remote(number) for number in range(300)])[-1])

    signal.signal(signal.SIGUSR1, handler)
    waiting = same.options(name="late").remote(nap.remote(0.3))
    thread = when_main_waits(kill_main)
    assert skate.get(waiting) == 0.3
    thread.join()
    assert len(found) == 1


@pytest.mark.parametrize("call", [
    skate.get, lambda ref: skate.get([ref]), lambda ref: skate.wait([ref]), lambda _: skate.put(1), same.remote,
], ids=["get", "get of a list", "wait", "put", "remote"])  # fmt: skip
def test_a_call_that_waits_for_nothing_is_a_safe_point(session: Session, alarm: None, call: Any) -> None:
    """A program that finds everything ready, again and again, hears its signals too."""
    handled: list[object] = []
    signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))  # the reminder sends the signal
    ref, gate = skate.put(1), current.require_core("put a handler off").main_thread.gate
    gate.put_off(signal.SIGUSR1, lambda *_: handled.append(2))
    call(ref)
    found = list(handled)
    gate.run()
    assert found == [2]


def test_a_handler_that_raises_ends_the_wait_only(session: Session, alarm: None) -> None:
    class Late(Exception):
        pass

    def handler(*_: object) -> None:
        raise Late

    signal.signal(signal.SIGUSR1, handler)
    ref = nap.remote(0.5)
    thread = when_main_waits(kill_main)
    with pytest.raises(Late):
        skate.get(ref)
    thread.join()
    assert skate.get(ref) == 0.5


@skate.remote
class Checkpointing:
    """What programs for preemptible machines do: save on SIGTERM."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.step = 0
        signal.signal(signal.SIGTERM, self.save)

    def save(self, *_: object) -> None:
        skate.get(self.store.keep.remote(self.step, skate.put([self.step] * 10)))

    def work(self) -> int:
        self.step += 1
        return self.step

    def work_until(self, seconds: float) -> int:
        self.step += 1
        skate.get(nap.remote(seconds))
        return self.step

    def pid(self) -> int:
        return os.getpid()

    def leave_at_sigterm(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def fail_at_sigterm(self) -> None:
        def failing(*_: object) -> None:
            raise ValueError("from the handler")

        signal.signal(signal.SIGTERM, failing)


@skate.remote(num_cpus=0)
class Store:
    def __init__(self) -> None:
        self.kept: list[int] = []

    def keep(self, step: int, value: Any) -> None:
        assert value == [step] * 10
        self.kept.append(step)

    def all(self) -> list[int]:
        return self.kept


@pytest.mark.parametrize("kind", ["serial", "threaded", "async"])
def test_an_actor_saves_itself_on_a_signal_while_it_is_idle(session: Session, kind: str) -> None:
    store = Store.remote()
    if kind == "async":

        class AsyncCheckpointing:
            def __init__(self, store: Any) -> None:
                self.store, self.step = store, 0
                signal.signal(signal.SIGTERM, self.save)

            def save(self, *_: object) -> None:
                skate.get(self.store.keep.remote(self.step, skate.put([self.step] * 10)))

            async def work(self) -> int:
                self.step += 1
                return self.step

            async def pid(self) -> int:
                return os.getpid()

        actor: Any = skate.remote(AsyncCheckpointing).remote(store)
    else:
        actor = Checkpointing.options(max_concurrency=2 if kind == "threaded" else 1).remote(store)
    assert skate.get(actor.work.remote()) == 1
    pid = skate.get(actor.pid.remote())
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: skate.get(store.all.remote()) == [1], "the checkpoint")
    assert skate.get(actor.work.remote()) == 2
    assert skate.get(actor.pid.remote()) == pid


def test_an_actor_saves_itself_on_a_signal_while_its_method_waits(session: Session) -> None:
    store = Store.remote()
    actor = Checkpointing.remote(store)
    pid = skate.get(actor.pid.remote())
    ref = actor.work_until.remote(0.5)
    os.kill(pid, signal.SIGTERM)
    assert skate.get(ref) == 1
    wait_until(lambda: len(skate.get(store.all.remote())) == 1, "the checkpoint")


def test_an_idle_actor_leaves_by_a_handler_that_exits(session: Session) -> None:
    actor = Checkpointing.remote(Store.remote())
    skate.get(actor.leave_at_sigterm.remote())
    os.kill(skate.get(actor.pid.remote()), signal.SIGTERM)

    def dead() -> bool:
        try:
            skate.get(actor.work.remote())
        except skate.exceptions.RayActorError as error:
            assert "a signal's handler" in str(error)
            return True
        return False

    wait_until(dead, "the actor to leave")


def test_a_handler_that_raises_between_calls_is_told_and_nothing_else(
    session: Session, capfd: pytest.CaptureFixture[str]
) -> None:
    actor = Checkpointing.remote(Store.remote())
    skate.get(actor.fail_at_sigterm.remote())
    pid = skate.get(actor.pid.remote())
    os.kill(pid, signal.SIGTERM)
    told = ""

    def heard() -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return "from the handler" in told

    wait_until(heard, "the traceback")
    assert "a signal's handler raised between calls" in told
    assert skate.get(actor.pid.remote()) == pid


def test_an_alarm_is_a_time_limit_in_a_task(session: Session) -> None:
    """The classic use: SIGALRM raises in whatever takes too long, here a get."""

    @skate.remote
    def limited(refs: list[Any]) -> str:
        class TooLong(Exception):
            pass

        def handler(*_: object) -> None:
            raise TooLong

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            skate.get(refs[0])
        except TooLong:
            return "too long"
        return "in time"

    never = nap.options(num_cpus=0).remote(AGES)
    assert skate.get(limited.remote([never])) == "too long"
    skate.cancel(never, force=True)


def test_finalizers_under_default_thresholds(session: Session) -> None:
    """What users have: nobody lowers the collector's thresholds, and it hangs once a day."""
    made: list[Any] = []

    class Client:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            made.append(same.remote(1))

    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        for number in range(2_000):
            Client()
            assert skate.get(same.remote(number)) == number
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert skate.get(made) == [1] * 2_000


@pytest.mark.parametrize("mode", ["real", "inline"])
def test_finalizers_that_wait(tmp_path: Path, mode: str) -> None:
    done = run_driver(tmp_path, """
        import faulthandler, gc, sys
        import skate

        faulthandler.dump_traceback_later(60, exit=True)
        skate.init(num_cpus=2, **({"mode": "inline"} if sys.argv[1] == "inline" else {}))

        @skate.remote
        def f(x):
            return x

        @skate.remote
        class Counter:
            def __init__(self):
                self.n = 0
            def add(self):
                self.n += 1
                return self.n

        counter = Counter.remote()
        ended = 0

        class Client:
            def __init__(self):
                self.me = self
            def __del__(self):
                global ended
                assert skate.get(f.remote(2)) == 2
                if sys.argv[1] != "inline":  # where it may run on the actor's own thread
                    skate.get(counter.add.remote())
                assert skate.get(skate.put([3])) == [3]
                ended += 1

        gc.set_threshold(20)
        for n in range(500):
            Client()
            assert skate.get(f.remote(n)) == n
            skate.get(counter.add.remote())
            skate.wait([f.remote(n)], timeout=3600)
        gc.set_threshold(700)
        gc.collect()
        print("done", ended, skate.get(counter.add.remote()))
        """, mode)  # fmt: skip
    assert done.stdout.split() == ["done", "500", "501" if mode == "inline" else "1001"]
    assert done.stderr == ""


def test_finalizers_in_many_threads(session: Session) -> None:
    """Leaders and followers: each thread is interrupted wherever the collector runs on it."""
    failures: list[BaseException] = []

    class Client:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            try:
                assert skate.get(same.remote(2)) == 2
            except BaseException as error:
                failures.append(error)

    def run(seed: int) -> None:
        try:
            for number in range(100):
                Client()
                assert skate.get(same.remote((seed, number))) == (seed, number)
        except BaseException as error:
            failures.append(error)

    before = gc.get_threshold()
    gc.set_threshold(30)
    try:
        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert not failures


def test_a_finalizer_of_a_functions_closure_calls_the_runtime_in_the_worker(session: Session) -> None:
    """Workers let go of functions when their owner has: not under the lock."""
    store = Store.remote()

    class Held:
        def __init__(self, store: Any) -> None:
            self.store = store

        def __del__(self) -> None:
            if os.environ.get("SKATE_TEST_IN_WORKER"):
                skate.get(self.store.keep.remote(7, [7] * 10))

    held = Held(store)

    def use() -> int:
        os.environ["SKATE_TEST_IN_WORKER"] = "1"
        return id(held)

    function = skate.remote(use)
    skate.get(function.remote())
    del function, use
    gc.collect()

    def kept() -> bool:
        skate.get(same.remote(1))  # workers look at what they were told to forget
        return 7 in skate.get(store.all.remote())

    wait_until(kept, "the finalizer")


def test_no_session_starts_while_the_interpreter_ends(tmp_path: Path) -> None:
    done = run_driver(tmp_path, """
        import skate

        @skate.remote
        def f():
            return 1

        class Last:
            def __init__(self):
                self.me = self
            def __del__(self):
                f.remote()

        skate.init(num_cpus=1)
        import builtins
        builtins.kept = Last()  # ends with the interpreter, long after the session
        """)  # fmt: skip
    assert "no session can be started any more" in done.stderr


def test_a_finalizer_on_a_thread_that_shutdown_waits_for(tmp_path: Path) -> None:
    """It asks for a session, which shutdown() guards: the two waited for each other."""
    done = run_driver(tmp_path, """
        import threading
        import skate

        @skate.remote
        def f():
            return 1

        told = []

        class Last:
            def __del__(self):
                try:
                    f.remote()
                except RuntimeError as error:
                    told.append(str(error))

        skate.init(num_cpus=1)
        real = threading.Thread.join

        def join(thread, timeout=None):
            # What the collector may do just then on the thread that is being joined.
            if thread.name == "skate-io":
                other = threading.Thread(target=Last)
                other.start()
                real(other)
            real(thread, timeout)

        threading.Thread.join = join
        skate.shutdown()
        print(told)
        skate.init(num_cpus=1)
        print(skate.get(f.remote()))
        """)  # fmt: skip
    assert "being shut down" in done.stdout
    assert done.stdout.endswith("\n1\n")


def test_the_collector_s_state_is_the_program_s(session: Session) -> None:
    """A library that disables the collector for a moment, while another thread keeps the runtime busy."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            skate.get([same.remote(number) for number in range(20)])

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(20_000):
            assert gc.isenabled()
            gc.disable()
            assert not gc.isenabled()
            gc.enable()
    finally:
        stop.set()
        thread.join()
    assert gc.isenabled()
