"""A proxy answers as its class."""

from __future__ import annotations

import abc
import copy
import inspect
import sys
import typing
from types import ModuleType
from typing import Any

import pytest

from skate._base.class_proxy import ClassProxy, ProxySuper, behind, is_below_proxy


class Base:
    level: int = 1

    def __init__(self, size: int = 0) -> None:
        self.size = size

    def name(self) -> str:
        return "base"


class Child(Base):
    """Text."""

    child: str = "yes"
    later: Child | None = None

    class Inner:
        pass

    def name(self) -> str:
        return "child"


class _Proxy(ClassProxy[Any]):
    """Its own text."""

    own = 1

    def __call__(self) -> None:
        raise TypeError


@pytest.fixture
def proxy() -> Any:
    return _Proxy(Child)


def test_attributes(proxy: Any) -> None:
    assert (proxy.level, proxy.child, proxy.Inner, proxy.own) == (1, "yes", Child.Inner, 1)
    assert (proxy.__name__, proxy.__qualname__, proxy.__module__) == ("Child", "Child", __name__)
    assert (proxy.__doc__, proxy.__mro__, proxy.__dict__) == ("Text.", Child.__mro__, Child.__dict__)
    assert {"level", "child", "own"} < set(dir(proxy)) and "__wrapped__" not in dir(proxy)
    with pytest.raises(AttributeError, match="type object 'Child' has no attribute 'nothing'"):
        proxy.nothing  # noqa: B018


def test_attributes_are_set_on_the_class(proxy: Any) -> None:
    proxy.new = 1
    assert Child.new == 1  # type: ignore[attr-defined]
    del proxy.new
    assert not hasattr(Child, "new")


def test_checks(proxy: Any) -> None:
    assert isinstance(Child(), proxy) and isinstance(Child(), (int, proxy)) and not isinstance(Base(), proxy)
    assert issubclass(Child, proxy) and issubclass(proxy, proxy) and not issubclass(Base, proxy)
    assert issubclass(proxy, Base) and issubclass(proxy, Child) and not issubclass(proxy, int)
    assert isinstance(Child(), proxy | None) and isinstance(Child(), None | proxy)
    assert isinstance(Child(), typing.Union[int, proxy])  # noqa: UP007


def test_introspection(proxy: Any) -> None:
    assert inspect.signature(proxy) == inspect.signature(Child)
    assert "class Child" in inspect.getsource(proxy)
    assert typing.get_type_hints(proxy) == typing.get_type_hints(Child)


def test_hints_that_cannot_be_resolved() -> None:
    class Odd:
        unknown: Nowhere  # type: ignore[name-defined]  # noqa: F821

    assert _Proxy(Odd).__annotations__ == {"unknown": "Nowhere"}


def test_it_is_one_thing(proxy: Any) -> None:
    assert copy.copy(proxy) is proxy and copy.deepcopy([proxy])[0] is proxy
    assert behind(proxy) is Child and behind(3) == 3
    for question in (iter, list, lambda one: 1 in one):
        with pytest.raises(TypeError, match="not iterable|not a container"):
            question(proxy)


def test_one_that_is_being_made_has_no_attributes() -> None:
    assert not hasattr(ClassProxy.__new__(_Proxy), "anything")


# ---------------------------------------------------------------------- super

_SOURCE = """
class Sub(Base):
    def explicit(self):
        return super(Sub, self).name()

    def implicit(self):
        return super().name()

    def closure(self):
        return (lambda: super(Sub, self).name())(), [super(Sub, self).name() for _ in "a"]

    def moved(self):
        me = self
        return (lambda: me)(), super().name()

    @classmethod
    def of_class(cls):
        return super(Sub, cls).level, super().level

    @staticmethod
    def nothing():
        return super()

Plain = Sub
"""


def test_super() -> None:
    names: dict[str, Any] = {"super": ProxySuper, "Base": Base}
    exec(_SOURCE, names)
    names["Sub"] = _Proxy(names["Sub"])
    one = names["Plain"]()
    assert (one.explicit(), one.implicit(), one.closure()) == ("base", "base", ("base", ["base"]))
    assert one.moved() == (one, "base") and one.of_class() == (1, 1)
    with pytest.raises(RuntimeError, match="no arguments"):
        one.nothing()
    with pytest.raises(TypeError):
        ProxySuper(names["Sub"], 3)


# ---------------------------------------------------------------------- names


def test_what_is_below_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    exec("class A:\n class B:\n  def f(self): pass\n def g(self): pass\ndef h(): pass", vars(module))
    below = [module.A.B, module.A.B.f, module.A.g]
    assert not any(map(is_below_proxy, [*below, module.A, module.h]))
    plain, module.A = module.A, _Proxy(module.A)
    assert all(map(is_below_proxy, below))
    assert not any(map(is_below_proxy, [plain, module.h, test_super, lambda: None, abc.ABC]))


def test_the_text_of_a_class_that_gets_it_later() -> None:
    class Later:
        pass

    proxy = _Proxy(Later)
    Later.__doc__ = "Text."
    assert (proxy.__doc__, _Proxy.__doc__) == ("Text.", "Its own text.")
    proxy.__doc__ = "Other."
    assert Later.__doc__ == "Other."
