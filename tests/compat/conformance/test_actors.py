"""Actors: state, order, handles, names, kinds of methods, ends and restarts."""

from __future__ import annotations

import abc
import dataclasses
import gc
import os
import typing

import pytest
import ray
from ray.exceptions import RayActorError, RayTaskError

from compat.conformance.helpers import Counter, Gate, Record, dead, differs, needs_processes, until

pytestmark = pytest.mark.usefixtures("session")


T = typing.TypeVar("T")


# ---------------------------------------------------------------------- state and order


def test_state_stays() -> None:
    counter = Counter.remote(10)
    assert ray.get([counter.add.remote() for _ in range(3)]) == [11, 12, 13]


def test_actors_are_separate() -> None:
    first, second = Counter.remote(), Counter.remote(100)
    assert ray.get([first.add.remote(), second.add.remote(), first.add.remote()]) == [1, 101, 2]


@needs_processes
def test_an_actor_has_a_process_of_its_own() -> None:
    first, second = Counter.remote(), Counter.remote()
    pids = ray.get([first.pid.remote(), second.pid.remote(), first.pid.remote()])
    assert pids[0] == pids[2] != pids[1]
    assert os.getpid() not in pids


def test_calls_run_in_the_order_of_their_caller() -> None:
    record = Record.remote()
    for i in range(50):
        record.add.remote(i)
    assert ray.get(record.all.remote()) == list(range(50))


def test_calls_wait_for_their_arguments_in_order() -> None:
    gate, record = Gate.remote(), Record.remote()

    @ray.remote
    def late(gate):
        ray.get(gate.wait.remote())
        return "first"

    refs = [record.add.remote(late.remote(gate)), record.add.remote("second")]
    assert ray.wait(refs, timeout=0.1)[0] == []
    ray.get(gate.open.remote())
    assert ray.get(refs) == [1, 2]
    assert ray.get(record.all.remote()) == ["first", "second"]


def test_an_exception_leaves_the_actor_alive() -> None:
    counter = Counter.remote()
    ray.get(counter.add.remote())
    with pytest.raises(ValueError, match="on purpose"):
        ray.get(counter.fail.remote())
    assert ray.get(counter.add.remote()) == 2


def test_constructor_arguments_by_ref() -> None:
    assert ray.get(Counter.remote(ray.put(5)).add.remote()) == 6
    assert ray.get(Counter.remote(start=ray.put(7)).add.remote()) == 8


def test_wrong_arguments_are_refused_at_the_call() -> None:
    with pytest.raises(TypeError):
        Counter.remote(1, 2)
    counter = Counter.remote()
    with pytest.raises(TypeError):
        counter.add.remote(1, 2)
    with pytest.raises(TypeError):
        counter.add.remote(wrong=1)
    assert ray.get(counter.add.remote(n=3)) == 3


def test_a_class_without_a_constructor() -> None:
    @ray.remote
    class Empty:
        def one(self):
            return 1

    assert ray.get(Empty.remote().one.remote()) == 1
    with pytest.raises(TypeError):
        Empty.remote(5)


# ---------------------------------------------------------------------- classes


def test_direct_use_is_refused() -> None:
    with pytest.raises(TypeError, match=r"\.remote"):
        Counter()
    counter = Counter.remote()
    with pytest.raises(TypeError, match=r"\.remote"):
        counter.add()
    with pytest.raises(AttributeError):
        counter.no_such_method.remote()


def test_attributes_are_not_those_of_the_instance() -> None:
    counter = Counter.remote()
    with pytest.raises(AttributeError):
        counter.value  # noqa: B018


def test_plain_classes_can_be_made_remote_later() -> None:
    class Plain:
        def one(self):
            return 1

    assert ray.get(ray.remote(Plain).remote().one.remote()) == 1
    assert ray.get(ray.remote(num_cpus=0)(Plain).remote().one.remote()) == 1
    assert Plain().one() == 1


def test_inheritance() -> None:
    class Base:
        def __init__(self, x):
            self.x = x

        def who(self):
            return "base"

        def both(self):
            return self.who(), self.x

    @ray.remote
    class Derived(Base):
        def __init__(self, x):
            super().__init__(x + 1)

        def who(self):
            return "derived"

        def parent(self):
            return super().who()

    actor = Derived.remote(1)
    assert ray.get([actor.both.remote(), actor.parent.remote()]) == [("derived", 2), "base"]


def test_inheriting_from_an_actor_class_is_refused() -> None:
    with pytest.raises(TypeError):

        class Derived(Counter):
            pass


def test_static_and_class_methods() -> None:
    @ray.remote
    class Kinds:
        name = "kinds"

        @staticmethod
        def double(x):
            return 2 * x

        @classmethod
        def label(cls, suffix=""):
            return cls.name + suffix

        def use(self):
            return self.double(4), self.label()

    kinds = Kinds.remote()
    assert ray.get(kinds.double.remote(3)) == 6
    assert ray.get(kinds.label.remote("!")) == "kinds!"
    assert ray.get(kinds.use.remote()) == (8, "kinds")


@needs_processes(reason="one class serves all actors of a process")
def test_class_attributes_and_properties_are_used_inside() -> None:
    @ray.remote
    class Shape:
        sides = 4

        def __init__(self):
            self._size = 2

        @property
        def size(self):
            return self._size

        @size.setter
        def size(self, value):
            self._size = value

        def area(self):
            return self.size**2, self.sides

        def grow(self):
            self.size = 3
            type(self).sides = 5

    shape, other = Shape.remote(), Shape.remote()
    assert ray.get(shape.area.remote()) == (4, 4)
    ray.get(shape.grow.remote())
    assert ray.get(shape.area.remote()) == (9, 5)
    assert ray.get(other.area.remote()) == (4, 4)


def test_private_and_call_methods() -> None:
    @ray.remote
    class Many:
        def _hidden(self):
            return "hidden"

        def __call__(self, x):
            return -x

    many = Many.remote()
    assert ray.get(many._hidden.remote()) == "hidden"
    assert ray.get(many.__call__.remote(4)) == -4


def test_special_methods() -> None:
    class Base:
        def __call__(self, x):
            return -x

    @ray.remote
    class Sized(Base):
        def __len__(self):
            return 3

        def __getitem__(self, key):
            return key + 1

    sized = Sized.remote()
    assert ray.get([sized.__call__.remote(4), sized.__len__.remote(), sized.__getitem__.remote(1)]) == [
        -4,
        3,
        2,
    ]
    assert not hasattr(sized, "__iter__")


def test_dir_has_each_method_once() -> None:
    handle = Counter.remote()
    handle.add.remote()
    assert dir(handle).count("add") == 1


def test_method_defaults() -> None:
    @ray.remote
    class Pair:
        @ray.method(num_returns=2)
        def both(self):
            return 1, 2

        @ray.method(num_returns=0)
        def none(self):
            return 3

    pair = Pair.remote()
    assert ray.get(pair.both.remote()) == [1, 2]
    assert ray.get(pair.both.options(num_returns=1).remote()) == (1, 2)
    assert pair.none.remote() is None


def test_method_without_options() -> None:
    @ray.remote
    class Plain:
        @ray.method
        def one(self):
            return 1

    assert ray.get(Plain.remote().one.remote()) == 1


def test_method_refuses_unknown_options() -> None:
    with pytest.raises((TypeError, AssertionError), match="num_return_values"):
        ray.method(num_return_values=2)(lambda self: None)


def test_the_name_of_a_call() -> None:
    @ray.remote
    class Named:
        def name(self):
            return ray.get_runtime_context().get_task_name()

    named = Named.remote()
    assert ray.get(named.name.remote()).endswith("name")
    assert ray.get(named.name.options(name="given").remote()) == "given"


def test_defaults_of_methods_are_known_by_name_too() -> None:
    @ray.remote
    class Pair:
        @ray.method(num_returns=2)
        def both(self):
            return 1, 2

    pair = Pair.options(name="pair").remote()
    assert ray.get(ray.get_actor("pair").both.remote()) == [1, 2]
    assert "both" in dir(pair)


def test_kinds_of_classes() -> None:
    @dataclasses.dataclass
    class Data:
        x: int = 1

        def get(self):
            return self.x

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def inner(self): ...

        def outer(self):
            return self.inner()

    class Concrete(Abstract):
        def inner(self):
            return "concrete"

    class Slots:
        __slots__ = ("a",)

        def __init__(self):
            self.a = 4

        def get(self):
            return self.a

    class Generic(typing.Generic[T]):
        def get(self):
            return "generic"

    assert ray.get(ray.remote(Data).remote(x=5).get.remote()) == 5
    assert ray.get(ray.remote(Concrete).remote().outer.remote()) == "concrete"
    assert ray.get(ray.remote(Slots).remote().get.remote()) == 4
    assert ray.get(ray.remote(Generic).remote().get.remote()) == "generic"
    with pytest.raises((TypeError, RayActorError)):
        ray.get(ray.remote(Abstract).remote().outer.remote())


@differs(on="ray", reason="a class with a __new__ that takes arguments cannot be made an actor")
def test_classes_with_new() -> None:
    class New:
        def __new__(cls, a):
            made = super().__new__(cls)
            made.a = a
            return made

        def get(self):
            return self.a

    assert ray.get(ray.remote(New).remote(3).get.remote()) == 3


def test_a_method_is_kept_as_a_value() -> None:
    counter = Counter.remote()
    add = counter.add
    assert ray.get([add.remote(), add.remote(5)]) == [1, 6]


def test_a_method_is_passed_on() -> None:
    @ray.remote
    def call(method):
        return ray.get(method.remote(3))

    assert ray.get(call.remote(Counter.remote(1).add)) == 4


def test_actor_classes_are_closed_over() -> None:
    @ray.remote
    def make(start):
        return ray.get(Counter.remote(start).add.remote())

    assert ray.get(make.remote(4)) == 5


# ---------------------------------------------------------------------- handles


def test_handles_are_passed_on() -> None:
    @ray.remote
    def add(counter, n):
        return ray.get(counter.add.remote(n))

    @ray.remote
    class Keeper:
        def __init__(self, counter):
            self.counters = [counter]

        def add(self):
            return ray.get(self.counters[0].add.remote())

        def give(self):
            return self.counters[0]

    counter = Counter.remote()
    assert ray.get(add.remote(counter, 5)) == 5
    keeper = Keeper.remote(counter)
    assert ray.get(keeper.add.remote()) == 6
    assert ray.get(ray.get(keeper.give.remote()).add.remote()) == 7
    assert ray.get(add.remote(ray.put(counter), 1)) == 8


def test_an_actor_made_in_a_task_outlives_it_as_long_as_its_handle() -> None:
    @ray.remote
    def make():
        counter = Counter.remote(40)
        ray.get(counter.add.remote())
        return counter

    counter = ray.get(make.remote())
    assert ray.get(counter.add.remote()) == 42


def test_handles_compare_by_their_actor() -> None:
    counter, other = Counter.remote(), Counter.remote()

    @ray.remote
    def back(handle):
        return handle

    again = ray.get(back.remote(counter))
    assert again == counter != other
    assert again._actor_id == counter._actor_id != other._actor_id
    assert len({again, counter}) == 1


def test_an_actor_ends_when_its_handle_is_gone_after_the_calls_made() -> None:
    record, gate = Record.remote(), Gate.remote()

    @ray.remote
    class Writer:
        def write(self, item):
            ray.get(gate.wait.remote())
            return ray.get(record.add.remote(item))

    writer = Writer.remote()
    refs = [writer.write.remote(i) for i in range(3)]
    del writer
    gc.collect()
    ray.get(gate.open.remote())
    assert ray.get(refs) == [1, 2, 3]


@needs_processes
def test_an_actor_without_handles_ends() -> None:
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    del counter
    gc.collect()
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the actor")


# ---------------------------------------------------------------------- names


def test_named_actors() -> None:
    counter = Counter.options(name="by-name").remote(1)
    found = ray.get_actor("by-name")
    assert ray.get([counter.add.remote(), found.add.remote()]) == [2, 3]

    @ray.remote
    def find():
        return ray.get(ray.get_actor("by-name").add.remote())

    assert ray.get(find.remote()) == 4


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="nobody-has-this"):
        ray.get_actor("nobody-has-this")


def test_a_name_is_taken_once() -> None:
    first = Counter.options(name="once").remote()
    ray.get(first.add.remote())
    with pytest.raises(ValueError, match="once"):
        Counter.options(name="once").remote()
    ray.kill(first)


def test_a_name_is_free_again_after_the_end() -> None:
    first = Counter.options(name="again").remote()
    ray.get(first.add.remote())
    ray.kill(first)

    def retry():
        try:
            return Counter.options(name="again").remote(5)
        except ValueError:
            return None

    assert ray.get(until(retry, "the name to be free").add.remote()) == 6


def test_get_if_exists() -> None:
    class_ = Counter.options(name="shared", get_if_exists=True)
    first = class_.remote(5)
    second = class_.remote(100)
    assert ray.get([first.add.remote(), second.add.remote()]) == [6, 7]


def test_get_if_exists_from_many_at_once() -> None:
    @ray.remote(num_cpus=0)
    def add():
        counter = Counter.options(name="raced", get_if_exists=True, lifetime="detached").remote()
        return ray.get(counter.add.remote())

    assert sorted(ray.get([add.remote() for _ in range(6)])) == [1, 2, 3, 4, 5, 6]
    ray.kill(ray.get_actor("raced"))


def test_get_if_exists_needs_a_name() -> None:
    with pytest.raises(ValueError):
        Counter.options(get_if_exists=True).remote()


def test_namespaces() -> None:
    here = Counter.options(name="spaced", namespace="here").remote(1)
    there = Counter.options(name="spaced", namespace="there").remote(10)
    ray.get([here.add.remote(), there.add.remote()])
    assert ray.get(ray.get_actor("spaced", namespace="there").add.remote()) == 12
    assert ray.get(ray.get_actor("spaced", namespace="here").add.remote()) == 3
    with pytest.raises(ValueError):
        ray.get_actor("spaced")


def test_a_handle_by_name_does_not_keep_the_actor() -> None:
    counter = Counter.options(name="weak").remote()
    found = ray.get_actor("weak")
    assert ray.get(found.add.remote()) == 1
    del counter
    gc.collect()
    until(lambda: dead(found), "the end of the actor")


def test_detached_actors_stay_without_handles() -> None:
    counter = Counter.options(name="detached", lifetime="detached").remote()
    assert ray.get(counter.add.remote()) == 1
    del counter
    gc.collect()
    found = ray.get_actor("detached")
    assert ray.get(found.add.remote()) == 2
    ray.kill(found)
    until(lambda: dead(found), "the end of the actor")


def test_list_named_actors() -> None:
    first = Counter.options(name="listed").remote()
    other = Counter.options(name="listed-there", namespace="listing").remote()
    ray.get([first.add.remote(), other.add.remote()])
    assert "listed" in ray.util.list_named_actors()
    assert "listed-there" not in ray.util.list_named_actors()
    everywhere = ray.util.list_named_actors(all_namespaces=True)
    assert {"namespace": "listing", "name": "listed-there"} in everywhere


# ---------------------------------------------------------------------- what every actor has


def test_ray_ready() -> None:
    counter = Counter.remote()
    ray.get(counter.__ray_ready__.remote())


def test_ray_call() -> None:
    counter = Counter.remote(5)

    def double(self, factor, *, plus=0):
        self.value = self.value * factor + plus
        return self.value

    assert ray.get(counter.__ray_call__.remote(double, 2, plus=1)) == 11
    assert ray.get(counter.add.remote()) == 12


def test_ray_terminate_lets_queued_calls_finish() -> None:
    counter = Counter.remote()
    refs = [counter.add.remote() for _ in range(3)]
    counter.__ray_terminate__.remote()
    assert ray.get(refs) == [1, 2, 3]
    until(lambda: dead(counter), "the end of the actor")


# ---------------------------------------------------------------------- resources and options


def test_more_actors_than_cpus() -> None:
    counters = [Counter.remote(i) for i in range(6)]
    assert ray.get([counter.add.remote() for counter in counters]) == [1, 2, 3, 4, 5, 6]


@needs_processes(reason="resources are counted, but nothing waits for them")
def test_actors_with_resources_hold_them() -> None:
    holder = Counter.options(num_cpus=0, resources={"token": 2}).remote()
    ray.get(holder.add.remote())
    waiting = Counter.options(num_cpus=0, resources={"token": 1}).remote()
    ref = waiting.add.remote()
    assert ray.wait([ref], timeout=0.3)[0] == []
    ray.kill(holder)
    assert ray.get(ref) == 1


def test_options_do_not_change_the_class() -> None:
    chosen = Counter.options(name="optional")
    chosen.remote()
    first = Counter.remote()
    assert ray.get(first.add.remote()) == 1


WRONG = [
    ({"max_restarts": -2}, ValueError),
    ({"max_concurrency": -1}, ValueError),
    ({"lifetime": 5}, TypeError),
    ({"num_cpus": -1}, ValueError),
    ({"lifetime": "for ever"}, ValueError),
    ({"name": 5}, TypeError),
    ({"name": ""}, ValueError),
    ({"max_retries": 1}, ValueError),
    ({"num_returns": 1}, ValueError),
    ({"max_calls": 1}, ValueError),
    ({"no_such_option": 1}, ValueError),
    ({"namespace": ""}, ValueError),
]


@pytest.mark.parametrize(("given", "kind"), WRONG, ids=[str(given) for given, _ in WRONG])
def test_wrong_options_are_refused(given, kind) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Counter.options(**given).remote()
    assert caught.type is kind


@differs(on="ray", reason="max_concurrency=0 is taken, though no call could run")
def test_a_concurrency_of_zero_is_refused() -> None:
    with pytest.raises(ValueError):
        Counter.options(max_concurrency=0)


def test_the_repr_names_the_class() -> None:
    counter = Counter.remote()
    assert "Counter" in repr(counter)
    assert counter._actor_id.hex() in repr(counter)


def test_the_repr_of_an_actor_is_in_its_errors() -> None:
    @ray.remote
    class Named:
        def __repr__(self):
            return "the one called Bob"

        def fail(self):
            raise ValueError("x")

    with pytest.raises(RayTaskError, match="the one called Bob"):
        ray.get(Named.remote().fail.remote())
