"""Objects: inline and shared, zero-copy views that stay valid, recycled memory, a store that is full."""

from __future__ import annotations

import gc
import os
import pickle
import random
import select
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest

import skate
from skate import ObjectRef
from skate.api import RayContext as Session
from skate.exceptions import ObjectStoreFullError

from .stored import stored
from .waiting import wait_for

Array = npt.NDArray[Any]

MIB = 1 << 20


@skate.remote
def identity(value: Any) -> Any:
    return value


@skate.remote
def make(n: int, value: int) -> Array:
    return np.full(n, value, dtype=np.uint8)


@skate.remote
def total(array: Array) -> int:
    return int(array.sum(dtype=np.int64))


@skate.remote
class Maker:
    """Owns what it puts."""

    def put(self, n: int, value: int) -> list[ObjectRef[Array]]:
        return [skate.put(np.full(n, value, dtype=np.uint8))]

    def pid(self) -> int:
        return os.getpid()


#: A folder that cannot be: nothing is spilled there.
NO_DISK = "/dev/null/none"


def objects_in_store() -> int:
    return stored().objects


def address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def overwrite_free_memory(times: int = 20) -> None:
    """Put objects into the memory that was freed, so that a view of it would see it."""
    for _ in range(times):
        refs = [skate.put(np.full(MIB, 0xEE, dtype=np.uint8)) for _ in range(4)]
        refs += [make.remote(MIB, 0xEE) for _ in range(2)]
        skate.get(refs[-2:])
        del refs


# ---------------------------------------------------------------------- put and get


def test_bytes_of_any_size(session: Session) -> None:
    refs = []
    for size in (0, 1, 1000, 102_399, 102_400, 102_401, 3 * MIB):
        value = random.Random(size).randbytes(size)
        ref = skate.put(value)
        refs.append(ref)
        assert skate.get(ref) == value
        assert skate.get(identity.remote(ref)) == value
        assert skate.get(identity.remote([ref]))[0] == ref
    wait_for(lambda: objects_in_store() == 4, "only the large ones to be in the store")


def test_a_large_array_is_a_read_only_view_in_place(session: Session) -> None:
    array = np.arange(MIB)
    ref = skate.put(array)
    first, second = skate.get([ref, ref])
    np.testing.assert_array_equal(first, array)
    assert address(first) == address(second)
    assert address(first) % 64 == 0
    for view in (first, first[10:20], first.reshape(-1, 2), second.view(np.uint8)):
        assert not view.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
    assert memoryview(first).readonly
    array[0] = 99
    assert skate.get(ref)[0] == 0


def test_small_arrays_are_values_too(session: Session) -> None:
    array = np.arange(10)
    back = skate.get(skate.put(array))
    np.testing.assert_array_equal(back, array)
    assert objects_in_store() == 0


def test_results_and_arguments_are_views(session: Session) -> None:
    @skate.remote
    def look(array: Array, nested: dict[str, Array]) -> tuple[bool, bool, int]:
        return array.flags.writeable, nested["a"].flags.writeable, int(array.sum() + nested["a"].sum())

    ones = np.ones(MIB, dtype=np.uint8)
    assert skate.get(look.remote(skate.put(ones), {"a": ones})) == (False, False, 2 * MIB)
    result = skate.get(make.remote(MIB, 3))
    assert not result.flags.writeable
    assert int(result.sum(dtype=np.int64)) == 3 * MIB


def test_workers_read_the_object_in_place(session: Session) -> None:
    @skate.remote
    def where(array: Array) -> str:
        own = address(array)
        for line in Path("/proc/self/maps").read_text().splitlines():
            bounds, *_, name = line.split(maxsplit=5)
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            if start <= own < end:
                return name
        return "nowhere"

    ref = skate.put(np.zeros(MIB))
    assert "memfd:skate-" in skate.get(where.remote(ref))


ARRAYS: dict[str, Array] = {
    "fortran": np.asfortranarray(np.arange(300_000).reshape(300, 1000)),
    "strided": np.arange(600_000)[::2],
    "empty": np.zeros((0, 5)),
    "objects": np.array([{"a": 1}, None, "x"] * 50_000, dtype=object),
    "record": np.zeros(50_000, dtype=[("x", "f8"), ("y", "i4"), ("z", "S8")]),
    "scalar": np.array(5.0),
    "text": np.array(["text"] * 40_000),
    "big-endian": np.arange(200_000, dtype=">u4"),
    "dates": np.array(["2026-01-01"], dtype="M8[D]").repeat(100_000),
    "masked": np.ma.masked_array(np.arange(100_000), mask=np.arange(100_000) % 2 == 0),
}


def test_arrays_of_every_kind(session: Session) -> None:
    for name, array in ARRAYS.items():
        for back in skate.get([skate.put(array), identity.remote(array)]):
            assert back.dtype == array.dtype, name
            assert back.shape == array.shape, name
            np.testing.assert_array_equal(back, array, name)


def test_arrow_tables(session: Session) -> None:
    table = pa.table(
        {
            "n": np.arange(200_000),
            "text": [f"row {i}" for i in range(200_000)],
            "part": [[1, 2], None] * 100_000,
        }
    )
    ref = skate.put(table)
    first, second = skate.get([ref, ref])
    assert first.equals(table)
    buffers = [one.column("n").chunk(0).buffers()[1] for one in (first, second)]
    assert buffers[0].address == buffers[1].address
    assert not buffers[0].is_mutable
    assert skate.get(identity.remote(table)).equals(table)
    batch = table.to_batches()[0]
    assert skate.get(identity.remote([batch]))[0].equals(batch)
    piece = first.slice(1000, 10)
    del ref, first, second, buffers
    gc.collect()
    overwrite_free_memory()
    assert piece.equals(table.slice(1000, 10))


def test_pandas_frames(session: Session) -> None:
    frame = pd.DataFrame(
        {
            "n": np.arange(100_000),
            "text": [f"row {i}" for i in range(100_000)],
            "kind": pd.Categorical(["a", "b"] * 50_000),
            "when": pd.date_range("2026-01-01", periods=100_000, freq="s"),
        }
    )
    for back in skate.get([skate.put(frame), identity.remote(frame)]):
        pd.testing.assert_frame_equal(back, frame)
    assert int(skate.get(skate.put(frame)).groupby("kind", observed=True)["n"].sum().sum()) == sum(
        range(100_000)
    )


def test_any_out_of_band_buffer(session: Session) -> None:
    payload = pickle.PickleBuffer(bytearray(os.urandom(MIB)))
    back = skate.get(skate.put([payload]))[0]
    assert bytes(back) == bytes(payload)
    assert memoryview(back).readonly
    assert skate.get(identity.remote(bytearray(200_000))) == bytearray(200_000)


def test_a_hundred_mebibytes(session: Session) -> None:
    array = np.random.default_rng(0).integers(0, 255, 100 * MIB, dtype=np.uint8)
    ref = skate.put(array)
    expected = int(array.sum(dtype=np.int64))
    del array
    assert skate.get([total.remote(ref), total.remote(ref)]) == [expected, expected]


# ---------------------------------------------------------------------- refs


def test_refs_are_values(session: Session) -> None:
    ref, other = skate.put(1), skate.put(1)
    copy = skate.get(skate.put([ref]))[0]
    assert copy == ref != other
    assert hash(copy) == hash(ref)
    assert len({ref, copy, other}) == 2
    assert bytes.fromhex(ref.hex()) == ref.binary()
    assert ref.hex() in repr(ref)
    assert sorted([other, ref]) == sorted([ref, other])
    assert skate.get([ref, copy]) == [1, 1]


def test_put_keeps_the_value_of_then(session: Session) -> None:
    value = [1, 2]
    ref = skate.put(value)
    value.append(3)
    assert skate.get(ref) == [1, 2]
    skate.get(ref).append(4)
    assert skate.get(ref) == [1, 2]


def test_a_thousand_small_and_a_hundred_large(session: Session) -> None:
    small = [skate.put(i) for i in range(1000)]
    large = [skate.put(np.full(200_000, i, dtype=np.uint8)) for i in range(100)]
    assert skate.get(small) == list(range(1000))
    assert [int(array[-1]) for array in skate.get(large)] == list(range(100))
    assert objects_in_store() == 100


def test_an_object_that_holds_ten_thousand_refs(session: Session) -> None:
    ref = skate.put([skate.put(i) for i in range(10_000)])

    @skate.remote
    def sum_of(refs: list[ObjectRef[int]]) -> int:
        return sum(skate.get(refs))

    assert skate.get(sum_of.remote(ref)) == sum(range(10_000))


# ---------------------------------------------------------------------- views stay valid


def _views(array: Array) -> dict[str, Any]:
    return {
        "array": array,
        "slice": array[1000:2000],
        "strided": array[::7],
        "reshaped": array[:MIB].reshape(1024, 1024)[3],
        "frombuffer": np.frombuffer(memoryview(array)[5000:], dtype=np.uint32),
        "memoryview": memoryview(array)[100:200],
        "of a memoryview": memoryview(memoryview(array))[7:].cast("B"),
        "arrow": pa.py_buffer(array[300:400]),
    }


def _contents(view: Any) -> bytes:
    return bytes(memoryview(view).tobytes())


def test_what_is_sliced_from_a_view_stays(session: Session) -> None:
    original = np.random.default_rng(1).integers(0, 255, 2 * MIB, dtype=np.uint8)
    expected = {name: _contents(view) for name, view in _views(original).items()}
    kept = {name: _views(skate.get(skate.put(original)))[name] for name in expected}
    gc.collect()
    overwrite_free_memory(5)
    for name, view in kept.items():
        assert _contents(view) == expected[name], name


def test_views_of_a_result_stay_when_its_refs_are_gone(session: Session) -> None:
    for _ in range(15):
        # The daemon may read of the view, and of the end of the ref, before it reads of the object.
        views = [skate.get(make.remote(MIB, i))[i * 100 :] for i in range(10)]
        overwrite_free_memory(2)
        assert [int(view.max()) for view in views] == list(range(10))
        assert [int(view.min()) for view in views] == list(range(10))


@pytest.mark.parametrize("end", ["kill", "free"])
def test_views_stay_when_the_owner_is_gone(session: Session, end: str) -> None:
    maker = Maker.remote()
    inner = skate.get(maker.put.remote(MIB, 7))
    view = skate.get(inner[0])[10:]
    if end == "kill":
        skate.kill(maker)
    del inner, maker
    overwrite_free_memory(5)
    assert int(view.min()) == int(view.max()) == 7


def test_views_stay_in_a_task_when_the_driver_frees(session: Session, tmp_path: Path) -> None:
    @skate.remote
    class Keeper:
        def keep(self, array: Array) -> None:
            self.piece = array[5:-5]

        def look(self) -> tuple[int, int]:
            return int(self.piece.min()), int(self.piece.max())

    keeper = Keeper.remote()
    skate.get(keeper.keep.remote(skate.put(np.full(MIB, 9, dtype=np.uint8))))
    overwrite_free_memory(5)
    assert skate.get(keeper.look.remote()) == (9, 9)


def test_views_stay_after_shutdown(session: Session) -> None:
    view = skate.get(skate.put(np.full(MIB, 5, dtype=np.uint8)))[100:]
    skate.shutdown()
    assert int(view.sum(dtype=np.int64)) == 5 * (MIB - 100)
    skate.init(num_cpus=1)
    overwrite_free_memory(2)
    assert int(view.sum(dtype=np.int64)) == 5 * (MIB - 100)


def test_random_views_keep_their_contents(session: Session) -> None:
    random_ = random.Random(5)
    views: list[tuple[Array, int]] = []
    for step in range(300):
        size, value = random_.randrange(110_000, 2 * MIB), step % 251
        array = np.full(size, value, dtype=np.uint8)
        ref = random_.choice([skate.put, identity.remote])(array)
        start = random_.randrange(size - 1)
        views.append((skate.get(ref)[start:], value))
        if len(views) > 20:
            views.pop(random_.randrange(20))
        view, expected = random_.choice(views)
        assert (view == expected).all()
    assert all((view == value).all() for view, value in views)


def test_what_a_forked_child_sees_is_not_recycled(session: Session) -> None:
    ref = skate.put(np.full(4 * MIB, 3, dtype=np.uint8))
    view = skate.get(ref)
    go, tell = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.read(go, 1)
            code = 0 if (view == 3).all() else 2
        finally:
            os._exit(code)
    child = os.pidfd_open(pid)
    try:
        del view, ref
        overwrite_free_memory(5)
        refs = [skate.put(np.full(4 * MIB, 0xEE, dtype=np.uint8)) for _ in range(4)]
        os.write(tell, b"x")
        assert select.select([child], [], [], 20)[0]
        assert os.waitpid(pid, 0) == (pid, 0)
        del refs
    finally:
        for fd in (go, tell, child):
            os.close(fd)


# ---------------------------------------------------------------------- the store's size


def test_freed_memory_is_used_again() -> None:
    skate.init(num_cpus=1, object_store_memory=16 * MIB)
    for i in range(60):
        ref = skate.put(np.full(6 * MIB, i, dtype=np.uint8))
        assert skate.get(total.remote(ref)) == 6 * MIB * i
        assert skate.get(make.remote(6 * MIB, i))[-1] == i


def test_freed_memory_of_every_size_is_used_again() -> None:
    skate.init(num_cpus=1, object_store_memory=16 * MIB)
    random_ = random.Random(3)
    kept: list[ObjectRef[Array]] = []
    for _ in range(200):
        kept.append(skate.put(np.zeros(random_.randrange(110_000, 3 * MIB), dtype=np.uint8)))
        if len(kept) > 2:
            kept.pop(random_.randrange(3))
    del kept
    wait_for(lambda: objects_in_store() == 0, "the store to be empty")
    assert skate.get(total.remote(skate.put(np.ones(12 * MIB, dtype=np.uint8)))) == 12 * MIB


def test_a_full_store_names_its_largest_holders() -> None:
    skate.init(num_cpus=1, object_store_memory=20 * MIB, object_spilling_directory=NO_DISK)
    arrays = [skate.put(np.zeros(5 * MIB, dtype=np.uint8)) for _ in range(3)]
    text = skate.put(b"x" * MIB)
    with pytest.raises(ObjectStoreFullError) as caught:
        skate.put(np.zeros(8 * MIB, dtype=np.uint8))
    message = str(caught.value)
    assert "8.0 MiB does not fit" in message
    assert "numpy.ndarray" in message
    assert "3 object(s)" in message
    assert "bytes" in message
    assert message.index("numpy.ndarray") < message.index("of type bytes")
    assert "object_store_memory" in message
    # The runtime goes on unharmed, and there is room again when refs go.
    assert skate.get(total.remote(arrays[0])) == 0
    arrays.pop()
    wait_for(lambda: objects_in_store() == 3, "the object to be freed")
    assert skate.get(total.remote(skate.put(np.ones(5 * MIB, dtype=np.uint8)))) == 5 * MIB
    assert skate.get(text)[:1] == b"x"


def test_what_is_larger_than_the_store() -> None:
    skate.init(num_cpus=1, object_store_memory=4 * MIB)
    assert skate.get(skate.put(np.ones(8 * MIB, dtype=np.uint8))).sum() == 8 * MIB
    assert skate.get(make.remote(8 * MIB, 1)).sum() == 8 * MIB
    assert skate.get(total.remote(np.ones(8 * MIB, dtype=np.uint8))) == 8 * MIB
    assert skate.get(make.remote(MIB, 1))[0] == 1


def test_what_is_larger_than_the_store_without_a_disk() -> None:
    skate.init(num_cpus=1, object_store_memory=4 * MIB, object_spilling_directory=NO_DISK)
    with pytest.raises(ObjectStoreFullError, match="exceeds the capacity"):
        skate.put(np.zeros(8 * MIB, dtype=np.uint8))
    with pytest.raises(ObjectStoreFullError):
        skate.get(make.remote(8 * MIB, 1))
    with pytest.raises(ObjectStoreFullError):
        total.remote(np.zeros(8 * MIB, dtype=np.uint8))
    assert skate.get(make.remote(MIB, 1))[0] == 1


def test_a_view_holds_its_room() -> None:
    skate.init(num_cpus=1, object_store_memory=10 * MIB, object_spilling_directory=NO_DISK)
    view = skate.get(skate.put(np.ones(8 * MIB, dtype=np.uint8)))[:1]
    gc.collect()
    with pytest.raises(ObjectStoreFullError):
        skate.put(np.zeros(8 * MIB, dtype=np.uint8))
    assert view[0] == 1
    del view
    gc.collect()
    assert skate.get(skate.put(np.full(8 * MIB, 2, dtype=np.uint8)))[0] == 2


def test_an_idle_session_holds_no_memory(session: Session) -> None:
    ref = skate.put(np.ones(64 * MIB, dtype=np.uint8))
    assert skate.get(total.remote(ref)) == 64 * MIB
    del ref

    def resident() -> int:
        text = Path("/proc/self/smaps").read_text()
        kib = 0
        inside = False
        for line in text.splitlines():
            if line.split(maxsplit=1)[0].count("-") == 1 and ":" not in line.split(maxsplit=1)[0]:
                inside = "/memfd:skate-" in line
            elif inside and line.startswith("Rss:"):
                kib += int(line.split()[1])
        return kib

    wait_for(lambda: resident() < 1024, "the memory to go back to the system")


def test_a_return_that_fails_takes_those_before_it_along(session: Session) -> None:
    @skate.remote(num_returns=2)
    def half() -> tuple[object, object]:
        return np.zeros(100_000), threading.Lock()

    first, second = half.remote()
    for ref in (first, second):
        with pytest.raises(TypeError, match="cannot return it"):
            skate.get(ref)
    # The first was in the store by then: the leak check sees whether it still is.
