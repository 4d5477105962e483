"""Errors of user code: their own type, the remote traceback, and the ways in which they spread."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import skate
from cluster import waiting
from skate.api import RayContext as Session
from skate.exceptions import (
    RayActorError,
    RayError,
    RayTaskError,
    UserCodeException,
    WorkerCrashedError,
)


class ModuleError(Exception):
    """An importable one, with an argument that is no message."""

    def __init__(self, code: int, *, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


@skate.remote
def divide(a: float, b: float) -> float:
    return a / b


@skate.remote
def throw(error: BaseException) -> None:
    raise error


@skate.remote
def identity(value: Any) -> Any:
    return value


@skate.remote
def ok() -> str:
    return "ok"


def test_the_type_is_kept(session: Session) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        skate.get(divide.remote(1, 0))
    assert isinstance(caught.value, RayTaskError)
    assert isinstance(caught.value, RayError)
    assert isinstance(caught.value.cause, ZeroDivisionError)
    assert not isinstance(caught.value.cause, RayTaskError)
    assert isinstance(caught.value, ArithmeticError)
    for error in (ValueError("v"), KeyError("k"), OSError(2, "no such file", "name"), StopIteration(3)):
        with pytest.raises(type(error)) as found:
            skate.get(throw.remote(error))
        assert found.value.args == error.args
    with pytest.raises(FileNotFoundError) as missing:
        skate.get(throw.remote(FileNotFoundError(2, "no such file", "name")))
    assert (missing.value.errno, missing.value.filename) == (2, "name")


def test_the_message_has_the_remote_traceback(session: Session) -> None:
    @skate.remote
    def outer() -> None:
        def innermost() -> None:
            raise ValueError("the very reason")

        innermost()

    with pytest.raises(ValueError, match="the very reason") as caught:
        skate.get(outer.remote())
    text = str(caught.value)
    assert "in innermost" in text
    assert 'raise ValueError("the very reason")' in text
    assert Path(__file__).name in text
    assert "outer" in text
    # The frames of the runtime itself are no news to anybody.
    assert "executor.py" not in text


def test_what_the_error_was_raised_from_is_told(session: Session) -> None:
    @skate.remote
    def chained() -> None:
        try:
            raise KeyError("the first")
        except KeyError as error:
            raise ValueError("the second") from error

    with pytest.raises(ValueError, match="the second") as caught:
        skate.get(chained.remote())
    assert "KeyError: 'the first'" in str(caught.value)
    assert "direct cause" in str(caught.value)


def test_attributes_are_kept(session: Session) -> None:
    @skate.remote
    def custom() -> None:
        error = ModuleError(5)
        error.detail = "more"
        raise error

    with pytest.raises(ModuleError) as caught:
        skate.get(custom.remote())
    assert (caught.value.code, caught.value.detail) == (5, "more")
    assert caught.value.cause.code == 5  # type: ignore[attr-defined]


def test_local_types_are_kept(session: Session) -> None:
    class LocalError(ValueError):
        pass

    with pytest.raises(LocalError, match="mine"):
        skate.get(throw.remote(LocalError("mine")))

    @skate.remote
    def raise_own() -> None:
        raise LocalError("from a task")

    with pytest.raises(LocalError, match="from a task"):
        skate.get(raise_own.remote())


def test_the_error_survives_another_trip(session: Session) -> None:
    @skate.remote
    def catch(ref: list[Any]) -> Any:
        try:
            skate.get(ref[0])
        except ZeroDivisionError as error:
            return error
        return None

    error = skate.get(catch.remote([divide.remote(1, 0)]))
    assert isinstance(error, ZeroDivisionError)
    assert "division by zero" in str(error)
    with pytest.raises(ZeroDivisionError) as caught:
        skate.get(divide.remote(1, 0))
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, RayTaskError)
    assert isinstance(again.cause, ZeroDivisionError)


def test_an_error_passes_through_nested_tasks(session: Session) -> None:
    @skate.remote
    def middle(depth: int) -> float:
        return skate.get(middle.remote(depth - 1)) if depth else skate.get(divide.remote(1, 0))

    with pytest.raises(ZeroDivisionError) as caught:
        skate.get(middle.remote(3))
    text = str(caught.value)
    assert "in divide" in text
    assert text.count("in middle") >= 4
    assert isinstance(caught.value.cause, ZeroDivisionError)  # type: ignore[attr-defined]


def test_dependents_of_a_failed_task_fail_without_being_run(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def mark(path: Path, *values: Any) -> None:
        path.touch()

    failed = divide.remote(1, 0)
    chain = mark.remote(tmp_path / "ran", ok.remote(), failed)
    for _ in range(3):
        chain = mark.remote(tmp_path / "ran", chain)
    keyword = skate.remote(lambda path=None: path).remote(path=failed)
    for ref in (chain, keyword):
        with pytest.raises(ZeroDivisionError, match="divide"):
            skate.get(ref)
    assert not (tmp_path / "ran").exists()
    # A dependent made after the failure is known fails as well.
    with pytest.raises(ZeroDivisionError):
        skate.get(mark.remote(tmp_path / "ran", failed))
    assert skate.get(ok.remote()) == "ok"


def test_get_of_many_raises_what_failed(session: Session) -> None:
    refs = [ok.remote(), divide.remote(1, 0), ok.remote()]
    with pytest.raises(ZeroDivisionError):
        skate.get(refs)
    assert skate.get([refs[0], refs[2]]) == ["ok", "ok"]
    ready, rest = skate.wait(refs, num_returns=3)
    assert (ready, rest) == (refs, [])
    # Each time anew, with its type.
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            skate.get(refs[1])


def test_get_does_not_wait_for_the_rest_when_one_failed(session: Session, tmp_path: Path) -> None:
    from .waiting import wait_for_file

    @skate.remote
    def slow(path: Path) -> None:
        wait_for_file(path)

    waiting = slow.remote(tmp_path / "go")
    with pytest.raises(ZeroDivisionError):
        skate.get([waiting, divide.remote(1, 0)])
    (tmp_path / "go").touch()
    skate.get(waiting)


def test_errors_in_every_return(session: Session) -> None:
    @skate.remote(num_returns=3)
    def three() -> None:
        raise ValueError("none of them")

    for ref in three.remote():
        with pytest.raises(ValueError, match="none of them"):
            skate.get(ref)


def test_errors_of_actors(session: Session) -> None:
    @skate.remote
    class Calculator:
        def divide(self, a: int, b: int) -> float:
            return a / b

    calculator = Calculator.remote()
    with pytest.raises(ZeroDivisionError) as caught:
        skate.get(calculator.divide.remote(1, 0))
    assert "Calculator.divide" in str(caught.value)
    assert skate.get(calculator.divide.remote(4, 2)) == 2


def test_errors_through_futures(session: Session) -> None:
    assert isinstance(divide.remote(1, 0).future().exception(), ZeroDivisionError)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await divide.remote(1, 0)
        results = await asyncio.gather(divide.remote(1, 0), ok.remote(), return_exceptions=True)
        assert isinstance(results[0], ZeroDivisionError)
        assert results[1] == "ok"

    asyncio.run(main())


# ---------------------------------------------------------------------- exceptions that are difficult


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class TwoArguments(Exception):
    """Pickle cannot make it again: its args are not its constructor's."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Mute(Exception):
    """Its text fails as well."""

    def __str__(self) -> str:
        raise RuntimeError("I say nothing")

    __repr__ = __str__


def test_an_exception_with_what_cannot_be_pickled_says_so(session: Session) -> None:
    @skate.remote
    def locked() -> None:
        raise Locked("behind bars")

    with pytest.raises(Locked, match="behind bars") as caught:
        skate.get(locked.remote())
    assert isinstance(caught.value, RayTaskError)
    assert not hasattr(caught.value.cause, "lock")
    assert "arrived without the parts that cannot be pickled there" in str(caught.value)
    assert "lock (TypeError" in str(caught.value)
    assert "in locked" in str(caught.value)


def test_an_exception_whose_class_cannot_travel_says_so(session: Session) -> None:
    @skate.remote
    def unknown() -> None:
        import threading

        lock = threading.Lock()

        class Held(Exception):
            held = lock

        raise Held("behind bars")

    with pytest.raises(RayTaskError, match="behind bars") as caught:
        skate.get(unknown.remote())
    assert isinstance(caught.value.cause, UserCodeException)
    assert "its class cannot be pickled" in str(caught.value.cause)
    assert "Held: behind bars" in str(caught.value.cause)


def test_exceptions_made_again_without_their_constructor(session: Session) -> None:
    @skate.remote
    def two() -> None:
        raise TwoArguments("one", "two")

    with pytest.raises(TwoArguments, match="one and two"):
        skate.get(two.remote())
    assert skate.get(ok.remote()) == "ok"


def test_an_exception_without_a_text(session: Session) -> None:
    @skate.remote
    def mute() -> None:
        raise Mute

    with pytest.raises(Mute) as caught:
        skate.get(mute.remote())
    assert isinstance(caught.value, RayTaskError)
    assert skate.get(ok.remote()) == "ok"


def test_sys_exit_in_a_task_is_an_error(session: Session) -> None:
    @skate.remote(max_retries=0)
    def leave() -> None:
        sys.exit(3)

    with pytest.raises(WorkerCrashedError, match=r"sys\.exit\(3\) was called in task leave"):
        skate.get(leave.remote())
    assert skate.get(ok.remote()) == "ok"


def test_other_base_exceptions_do_not_end_the_worker(session: Session) -> None:
    class Base(BaseException):
        pass

    @skate.remote
    def raise_it(kind: str) -> None:
        if kind == "interrupt":
            raise KeyboardInterrupt
        if kind == "generator":
            raise GeneratorExit
        raise Base("base")

    for kind, expected in (("interrupt", KeyboardInterrupt), ("generator", GeneratorExit), ("base", Base)):
        with pytest.raises((expected, RayTaskError)) as caught:
            skate.get(raise_it.remote(kind))
        assert isinstance(caught.value, RayTaskError)
        assert isinstance(caught.value.cause, expected)
    assert skate.get(ok.remote()) == "ok"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_exception_groups(session: Session) -> None:
    @skate.remote
    def group() -> None:
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])  # noqa: F821

    with pytest.raises(RayTaskError, match="several") as caught:
        skate.get(group.remote())
    assert [type(one) for one in caught.value.cause.exceptions] == [ValueError, KeyError]  # type: ignore[attr-defined]


def test_a_very_long_message(session: Session) -> None:
    @skate.remote
    def verbose() -> None:
        raise ValueError("x" * 1_000_000)

    with pytest.raises(ValueError, match="x{1000}"):
        skate.get(verbose.remote())
    with pytest.raises(ValueError, match="x{1000}"):
        skate.get(identity.remote(verbose.remote()))


def test_errors_hold_no_objects(session: Session) -> None:
    """The frames of a failed task hold its arguments; the error must not keep them in the worker."""
    import numpy as np

    @skate.remote
    def fail(array: Any, nested: list[Any]) -> None:
        held = skate.get(nested[0])
        raise ValueError(int(held.sum()) + int(array.sum()))

    for _ in range(5):
        ref = skate.put(np.ones(300_000))
        with pytest.raises(ValueError, match="600000"):
            skate.get(fail.remote(ref, [ref]))
    # The leak check of this test finds the store empty.


def test_an_actor_goes_by_its_own_repr(session: object, capfd: pytest.CaptureFixture[str]) -> None:
    @skate.remote
    class Numbered:
        def __init__(self, n: int) -> None:
            self.n = n

        def __repr__(self) -> str:
            return f"Numbered({self.n})" if self.n else 1 / 0  # type: ignore[return-value]

        def fail(self) -> None:
            print("about to fail")
            raise KeyError("x")

    actor = Numbered.remote(3)
    with pytest.raises(KeyError) as caught:
        skate.get(actor.fail.remote())
    assert caught.value.actor_repr == "Numbered(3)"
    waiting.wait_for(lambda: "(Numbered(3) pid=" in capfd.readouterr().out, "the actor's line")
    broken = Numbered.remote(0)
    with pytest.raises(KeyError) as caught:
        skate.get(broken.fail.remote())
    assert caught.value.actor_repr == "Numbered"


@pytest.mark.parametrize("how", ["exit_actor", "sys.exit", "os._exit", "kill"])
def test_an_async_actor_that_leaves_fails_its_running_and_its_queued_calls(
    session: Session, how: str
) -> None:
    @skate.remote(max_concurrency=3, num_cpus=0)
    class Leaving:
        def __init__(self) -> None:
            self.running = 0

        async def wait(self) -> None:
            self.running += 1
            await asyncio.Event().wait()

        async def leave(self) -> None:
            while self.running < 2:
                await asyncio.sleep(0.01)
            if how == "exit_actor":
                skate.actor.exit_actor()
            elif how == "sys.exit":
                sys.exit(0)
            elif how == "os._exit":
                os._exit(1)

    actor = Leaving.remote()
    refs = [
        actor.wait.remote(),
        actor.wait.remote(),
        actor.leave.remote(),
        *(actor.wait.remote() for _ in range(3)),
    ]
    if how == "kill":
        skate.get(refs.pop(2))
        skate.kill(actor)
    for ref in refs:
        with pytest.raises(RayActorError):
            skate.get(ref, timeout=waiting.AGES)
