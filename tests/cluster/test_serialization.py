"""What travels between processes, and what the error says about what cannot."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
import functools
import io
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import pytest

import skate
from skate.api import RayContext as Session

from . import processes


@skate.remote
def identity(value: Any) -> Any:
    return value


@skate.remote
def apply(function: Any, *args: Any) -> Any:
    return function(*args)


@skate.remote
def name_of_type(value: Any) -> str:
    return type(value).__qualname__


@skate.remote
def ok() -> str:
    return "ok"


class Plain:
    """Importable: goes by reference."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Record:
    name: str
    array: Any = None


# ---------------------------------------------------------------------- values


VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**100),
    1.5,
    float("inf"),
    2 + 3j,
    "text \x00 \U0001f41f",
    "\ud800",
    b"",
    (),
    [],
    {},
    {1: {2: {3: (4, [5])}}},
    {1, 2, 3},
    frozenset("ab"),
    range(3),
    slice(1, None, 2),
    Ellipsis,
    NotImplemented,
    collections.OrderedDict(b=1, a=2),
    collections.defaultdict(list, a=[1]),
    collections.deque([1, 2], maxlen=2),
    collections.Counter("aab"),
    Point(1, 2),
    Colour.RED,
    Record("x"),
    Plain([1]),
    int,
    Plain,
    len,
    Path("/tmp/x"),
]


def test_values_come_back_equal(session: Session) -> None:
    for value in VALUES:
        stored, returned, (inner,) = skate.get(
            [skate.put(value), identity.remote(value), identity.remote([value])]
        )
        for back in (stored, returned, inner):
            assert back == value
            assert type(back) is type(value)


def test_functions_of_every_kind(session: Session) -> None:
    factor = 3

    def multiply(x: int) -> int:
        return x * factor

    def nested(x: int) -> int:
        return multiply(x) + 1

    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    def with_default(x: int, y: int = 5, *, z: int = 6) -> int:
        return x + y + z

    for function, args, expected in [
        (multiply, (2,), 6),
        (nested, (2,), 7),
        (factorial, (5,), 120),
        (with_default, (1,), 12),
        (lambda x: x + factor, (1,), 4),
        (functools.partial(multiply, 4), (), 12),
        (Plain([1]).__eq__, (Plain([1]),), True),
        (max, ([1, 3, 2],), 3),
        ("a-b".split, ("-",), ["a", "b"]),
    ]:
        assert skate.get(apply.remote(function, *args)) == expected
        if function is not max and not isinstance(function, functools.partial):
            assert skate.get(skate.remote(lambda *args, f=function: f(*args)).remote(*args)) == expected
    back = skate.get(identity.remote(nested))
    assert back(2) == 7


def test_classes_of_every_kind(session: Session) -> None:
    class Base:
        kind = "base"

        def __init__(self, value: int) -> None:
            self.value = value

        def double(self) -> int:
            return self.value * 2

    class Local(Base):
        __slots__ = ()

        def double(self) -> int:
            return super().double() + 1

        @property
        def half(self) -> float:
            return self.value / 2

        @classmethod
        def make(cls, value: int) -> Any:
            return cls(value)

    class LocalColour(enum.Enum):
        GREEN = 2

    class LocalPoint(NamedTuple):
        x: int

    @dataclasses.dataclass(frozen=True)
    class LocalRecord:
        x: int

    assert skate.get(apply.remote(Local, 4)).double() == 9
    assert skate.get(apply.remote(lambda: Local.make(4).half)) == 2.0
    local = Local(7)
    back = skate.get(identity.remote(local))
    assert type(back) is Local
    assert back.double() == 15
    assert skate.get(identity.remote([LocalColour.GREEN]))[0] is LocalColour.GREEN
    assert skate.get(identity.remote(LocalPoint(1))) == LocalPoint(1)
    assert skate.get(identity.remote(LocalRecord(1))) == LocalRecord(1)


def test_what_a_task_made_up_can_be_had(session: Session) -> None:
    @skate.remote
    def invent() -> Any:
        class Invented:
            def hello(self) -> str:
                return "hello"

        return Invented(), lambda x: x + 1

    invented, function = skate.get(invent.remote())
    assert invented.hello() == "hello"
    assert function(1) == 2
    assert skate.get(name_of_type.remote(invented)).endswith("Invented")


def test_structures_that_refer_to_themselves(session: Session) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    back = skate.get(identity.remote(loop))
    assert back[1] is back
    mapping: dict[str, Any] = {}
    mapping["me"] = mapping
    assert (found := skate.get(skate.put(mapping)))["me"] is found

    class Node:
        def __init__(self) -> None:
            self.other: Any = self

    node = skate.get(identity.remote(Node()))
    assert node.other is node
    shared = np.zeros(100_000)
    one, two = skate.get(identity.remote([shared, shared]))
    assert one is two


def test_large_arrays_inside_structures(session: Session) -> None:
    array = np.arange(200_000)
    value = {"a": {"b": [array, (array * 2,)]}, "record": Record("r", array), "plain": Plain(array[:10])}
    for back in skate.get([skate.put(value), identity.remote(value)]):
        np.testing.assert_array_equal(back["a"]["b"][0], array)
        np.testing.assert_array_equal(back["a"]["b"][1][0], array * 2)
        np.testing.assert_array_equal(back["record"].array, array)
        assert not back["record"].array.flags.writeable


def test_torch_tensors(session: Session) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(300_000)
    back = skate.get(identity.remote({"t": tensor}))["t"]
    assert torch.equal(back, tensor)


def test_custom_reducers(session: Session) -> None:
    class Reduced:
        def __init__(self, lock: Any, value: int) -> None:
            self.lock, self.value = lock, value

        def __reduce__(self) -> Any:
            return Reduced, (None, self.value + 1)

    assert skate.get(identity.remote(Reduced(threading.Lock(), 1))).value == 3


def test_a_registered_reducer_is_used(session: Session) -> None:
    copyreg.pickle(Plain, lambda plain: (Plain, (("reduced", plain.value),)))
    try:
        assert skate.get(skate.put(Plain(1))).value == ("reduced", 1)
    finally:
        del copyreg.dispatch_table[Plain]


def test_a_module_that_workers_do_not_have_goes_by_value(session: Session, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("class Thing:\n    def __init__(self, x): self.x = x\n"
                                           "def double(thing): return thing.x * 2\n")  # fmt: skip
    sys.path.insert(0, str(tmp_path))
    try:
        import only_here

        # The workers run already: they have the path of init's time, not this one.
        cloudpickle.register_pickle_by_value(only_here)
        try:
            assert skate.get(apply.remote(only_here.double, only_here.Thing(4))) == 8
            assert skate.get(skate.remote(only_here.double).remote(only_here.Thing(5))) == 10
        finally:
            cloudpickle.unregister_pickle_by_value(only_here)
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("only_here", None)


def test_what_lives_in_main(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        """
        import dataclasses, enum
        import skate

        OFFSET = 100

        class Thing:
            def __init__(self, value):
                self.value = value
            def double(self):
                return self.value * 2

        @dataclasses.dataclass
        class Record:
            thing: Thing

        class Colour(enum.Enum):
            RED = 1

        class MyError(Exception):
            def __init__(self, code):
                super().__init__(code)
                self.code = code

        def helper(x):
            return x + OFFSET

        @skate.remote
        def work(record, function, colour):
            assert colour is Colour.RED
            if record.thing.value < 0:
                raise MyError(7)
            return Record(Thing(function(helper(record.thing.double())))), colour

        @skate.remote
        class Actor:
            def __init__(self, thing):
                self.thing = thing
            def get(self):
                return self.thing, isinstance(self.thing, Thing)

        if __name__ == "__main__":
            skate.init(num_cpus=1)
            record, colour = skate.get(work.remote(Record(Thing(1)), lambda x: -x, Colour.RED))
            assert type(record) is Record and type(record.thing) is Thing, record
            assert record.thing.value == -102, record.thing.value
            assert colour is Colour.RED
            try:
                skate.get(work.remote(Record(Thing(-1)), abs, Colour.RED))
            except MyError as error:
                assert error.code == 7
            else:
                raise AssertionError("no error")
            thing, same = skate.get(Actor.remote(Thing(3)).get.remote())
            assert same and type(thing) is Thing and thing.double() == 6
            assert skate.get(skate.put([Thing(5)]))[0].value == 5
            assert skate.get(skate.put(Thing)) is Thing
            skate.shutdown()
            print("fine")
        """,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


# ---------------------------------------------------------------------- what cannot be pickled


def test_the_path_to_the_culprit_in_arguments(session: Session) -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"args\[1\]\['lock'\] is a _thread\.lock"):
        apply.remote(1, {"lock": lock})
    with pytest.raises(TypeError, match=r"kwargs\['state'\]\[0\]\[2\] is a _thread\.lock"):
        skate.remote(lambda **kwargs: 1).remote(state=[(1, 2, lock)])
    with pytest.raises(TypeError, match=r"args\[0\]\.value\['file'\] is an? _io\.\w+"):
        identity.remote(Plain({"file": io.open_code(__file__)}))
    with pytest.raises(TypeError, match=r"args\[0\] is a generator"):
        identity.remote(i for i in range(3))
    with pytest.raises(TypeError, match="identity"):
        identity.remote(lock)
    assert skate.get(ok.remote()) == "ok"


def test_the_path_to_the_culprit_in_a_put(session: Session) -> None:
    with pytest.raises(TypeError, match=r"value\['a'\]\[1\] is a _thread\.RLock"):
        skate.put({"a": [1, threading.RLock()]})
    assert skate.get(ok.remote()) == "ok"


def test_the_path_to_the_culprit_in_a_function(session: Session) -> None:
    lock = threading.Lock()

    @skate.remote
    def locked() -> None:
        with lock:
            pass

    with pytest.raises(TypeError, match="'lock' captured by locked is a _thread.lock"):
        locked.remote()

    with pytest.raises(TypeError, match=r"\block\b"):
        skate.remote(lambda x=lock: x).remote()
    with pytest.raises(TypeError, match=r"'lock' captured by args\[0\] is a _thread\.lock"):
        apply.remote(lambda: lock)
    assert skate.get(ok.remote()) == "ok"


def test_the_path_to_the_culprit_in_an_actor(session: Session) -> None:
    lock = threading.Lock()

    @skate.remote
    class Locked:
        held = lock

        def work(self) -> int:
            return 1

    with pytest.raises(TypeError, match=r"Locked\.held is a _thread\.lock"):
        Locked.remote()

    @skate.remote
    class Open:
        def __init__(self, *args: Any) -> None:
            pass

        def work(self, *args: Any) -> int:
            return 1

    with pytest.raises(TypeError, match=r"args\[0\]\[0\] is a _thread\.lock"):
        Open.remote([lock])
    actor = Open.remote()
    with pytest.raises(TypeError, match=r"Open\.work.*args\[0\] is a _thread\.lock"):
        actor.work.remote(lock)
    assert skate.get(actor.work.remote()) == 1


def test_the_path_to_the_culprit_in_a_result(session: Session) -> None:
    @skate.remote
    def bad() -> Any:
        return {"held": [threading.Lock()]}

    @skate.remote(num_returns=2)
    def bad_second() -> Any:
        return 1, threading.Lock()

    with pytest.raises(TypeError, match=r"\['held'\]\[0\] is a _thread\.lock"):
        skate.get(bad.remote())
    with pytest.raises(TypeError, match="return 1 is a _thread.lock"):
        skate.get(bad_second.remote()[1])
    assert skate.get(ok.remote()) == "ok"


def test_a_value_nested_too_deeply(session: Session) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        skate.put(deep)
    with pytest.raises(RecursionError):
        identity.remote(deep)

    @skate.remote
    def build() -> Any:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        return deep

    with pytest.raises(RecursionError):
        skate.get(build.remote())
    assert skate.get(ok.remote()) == "ok"


def test_what_cannot_be_unpickled_there(session: Session) -> None:
    class Spoiled:
        def __reduce__(self) -> Any:
            return eval, ("1 / 0",)

    with pytest.raises(ZeroDivisionError):
        skate.get(identity.remote(Spoiled()))
    with pytest.raises(ZeroDivisionError):
        skate.get(skate.put(Spoiled()))
    assert skate.get(ok.remote()) == "ok"


def test_pickling_that_raises_anything(session: Session) -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise LookupError("I stay here")

    with pytest.raises(TypeError, match="I stay here"):
        identity.remote([Refuses()])
    with pytest.raises(TypeError, match="I stay here"):
        skate.put(Refuses())
    assert skate.get(ok.remote()) == "ok"


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="generic functions, classes and aliases came with 3.12"
)
def test_the_generics_of_a_program(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        """
        import skate

        type Pair[T] = tuple[T, T]
        type Tree = dict[str, Tree]

        @skate.remote
        def first[T](pair: Pair[T]) -> T:
            return pair[0]

        @skate.remote
        class Stack[T]:
            tree: Tree = {}

            def __init__(self) -> None:
                self.items: list[T] = []

            def push(self, pair: Pair[T]) -> int:
                self.items.extend(pair)
                return len(self.items)

        class Box[T]:
            def __init__(self, value: T) -> None:
                self.value = value

        skate.init(num_cpus=2)
        print(skate.get(first.remote((1, 2))))
        stack = Stack.remote()
        print(skate.get([stack.push.remote((1, 2)), stack.push.remote((3, 4))]))
        print(skate.get(first.remote((Box(5), 0))).value)
        print(skate.get(first.remote((Tree, Pair[int]))).__value__)
        """,
    )
    assert done.stdout.splitlines() == ["1", "[2, 4]", "5", "dict[str, Tree]"]
