"""The exception tree: every class pickles; remote exceptions keep the user's own type."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from typing import Any

import pytest

from skate import exceptions
from skate._base import errors
from skate._base.errors import (
    ActorDiedError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
    UserCodeException,
)


def _task_error(cause: BaseException | None = None) -> RayTaskError:
    return RayTaskError(
        "f", "Traceback: line 1\n", cause or UserCodeException("boom"), "skate::f", 42, "127.0.0.1", "A", "ab"
    )


#: At least one instance of every class of the module, its arguments as the runtime gives them.
SAMPLES: list[RayError] = [
    errors.RayError("text"),
    _task_error(),
    errors.UserCodeException("text"),
    errors.UnserializableException("its traceback"),
    errors.RaySystemError("what"),
    errors.RaySystemError("what", "where"),
    errors.LocalRayletDiedError("the peer closed the connection"),
    errors.WorkerCrashedError("text"),
    errors.RayChannelError("text"),
    errors.RayChannelTimeoutError("text"),
    errors.RayCgraphCapacityExceeded("text"),
    errors.TaskCancelledError(),
    errors.TaskCancelledError("0011", "text"),
    errors.TaskKilledError("0011", "text"),
    errors.PendingCallsLimitExceeded("text"),
    errors.DeadlockError("text"),
    errors.OutOfMemoryError("text"),
    errors.RayActorError(),
    errors.RayActorError("ab", "text", True, True),
    errors.ActorDiedError(),
    errors.ActorDiedError("text", "ab"),
    errors.ActorDiedError(_task_error(), "ab"),
    errors.ActorDiedError.from_task_error(_task_error()),
    errors.ActorUnavailableError("text", "ab"),
    errors.GetTimeoutError("text"),
    errors.ObjectLostError("0011", "/s/1", "text"),
    errors.ObjectLostError("0011", None, None),
    errors.OwnerDiedError("0011", "/s/1", "text"),
    errors.ReferenceCountingAssertionError("0011", "/s/1", "text"),
    errors.ObjectFreedError("0011", "/s/1", "text"),
    errors.ObjectFetchTimedOutError("0011", "/s/1", "text"),
    errors.ObjectReconstructionFailedError("0011"),
    errors.ObjectReconstructionFailedError("0011", "LINEAGE_EVICTED", "text", "/s/1", "app.py:3"),
    errors.NodeDiedError("text"),
    errors.AuthenticationError("text"),
    errors.OutOfDiskError("text"),
    errors.AsyncioActorExit("text"),
    errors.RpcError("text", 14),
    errors.CrossLanguageError("text"),
    errors.PlasmaObjectNotAvailable("text"),
    errors.ObjectRefStreamEndOfStreamError("text"),
    errors.StreamingGeneratorReplayInconsistentError("text", "trace"),
    errors.OufOfBandObjectRefSerializationException("text"),
    errors.RayDirectTransportError("text"),
    errors.TaskPlacementGroupRemoved("text"),
    errors.ActorPlacementGroupRemoved("text"),
    errors.ObjectStoreFullError("text"),
    errors.TaskUnschedulableError("text"),
    errors.ActorUnschedulableError("text"),
    errors.ActorAlreadyExistsError("text"),
    errors.ActorHandleNotFoundError("text"),
    errors.RuntimeEnvSetupError("text"),
    errors.RuntimeEnvSetupError(),
]


def _classes() -> set[type[BaseException]]:
    return {
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind)
        and issubclass(kind, BaseException)
        and kind.__module__ == "skate.exceptions"
        and not kind.__name__.startswith("_")
    }


def _facts(error: BaseException) -> dict[str, Any]:
    return {
        name: repr(value) if isinstance(value, BaseException) else value
        for name, value in vars(error).items()
    }


def test_every_class_has_a_sample() -> None:
    assert _classes() == {type(sample) for sample in SAMPLES}


def test_every_class_is_public() -> None:
    assert {kind.__name__ for kind in _classes()} == set(exceptions.__all__)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickling_keeps_type_text_and_attributes(error: RayError, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert _facts(again) == _facts(error)
    assert repr(again.args) == repr(error.args)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_caught_as_rayerror_and_says_something(error: RayError) -> None:
    assert isinstance(error, RayError)
    assert isinstance(error, Exception)
    assert str(error)
    assert str(copy.copy(error)) == str(error)


def test_what_callers_of_standard_errors_catch() -> None:
    assert issubclass(GetTimeoutError, TimeoutError)
    assert issubclass(errors.ActorAlreadyExistsError, ValueError)
    assert issubclass(errors.ActorHandleNotFoundError, ValueError)
    assert issubclass(errors.OwnerDiedError, errors.ObjectLostError)
    assert issubclass(errors.ReferenceCountingAssertionError, AssertionError)
    assert issubclass(ActorDiedError, RayActorError)


def test_a_dead_actors_error_tells_of_its_constructor() -> None:
    error = ActorDiedError.from_task_error(_task_error(ValueError("boom")))
    assert error.actor_init_failed
    assert error.actor_id == "ab"
    assert "because of an error raised in its creation task" in str(error)
    assert "Traceback: line 1" in str(error)


# ---------------------------------------------------------------------- the user's own type


class Custom(Exception):
    """Its arguments are not what ``Exception.args`` holds."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Picky(Exception):
    """Cannot be made without its argument."""

    def __new__(cls, *args: Any) -> Picky:
        made = super().__new__(cls, *args)
        made.first = args[0]
        return made

    first: Any


class Two(Exception):
    """Cannot be made without exactly two arguments."""

    def __new__(cls, first: int, second: int) -> Two:
        return super().__new__(cls, first, second)


class Final(Exception):
    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise TypeError("nobody extends me")


@pytest.mark.parametrize(
    "cause",
    [
        ValueError("boom", 3),
        KeyError("key"),
        ZeroDivisionError(),
        Custom(7, detail="x"),
        FileNotFoundError(2, "No such file", "/nowhere"),
        OSError(5, "io", "a", None, "b"),
        ImportError("no", name="module", path="/p"),
        AttributeError("no", name="attribute", obj=3),
        UnicodeDecodeError("utf-8", b"abc", 1, 2, "bad"),
        SyntaxError("bad", ("file.py", 3, 4, "text")),
        StopIteration(7),
        SystemExit(3),
        KeyboardInterrupt(),
        MemoryError("too large"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_a_remote_exception_is_an_instance_of_the_users_type(cause: BaseException) -> None:
    plain = _task_error(cause)
    error = plain.as_instanceof_cause()
    assert isinstance(error, RayTaskError)
    assert isinstance(error, type(cause))
    assert type(error).__name__ == f"RayTaskError({type(cause).__name__})"
    assert type(error).__module__ == type(cause).__module__
    assert str(error) == str(plain)
    assert error.cause is cause
    assert error.args == cause.args
    for name in ("errno", "strerror", "filename", "filename2", "code", "detail", "name", "path", "obj",
                 "start", "end", "reason", "object", "encoding", "lineno", "offset", "value"):  # fmt: skip
        assert getattr(error, name, None) == getattr(cause, name, None)


def test_the_type_of_both_is_made_once() -> None:
    assert type(_task_error(ValueError(1)).as_instanceof_cause()) is type(
        _task_error(ValueError(2)).as_instanceof_cause()
    )


@pytest.mark.parametrize("cause", [Exception("x"), UserCodeException("x"), RayError("x")], ids=repr)
def test_no_type_of_both_where_it_would_say_nothing_new_or_lie(cause: Exception) -> None:
    error = _task_error(cause).as_instanceof_cause()
    assert isinstance(error, type(cause))
    assert isinstance(error, RayTaskError)


def test_a_type_that_refuses_to_be_extended_stays_the_cause() -> None:
    plain = _task_error(Final())
    assert plain.as_instanceof_cause() is plain


@pytest.mark.parametrize("cause", [Picky(3), Two(1, 2)], ids=repr)
def test_a_type_that_cannot_be_made_without_arguments_is_still_an_error_that_can_be_raised(
    cause: Exception,
) -> None:
    error = _task_error(cause).as_instanceof_cause()
    assert isinstance(error, RayTaskError)
    assert error.cause is cause


def test_pickling_a_remote_exception_again_keeps_the_users_type() -> None:
    error = _task_error(ValueError("boom")).as_instanceof_cause()
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, RayTaskError)
    assert str(again) == str(error)
    assert isinstance(again, ValueError)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_bytes_and_back(error: BaseException) -> None:
    if not isinstance(error, RayError):
        return
    again = RayError.from_bytes(error.to_bytes())
    assert type(again) is type(error) and str(again) == str(error)
    assert RayError.from_ray_exception(error) is error


def test_bytes_of_something_else() -> None:
    with pytest.raises(TypeError, match="no RayError but int"):
        RayError.from_bytes(pickle.dumps(3))


def test_every_error_is_where_its_module_says() -> None:
    """A traceback names it so, and pickle looks there."""
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.RayError) and not name.startswith("_"):
            assert kind.__module__ == "skate.exceptions", name
            assert getattr(exceptions, name, None) is kind, name


def test_what_the_error_lacks_is_read_off_its_cause() -> None:
    class Slots(Exception):
        __slots__ = ("slot",)

        def __init__(self, slot: int) -> None:
            super().__init__(slot)
            self.slot = slot

    error: Any = RayTaskError("f", "", Slots(4)).as_instanceof_cause()
    assert error.slot == 4
    with pytest.raises(AttributeError, match="absent"):
        error.absent  # noqa: B018
    assert not hasattr(error, "__wrapped__")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has exception groups since 3.11")
def test_exception_groups_keep_their_parts() -> None:
    group = ExceptionGroup("several", [ValueError("a"), ExceptionGroup("more", [KeyError("b")])])  # noqa: F821
    error: Any = RayTaskError("f", "", group).as_instanceof_cause()
    assert isinstance(error, RayTaskError)
    assert error.exceptions == group.exceptions
    assert error.message == "several"
    matching, rest = error.split(KeyError)
    assert [type(one) for one in matching.exceptions] == [ExceptionGroup]  # noqa: F821
    assert [type(one) for one in rest.exceptions] == [ValueError]
    again = pickle.loads(pickle.dumps(error))
    assert [type(one) for one in again.exceptions] == [ValueError, ExceptionGroup]  # noqa: F821
