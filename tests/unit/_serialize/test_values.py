"""Values to bytes and back: equal, read in place, and by value where names would not do."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import pickle
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._base.kinds import BUFFERS, NONE, PICKLE
from skate._serialize import values
from skate._serialize.values import (
    ALIGNMENT,
    PLAIN,
    Serialized,
    collecting,
    deserialize,
    dump_code,
    serialize,
)

from ..effort import effort


def through(value: Any) -> Any:
    """Return what arrives at the other side, as a message."""
    serialized = serialize(value)
    return deserialize(serialized.kind, serialized.to_bytes())


def in_memory(serialized: Serialized) -> memoryview:
    """Return the value as it lies in shared memory, which begins at a page."""
    memory = memoryview(np.zeros(serialized.laid_out_size + ALIGNMENT, np.uint8))
    start = -np.frombuffer(memory, np.uint8).ctypes.data % ALIGNMENT
    target = memory[start : start + serialized.laid_out_size]
    assert serialized.write_into(target) == serialized.laid_out_size
    return target.toreadonly()


def by_value(data: bytes | memoryview) -> bool:
    """Tell whether cloudpickle was needed."""
    return b"cloudpickle" in bytes(data)


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Frozen:
    name: str


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False)
    | st.text(max_size=5) | st.binary(max_size=5)
)  # fmt: skip
HASHABLE = SCALARS | st.tuples(SCALARS, SCALARS) | st.sampled_from([Colour.RED, Point(1, 2), Frozen("a")])
VALUES = st.recursive(
    HASHABLE | st.binary(max_size=5).map(bytearray) | st.datetimes() | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HASHABLE, inner, max_size=3)
    | st.sets(HASHABLE, max_size=3) | st.tuples(inner),
    max_leaves=8,
)  # fmt: skip
ARRAYS = st.integers(0, 200).map(lambda count: np.arange(count, dtype=np.uint8))


# ---------------------------------------------------------------------- there and back


@effort(150)
@given(VALUES)
def test_values_come_back_equal(value: Any) -> None:
    again = through(value)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("value", [1, "a", 1.5, True, b"b", 1j], ids=repr)
def test_plain_values_take_the_short_way(value: Any) -> None:
    assert type(value) in PLAIN
    serialized = serialize(value)
    assert (serialized.kind, serialized.data) == (PICKLE, pickle.dumps(value, 5))
    assert serialized.size == serialized.laid_out_size - 8 == len(serialized.data)


def test_none_has_no_bytes() -> None:
    assert (serialize(None).kind, serialize(None).to_bytes()) == (NONE, b"")
    assert deserialize(NONE, b"") is None


def test_subclasses_of_plain_types_are_not_plain() -> None:
    class Number(int):
        """Local: by value."""

    assert type(through(Number(3))).__name__ == "Number"
    assert isinstance(through(collections.Counter("aab")), collections.Counter)


def test_structures_that_refer_to_themselves() -> None:
    value: list[Any] = []
    value.append(value)
    again = through(value)
    assert again[0] is again
    shared = object.__new__(Frozen)
    one, two = through([shared, shared])
    assert one is two


# ---------------------------------------------------------------------- buffers


@effort(100)
@given(st.lists(ARRAYS | st.binary(max_size=70).map(pickle.PickleBuffer), max_size=4), VALUES)
def test_buffers_lie_aligned_and_are_read_in_place(parts: list[Any], other: Any) -> None:
    expected = [bytes(memoryview(part)) for part in parts]
    serialized = serialize((parts, other))
    data = in_memory(serialized)
    if serialized.kind != BUFFERS:
        assert not any(expected)
        return
    assert serialized.size == serialized.laid_out_size
    start = np.frombuffer(data, np.uint8).ctypes.data
    again, same = deserialize(BUFFERS, data)
    assert same == other
    assert [bytes(memoryview(part)) for part in again] == expected
    for part in again:
        view = np.frombuffer(memoryview(part), np.uint8) if len(memoryview(part)) else None
        if view is not None and not isinstance(part, bytes):
            assert view.ctypes.data % ALIGNMENT == 0
            assert start <= view.ctypes.data < start + len(data), "not copied"


@effort(60)
@given(st.lists(ARRAYS, min_size=1, max_size=4))
def test_pieces_are_the_same_bytes_as_the_whole(parts: list[Any]) -> None:
    serialized = serialize(parts)
    whole = serialized.to_bytes()
    if serialized.kind == BUFFERS:
        assert b"".join(serialized.pieces()) == whole == bytes(in_memory(serialized))
        assert len(whole) == serialized.size == serialized.laid_out_size


def test_a_value_without_buffers_can_lie_in_memory_too() -> None:
    """It is too large for a message: many small things in a list."""
    serialized = serialize(list(range(1000)))
    assert serialized.kind == PICKLE
    assert b"".join(serialized.pieces()) == bytes(in_memory(serialized))
    assert deserialize(BUFFERS, in_memory(serialized)) == list(range(1000))


def test_what_is_read_in_place_cannot_be_written() -> None:
    again = deserialize(BUFFERS, in_memory(serialize(np.arange(10))))
    assert not again.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 1


def test_arrays_in_fortran_order_and_slices() -> None:
    for array_ in (np.asfortranarray(np.arange(12).reshape(3, 4)), np.arange(12)[::2], np.zeros((0, 3))):
        again = through(array_)
        assert np.array_equal(again, array_)
        assert again.shape == array_.shape


def test_an_array_of_objects_has_no_buffer() -> None:
    value = np.array([1, "a", None], dtype=object)
    assert serialize(value).kind == PICKLE
    assert list(through(value)) == [1, "a", None]


def test_sizes_are_of_bytes_not_of_items() -> None:
    value = pickle.PickleBuffer(array.array("q", range(10)))
    assert serialize(value).size >= 80
    assert bytes(memoryview(through(value))) == array.array("q", range(10)).tobytes()


# ---------------------------------------------------------------------- by name or by value


def test_what_can_be_imported_goes_by_name() -> None:
    for value in (
        Frozen,
        Colour.RED,
        threading.Thread,
        datetime.datetime,
        decimal.Decimal(1),
        len,
        np.float64(1),
    ):
        assert not by_value(serialize([value]).data), value


def test_what_cannot_be_imported_goes_by_value() -> None:
    class Local:
        pass

    def local() -> int:
        return 5

    for value in (Local, Local(), local, lambda: 5, [Local()]):
        assert by_value(serialize(value).data), value
    assert through(local)() == 5
    assert through(lambda: 6)() == 6


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module that this process has, and another perhaps not."""
    made = types.ModuleType("made_up.inner")
    outer = types.ModuleType("made_up")
    exec("class Thing:\n    pass\n\ndef work():\n    return Thing\n", made.__dict__)
    sys.modules["made_up"], sys.modules["made_up.inner"] = outer, made
    yield made
    del sys.modules["made_up"], sys.modules["made_up.inner"]


@pytest.mark.parametrize("name", ["made_up", "made_up.inner"])
def test_modules_registered_with_cloudpickle_go_by_value(module: types.ModuleType, name: str) -> None:
    assert not by_value(serialize([module.Thing()]).data)
    cloudpickle.register_pickle_by_value(sys.modules[name])
    try:
        assert by_value(serialize([module.Thing()]).data)
        assert by_value(serialize(module.work).data)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[name])
    assert not by_value(serialize([module.Thing()]).data)


def test_what_lives_in_main_goes_by_value(module: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """C pickle would name it, and the worker's ``__main__`` has no such thing."""
    monkeypatch.setattr(module.Thing, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Thing", module.Thing, raising=False)
    assert by_value(serialize([module.Thing()]).data)


def test_so_does_what_lives_in_the_main_of_a_process_that_multiprocessing_spawned(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a name of its own there, which cloudpickle takes for that of any module."""
    module.__name__ = "__mp_main__"
    monkeypatch.setitem(sys.modules, "__mp_main__", module)
    monkeypatch.setattr(values, "_slow", None)
    exec("class Other:\n    pass\n", module.__dict__)
    other = module.__dict__["Other"]
    assert other.__module__ == "__mp_main__"
    try:
        assert by_value(serialize([other()]).data)
        assert by_value(dump_code(other)[0])
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_a_reducer_that_the_user_registered_is_used_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handle:
        def __init__(self, url: str) -> None:
            self.url, self.lock = url, threading.Lock()

    monkeypatch.setitem(values.reducers, threading.Thread, lambda thread: (str, (thread.name,)))
    assert through([threading.Thread(name="fast")]) == ["fast"]
    monkeypatch.setitem(values.reducers, Handle, lambda one: (str, (one.url,)))
    assert through([Handle("slow"), lambda: 1])[0] == "slow"


# ---------------------------------------------------------------------- refs inside


class Ref:
    """Does what an ObjectRef does when it is pickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        if collecting.refs is not None:
            collecting.refs.append(self)
        return Ref, (self.name,)


def names(refs: list[Any]) -> list[str]:
    return sorted(ref.name for ref in refs)


def test_refs_inside_are_collected() -> None:
    serialized = serialize({"a": Ref("one"), "b": [Ref("two")]})
    assert names(serialized.refs) == ["one", "two"]
    assert collecting.refs is None


def test_refs_are_collected_once_when_the_fast_way_gives_up() -> None:
    ref = Ref("one")
    serialized = serialize([ref, lambda: ref])
    assert names(serialized.refs) == ["one"]


def test_refs_in_closures_and_defaults() -> None:
    inside = Ref("closure")

    def function(default: Any = Ref("default")) -> Any:  # noqa: B008
        return inside, default

    blob, refs = dump_code(function)
    assert names(refs) == ["closure", "default"]
    assert [one.name for one in pickle.loads(blob)()] == ["closure", "default"]


def test_one_serialisation_inside_another_keeps_its_refs_apart() -> None:
    class Wrapper:
        def __reduce__(self) -> tuple[Any, ...]:
            assert names(serialize([Ref("inner")]).refs) == ["inner"]
            assert names(dump_code(lambda: Ref)[1]) == []
            return Ref, ("made",)

    assert names(serialize([Wrapper(), Ref("outer")]).refs) == ["outer"]


def test_after_a_failure_nothing_is_collected_any_more() -> None:
    with pytest.raises(TypeError, match="lock"):
        serialize([Ref("one"), threading.Lock()])
    assert collecting.refs is None
    with pytest.raises(TypeError, match="lock"):
        dump_code([threading.Lock()])
    assert collecting.refs is None
    assert serialize([1]).refs == []


def test_each_thread_collects_its_own() -> None:
    seen: list[Any] = []

    class Elsewhere:
        def __reduce__(self) -> tuple[Any, ...]:
            other = threading.Thread(target=lambda: seen.append(collecting.refs))
            other.start()
            other.join()
            return Ref, ("x",)

    serialize([Elsewhere()])
    assert seen == [None]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement came with Python 3.12")
def test_aliases_of_types_travel_by_value() -> None:
    program = """
type Pair = tuple[int, int]
type Two[T] = tuple[T, T]
type Tree = dict[str, Tree] | Two[Pair]
type Rows[T] = list[Two[T]]
type Missing = no_such_name

def f(one: Pair, two: Two[int], three: Tree, four: Rows[int]) -> None: ...

class Holder:
    field: Rows[Tree]
"""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(program, names)
    aliases = [names[name] for name in ("Pair", "Two", "Tree", "Rows")]
    pair, two, tree, rows = copied = through(aliases)
    assert [(one.__name__, one.__module__) for one in copied] == [
        (one.__name__, "__main__") for one in aliases
    ]
    assert pair.__value__ == tuple[int, int]
    assert str(two.__value__) == "tuple[T, T]"
    assert two.__type_params__ == two.__value__.__args__[:1]
    assert tree.__value__ == dict[str, tree] | two[pair]
    assert rows.__value__ == list[two[rows.__type_params__[0]]]
    assert through(copied)[2].__value__.__args__[0].__args__[1].__name__ == "Tree"  # from there on as well
    for code in (names["f"], names["Holder"]):
        data, refs = values.dump_code(code)
        hints = list(pickle.loads(data).__annotations__.values())
        assert [str(hint) for hint in hints] == [str(hint) for hint in code.__annotations__.values()]
        assert refs == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement came with Python 3.12")
def test_aliases_of_types_that_modules_have_travel_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("module_with_alias")
    exec(
        "type Number = int | float\ntype Endless[T] = list[Endless[T]]\ntype Missing = no_such_name",
        module.__dict__,
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("Number", "Endless", "Missing"):
        assert through(getattr(module, name)) is getattr(module, name)
