"""What is read off a user's exception without its code, and what its code may do to us."""

from __future__ import annotations

import abc
import sys
from typing import Any

import pytest
from cluster.awkward import AWKWARD, Lies, Meta, OfMeta, Slots, Text, WrongTypes, make

from skate._base import user_errors as ours
from skate._base.bare import is_bare, make_bare, parts_of
from skate._base.errors import RayTaskError


@pytest.mark.parametrize("name", AWKWARD)
def test_nothing_of_the_users_raises(name: str) -> None:
    error = make(name)
    assert type(ours.type_name(error)) is str
    assert type(ours.full_name(type(error))) is str
    assert type(ours.args_of(error)) is tuple
    assert type(ours.attributes_of(error)) is dict
    assert ours.traceback_of(error) is None
    ours.set_traceback(error, None)
    ours.set_cause(error, ValueError("cause"))
    assert ours.origin_of(error)[1]
    for show in (str, repr):
        assert type(ours.text_of(error, show)) is str
    assert ours.summary_of(error)
    assert ours.is_a(error, BaseException)
    assert not ours.is_a(error, ConnectionError)
    assert all(type(note) is str for note in ours.notes_of(error))
    ours.is_any_of(error, (KeyError, abc.ABC))


def test_a_lie_about_the_class_is_not_believed() -> None:
    assert isinstance(Lies("x"), SystemExit), "as everybody else sees it"
    assert not ours.is_a(Lies("x"), SystemExit)
    assert not ours.is_any_of(Lies("x"), (KeyError,))


def test_abstract_classes_know_their_instances() -> None:
    class Transient(abc.ABC):  # noqa: B024
        pass

    Transient.register(ConnectionError)
    assert ours.is_any_of(ConnectionResetError(), (Transient,))
    assert not ours.is_any_of(ValueError(), (Transient,))
    assert not ours.is_any_of(ValueError(), (OfMeta,)), "its hook raises"
    assert not ours.is_any_of(ValueError(), (5,)), "which is no class at all"


def test_text_is_a_plain_string() -> None:
    assert ours.text_of(Text("characters"), lambda value: value) == "characters"
    assert ours.text_of(WrongTypes("x")) == "<str() of WrongTypes raised TypeError>"
    assert ours.text_of(WrongTypes("x"), repr) == "<repr() of WrongTypes raised TypeError>"


def test_names() -> None:
    assert ours.full_name(ValueError) == "ValueError"
    assert ours.full_name(OfMeta) == "cluster.awkward.OfMeta"
    assert ours.type_name(OfMeta("x")) == "OfMeta"
    assert ours.is_kind(OfMeta)
    assert not ours.is_kind(Meta)
    assert not ours.is_kind(5)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_groups() -> None:
    parts = [ValueError("a"), KeyError("b")]
    assert ours.group_of(ExceptionGroup("several", parts)) == ("several", tuple(parts))  # noqa: F821
    assert ours.group_of(ValueError("several", parts)) is None


# ---------------------------------------------------------------------- made again


@pytest.mark.parametrize("name", AWKWARD)
def test_made_again_of_its_parts(name: str) -> None:
    error = make(name)
    again = make_bare(*parts_of(error))
    assert type(again) is type(error)
    assert len(ours.args_of(again)) == len(ours.args_of(error))
    assert ours.attributes_of(again).keys() == ours.attributes_of(error).keys()


def test_slots_are_parts_the_hidden_ones_too() -> None:
    again: Any = make_bare(*parts_of(Slots(3)))
    assert (again.number, again.hidden) == (3, 3)
    dual: Any = RayTaskError("f", "", Slots(4)).as_instanceof_cause()
    assert (dual.number, dual.hidden) == (4, 4)


def test_who_has_a_way_of_its_own_is_asked_for_it() -> None:
    class Own(Exception):
        def __reduce__(self) -> Any:
            return Own, ()

    assert not is_bare(Own)
    assert not is_bare(ValueError), "pickle knows how"
    assert is_bare(Slots)


# ---------------------------------------------------------------------- of both types


def test_properties_and_methods_of_the_users_are_there() -> None:
    class Rich(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(code)
            self.code = code

        @property
        def double(self) -> int:
            return 2 * self.code

        def __len__(self) -> int:
            return self.code

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Rich) and other.code == self.code

        __hash__ = None  # type: ignore[assignment]

    dual: Any = RayTaskError("f", "", Rich(2)).as_instanceof_cause()
    assert (dual.double, len(dual), bool(dual)) == (4, 2, True)
    assert dual == Rich(2)
    assert dual != Rich(3)
    assert not RayTaskError("f", "", Rich(0)).as_instanceof_cause(), "as the user's class says"


def test_fields_of_ours_win_over_properties_of_the_users() -> None:
    dual: Any = RayTaskError("f", "text", make("cause_property"), pid=5).as_instanceof_cause()
    assert type(dual).__name__ == "RayTaskError(CauseProperty)"
    assert (dual.function_name, dual.pid) == ("f", 5)
    assert str(dual).startswith("f failed in worker process 5")
    dual.pid = 6
    assert dual.pid == 6


def test_what_the_users_hooks_refuse_python_may_do() -> None:
    for name in ("setattr", "traceback", "class", "getattribute", "hash", "repr", "eq", "format"):
        dual: Any = RayTaskError("f", "text", make(name)).as_instanceof_cause()
        assert isinstance(dual, type(make(name)))
        dual.__traceback__ = None
        dual.extra = 1
        assert (dual.extra, dual.__traceback__) == (1, None)
        assert not isinstance(dual, KeyError)
        if name != "eq":  # which makes its class unhashable, as with every class
            assert isinstance(hash(dual), int)
        assert "RayTaskError" in repr(dual)
        assert f"{dual}" == str(dual)
        assert dual == dual
