"""Signal handlers of the program: at once in its own code, at a safe point where the runtime is at work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from skate._base.process import PACKAGE
from skate._worker.process.signals import Gate


@pytest.fixture
def handlers() -> Iterator[list[str]]:
    """What handlers ran; the program's handler of SIGUSR1 is installed before the gate."""
    ran: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: ran.append("early"))
    yield ran
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def gate(handlers: list[str]) -> Iterator[Gate]:
    gate = Gate(lambda: handlers.append("put off"))
    gate.install()
    yield gate
    gate._waiting.clear()
    gate.uninstall()


def in_file(name: str, call: Callable[[], Any]) -> Any:
    """Call something from a file of the package, or from another one."""
    code = compile("result = call()", name, "exec")
    names: dict[str, Any] = {"call": call}
    exec(code, names)
    return names["result"]


def raise_signal() -> None:
    signal.raise_signal(signal.SIGUSR1)


RUNTIME = os.path.join(PACKAGE, "_worker", "calls.py")


def test_in_user_code_it_runs_at_once(gate: Gate, handlers: list[str]) -> None:
    raise_signal()
    assert handlers == ["early"]
    assert not gate.has_waiting


@pytest.mark.parametrize("name", [
    os.path.join(PACKAGE, "util", "actor_pool.py"), os.path.join(PACKAGE, "cli", "run.py"), "/elsewhere/program.py",
])  # fmt: skip
def test_libraries_above_the_api_are_user_code(gate: Gate, handlers: list[str], name: str) -> None:
    in_file(name, raise_signal)
    assert handlers == ["early"]


@pytest.mark.parametrize(
    "name", ["_worker/calls/submission.py", "_transport/reactor.py", "api.py", "actor.py"]
)
def test_in_the_runtime_it_waits_for_a_safe_point(gate: Gate, handlers: list[str], name: str) -> None:
    in_file(os.path.join(PACKAGE, name), raise_signal)
    assert handlers == ["put off"]
    assert gate.has_waiting
    gate.run()
    assert handlers == ["put off", "early"]
    assert not gate.has_waiting
    gate.run()
    assert handlers == ["put off", "early"]


def test_a_library_that_the_runtime_calls_is_the_runtime(gate: Gate, handlers: list[str]) -> None:
    in_file(RUNTIME, lambda: in_file("/usr/lib/python3/pickle.py", raise_signal))
    assert handlers == ["put off"]


def test_below_a_boundary_is_user_code(gate: Gate, handlers: list[str]) -> None:
    def boundary() -> None:
        in_file("/elsewhere/program.py", raise_signal)

    gate.add_boundaries([boundary.__code__])
    in_file(RUNTIME, boundary)
    assert handlers == ["early"]
    in_file(RUNTIME, lambda: in_file(RUNTIME, raise_signal))
    assert handlers == ["early", "put off"]


def test_the_runtime_below_a_boundary_is_the_runtime(gate: Gate, handlers: list[str]) -> None:
    def boundary() -> None:
        in_file(RUNTIME, raise_signal)

    gate.add_boundaries([boundary.__code__])
    in_file(RUNTIME, boundary)
    assert handlers == ["put off"]


def test_signals_of_one_number_are_one_until_it_is_handled(gate: Gate, handlers: list[str]) -> None:
    for _ in range(100):
        in_file(RUNTIME, raise_signal)
    gate.run()
    assert handlers.count("early") == 1


def test_a_signal_that_comes_again_in_user_code_is_handled_there(gate: Gate, handlers: list[str]) -> None:
    in_file(RUNTIME, raise_signal)
    raise_signal()
    gate.run()
    assert handlers == ["put off", "early"]


def test_a_handler_that_raises_leaves_the_others_for_the_next_safe_point(gate: Gate) -> None:
    ran: list[int] = []

    def failing(number: int, frame: Any) -> None:
        ran.append(number)
        raise ValueError(number)

    numbers = [signal.SIGUSR1, signal.SIGUSR2]
    before = [signal.signal(number, failing) for number in numbers]
    try:
        for number in numbers:
            in_file(RUNTIME, lambda number=number: signal.raise_signal(number))
        for number in numbers:
            with pytest.raises(ValueError, match=str(int(number))):
                gate.run()
        gate.run()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert ran == numbers


def test_handlers_run_inside_handlers(gate: Gate) -> None:
    """A handler is user code, though the runtime's safe point called it."""
    ran: list[str] = []

    def outer(*_: Any) -> None:
        signal.raise_signal(signal.SIGUSR2)
        ran.append("outer")

    before = (
        signal.signal(signal.SIGUSR1, outer),
        signal.signal(signal.SIGUSR2, lambda *_: ran.append("inner")),
    )
    try:
        in_file(RUNTIME, raise_signal)
        in_file(RUNTIME, gate.run)
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])
    assert ran == ["inner", "outer"]


def test_the_program_sees_its_own_handlers(gate: Gate, handlers: list[str]) -> None:
    def mine(*_: Any) -> None: ...

    early = signal.getsignal(signal.SIGUSR1)
    assert early is not None
    assert "Wrapped" not in type(early).__name__
    assert signal.signal(signal.SIGUSR1, mine) is early
    assert signal.getsignal(signal.SIGUSR1) is mine
    assert signal.signal(signal.SIGUSR1, signal.SIG_IGN) is mine
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    assert signal.signal(signal.SIGUSR1, signal.SIG_DFL) is signal.SIG_IGN
    signal.signal(signal.SIGUSR1, early)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_uninstall_gives_the_handlers_back(handlers: list[str]) -> None:
    early = signal.getsignal(signal.SIGUSR1)
    gate = Gate(lambda: None)
    gate.install()

    def late(*_: Any) -> None:
        handlers.append("late")

    before = signal.signal(signal.SIGUSR2, late)
    gate.uninstall()
    try:
        assert signal.getsignal(signal.SIGUSR1) is early
        assert signal.getsignal(signal.SIGUSR2) is late
        in_file(RUNTIME, lambda: signal.raise_signal(signal.SIGUSR2))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert handlers == ["late"]


def test_uninstall_runs_what_was_put_off(gate: Gate, handlers: list[str]) -> None:
    in_file(RUNTIME, raise_signal)
    gate.uninstall()
    assert handlers == ["put off", "early"]


def test_what_was_put_off_comes_again_without_a_safe_point(gate: Gate) -> None:
    came = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: came.set())
    try:
        in_file(RUNTIME, raise_signal)
        assert not came.is_set()
        assert came.wait(20)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_asyncio_s_own_handler_is_not_put_off(gate: Gate) -> None:
    """It does nothing: its loop reads the number elsewhere, and would read a reminder as another signal."""
    import asyncio

    async def main() -> int:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        count = 0

        def callback() -> None:
            nonlocal count
            count += 1
            heard.set()

        loop.add_signal_handler(signal.SIGUSR2, callback)
        in_file(RUNTIME, lambda: signal.raise_signal(signal.SIGUSR2))
        assert not gate.has_waiting
        await heard.wait()
        loop.remove_signal_handler(signal.SIGUSR2)
        return count

    assert asyncio.run(main()) == 1


def test_a_child_runs_its_handlers_at_once(gate: Gate, handlers: list[str]) -> None:
    pid = os.fork()
    if pid == 0:
        in_file(RUNTIME, raise_signal)
        os._exit(0 if handlers == ["early"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_gate_of_another_thread_adopts_at_the_next_safe_point(handlers: list[str]) -> None:
    gate = Gate(lambda: None)
    thread = threading.Thread(target=gate.install)
    thread.start()
    thread.join()
    try:
        in_file(RUNTIME, raise_signal)
        assert handlers == ["early"], "only the main thread can wrap a handler"
        gate.run()
        in_file(RUNTIME, raise_signal)
        assert handlers == ["early"]
        gate.run()
        assert handlers == ["early", "early"]
    finally:
        gate.uninstall()


def test_ctrl_c_is_a_breakpoint_s_first(gate: Gate) -> None:
    taken: list[bool] = []
    gate.takes_interrupt = lambda: not taken.append(True)  # type: ignore[func-returns-value]
    signal.raise_signal(signal.SIGINT)
    assert taken == [True]
    gate.takes_interrupt = lambda: False
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
