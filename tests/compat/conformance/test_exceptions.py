"""Exceptions: their types, causes and texts, and what becomes of those that cannot travel."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import sys

import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    OwnerDiedError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from compat.conformance.helpers import Gate, differs, needs_processes, never, until

pytestmark = pytest.mark.usefixtures("session")


class Custom(Exception):
    def __init__(self, code, *, detail="none"):
        super().__init__(f"code {code}")
        self.code = code
        self.detail = detail

    def __reduce__(self):
        return _custom, (self.code, self.detail)


def _custom(code, detail):
    return Custom(code, detail=detail)


@ray.remote
def fail(error):
    raise error


def caught(ref) -> BaseException:
    with pytest.raises(BaseException) as info:
        ray.get(ref)
    return info.value


# ---------------------------------------------------------------------- the type


@pytest.mark.parametrize(
    "error",
    [
        ValueError("v"),
        KeyError("k"),
        OSError(2, "no such thing", "file"),
        FileNotFoundError(2, "no such thing"),
        ZeroDivisionError("z"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(5),
        AssertionError("a"),
        NotImplementedError(),
        MemoryError("m"),
        RuntimeError("r", 2, {"k": 1}),
        Custom(5, detail="d"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_both_the_users_type_and_rays(error) -> None:
    found = caught(fail.remote(error))
    assert isinstance(found, type(error))
    assert isinstance(found, RayTaskError)
    assert isinstance(found, RayError)
    assert type(found.cause) is type(error)
    assert found.cause.args == error.args


def test_the_cause_has_its_attributes() -> None:
    cause = caught(fail.remote(Custom(5, detail="d"))).cause
    assert (cause.code, cause.detail) == (5, "d")


def test_the_error_has_the_attributes_of_its_cause() -> None:
    found = caught(fail.remote(Custom(5, detail="d")))
    assert found.code == 5
    assert found.detail == "d"


@differs(on="ray", reason="the error itself has not the errno of its cause, only the cause has")
def test_the_error_has_the_errno_of_its_cause() -> None:
    found = caught(fail.remote(OSError(2, "no such thing", "file")))
    assert (found.errno, found.filename) == (2, "file")


def test_local_exception_classes() -> None:
    class Local(Exception):
        pass

    @ray.remote
    def broken():
        raise Local("here")

    with pytest.raises(Local, match="here"):
        ray.get(broken.remote())


def test_except_clauses_for_base_classes() -> None:
    class Base(Exception):
        pass

    class Derived(Base):
        pass

    assert isinstance(caught(fail.remote(Derived("x"))), Base)
    assert isinstance(caught(fail.remote(KeyError("x"))), LookupError)


def test_properties_and_slots_of_the_users_class() -> None:
    class Kept(Exception):
        __slots__ = ("slot",)

        def __init__(self, slot):
            super().__init__(slot)
            self.slot = slot

        @property
        def double(self):
            return 2 * self.slot

    found = caught(fail.remote(Kept(4)))
    assert (found.slot, found.double, found.cause.slot) == (4, 8, 4)
    with pytest.raises(AttributeError):
        found.no_such_thing  # noqa: B018


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has exception groups since 3.11")
def test_exception_groups() -> None:
    group = ExceptionGroup("several", [ValueError("a"), KeyError("b")])  # noqa: F821
    found = caught(fail.remote(group))
    assert isinstance(found, ExceptionGroup)  # noqa: F821
    assert [type(one) for one in found.exceptions] == [ValueError, KeyError]
    matching, rest = found.split(ValueError)
    assert [str(one) for one in matching.exceptions] == ["a"]
    assert len(rest.exceptions) == 1


def test_groups_of_exceptions_in_one_except() -> None:
    try:
        ray.get(fail.remote(ValueError("x")))
    except (KeyError, ValueError) as error:
        assert isinstance(error, RayTaskError)


def test_keyboard_interrupts_and_exits_do_not_end_the_driver() -> None:
    @ray.remote(max_retries=0)
    def leave():
        raise SystemExit(3)

    assert isinstance(caught(leave.remote()), (RayError, SystemExit))


# ---------------------------------------------------------------------- text


def test_the_text_has_the_remote_traceback() -> None:
    @ray.remote
    def outer():
        def innermost():
            raise ValueError("the very reason")

        innermost()

    text = str(caught(outer.remote()))
    assert "in innermost" in text
    assert "in outer" in text
    assert "ValueError: the very reason" in text


def test_the_text_names_function_and_process() -> None:
    @ray.remote
    def broken():
        raise ValueError(os.getpid())

    found = caught(broken.remote())
    pid = found.cause.args[0]
    assert "broken" in str(found)
    assert str(pid) in str(found).replace("ValueError", "", 1)


def test_methods_are_named_with_their_class() -> None:
    @ray.remote
    class Named:
        def fail(self):
            raise ValueError("x")

    assert "Named.fail" in str(caught(Named.remote().fail.remote()))


def test_chained_causes_are_in_the_text() -> None:
    @ray.remote
    def chained():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    text = str(caught(chained.remote()))
    assert "first" in text
    assert "direct cause" in text
    assert text.rstrip().endswith("second")


def test_nested_tasks_keep_the_innermost_type_and_text() -> None:
    @ray.remote
    def inner():
        raise KeyError("the root")

    @ray.remote
    def middle():
        return ray.get(inner.remote())

    @ray.remote
    def outer():
        return ray.get(middle.remote())

    found = caught(outer.remote())
    assert isinstance(found, KeyError)
    assert isinstance(found, RayTaskError)
    for name in ("inner", "middle", "outer", "the root"):
        assert name in str(found)


def test_handled_in_between() -> None:
    @ray.remote
    def inner():
        raise KeyError("the root")

    @ray.remote
    def outer():
        try:
            ray.get(inner.remote())
        except KeyError as error:
            raise ValueError("instead") from error

    assert isinstance(caught(outer.remote()), ValueError)


def test_an_exception_is_a_value_too() -> None:
    @ray.remote
    def give():
        return ValueError("as a value")

    value = ray.get(give.remote())
    assert isinstance(value, ValueError)
    assert value.args == ("as a value",)


def test_errors_are_passed_on() -> None:
    found = caught(fail.remote(ValueError("x")))

    @ray.remote
    def kind(errors):
        return isinstance(errors[0], ValueError), str(errors[0])

    assert ray.get(kind.remote([found])) == (True, str(found))


@differs(
    on="ray",
    reason="plain pickle refuses the error that get raised, as its class has no name that could be found",
)
def test_errors_can_be_pickled() -> None:
    found = caught(fail.remote(ValueError("x")))
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, RayTaskError)
    assert "x" in str(again)


# ---------------------------------------------------------------------- what cannot travel


def test_an_exception_that_cannot_be_pickled() -> None:
    class Stuck(Exception):
        def __init__(self, text):
            import threading

            super().__init__(text)
            self.lock = threading.Lock()

    @ray.remote
    def broken():
        raise Stuck("cannot move")

    found = caught(broken.remote())
    assert isinstance(found, RayTaskError)
    assert "cannot move" in str(found)


def test_an_exception_that_cannot_be_unpickled() -> None:
    class Picky(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")

    @ray.remote
    def broken():
        raise Picky("this", "that")

    found = caught(broken.remote())
    assert isinstance(found, RayError)
    assert "this and that" in str(found)


@differs(on="ray", reason="an exception whose constructor takes something else than its args loses its type")
def test_an_exception_whose_constructor_takes_something_else_than_its_args() -> None:
    class Picky(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")
            self.a = a

    @ray.remote
    def broken():
        raise Picky("this", "that")

    found = caught(broken.remote())
    assert isinstance(found, Picky)
    assert found.a == "this"


def test_an_exception_whose_text_raises() -> None:
    class Rude(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    @ray.remote
    def broken():
        raise Rude

    assert isinstance(caught(broken.remote()), RayError)


@differs(on="ray", reason="a frozen dataclass as an exception is lost: the worker sets attributes on it")
def test_an_exception_that_refuses_attributes() -> None:
    @dataclasses.dataclass(frozen=True)
    class Quota(Exception):
        user: str

    @ray.remote(max_retries=0)
    def broken():
        raise Quota("someone")

    @ray.remote
    class Broken:
        async def method(self):
            raise Quota("someone")

    for ref in (broken.remote(), Broken.remote().method.remote()):
        with pytest.raises(Quota) as info:
            ray.get(ref, timeout=60)
        assert info.value.user == "someone"


@differs(on="ray", reason="an exception with an attribute that cannot be pickled loses its type")
def test_the_type_is_kept_without_the_attribute_that_cannot_travel() -> None:
    class Held(ValueError):
        pass

    @ray.remote
    def broken():
        import threading

        error = Held("words")
        error.lock, error.kept = threading.Lock(), "kept"
        raise error

    found = caught(broken.remote())
    assert isinstance(found, Held)
    assert found.kept == "kept"
    assert "lock" in str(found)


def test_an_exception_without_truth() -> None:
    class Empty(Exception):
        def __bool__(self):
            return False

    @ray.remote
    def broken():
        raise Empty("x")

    with pytest.raises(Empty):
        ray.get(broken.remote())


def test_notes_are_in_the_text() -> None:
    @ray.remote
    def broken():
        error = ValueError("x")
        error.__notes__ = ["a note of it"]
        raise error

    if sys.version_info >= (3, 11):
        assert "a note of it" in str(caught(broken.remote()))


# ---------------------------------------------------------------------- what the runtime raises


def test_get_timeout_error() -> None:
    gate = Gate.remote()
    ref = gate.wait.remote()
    with pytest.raises(GetTimeoutError) as info:
        ray.get(ref, timeout=0.01)
    assert isinstance(info.value, TimeoutError)
    assert isinstance(info.value, RayError)
    ray.get(gate.open.remote())


@needs_processes
@pytest.mark.parametrize("how", ["exit", "kill"])
def test_worker_crashed_error(how) -> None:
    @ray.remote(max_retries=0)
    def crash():
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)

    found = caught(crash.remote())
    assert isinstance(found, WorkerCrashedError)
    assert isinstance(found, RayError)
    assert not isinstance(found, RayTaskError)


@needs_processes
def test_actor_died_error() -> None:
    @ray.remote
    class Mortal:
        def crash(self):
            os._exit(1)

    mortal = Mortal.remote()
    found = caught(mortal.crash.remote())
    assert isinstance(found, ActorDiedError)
    assert isinstance(found, RayActorError)
    assert found.actor_id == mortal._actor_id.hex()


def test_a_failed_constructor_is_in_the_text() -> None:
    @ray.remote
    class Broken:
        def __init__(self):
            raise KeyError("at birth")

        def call(self):
            return 1

    found = caught(Broken.remote().call.remote())
    assert isinstance(found, ActorDiedError)
    assert "at birth" in str(found)
    assert "KeyError" in str(found)


def test_task_cancelled_error() -> None:
    @ray.remote
    def after(value):
        return value

    ref = after.remote(never())
    ray.cancel(ref)
    found = caught(ref)
    assert isinstance(found, TaskCancelledError)
    assert isinstance(found, RayError)


@differs(
    on="ray",
    before="2.60",
    reason="Ray 2.50 gives a value whose owner has ended as long as the machine's store has it.",
)
@needs_processes
def test_the_owner_died() -> None:
    @ray.remote
    class Owner:
        def make(self):
            self.ref = ray.put(b"x" * 1_000_000)
            return [self.ref]

    owner = Owner.remote()
    (ref,) = ray.get(owner.make.remote())
    ray.kill(owner)

    def lost():
        try:
            ray.get(ref, timeout=1)
        except (OwnerDiedError, ray.exceptions.ObjectLostError):
            return True
        except GetTimeoutError:
            pass
        return False

    until(lost, "the loss of the object")


def test_the_tree() -> None:
    e = ray.exceptions
    for name in ("RayTaskError", "RayActorError", "TaskCancelledError", "WorkerCrashedError", "ObjectLostError",
                 "GetTimeoutError", "RaySystemError", "RuntimeEnvSetupError", "OutOfMemoryError",
                 "ObjectStoreFullError", "PendingCallsLimitExceeded", "TaskUnschedulableError",
                 "ActorUnschedulableError"):  # fmt: skip
        assert issubclass(getattr(e, name), e.RayError), name
    assert issubclass(e.ActorDiedError, e.RayActorError)
    assert issubclass(e.ActorUnavailableError, e.RayActorError)
    assert issubclass(e.OwnerDiedError, e.ObjectLostError)
    assert issubclass(e.ObjectReconstructionFailedError, e.ObjectLostError)
    assert issubclass(e.ObjectFreedError, e.ObjectLostError)
