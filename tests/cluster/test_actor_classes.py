"""Actor classes used as the classes that they stand for; programs whose names lead to them."""

from __future__ import annotations

from pathlib import Path

import pytest

import skate

from .processes import run_driver

#: A library, or the first part of a program.
SHOP = '''
import abc, contextlib, copy, dataclasses, enum, functools, inspect, typing
from typing import Generic, NamedTuple, NewType, Optional, ParamSpec, Protocol, TypeVar

import skate

T = TypeVar("T")
P = ParamSpec("P")
Price = NewType("Price", int)


def counted(function: typing.Callable[P, T]) -> typing.Callable[P, T]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    return wrapper


class Thing:
    kind = "thing"

    def __init_subclass__(cls, tag="none", **kwargs):
        super().__init_subclass__(**kwargs)
        cls.tag = tag

    def title(self):
        return "thing"

    @classmethod
    def make(cls):
        return cls.kind


class Mixin:
    def mixed(self):
        return "mixed", super().title()


@skate.remote(num_cpus=0)
class Shop(Mixin, Thing, tag="shop"):
    """Sells."""

    SIZE: int = 3
    OPEN: Optional["Shop"] = None

    class Item(NamedTuple):
        name: str = "item"

    class Color(enum.Enum):
        RED = 1

    @staticmethod
    def clean(text):
        return text.strip()

    @classmethod
    def default(cls):
        return cls.SIZE, cls.tag

    @property
    def half(self):
        return self.SIZE / 2

    @functools.cached_property
    def slow(self):
        return "slow"

    @functools.lru_cache
    def square(self, x):
        return x * x

    @functools.singledispatchmethod
    def name_of(self, x):
        return "thing"

    @name_of.register
    def _(self, x: int):
        return "number"

    add = functools.partialmethod(lambda self, a, b: a + b, 10)

    @counted
    def price(self, x: Price) -> Price:
        return Price(x)

    def title(self):
        def inner():
            return super(Shop, self).title(), [super(Shop, self).title() for _ in "a"]

        return super(Shop, self).title(), super().title(), Thing.title(self), inner()

    def look(self):
        return (
            Shop.SIZE, Shop.clean(" a "), Shop.default(), Shop.Item().name, Shop.Color.RED.name, Shop.make(),
            isinstance(self, Shop), isinstance(self, (int, Shop)), isinstance(3, Shop), issubclass(Shop, Thing),
            self.half, self.slow,
        )

    def item(self):
        return Shop.Item("mine"), Shop.Color.RED

    def again(self):
        return skate.get(Shop.remote().title.remote())


@skate.remote(num_cpus=0)
class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content

    def types(self):
        return getattr(self, "__orig_class__", None)

    def look(self) -> T:
        return self.content


@functools.lru_cache(maxsize=100)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.singledispatch
def describe(x):
    return "thing"


@describe.register
def _(x: list):
    return [describe(one) for one in x]


@describe.register(int)
def describe_int(x):
    return "number"


@skate.remote
def use():
    return fibonacci(50), fibonacci.cache_info().maxsize, describe([1, "a", [2]])


@skate.remote
@functools.cache
def cached(x):
    return fibonacci(x)


class Doubler:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return self.by * x

    def method(self, x, *, y=0):
        return self.by * x + y

    @classmethod
    def of_class(cls, x):
        return cls.__name__, x


def checks():
    look = (3, "a", (3, "shop"), "item", "RED", "thing", True, True, False, True, 1.5, "slow")
    shop = Shop.remote()
    assert skate.get(shop.look.remote()) == look
    assert skate.get(shop.title.remote()) == skate.get(shop.again.remote())
    assert skate.get(shop.title.remote()) == ("thing", "thing", "thing", ("thing", ["thing"]))
    assert skate.get(shop.mixed.remote()) == ("mixed", "thing")
    assert skate.get([shop.square.remote(3), shop.name_of.remote(1), shop.add.remote(5)]) == [9, "number", 15]
    assert skate.get(shop.price.remote(4)) == 4
    item, color = skate.get(shop.item.remote())
    assert isinstance(item, Shop.Item) and item.name == "mine" and color is Shop.Color.RED
    # ... and here.
    assert (Shop.SIZE, Shop.clean(" a "), Shop.default(), Shop.make()) == (3, "a", (3, "shop"), "thing")
    assert Shop.options(num_cpus=0).SIZE == 3
    assert (Shop.__name__, Shop.__qualname__, Shop.__doc__) == ("Shop", "Shop", "Sells.")
    assert Shop.__module__ == Thing.__module__
    assert inspect.getdoc(Shop) == "Sells." and list(inspect.signature(Box).parameters) == ["content"]
    assert "class Shop" in inspect.getsource(Shop)
    assert typing.get_type_hints(Shop)["SIZE"] is int
    assert issubclass(Shop, Thing) and isinstance(Shop.__wrapped__(), Shop)
    assert copy.deepcopy(Shop) is Shop and hasattr(Shop, "half") and not hasattr(Shop, "nothing")
    assert Shop | None == Optional[Shop] and "SIZE" in dir(Shop) and "SIZE" in vars(Shop)

    box = Box[int].remote(5)
    assert skate.get(box.look.remote()) == 5 and typing.get_args(skate.get(box.types.remote())) == (int,)
    assert skate.get(Box[int].options(num_cpus=0).bind(6).look.bind().execute()) == 6
    assert skate.get(use.remote()) == (12586269025, 100, ["number", "thing", ["number"]])
    assert skate.get(cached.remote(10)) == 55

    doubler = Doubler(2)
    assert skate.get(skate.remote(doubler.method).remote(4, y=1)) == 9
    assert skate.get(skate.remote(doubler).remote(4)) == 8
    assert skate.get(skate.remote(Doubler.of_class).remote(4)) == ("Doubler", 4)
    assert skate.get(skate.remote(functools.partial(doubler.method, 4)).remote(y=1)) == 9
    for wrong in (doubler.method, doubler, Doubler.of_class):
        try:
            skate.remote(wrong).remote()
        except TypeError as error:
            assert "missing a required argument: 'x'" in str(error)
        else:
            raise AssertionError(wrong)

    Shop.SIZE = 7
    Shop.late = lambda self: self.SIZE
    assert Shop.default() == (7, "shop") and skate.get(Shop.remote().late.remote()) == 7
    del Shop.late
    try:
        Shop.remote().late
    except AttributeError:
        pass
    else:
        raise AssertionError("it has a method that is gone")
    print("all right")
'''

MAIN = """
import sys
import skate

if __name__ == "__main__":
    skate.init(num_cpus=2, mode=sys.argv[1])
    checks()
"""


@pytest.mark.parametrize("mode", ["cluster", "inline"])
def test_a_program_of_one_file_uses_an_actor_class_as_its_class(tmp_path: Path, mode: str) -> None:
    assert run_driver(tmp_path, SHOP + MAIN, mode).stdout == "all right\n"


@pytest.mark.parametrize("mode", ["cluster", "inline"])
def test_a_library_uses_an_actor_class_as_its_class(tmp_path: Path, mode: str) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    assert run_driver(tmp_path, "from shop import checks\n" + MAIN, mode).stdout == "all right\n"


class _Angry(type):
    @property
    def temper(cls) -> None:
        raise RuntimeError("not now")


class _Plain(metaclass=_Angry):
    def __init__(self) -> None:
        self.state = self.helper()

    def helper(self) -> str:
        return "helped"

    def look(self) -> str:
        return self.state


def test_a_metaclass_with_properties_that_raise() -> None:
    assert sorted(skate.remote(_Plain).__ray_metadata__.methods) == ["helper", "look"]


def test_what_raises_is_what_the_class_raises() -> None:
    actor_class = skate.remote(_Plain)
    with pytest.raises(AttributeError, match="type object '_Plain' has no attribute 'nothing'"):
        actor_class.nothing  # noqa: B018
    with pytest.raises(RuntimeError, match="not now"):
        actor_class.temper  # noqa: B018
    with pytest.raises(TypeError, match="not subscriptable"):
        actor_class[int]
    with pytest.raises(TypeError, match="not iterable"):
        iter(actor_class)  # type: ignore[call-overload]


def test_a_remote_function_keeps_its_own_attributes() -> None:
    def function() -> None:
        pass

    function._options = function.mark = "the function's"  # type: ignore[attr-defined]
    remote = skate.remote(function)
    assert remote.mark == "the function's"  # type: ignore[attr-defined]
    assert remote._options != "the function's"  # type: ignore[comparison-overlap]
