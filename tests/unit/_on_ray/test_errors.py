"""Exceptions of Ray as skate's. Ray is not there: its classes are made here, by its names."""

from __future__ import annotations

from typing import Any

import pytest

from skate import exceptions
from skate._on_ray.errors import translated


def of_ray(name: str, *bases: type) -> Any:
    return type(name, bases or (Exception,), {"__module__": "ray.exceptions"})


RayError = of_ray("RayError")
RayTaskError = of_ray("RayTaskError", RayError)
TEXT = (
    "\x1b[36mray::parse()\x1b[39m (pid=12, ip=10.0.0.1)\n"
    '  File "program.py", line 3, in parse\n'
    "ValueError: no number"
)


def task_error(cause: BaseException, text: str = TEXT) -> BaseException:
    """Return what Ray raises for a task that raised: an instance of both types."""
    kind = of_ray(f"RayTaskError({type(cause).__name__})", RayTaskError, type(cause))
    kind.__str__ = lambda self: text
    error: BaseException = kind()
    error.cause = cause  # type: ignore[attr-defined]
    return error


def test_the_error_of_a_task_is_both_types_and_has_the_facts() -> None:
    cause = ValueError("no number")
    found: Any = translated(task_error(cause))
    assert isinstance(found, exceptions.RayTaskError)
    assert isinstance(found, ValueError)
    assert found.cause is cause
    assert (found.function_name, found.pid, found.ip) == ("parse", 12, "10.0.0.1")
    assert 'File "program.py", line 3' in str(found)
    assert "\x1b" not in str(found)


def test_the_error_of_an_actors_method_names_the_actor() -> None:
    text = "ray::Counter.add() (pid=7, ip=::1, actor_id=ab12, repr=<Counter 3>)\nKeyError: 'x'"
    found: Any = translated(task_error(KeyError("x"), text))
    assert (found.function_name, found.actor_id, found.actor_repr) == ("Counter.add", "ab12", "<Counter 3>")


def test_a_text_of_another_form_is_kept() -> None:
    found: Any = translated(task_error(ValueError("x"), "something else"))
    assert "something else" in str(found)


def test_an_error_that_a_task_lets_through_is_that_error() -> None:
    inner = exceptions.RayTaskError("inner", "the inner traceback", ValueError("x")).as_instanceof_cause()
    found: Any = translated(task_error(inner))
    assert isinstance(found, ValueError)
    assert type(found.cause) is ValueError


@pytest.mark.parametrize(
    "name",
    ["WorkerCrashedError", "GetTimeoutError", "OutOfMemoryError", "RuntimeEnvSetupError", "NodeDiedError",
     "ObjectStoreFullError", "PendingCallsLimitExceeded", "ActorUnschedulableError"],
)  # fmt: skip
def test_an_error_keeps_its_name_and_text(name: str) -> None:
    found = translated(of_ray(name, RayError)("the reason"))
    assert type(found) is getattr(exceptions, name)
    assert "the reason" in str(found)


def test_the_death_of_an_actor() -> None:
    error = of_ray("ActorDiedError", RayError)("it was killed")
    error.actor_id, error.actor_init_failed = "ab12", True
    found: Any = translated(error)
    assert type(found) is exceptions.ActorDiedError
    assert (found.actor_id, found.actor_init_failed, str(found)) == ("ab12", True, "it was killed")


def test_lost_objects() -> None:
    error = of_ray("OwnerDiedError", RayError)("the owner is gone")
    error.object_ref_hex, error.owner_address = "c0ffee", b"address"
    found = translated(error)
    assert type(found) is exceptions.OwnerDiedError
    assert "c0ffee" in str(found)
    error = of_ray("ObjectReconstructionFailedMaxAttemptsExceededError", RayError)("tried three times")
    assert type(translated(error)) is exceptions.ObjectLostError


def test_what_could_not_be_pickled() -> None:
    found = translated(RayError("Exception mine.Stuck isn't serializable: cannot pickle a lock"))
    assert type(found) is exceptions.UserCodeException


def test_an_unknown_error_is_a_ray_error_that_names_it() -> None:
    found = translated(of_ray("NewError", RayError)("new"))
    assert type(found) is exceptions.RayError
    assert "NewError: new" in str(found)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), exceptions.GetTimeoutError("z")])
def test_errors_of_others_stay_what_they_are(error: BaseException) -> None:
    assert translated(error) is error
