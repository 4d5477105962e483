"""Exceptions between processes: the user's type and story kept, what cannot travel replaced, never lost."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from skate._base.errors import (
    GetTimeoutError,
    RayTaskError,
    UnserializableException,
    UserCodeException,
)
from skate._serialize.exceptions import dump_error, dump_task_error, load_error
from skate._serialize.values import collecting


def raised(error: BaseException) -> BaseException:
    """Return the error with a traceback, as user code raises it."""
    try:
        raise error
    except BaseException as caught:
        return caught


def through(error: BaseException, **more: Any) -> BaseException:
    """Return what ``get`` raises for a task that raised this."""
    data, _ = dump_task_error(raised(error), "f", **more)
    return load_error(data)


# ---------------------------------------------------------------------- awkward classes


class NeedsArguments(Exception):
    """Its constructor wants more than ``args`` holds; it pickles because it says how."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self.code, self.detail)


def _remake(code: int, detail: str) -> NeedsArguments:
    return NeedsArguments(code, detail=detail)


class TakesTwo(Exception):
    """A common one: pickle calls the class with ``args``, which is one argument."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class Slotted(ValueError):
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class SlottedOnce(Slotted):
    __slots__ = "other"

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.other = number + 1


@dataclass(frozen=True)
class FrozenData(Exception):
    """A frozen dataclass refuses every assignment: unpickling, too, must go round that."""

    code: int
    detail: str

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenData, (self.code, self.detail)


@dataclass(frozen=True)
class FrozenAndMute(Exception):
    """Pickle assigns to it, in vain."""

    code: int


@dataclass
class Data(Exception):
    code: int


class Meta(type):
    """A metaclass that counts."""

    made = 0

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        Meta.made += 1
        return super().__call__(*args, **kwargs)


class WithMeta(Exception, metaclass=Meta):
    pass


class Final(Exception):
    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise TypeError("nobody extends me")


class FinalByValue(Exception):
    """Refuses with another exception than TypeError."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise RuntimeError("nobody extends me")


class ReadOnly(Exception):
    """Has a property where others have an attribute."""

    @property
    def name(self) -> str:
        return "fixed"

    @property
    def code(self) -> int:
        raise RuntimeError("not now")


class OwnGetattr(Exception):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"made up: {name}"


class OwnStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Two(KeyError, AttributeError):
    """Of two built-in types."""


class Newly(Exception):
    """Its __new__ wants an argument."""

    def __new__(cls, first: int) -> Newly:
        return super().__new__(cls, first)


AWKWARD: list[Callable[[], BaseException]] = [
    lambda: NeedsArguments(3, detail="d"),
    lambda: Slotted(3),
    lambda: SlottedOnce(3),
    lambda: FrozenData(3, "x"),
    lambda: Data(3),
    lambda: WithMeta("x"),
    lambda: ReadOnly("x"),
    lambda: OwnGetattr("x"),
    lambda: OwnStr("x"),
    lambda: Two("x"),
    lambda: Newly(3),
    lambda: KeyError("key"),
    lambda: MemoryError("much"),
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt(),
    lambda: StopIteration(3),
    lambda: FileNotFoundError(2, "No such file", "/nowhere"),
    lambda: UnicodeDecodeError("utf-8", b"abc", 1, 2, "bad"),
    lambda: GetTimeoutError("too late"),
]


@pytest.mark.parametrize("make", AWKWARD, ids=lambda make: type(make()).__name__)
def test_except_clauses_of_the_users_type_catch_it(make: Callable[[], BaseException]) -> None:
    error = make()
    arrived = through(error)
    with pytest.raises(type(error)) as caught:
        raise arrived
    assert caught.value is arrived
    assert isinstance(arrived, RayTaskError)
    assert type(arrived.cause) is type(error)
    assert arrived.cause.args == error.args
    assert arrived.args == error.args
    assert "test_exceptions.py" in str(arrived)
    assert "f failed in worker process" in str(arrived)


@pytest.mark.parametrize("make", AWKWARD, ids=lambda make: type(make()).__name__)
def test_passing_it_on_keeps_all_that(make: Callable[[], BaseException]) -> None:
    arrived = through(make())
    again = pickle.loads(pickle.dumps(arrived))
    assert type(again).__mro__[1:] == type(arrived).__mro__[1:]
    assert str(again) == str(arrived)


def test_attributes_are_those_of_the_cause() -> None:
    assert (through(NeedsArguments(3, detail="d")).code, through(Data(4)).code) == (3, 4)  # type: ignore[attr-defined]
    assert through(FileNotFoundError(2, "No", "/nowhere")).filename == "/nowhere"  # type: ignore[attr-defined]
    assert through(ReadOnly("x")).name == "fixed"  # type: ignore[attr-defined]


def test_attributes_in_slots_are_too() -> None:
    assert through(Slotted(3)).number == 3  # type: ignore[attr-defined]
    error: Any = through(SlottedOnce(3))
    assert (error.number, error.other) == (3, 4)
    frozen: Any = through(FrozenData(3, "x"))
    assert (frozen.code, frozen.detail) == (3, "x")


def test_a_group_is_caught_as_a_group() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("exception groups came with Python 3.11")
    group = ExceptionGroup("several", [ValueError("one"), KeyError("two")])  # noqa: F821
    arrived: Any = through(group)
    with pytest.raises(ExceptionGroup):  # noqa: F821
        raise arrived
    assert isinstance(arrived, RayTaskError)
    assert arrived.message == "several"
    assert [type(one) for one in arrived.exceptions] == [ValueError, KeyError]
    assert "several" in str(arrived)
    assert arrived.split(ValueError)[0].exceptions[0].args == ("one",)
    again = pickle.loads(pickle.dumps(arrived))
    assert type(again) is type(arrived)
    assert again.message == "several"


@pytest.mark.parametrize("error", [Final("x"), FinalByValue("x")], ids=lambda error: type(error).__name__)
def test_a_type_that_cannot_be_extended_is_the_cause_of_a_task_error(error: BaseException) -> None:
    arrived = through(error)
    assert type(arrived) is RayTaskError
    assert type(arrived.cause) is type(error)
    assert "x" in str(arrived)


# ---------------------------------------------------------------------- what cannot travel


def test_what_cannot_be_pickled_is_left_out_and_named() -> None:
    arrived = through(ValueError("boom", threading.Lock()))
    assert isinstance(arrived, RayTaskError)
    assert isinstance(arrived, ValueError)
    assert arrived.args[0] == "boom"
    assert arrived.args[1].startswith("<unlocked _thread.lock"), "words stand for it"
    assert (
        "arrived without the parts that cannot be pickled there and unpickled here: args[1] (TypeError"
        in str(arrived)
    )
    assert "in raised" in str(arrived), "the traceback is there"


class Twisted(Exception):
    """Says how it is made again, and is wrong about it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Twisted, (1,), {"args": 5}


def test_what_cannot_be_made_again_its_own_way_is_made_without() -> None:
    arrived = through(Twisted("boom"))
    assert isinstance(arrived, RayTaskError)
    assert isinstance(arrived, Twisted)
    assert arrived.args == ("boom",)
    assert "the pickle made by its own class (TypeError" in str(arrived)


def test_an_exception_whose_class_cannot_travel_is_replaced_by_its_words() -> None:
    lock = threading.Lock()

    class Holder(Exception):
        held = lock

    arrived = through(Holder("boom"))
    assert isinstance(arrived, RayTaskError)
    assert type(arrived.cause) is UserCodeException
    assert "Holder: boom (this is not the exception itself: its class cannot be pickled" in str(arrived.cause)
    assert "cannot pickle '_thread.lock'" in str(arrived.cause)


# ---------------------------------------------------------------------- made again without a constructor


class OfTheSystem(OSError):
    def __init__(self, url: str, *, code: int) -> None:
        super().__init__(code, "no answer", url)
        self.url = url


class OfAnImport(ImportError):
    def __init__(self, text: str, module: str) -> None:
        super().__init__(text, name=module)


class WithSlots(TakesTwo):
    __slots__ = ("third",)

    def __init__(self, *, third: int) -> None:
        super().__init__(1, 2)
        self.third = third
        self.fourth = third + 1


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (TakesTwo(1, 2), {}),
        (WithSlots(third=3), {"third": 3, "fourth": 4}),
        (FrozenAndMute(3), {"code": 3}),
        (OfTheSystem("there", code=5), {"url": "there", "errno": 5, "filename": "there"}),
        (OfAnImport("no", "there"), {"name": "there", "msg": "no"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_constructor_need_not_take_the_args(error: BaseException, attributes: dict[str, Any]) -> None:
    arrived = through(error)
    with pytest.raises(type(error)):
        raise arrived
    assert isinstance(arrived, RayTaskError)
    for one in (arrived, arrived.cause):
        assert one.args == error.args
        assert {name: getattr(one, name) for name in attributes} == attributes
    assert str(arrived.cause) == str(error)
    again = through(arrived)  # another task lets it through
    assert isinstance(again, type(error))


def test_even_if_it_has_no_words() -> None:
    error = OwnStr(threading.Lock())
    arrived = through(error)
    assert isinstance(arrived, RayTaskError)
    assert isinstance(arrived, OwnStr)
    assert "OwnStr: <exception str() failed>" in str(arrived)


def test_what_cannot_be_unpickled_here_says_so() -> None:
    arrived = load_error(b"\x80\x05cno_such_module\nThing\n.")
    assert isinstance(arrived, UnserializableException)
    assert "No module named 'no_such_module'" in str(arrived)
    assert "is its module importable here?" in str(arrived)


# ---------------------------------------------------------------------- stories


def test_errors_of_the_runtime_travel_as_they_are() -> None:
    arrived = load_error(dump_error(GetTimeoutError("too late")))
    assert type(arrived) is GetTimeoutError
    assert arrived.args == ("too late",)


def test_where_it_happened() -> None:
    arrived = through(ValueError("boom"), actor_repr="Counter", actor_id="ab")
    assert isinstance(arrived, RayTaskError)
    assert (arrived.function_name, arrived.proctitle, arrived.actor_id) == ("f", "skate::f", "ab")
    assert "actor Counter" in str(arrived)


def test_an_error_that_went_through_another_task_keeps_its_first_story() -> None:
    inner = through(ValueError("boom"))
    data, _ = dump_task_error(raised(inner), "outer")
    arrived = load_error(data)
    assert isinstance(arrived, RayTaskError)
    assert isinstance(arrived, ValueError)
    assert type(arrived.cause) is ValueError, "not a task error within a task error"
    text = str(arrived)
    assert text.startswith("outer failed")
    assert text.index("because f failed in worker process") < text.index("ValueError: boom")
    assert text.count("ValueError: boom") == 1


def test_an_error_that_went_through_a_task_without_frames() -> None:
    data, _ = dump_task_error(through(ValueError("boom")), "outer")
    assert "  (in the runtime itself)\nbecause f failed" in str(load_error(data))


def test_the_causes_and_notes_are_in_the_text() -> None:
    error = ValueError("second")
    error.__cause__ = KeyError("first")
    text = str(through(error))
    assert text.index("KeyError: 'first'") < text.index("ValueError: second")
    assert "direct cause" in text


def test_refs_inside_an_exception_are_found() -> None:
    class Ref:
        def __reduce__(self) -> tuple[Any, ...]:
            if collecting.refs is not None:
                collecting.refs.append("a ref")
            return int, (1,)

    data, refs = dump_task_error(ValueError(Ref()), "f")
    assert refs == ["a ref"]
    assert load_error(data).args == (1,)


SEALED_AS_RAY = """
import skate.compat
skate.compat.install()
import sys
from skate._serialize.exceptions import dump_task_error
from skate.serve.exceptions import RayServeException

assert RayServeException.__module__ == "ray.serve.exceptions"
try:
    raise RayServeException("no canary")
except RayServeException as error:
    sys.stdout.buffer.write(bytes(dump_task_error(error, "f")[0]))
"""


def test_a_process_without_the_name_ray_reads_what_one_with_it_raised() -> None:
    from skate.serve.exceptions import RayServeException

    done = subprocess.run([sys.executable, "-c", SEALED_AS_RAY], check=True, capture_output=True)
    found: Any = load_error(done.stdout)
    assert isinstance(found, RayServeException)
    assert str(found.cause) == "no canary"
