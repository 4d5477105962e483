"""Every awkward exception arrives with its type, whatever its hooks do, and can be raised, shown and passed on."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cluster.awkward import AWKWARD, CannotArrive, Holds, Text, make, type_of

from skate._base.errors import ActorDiedError, RayTaskError, UserCodeException
from skate._base.user_errors import attributes_of
from skate._serialize.exceptions import Travelling, dump_death, dump_task_error, is_task_error, load_error
from skate._serialize.tracebacks import format_error


def raised(name: str) -> bytes:
    try:
        raise make(name)
    except BaseException as error:
        return dump_task_error(error, "f")[0]


@pytest.mark.parametrize("name", AWKWARD)
def test_it_arrives_as_what_it_was(name: str) -> None:
    arrived = load_error(raised(name))
    caught = False
    try:
        raise arrived
    except type_of(name):
        caught = True
    assert caught
    assert issubclass(type(arrived), RayTaskError)
    cause = attributes_of(arrived)["cause"]
    assert type(cause) is type_of(name)
    text = str(arrived)
    assert type(text) is str
    assert "f failed in worker process" in text
    assert "in raised" in text, "the traceback"


@pytest.mark.parametrize("name", AWKWARD)
def test_what_arrived_is_an_exception_like_others(name: str) -> None:
    arrived: Any = load_error(raised(name))
    arrived.__traceback__ = None
    arrived.__cause__ = ValueError("x")
    assert f"{arrived}" == str(arrived)
    assert type(repr(arrived)) is str or isinstance(repr(arrived), str)
    assert bool(arrived) in (True, False)
    assert arrived == arrived
    assert isinstance(arrived, RayTaskError)
    assert not isinstance(arrived, ConnectionError)
    format_error(arrived)
    if name == "meta":
        return  # pickle itself asks for the hash of its class
    again = pickle.loads(pickle.dumps(arrived))
    assert type(again) is type(arrived)
    assert str(again).startswith(str(arrived).rstrip()[:200])


@pytest.mark.parametrize("name", AWKWARD)
def test_another_task_lets_it_through(name: str) -> None:
    try:
        raise load_error(raised(name))
    except BaseException as error:
        data, _ = dump_task_error(error, "outer")
    arrived = load_error(data)
    assert type(attributes_of(arrived)["cause"]) is type_of(name)
    assert str(arrived).startswith("outer failed")
    assert "because f failed" in str(arrived)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_constructor_raised_it(name: str) -> None:
    data = raised(name)
    assert is_task_error(data)
    arrived = load_error(dump_death(data, "ab"))
    assert type(arrived) is ActorDiedError
    assert "its constructor raised" in str(arrived)
    assert arrived.actor_id == "ab"


@pytest.mark.parametrize("name", AWKWARD)
def test_it_travels_as_a_value(name: str) -> None:
    try:
        raise make(name)
    except BaseException as error:
        data = pickle.dumps(Travelling(error))
    arrived = pickle.loads(data)
    assert type(arrived) is type_of(name)


@pytest.mark.parametrize("name", AWKWARD)
def test_its_traceback_can_be_told(name: str) -> None:
    try:
        raise make(name)
    except BaseException as error:
        text = format_error(error)
    assert "test_awkward.py" in text or "exceptions between these" in text
    assert len(text) < 100_000


# ---------------------------------------------------------------------- what is left out


def test_an_attribute_that_cannot_be_pickled() -> None:
    arrived: Any = load_error(raised("holds"))
    assert isinstance(arrived, Holds)
    assert arrived.kept == "kept"
    assert not hasattr(arrived.cause, "lock")
    assert "lock (TypeError: cannot pickle '_thread.lock' object)" in str(arrived)


def test_what_cannot_be_unpickled_where_it_arrives() -> None:
    """Only the other process can find that out."""
    tests = str(Path(__file__).resolve().parents[2])
    code = "\n".join(
        [
            f"import sys; sys.path.insert(0, {tests!r})",
            "from unit._serialize.test_awkward import raised",
            "sys.stdout.buffer.write(raised('cannot_arrive'))",
        ]
    )
    data = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
    arrived: Any = load_error(data)
    assert isinstance(arrived, CannotArrive)
    assert arrived.kept == "kept"
    assert arrived.args[0] == "c"
    assert not hasattr(arrived.cause, "stuck")
    for part in ("args[1] (SystemExit: not here)", "stuck (SystemExit: not here)"):
        assert part in str(arrived)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_the_parts_of_a_group_are_kept_each() -> None:
    arrived: Any = load_error(raised("group"))
    assert [type(one).__name__ for one in arrived.exceptions] == [
        "Holds", "Frozen", "Raising_str_RuntimeError", "Raising_bool_RuntimeError"
    ]  # fmt: skip
    assert arrived.exceptions[0].kept == "kept"
    assert "args[1][0].lock" in str(arrived)


def test_an_exception_in_an_attribute_is_kept_as_one() -> None:
    error = ValueError("outer")
    error.inner = Holds("inner")  # type: ignore[attr-defined]
    arrived: Any = load_error(dump_task_error(error, "f")[0])
    assert type(arrived.inner) is Holds
    assert arrived.inner.args == ("inner",)
    assert "inner.lock" in str(arrived)


def test_a_part_whose_class_cannot_travel_is_words() -> None:
    class Holder(Exception):
        held = threading.Lock()

    error = ValueError("outer", [Holder("inner"), 1])
    arrived: Any = load_error(dump_task_error(error, "f")[0])
    assert isinstance(arrived, ValueError)
    assert type(arrived.args[1][0]) is UserCodeException
    assert "Holder: inner" in str(arrived.args[1][0])
    assert arrived.args[1][1] == 1


def test_large_pieces_are_not_sent_twice() -> None:
    class Loads(ValueError):
        blob = b""

        def __reduce__(self) -> Any:
            return _wrong, (self.blob,)

    error = Loads("words")
    error.blob = b"x" * 1_000_000
    data, _ = dump_task_error(error, "f")
    assert 1_000_000 < len(data) < 1_100_000
    arrived: Any = load_error(data)
    assert isinstance(arrived, Loads)
    assert "blob (it has 10000" in str(arrived)
    assert arrived.cause.blob == b"", "that of its class"


def _wrong(args: Any) -> Any:
    return args


# ---------------------------------------------------------------------- long chains


def chained(count: int) -> BaseException:
    last: BaseException = ValueError("number 0")
    for number in range(1, count):
        try:
            raise ValueError(f"number {number}") from last
        except ValueError as error:
            last = error
    return last


def test_of_a_long_chain_the_first_and_the_last_are_told() -> None:
    text = str(load_error(dump_task_error(chained(5_000), "f")[0]))
    assert len(text) < 50_000
    assert "4900 exceptions between these are left out" in text
    for number in (0, 49, 4950, 4999):
        assert f"number {number}\n" in text + "\n"
    assert "number 2500\n" not in text
    assert text.index("number 0\n") < text.index("number 4999")


def test_a_shorter_one_is_told_in_full() -> None:
    text = format_error(chained(150))
    assert all(f"ValueError: number {number}\n" in text for number in range(150))


def test_a_circle_ends() -> None:
    one, two = ValueError("one"), KeyError("two")
    one.__context__, two.__context__ = two, one
    text = format_error(one)
    assert text.count("ValueError: one") == 1
    assert text.count("KeyError: 'two'") == 1
    one.__cause__ = make("bool")
    assert "of a hook" not in format_error(one)


def test_notes_are_told_even_by_those_who_answer_for_themselves() -> None:
    error: Any = make("bool")
    error.__notes__ = ["first", Text("second")]
    text = format_error(error)
    assert "\nfirst\n<str() of Text raised RuntimeError>\n" in text
