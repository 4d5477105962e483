"""Errors of user code: both types in one, messages, pickling."""

from __future__ import annotations

import dataclasses
import pickle
import traceback
from asyncio import CancelledError

import pytest

import skate.exceptions
from skate.data import exceptions
from skate.data._exec.commands import Submit
from skate.data._exec.crashes import explain_crash
from skate.data._task.slices import Bundle
from skate.data.exceptions import (
    DataError,
    RayDataUserCodeException,
    RowCrashedError,
    RowTimeoutError,
    TooManyErrorsError,
    UserExitError,
    describe,
    for_caller,
    preview,
    wrap,
)


class Picky(Exception):
    """Its constructor takes something else than its args."""

    def __init__(self, code, *, detail):
        super().__init__(f"code {code}")
        self.code = code
        self.detail = detail


class Slotted(Exception):
    __slots__ = ("where",)

    def __init__(self, where):
        super().__init__(where)
        self.where = where


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    n: int


class Rude(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    def __setattr__(self, name, value):
        raise AttributeError(name)

    def __bool__(self):
        return False


class Final(Exception):
    def __init_subclass__(cls, **kwargs):
        raise TypeError("no subclasses")


class OwnReduce(Exception):
    def __init__(self, a):
        super().__init__(a)
        self.a = a

    def __reduce__(self):
        return OwnReduce, (self.a,)


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


CASES = [
    KeyError("a"),
    ValueError("bad", 3),
    OSError(2, "No such file", "a.png"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    Picky(7, detail="x"),
    Frozen(3),
    Rude("x"),
    OwnReduce(4),
    Slotted("here"),
    AssertionError(),
    MemoryError(),
    RecursionError("deep"),
]


@pytest.mark.parametrize("error", CASES, ids=lambda e: type(e).__name__)
def test_both_types(error):
    made = wrap(raised(error), "Map(f)", {"id": 1}, "a.csv", "0.3:17")
    assert isinstance(made, type(error))
    assert isinstance(made, RayDataUserCodeException)
    assert isinstance(made, skate.exceptions.UserCodeException)
    assert made.__cause__ is error
    assert made.args == error.args
    for name, value in vars(error).items():
        assert getattr(made, name) == value
    for text in ("Map(f)", "row 17 of task 0.3", "a.csv", "id=1", 'on_error="dead_letter"'):
        assert text in str(made)
    assert type(error).__name__ in traceback.format_exc() or type(error).__name__ in str(made)


@pytest.mark.parametrize("error", CASES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("as_task", [False, True])
def test_pickles(error, as_task):
    made = wrap(raised(error), "Map(f)", {"id": 1}, "a.csv", "0.3:17")
    if as_task:
        made = for_caller(made)
    copy = pickle.loads(pickle.dumps(made))
    assert isinstance(copy, type(error))
    assert isinstance(copy, RayDataUserCodeException)
    assert isinstance(copy, skate.exceptions.RayTaskError) == as_task
    assert str(copy) == str(made)
    assert (copy.stage, copy.row, copy.path, copy.row_id) == ("Map(f)", {"id": 1}, "a.csv", "0.3:17")
    assert copy.args == error.args
    # The traceback of the function is still there, as text.
    printed = "".join(traceback.format_exception(copy))
    if not isinstance(error, Rude):  # Python asks for its truth, and leaves out what is false
        assert "in raised" in printed and "raise error" in printed
    assert "in raised" in copy.traceback_str
    again = pickle.loads(pickle.dumps(copy))
    assert str(again) == str(made)
    assert again.traceback_str == made.traceback_str


def test_fields_of_built_in_types_are_there():
    made = wrap(OSError(2, "No such file", "a.png"), "Map(f)")
    assert (made.errno, made.filename) == (2, "a.png")
    assert isinstance(made, FileNotFoundError)
    assert wrap(Slotted("here"), "Map(f)").where == "here"


def test_local_class_and_unpicklable_attributes():
    class Local(Exception):
        pass

    error = Local("x")
    error.lock = __import__("threading").Lock()
    error.good = 5
    copy = pickle.loads(pickle.dumps(wrap(error, "Map(f)")))
    assert type(copy.cause).__name__ == "Local"
    assert copy.good == 5
    assert "lock" in copy.lock


@pytest.mark.parametrize("error", [Final("x"), StopIteration(3), CancelledError()])
def test_types_that_cannot_be_both(error):
    made = wrap(error, "Map(f)", None, "", "0.0:1")
    assert isinstance(made, RayDataUserCodeException)
    assert made.cause is error
    assert type(error).__name__ in str(made)
    assert isinstance(pickle.loads(pickle.dumps(made)), RayDataUserCodeException)


def test_stop_iteration_can_be_raised_in_a_generator():
    def generator():
        yield 1
        raise wrap(StopIteration(), "Map(f)")

    with pytest.raises(RayDataUserCodeException):
        list(generator())


def test_ray_task_error_for_callers():
    made = for_caller(wrap(KeyError("a"), "Map(f)"))
    assert isinstance(made, skate.exceptions.RayTaskError)
    assert isinstance(made, KeyError)
    assert isinstance(made.cause, KeyError)
    assert for_caller(made) is made
    other = DataError("x")
    assert for_caller(other) is other


def test_what_comes_from_a_worker_says_the_same():
    made = wrap(raised(KeyError("a")), "Map(f)", {"id": 1}, "", "0.0:1")
    came = skate.exceptions.RayTaskError("task", "trace", made).as_instanceof_cause()
    assert isinstance(came, KeyError) and str(came) != str(made)
    found = for_caller(came)
    assert str(found) == str(made)
    assert isinstance(found, skate.exceptions.RayTaskError) and isinstance(found, KeyError)
    assert found.cause is made.cause


def test_exit_is_an_error_with_its_code():
    made = wrap(SystemExit(3), "Map(f)")
    assert not isinstance(made, SystemExit)
    assert isinstance(made, UserExitError)
    assert made.code == 3
    assert "sys.exit(3)" in str(made)


def test_wrapping_twice_changes_nothing():
    made = wrap(KeyError("a"), "Map(f)")
    assert wrap(made, "Map(g)") is made


def test_batch_is_named_by_its_rows():
    assert "a batch, rows 256 to 511 of task 1.2" in str(
        wrap(KeyError(), "MapBatches(f)", row_id="1.2:256-511")
    )


def test_describe_never_raises():
    assert describe(Rude()) == "Rude: (its text raises RuntimeError)"
    assert describe(KeyError("a")) == "KeyError: 'a'"
    assert describe(ValueError()) == "ValueError"
    assert len(describe(ValueError("x" * 100_000))) < 3000


def test_preview_is_short():
    row = {"image": b"x" * 10_000, "text": "word " * 1000, "list": list(range(1000)), "n": 1, "m": 2, "o": 3}
    shown = preview(row)
    assert "10000 bytes" in shown and "2 more" in shown
    assert len(shown) < 200


def test_classes_of_dead_types_are_forgotten():
    import gc

    before = len(exceptions._kinds)
    for _ in range(20):
        kind = type("Short", (Exception,), {})
        assert isinstance(wrap(kind("x"), "Map(f)"), kind)
    del kind
    gc.collect()
    assert len(exceptions._kinds) <= before + 1


@pytest.mark.parametrize(
    "error", [RowTimeoutError("t"), RowCrashedError("c"), UserExitError(3), TooManyErrorsError("m")]
)
def test_own_errors_pickle(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)
    assert isinstance(error, DataError)


@pytest.mark.parametrize(
    "error",
    [
        skate.exceptions.WorkerCrashedError("it died"),
        skate.exceptions.OutOfMemoryError("it died"),
        skate.exceptions.ActorDiedError("it died", "ab12"),
        skate.exceptions.RayActorError("ab12", "it died"),
        skate.exceptions.NodeDiedError("it died"),
        skate.exceptions.ObjectLostError("ab12", None, "it died"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_line_is_added_to_the_text_of_an_error(error):
    before = str(error)
    explain_crash(error, "Map(f)", Submit(1, 0, "0.1", Bundle(()), None, 0, False))
    assert str(error) == f"{before}\nIt ran Map(f) of a data set, task '0.1'."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
