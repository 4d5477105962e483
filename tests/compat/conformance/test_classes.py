"""Actor classes as classes, their methods, and what decorators make of both."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
import ray
from ray.actor import ActorClassInheritanceException
from ray.exceptions import ActorDiedError

from compat.conformance.helpers import differs

pytestmark = pytest.mark.usefixtures("session")


class Base:
    level = 1

    def name(self) -> str:
        return "base"

    @classmethod
    def make(cls) -> int:
        return cls.level


@ray.remote(num_cpus=0)
class Shop(Base):
    """Sells."""

    SIZE: int = 3

    class Item:
        price = 5

    @staticmethod
    def clean(text):
        return text.strip()

    @classmethod
    def default(cls):
        return cls.SIZE

    @property
    def half(self):
        return self.SIZE / 2

    def name(self):
        return "shop of " + super().name()

    def long_name(self):
        return "shop of " + super().name()

    def is_shop(self):
        return isinstance(self, Shop), issubclass(type(self), Shop)

    def look(self):
        return Shop.SIZE, Shop.clean(" a "), Shop.default(), Shop.Item.price, Shop.make(), self.half

    def own_name(self):
        return type(self).__name__, type(self).__qualname__


# ---------------------------------------------------------------------- as a class


def test_attributes_here() -> None:
    assert (Shop.SIZE, Shop.Item.price, Shop.level) == (3, 5, 1)
    assert (Shop.clean(" a "), Shop.default(), Shop.make()) == ("a", 3, 1)
    assert not hasattr(Shop, "nothing")


def test_attributes_in_methods() -> None:
    assert ray.get(Shop.remote().look.remote()) == (3, "a", 3, 5, 1, 1.5)


def test_static_and_class_methods_of_the_actor() -> None:
    shop = Shop.remote()
    assert ray.get([shop.clean.remote(" a "), shop.default.remote(), shop.make.remote()]) == ["a", 3, 1]


def test_super() -> None:
    assert ray.get(Shop.remote().name.remote()) == "shop of base"


def test_super_with_the_name_of_the_class() -> None:
    assert ray.get(Shop.remote().long_name.remote()) == "shop of base"


@differs(on="ray", reason="`isinstance(x, Class)` is a TypeError once `Class` is an actor class.")
def test_instances_of_an_actor_class() -> None:
    assert ray.get(Shop.remote().is_shop.remote()) == (True, True)


def test_names_of_the_class_in_its_actor() -> None:
    assert ray.get(Shop.remote().own_name.remote()) == ("Shop", "Shop")


@differs(on="ray", reason="An actor class has no `__name__`.")
def test_names_here() -> None:
    assert (Shop.__name__, Shop.__doc__) == ("Shop", "Sells.")


def test_properties_are_no_methods() -> None:
    with pytest.raises(AttributeError, match="'ActorHandle' object has no attribute 'half'"):
        Shop.remote().half  # noqa: B018


def test_what_is_set_is_read_again() -> None:
    @ray.remote
    class Local:
        size = 1

    Local.size = 2
    assert Local.size == 2


def test_what_methods_set_on_the_class() -> None:
    @ray.remote
    class Local:
        made = 0

        def __init__(self):
            Local.made += 1

        def look(self):
            return Local.made

    local = Local.remote()
    assert ray.get(local.look.remote()) == 1


def test_the_class_below() -> None:
    assert Shop.__ray_metadata__.class_name == "Shop"
    assert Shop.__ray_metadata__.modified_class().name() == "shop of base"
    assert isinstance(Shop.__ray_metadata__.modified_class(), Shop.__ray_actor_class__)


# ---------------------------------------------------------------------- what stays an error


def test_calling_an_actor_class() -> None:
    with pytest.raises(TypeError, match="Actors cannot be instantiated directly"):
        Shop()


def test_inheriting_from_an_actor_class() -> None:
    with pytest.raises(
        ActorClassInheritanceException, match="Inheriting from actor classes is not currently"
    ):

        class Sub(Shop):
            pass


def test_calling_a_method() -> None:
    with pytest.raises(TypeError, match="Actor methods cannot be called directly"):
        Shop.remote().name()


def test_calling_a_remote_function() -> None:
    @ray.remote
    def function():
        pass

    with pytest.raises(TypeError, match="Remote functions cannot be called directly"):
        function()


@pytest.mark.parametrize("target", [Shop, ray.remote(lambda: None)], ids=["class", "function"])
def test_what_is_remote_already(target: Any) -> None:
    with pytest.raises(TypeError, match="must be applied to either a function or a class"):
        ray.remote(target)


def test_coroutines_are_no_tasks() -> None:
    async def wait():
        pass

    with pytest.raises(ValueError, match="'async def' should not be used for remote tasks"):
        ray.remote(wait).remote()


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((1, 2), {}, "too many positional arguments"),
        ((), {}, "missing a required argument: 'x'"),
        ((1,), {"z": 1}, "got an unexpected keyword argument 'z'"),
        ((1,), {"x": 1}, "multiple values for argument 'x'"),
    ],
)
def test_wrong_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    @ray.remote
    class Local:
        def __init__(self, x):
            pass

    @ray.remote
    def function(x):
        pass

    for remote in (Local, function):
        with pytest.raises(TypeError, match=text):
            remote.remote(*args, **kwargs)


# ---------------------------------------------------------------------- methods


def test_an_attribute_does_not_hide_a_method() -> None:
    @ray.remote
    class Counter:
        def __init__(self):
            self.total = 3
            self.step = lambda: "the instance's"

        def total(self):
            return self.total

        def step(self):
            return "the class's"

        def step_by_itself(self):
            return self.step()

    counter = Counter.remote()
    calls = [counter.total.remote(), counter.step.remote(), counter.step_by_itself.remote()]
    assert ray.get(calls) == [3, "the class's", "the instance's"]


def test_methods_from_elsewhere() -> None:
    class Mixin:
        def mixed(self):
            return "mixed", self.size

    class Plain(Mixin):
        size = 5
        add = functools.partialmethod(lambda self, a, b: a + b + self.size, 10)
        short = lambda self, x: x * self.size  # noqa: E731

    def late(self, x):
        return x - self.size

    Plain.late = late
    plain = ray.remote(Plain).remote()
    calls = [plain.mixed.remote(), plain.add.remote(1), plain.short.remote(2), plain.late.remote(7)]
    assert ray.get(calls) == [("mixed", 5), 16, 10, 2]


def _plain(function):
    @functools.wraps(function)
    def wrapper(self, *args):
        return function(self, *args)

    return wrapper


def _with_extra(function):
    @functools.wraps(function)
    def wrapper(self, extra, *args):
        return extra, function(self, *args)

    return wrapper


def _nameless(function):
    def wrapper(self, extra, *args):
        return extra, function(self, *args)

    return wrapper


@ray.remote(num_cpus=0)
class Decorated:
    @_plain
    @_plain
    def twice(self, x):
        return x

    @_plain
    def items(self):
        yield 1
        yield 2

    @_nameless
    def nameless(self, x):
        return x

    @_with_extra
    def extra(self, x):
        return x


def test_decorated_methods() -> None:
    one = Decorated.remote()
    assert ray.get([one.twice.remote(1), one.nameless.remote("e", 2)]) == [1, ("e", 2)]
    assert [ray.get(ref) for ref in one.items.remote()] == [1, 2]


@differs(on="ray", reason="It checks calls by the signature of the function below the decorators.")
def test_a_decorator_that_changes_the_signature() -> None:
    assert ray.get(Decorated.remote().extra.remote("e", 2)) == ("e", 2)


# ---------------------------------------------------------------------- constructors


def test_a_constructor_that_is_a_coroutine() -> None:
    @ray.remote
    class Server:
        async def __init__(self, state):
            await asyncio.sleep(0)
            self.state = state

        async def look(self):
            return self.state

    assert ray.get(Server.remote("ready").look.remote()) == "ready"


def test_a_constructor_that_is_a_coroutine_and_methods_that_are_not() -> None:
    @ray.remote
    class Server:
        async def __init__(self):
            await asyncio.sleep(0)
            self.state = "ready"

        def look(self):
            return self.state

    assert ray.get(Server.remote().look.remote()) == "ready"


def test_a_constructor_that_is_a_coroutine_and_calls_others() -> None:
    shop = Shop.remote()

    @ray.remote
    class Server:
        async def __init__(self, shop):
            self.name = await shop.name.remote()

        async def look(self):
            return self.name

    assert ray.get(Server.remote(shop).look.remote()) == "shop of base"


def test_a_constructor_that_is_a_coroutine_and_raises() -> None:
    @ray.remote
    class Server:
        async def __init__(self):
            await asyncio.sleep(0)
            raise ValueError("not today")

        async def look(self):
            pass

    with pytest.raises(ActorDiedError, match="not today"):
        ray.get(Server.remote().look.remote())


@differs(on="ray", reason="It makes the instance by itself, without the metaclass and without arguments.")
def test_a_metaclass_and_new_make_the_instance() -> None:
    class Meta(type):
        def __call__(cls, *args):
            made = super().__call__(*args)
            made.by_meta = True
            return made

    class Local(metaclass=Meta):
        def __new__(cls, x):
            made = super().__new__(cls)
            made.by_new = x
            return made

        def __init__(self, x):
            pass

        def look(self):
            return self.by_meta, self.by_new

    assert ray.get(ray.remote(Local).remote(4).look.remote()) == (True, 4)


# ---------------------------------------------------------------------- functions


class Doubler:
    def __call__(self, x):
        return 2 * x

    def method(self, x):
        return 2 * x

    @classmethod
    def of_class(cls, x):
        return 2 * x

    @staticmethod
    def static(x):
        return 2 * x


def test_static_methods_as_tasks() -> None:
    assert ray.get(ray.remote(Doubler.static).remote(2)) == 4


@differs(on="ray", reason="It takes functions and classes only.")
@pytest.mark.parametrize(
    "target",
    [Doubler(), Doubler().method, Doubler.of_class, functools.partial(Doubler().method)],
    ids=["object", "method", "class method", "partial"],
)
def test_what_else_is_called_as_a_task(target: Any) -> None:
    assert ray.get(ray.remote(target).remote(2)) == 4


@functools.lru_cache
def _fibonacci(n):
    return n if n < 2 else _fibonacci(n - 1) + _fibonacci(n - 2)


def test_cached_functions_of_a_library() -> None:
    @ray.remote
    def use():
        return _fibonacci(30)

    assert ray.get(use.remote()) == 832040


@differs(on="ray", reason="What `functools` makes of functions is not sent to other processes.")
def test_what_functools_makes_of_functions() -> None:
    @functools.cache
    def cached(x):
        return 2 * x

    @functools.singledispatch
    def dispatching(x):
        return "thing"

    @dispatching.register
    def _(x: int):
        return "number"

    class Local:
        @functools.cached_property
        def slow(self):
            return cached(4)

        def look(self):
            return self.slow, dispatching(1), dispatching("")

    assert ray.get(ray.remote(Local).remote().look.remote()) == (8, "number", "thing")


def test_a_constructor_that_is_a_coroutine_and_does_not_end() -> None:
    @ray.remote(num_cpus=0)
    class Server:
        async def __init__(self):
            await asyncio.sleep(1000)

        async def look(self):
            pass

    server = Server.remote()
    ref = server.look.remote()
    assert ray.wait([ref], timeout=0.1) == ([], [ref])
    ray.kill(server)
    with pytest.raises(ActorDiedError):
        ray.get(ref)
