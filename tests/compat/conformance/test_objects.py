"""Objects and refs: put and get, views of shared memory, refs inside values."""

from __future__ import annotations

import collections
import copy
import dataclasses
import gc
import pickle

import numpy as np
import pytest
import ray

from compat.conformance.helpers import differs

pytestmark = pytest.mark.usefixtures("session")

MEGABYTE = 1_000_000


@ray.remote
def echo(value):
    return value


@dataclasses.dataclass
class Point:
    x: int
    y: int


Pair = collections.namedtuple("Pair", "a b")


VALUES = [
    None, True, 0, 10**30, 1.5, float("inf"), 2 + 3j, "text", "ä\u20ac\U0001f600", b"bytes",
    [], [1, [2, [3]]], (1, "a"), {"k": {"n": (1,)}}, {1, 2}, frozenset("ab"), range(5), slice(1, 2), ...,
    Point(1, 2), Pair(1, b=2), int, len, ValueError, collections.OrderedDict(a=1), collections.deque([1]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_as_they_were(value) -> None:
    for back in (ray.get(ray.put(value)), ray.get(echo.remote(value))):
        assert back == value
        assert type(back) is type(value)


def test_classes_and_functions_that_workers_cannot_import() -> None:
    class Local:
        def __init__(self, n):
            self.n = n

        def __eq__(self, other):
            return self.n == other.n

    assert ray.get(echo.remote(Local(3))) == Local(3)
    assert ray.get(echo.remote(lambda x: x + 1))(1) == 2


@differs(on="ray", reason="a bytearray comes back as bytes")
def test_bytearrays() -> None:
    assert type(ray.get(ray.put(bytearray(b"x")))) is bytearray


@differs(on="ray", reason="lists and dicts are copied item by item: one that is in a value twice becomes two")
def test_identity_inside_one_value_is_kept() -> None:
    inner = [1]
    back = ray.get(ray.put({"a": inner, "b": inner}))
    assert back["a"] is back["b"]


def test_cycles() -> None:
    cyclic = []
    cyclic.append(cyclic)
    back = ray.get(ray.put(cyclic))
    assert back[0] is back


def test_put_takes_a_copy() -> None:
    items = [1]
    ref = ray.put(items)
    items.append(2)
    assert ray.get(ref) == [1]


# ---------------------------------------------------------------------- arrays


def test_arrays_are_read_only_views() -> None:
    array = np.arange(MEGABYTE)
    back = ray.get(ray.put(array))
    np.testing.assert_array_equal(back, array)
    assert not back.flags.writeable
    assert not back.flags.owndata
    with pytest.raises(ValueError):
        back[0] = 5
    writable = back.copy()
    writable[0] = 5


def test_two_gets_show_the_same_memory() -> None:
    ref = ray.put(np.arange(MEGABYTE))
    first, second = ray.get(ref), ray.get(ref)
    assert np.shares_memory(first, second) or first.ctypes.data == second.ctypes.data


def test_arrays_in_tasks_are_read_only() -> None:
    @ray.remote
    def writeable(array):
        return array.flags.writeable, int(array.sum())

    array = np.ones(MEGABYTE)
    assert ray.get(writeable.remote(ray.put(array))) == (False, MEGABYTE)
    assert ray.get(writeable.remote(array)) == (False, MEGABYTE)


def test_a_view_outlives_its_ref() -> None:
    view = ray.get(ray.put(np.full(MEGABYTE, 7)))
    gc.collect()
    others = [ray.put(np.full(MEGABYTE, i)) for i in range(5)]
    assert (view == 7).all()
    del others


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.arange(12).reshape(3, 4).T,
        np.asfortranarray(np.arange(100_000.0).reshape(100, 1000)),
        np.arange(100_000)[::3],
        np.array(["a", "bc"]),
        np.array([1, "x", None], dtype=object),
        np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
        np.float64(2.5),
    ],
    ids=["empty", "transposed", "fortran", "strided", "text", "objects", "records", "scalar"],
)
def test_kinds_of_arrays(array) -> None:
    for back in (ray.get(ray.put(array)), ray.get(echo.remote(array))):
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype
        assert np.shape(back) == np.shape(array)


def test_large_bytes_and_results() -> None:
    @ray.remote
    def large(n):
        return b"x" * n, np.ones(n, dtype=np.uint8)

    data, array = ray.get(large.remote(5 * MEGABYTE))
    assert len(data) == array.sum() == 5 * MEGABYTE


def test_large_arguments_by_value() -> None:
    @ray.remote
    def total(a, *more, k):
        return int(a.sum() + more[0].sum() + k.sum())

    one = np.ones(MEGABYTE, dtype=np.uint8)
    assert ray.get(total.remote(one, one, k=one)) == 3 * MEGABYTE


def test_the_same_large_ref_to_many_tasks() -> None:
    @ray.remote
    def total(array, i):
        return int(array.sum()) + i

    ref = ray.put(np.ones(MEGABYTE, dtype=np.uint8))
    assert ray.get([total.remote(ref, i) for i in range(6)]) == [MEGABYTE + i for i in range(6)]


# ---------------------------------------------------------------------- refs


def test_put_of_a_ref_is_refused() -> None:
    with pytest.raises(TypeError):
        ray.put(ray.put(1))


def test_ref_identity() -> None:
    ref, other = ray.put(1), ray.put(1)
    assert ref == ref
    assert ref != other
    assert ref != "x"
    assert len({ref, ref, other}) == 2
    assert {ref: "found"}[ref] == "found"


def test_refs_that_travelled_are_equal() -> None:
    ref = ray.put(1)
    (again,) = ray.get(echo.remote([ref]))
    assert again == ref
    assert hash(again) == hash(ref)


@differs(
    on="engine",
    reason="Ids of the cluster have Ray's size; `ObjectRef.size()` and `nil()` know skate's alone.",
)
def test_hex_and_binary() -> None:
    ref = ray.put(1)
    assert bytes.fromhex(ref.hex()) == ref.binary()
    assert len(ref.binary()) == ref.size()
    assert ref.hex() in repr(ref)
    assert not ref.is_nil()
    assert ray.ObjectRef.nil().is_nil()


def test_task_and_job_of_a_ref() -> None:
    ref = echo.remote(1)
    assert ref.job_id().hex() == ray.get_runtime_context().get_job_id()
    assert ref.hex().startswith(ref.task_id().hex())


def test_copies_of_refs() -> None:
    ref = ray.put(5)
    assert copy.copy(ref) == ref
    assert copy.deepcopy([ref]) == [ref]


def test_refs_inside_values() -> None:
    inner = [ray.put(i) for i in range(3)]
    outer = ray.put({"refs": inner})
    del inner
    gc.collect()
    assert ray.get(ray.get(outer)["refs"]) == [0, 1, 2]


def test_refs_nested_many_deep() -> None:
    ref = ray.put("bottom")
    for _ in range(5):
        ref = ray.put([ref])
    gc.collect()
    for _ in range(5):
        (ref,) = ray.get(ref)
    assert ray.get(ref) == "bottom"


def test_refs_in_closures() -> None:
    ref = ray.put(41)

    @ray.remote
    def use():
        return ray.get(ref) + 1

    assert ray.get(use.remote()) == 42


def test_refs_in_actors() -> None:
    @ray.remote
    class Keeper:
        def keep(self, refs):
            self.refs = refs

        def value(self):
            return ray.get(self.refs[0])

    keeper, ref = Keeper.remote(), ray.put(np.full(MEGABYTE, 3, dtype=np.uint8))
    ray.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    assert ray.get(keeper.value.remote()).sum() == 3 * MEGABYTE


def test_refs_in_objects_of_ones_own() -> None:
    class Holder:
        def __init__(self, ref):
            self.ref = ref

    assert ray.get(ray.get(echo.remote(Holder(ray.put("held")))).ref) == "held"


def test_a_worker_puts_and_the_driver_gets() -> None:
    @ray.remote
    class Putter:
        def make(self):
            return [ray.put(np.full(MEGABYTE, 9, dtype=np.uint8))]

    putter = Putter.remote()
    (ref,) = ray.get(putter.make.remote())
    assert ray.get(ref)[-1] == 9


# ---------------------------------------------------------------------- what cannot be pickled


def test_values_that_cannot_be_pickled() -> None:
    import threading

    with pytest.raises(TypeError, match="lock"):
        ray.put(threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        echo.remote([threading.Lock()])


def test_functions_that_cannot_be_pickled() -> None:
    import threading

    lock = threading.Lock()

    @ray.remote
    def use():
        return lock

    with pytest.raises(TypeError, match="lock"):
        use.remote()


def test_results_that_cannot_be_pickled() -> None:
    @ray.remote
    def lock():
        import threading

        return threading.Lock()

    with pytest.raises(TypeError, match="lock"):
        ray.get(lock.remote())


def test_reduce_and_getstate_are_honoured() -> None:
    class Custom:
        def __init__(self, n):
            self.n, self.cache = n, lambda: None

        def __getstate__(self):
            return {"n": self.n}

    back = ray.get(ray.put(Custom(4)))
    assert back.n == 4
    assert not hasattr(back, "cache")
    assert pickle.HIGHEST_PROTOCOL >= 5


def test_many_small_objects() -> None:
    refs = [ray.put(i) for i in range(500)]
    assert ray.get(refs) == list(range(500))
