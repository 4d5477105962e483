"""More objects than memory: they go to disk, are read there, and leave nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import skate
from skate import ObjectRef
from skate.exceptions import ObjectStoreFullError

from . import processes
from .stored import stored
from .waiting import wait_for

MEGA = 1_000_000
#: Bytes of the store.
STORE = 50 * MEGA


@pytest.fixture
def small(leak_check: None) -> Iterator[skate.api.RayContext]:
    """A session with little memory for objects."""
    yield skate.init(num_cpus=2, object_store_memory=STORE)


def array(seed: int, megabytes: int = 5) -> np.ndarray[Any, Any]:
    return np.full(megabytes * MEGA // 8, seed, dtype=np.int64)


def check(value: np.ndarray[Any, Any], seed: int) -> None:
    assert (value == seed).all()


@skate.remote
def make(seed: int, megabytes: int = 5) -> np.ndarray[Any, Any]:
    return array(seed, megabytes)


@skate.remote
def total(value: np.ndarray[Any, Any]) -> int:
    return int(value.sum())


@skate.remote
class Holder:
    """Owns objects, or holds views of them."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def put(self, seed: int) -> list[ObjectRef[Any]]:
        return [skate.put(array(seed))]

    def hold(self, value: Any) -> int:
        self.kept.append(value)
        return int(value[0])

    def read(self) -> list[int]:
        return [int(value[0]) for value in self.kept if (value == value[0]).all()]

    def pid(self) -> int:
        return os.getpid()


def test_what_was_put_comes_back(small: object) -> None:
    refs = [skate.put(array(seed)) for seed in range(40)]
    found = stored()
    assert found.objects == 40
    assert found.used <= STORE
    assert found.on_disk >= 40 * 5 * MEGA - STORE
    for _ in range(2):
        for seed, ref in enumerate(refs):
            check(skate.get(ref), seed)
    del refs[10:], ref
    wait_for(lambda: stored().objects == 10, "the others to be freed")
    for seed, ref in enumerate(refs):
        check(skate.get(ref), seed)


def test_results_and_arguments(small: object) -> None:
    made = [make.remote(seed) for seed in range(40)]
    assert skate.get([total.remote(ref) for ref in made]) == [seed * 5 * MEGA // 8 for seed in range(40)]
    assert stored().on_disk > 0
    for seed, ref in enumerate(made):
        check(skate.get(ref), seed)


def test_objects_of_other_owners(small: object) -> None:
    holders = [Holder.remote() for _ in range(3)]
    refs = [skate.get(holder.put.remote(seed))[0] for seed in range(10) for holder in holders]
    for index, ref in enumerate(refs):
        check(skate.get(ref), index // 3)
    assert skate.get(total.remote(refs[0])) == 0


def test_views_stay_valid_while_others_move(small: object) -> None:
    kept = [skate.get(skate.put(array(seed))) for seed in range(4)]
    holder = Holder.remote()
    first = skate.put(array(77))
    assert skate.get(holder.hold.remote(first)) == 77
    del first
    refs = [skate.put(array(100 + seed)) for seed in range(40)]
    for seed, value in enumerate(kept):
        check(value, seed)
    assert skate.get(holder.read.remote()) == [77]
    for seed, ref in enumerate(refs):
        check(skate.get(ref), 100 + seed)


def test_with_everything_pinned_new_objects_are_written_to_disk(small: object) -> None:
    pinned = [skate.get(skate.put(array(seed))) for seed in range(9)]
    before = stored().on_disk
    more = [skate.get(skate.put(array(100 + seed))) for seed in range(10)]
    assert stored().on_disk >= before + 45 * MEGA
    results = skate.get([make.remote(200 + seed) for seed in range(5)])
    for start, values in ((0, pinned), (100, more), (200, results)):
        for seed, value in enumerate(values):
            check(value, start + seed)


def test_an_object_larger_than_the_store(small: object) -> None:
    ref = make.remote(3, 80)
    assert skate.get(total.remote(ref)) == 3 * 80 * MEGA // 8
    own = skate.put(array(4, 70))
    check(skate.get(own), 4)
    assert stored().used == 0


def test_many_at_the_size_of_a_page_or_so(small: object) -> None:
    refs = [skate.put(np.full(25_000, seed)) for seed in range(600)]
    order = list(range(600))
    random.Random(1).shuffle(order)
    for seed in order:
        check(skate.get(refs[seed]), seed)


@pytest.mark.time_limit(120)
def test_a_sort_of_four_times_the_store(small: object) -> None:
    """Map: cut each part by ranges; reduce: merge a range of all parts."""
    parts, size = 20, MEGA
    splits = np.linspace(0, 1, parts + 1)[1:-1]

    @skate.remote
    def generate(seed: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng(seed).random(size * 5 // 4)

    @skate.remote(num_returns=parts)
    def cut(part: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        part = np.sort(part)
        return np.split(part, np.searchsorted(part, splits))

    @skate.remote
    def merge(*pieces: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.sort(np.concatenate(pieces))

    pieces = [cut.remote(generate.remote(seed)) for seed in range(parts)]
    merged = [merge.remote(*[piece[index] for piece in pieces]) for index in range(parts)]
    del pieces
    last, count, sums = -1.0, 0, 0.0
    for index in range(parts):
        values = skate.get(merged[index])
        assert (np.diff(values) >= 0).all()
        assert last <= values[0]
        last, count, sums = values[-1], count + len(values), sums + values.sum()
    assert count == parts * size * 5 // 4
    expected = sum(np.random.default_rng(seed).random(size * 5 // 4).sum() for seed in range(parts))
    assert sums == pytest.approx(expected)


def test_random_use_by_many(small: object) -> None:
    """Everybody puts, reads, pins and drops at once; every value is what it was."""

    @skate.remote
    def work(seed: int, others: list[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
        chance = random.Random(seed)
        mine = [skate.put((seed, array(seed, chance.choice([1, 3, 7])))) for _ in range(4)]
        for ref in [*mine, *others, *mine]:
            owner, value = skate.get(ref)
            check(value, owner)
        return mine[:2]

    made: list[ObjectRef[Any]] = []
    for wave in range(6):
        done = skate.get([work.remote(10 * wave + index, made[-6:]) for index in range(6)])
        made = [ref for refs in done for ref in refs]
    for ref in made:
        seed, value = skate.get(ref)
        check(value, seed)


def test_a_stopped_owner_does_not_hold_up_others(small: object) -> None:
    holder = Holder.remote()
    refs = [skate.get(holder.put.remote(seed))[0] for seed in range(8)]
    pid = skate.get(holder.pid.remote())
    os.kill(pid, signal.SIGSTOP)
    try:
        mine = [skate.put(array(100 + seed)) for seed in range(40)]
        for seed, ref in enumerate(mine):
            check(skate.get(ref), 100 + seed)
    finally:
        os.kill(pid, signal.SIGCONT)
    for seed, ref in enumerate(refs):
        check(skate.get(ref), seed)


def test_an_owner_that_dies_takes_its_objects_from_the_disk(small: object) -> None:
    holder = Holder.remote()
    refs = [skate.get(holder.put.remote(seed))[0] for seed in range(30)]
    assert stored().on_disk > 0
    skate.kill(holder)
    wait_for(lambda: stored().objects == 0, "the objects of a dead owner to be freed")
    assert stored().on_disk == 0
    del refs


def test_files_have_no_names_and_end_with_the_session(leak_check: None, tmp_path: Path) -> None:
    own = skate.init(num_cpus=1, object_store_memory=STORE, object_spilling_directory=str(tmp_path / "spill"))
    refs = [skate.put(array(seed)) for seed in range(20)]
    assert os.listdir(tmp_path / "spill") == []
    roles = processes.roles(own["session_dir"])
    opened = {Path(os.readlink(f"/proc/{roles.daemon}/fd/{fd}")).parent
              for fd in os.listdir(f"/proc/{roles.daemon}/fd")}  # fmt: skip
    assert tmp_path / "spill" in opened
    del refs


def test_blocks_on_disk_are_given_back(leak_check: None, tmp_path: Path) -> None:
    """The files shrink when nothing is in them: an idle session holds no disk."""
    own = skate.init(
        num_cpus=1,
        object_store_memory=STORE,
        object_spilling_directory=str(tmp_path),
        _system_config={"store_idle_ms": 50},
    )
    daemon = psutil.Process(processes.roles(own["session_dir"]).daemon)

    def blocks() -> int:
        found = 0
        for fd in os.listdir(f"/proc/{daemon.pid}/fd"):
            if os.readlink(f"/proc/{daemon.pid}/fd/{fd}").startswith(str(tmp_path)):
                found += os.stat(f"/proc/{daemon.pid}/fd/{fd}").st_blocks
        return found

    refs = [skate.put(array(seed)) for seed in range(20)]
    assert blocks() > 0
    del refs
    wait_for(lambda: blocks() == 0, "the blocks of the files to be freed")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_the_creators_error_alone(tiny_disk: Path, leak_check: None) -> None:
    skate.init(num_cpus=2, object_store_memory=STORE, object_spilling_directory=str(tiny_disk))
    try:
        holder = Holder.remote()
        refs = [skate.put(array(seed)) for seed in range(12)]
        with pytest.raises(ObjectStoreFullError, match=rf"(?s){tiny_disk} has no room.*numpy.ndarray"):
            refs += [skate.put(array(12 + seed)) for seed in range(12)]
        with pytest.raises(ObjectStoreFullError):
            skate.get(make.remote(5, 30))
        # Nobody else noticed, and nothing was lost.
        assert skate.get(holder.pid.remote()) > 0
        for seed, ref in enumerate(refs):
            check(skate.get(ref), seed)
        del refs[4:], ref
        ref = wait_for(lambda: _try_put(9), "room again")
        check(skate.get(ref), 9)
        del ref, refs
    finally:
        skate.shutdown()


def _try_put(seed: int) -> ObjectRef[Any] | None:
    try:
        return skate.put(array(seed))
    except ObjectStoreFullError:
        return None


def test_a_folder_that_cannot_be_used(leak_check: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    skate.init(num_cpus=1, object_store_memory=STORE, object_spilling_directory=str(tmp_path / "file"))
    refs = []
    with pytest.raises(ObjectStoreFullError):
        for seed in range(20):
            refs.append(skate.put(array(seed)))
    assert len(refs) >= 8
    for seed, ref in enumerate(refs):
        check(skate.get(ref), seed)
    with pytest.raises(TypeError, match="object_spilling_directory"):
        skate.shutdown()
        skate.init(object_spilling_directory=5)
