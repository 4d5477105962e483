"""Objects whose memory is gone: made again from their lineage, or an error that tells the story."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import skate
from cluster.losing import lose
from skate.exceptions import ObjectLostError, ObjectReconstructionFailedError

BIG = 50_000  # float64: 400 kB, in the store

pytestmark = pytest.mark.usefixtures("session")


@skate.remote
def make(path: str, value: float) -> np.ndarray:
    with open(path, "a") as file:
        file.write(f"{value:g}\n")
    return np.full(BIG, value)


@skate.remote
def plus_one(array: np.ndarray) -> np.ndarray:
    return array + 1


@skate.remote
def first(array: np.ndarray) -> float:
    return float(array[0])


@skate.remote
def first_of(refs: list[skate.ObjectRef]) -> list[float]:
    return [float(skate.get(ref)[0]) for ref in refs]


def runs(path: Path) -> list[str]:
    return path.read_text().split()


def test_get_makes_it_again(tmp_path: Path) -> None:
    ref = make.remote(str(tmp_path / "runs"), 3)
    assert skate.get(ref)[0] == 3
    lose(ref)
    assert skate.get(ref)[0] == 3
    assert runs(tmp_path / "runs") == ["3", "3"]
    assert skate.get(ref)[0] == 3
    assert runs(tmp_path / "runs") == ["3", "3"]


def test_a_view_survives_the_loss(tmp_path: Path) -> None:
    ref = make.remote(str(tmp_path / "runs"), 3)
    view = skate.get(ref)
    lose(ref)
    others = [make.remote(str(tmp_path / "runs"), n) for n in range(20)]
    skate.get(others)
    assert (view == 3).all()


def test_a_task_finds_its_argument_missing(tmp_path: Path) -> None:
    ref = make.remote(str(tmp_path / "runs"), 3)
    skate.wait([ref])
    lose(ref)
    assert skate.get([first.remote(ref) for _ in range(10)]) == [3.0] * 10
    assert runs(tmp_path / "runs") == ["3", "3"]


def test_a_borrower_finds_it_missing(tmp_path: Path) -> None:
    refs = [make.remote(str(tmp_path / "runs"), n) for n in range(3)]
    skate.wait(refs, num_returns=3)
    lose(*refs)
    assert skate.get(first_of.remote(refs)) == [0.0, 1.0, 2.0]


def test_an_actor_keeps_a_ref_that_is_lost(tmp_path: Path) -> None:
    @skate.remote
    class Keeper:
        def __init__(self) -> None:
            self.refs: list[skate.ObjectRef] = []

        def keep(self, refs: list[skate.ObjectRef]) -> float:
            self.refs = refs
            return float(skate.get(refs[0])[0])

        def look(self) -> float:
            return float(skate.get(self.refs[0])[0])

        async def nothing(self) -> None: ...

    keeper = Keeper.options(max_concurrency=1).remote()
    ref = make.remote(str(tmp_path / "runs"), 7)
    assert skate.get(keeper.keep.remote([ref])) == 7
    lose(ref)
    assert skate.get(keeper.look.remote()) == 7
    del keeper


@pytest.mark.parametrize("depth", [1, 30, 300])
def test_a_chain_whose_middle_was_freed(tmp_path: Path, depth: int) -> None:
    ref = make.remote(str(tmp_path / "runs"), 0)
    for _ in range(depth):
        ref = plus_one.remote(ref)
    assert skate.get(ref)[0] == depth
    lose(ref)
    assert skate.get(ref)[0] == depth
    assert runs(tmp_path / "runs") == ["0", "0"]


def test_a_chain_that_is_lost_altogether(tmp_path: Path) -> None:
    refs = [make.remote(str(tmp_path / "runs"), 0)]
    for _ in range(10):
        refs.append(plus_one.remote(refs[-1]))
    skate.wait(refs, num_returns=len(refs))
    lose(*refs)
    assert [skate.get(ref)[0] for ref in reversed(refs)] == list(range(10, -1, -1))


def test_a_diamond_makes_each_once(tmp_path: Path) -> None:
    @skate.remote
    def add(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return left + right

    top = make.remote(str(tmp_path / "runs"), 1)
    bottom = add.remote(plus_one.remote(top), plus_one.remote(top))
    assert skate.get(bottom)[0] == 4
    del top
    lose(bottom)
    assert skate.get(bottom)[0] == 4
    assert runs(tmp_path / "runs") == ["1", "1"]


def test_small_arguments_are_remembered_by_value(tmp_path: Path) -> None:
    @skate.remote
    def small() -> float:
        with open(tmp_path / "small", "a") as file:
            file.write("x")
        return 5.0

    @skate.remote
    def spread(value: float) -> np.ndarray:
        return np.full(BIG, value)

    ref = spread.remote(small.remote())
    assert skate.get(ref)[0] == 5
    lose(ref)
    assert skate.get(ref)[0] == 5
    assert (tmp_path / "small").read_text() == "x"


def test_one_of_several_returns_leaves_the_others_alone(tmp_path: Path) -> None:
    @skate.remote(num_returns=3)
    def three() -> tuple[np.ndarray, int, np.ndarray]:
        with open(tmp_path / "runs", "a") as file:
            file.write("x ")
        count = len((tmp_path / "runs").read_text().split())
        return np.full(BIG, count), count, np.full(BIG, -count)

    one, two, rest = three.remote()
    assert (skate.get(one)[0], skate.get(two), skate.get(rest)[0]) == (1, 1, -1)
    lose(one)
    assert (skate.get(one)[0], skate.get(two), skate.get(rest)[0]) == (2, 1, -1)
    del rest
    lose(one)
    assert (skate.get(one)[0], skate.get(two)) == (3, 1)


def test_items_of_a_generator(tmp_path: Path) -> None:
    @skate.remote
    def count(n: int) -> Iterator[np.ndarray]:
        with open(tmp_path / "runs", "a") as file:
            file.write("x")
        for i in range(n):
            yield np.full(BIG, i)

    refs = list(count.remote(6))
    skate.wait(refs, num_returns=6)
    lose(refs[2], refs[4])
    assert skate.get(refs[4])[0] == 4
    assert [skate.get(ref)[0] for ref in refs] == list(range(6))
    assert (tmp_path / "runs").read_text() == "xxx"


def test_an_item_that_is_lost_while_its_generator_runs(tmp_path: Path) -> None:
    @skate.remote
    def count() -> Iterator[np.ndarray]:
        yield np.full(BIG, 0)
        while not (tmp_path / "go").exists():
            pass
        yield np.full(BIG, 1)

    items = iter(count.remote())
    zero = next(items)
    skate.wait([zero])
    lose(zero)
    asked = first.remote(zero)
    (tmp_path / "go").touch()
    assert skate.get(asked) == 0
    assert skate.get(next(items))[0] == 1


def test_a_method_that_may_be_repeated(tmp_path: Path) -> None:
    @skate.remote(max_task_retries=2)
    class Maker:
        def make(self) -> np.ndarray:
            return np.full(BIG, 8)

        def make_once(self) -> np.ndarray:
            return np.full(BIG, 9)

    maker = Maker.remote()
    ref = maker.make.remote()
    once = maker.make_once.options(max_task_retries=0).remote()
    skate.wait([ref, once], num_returns=2)
    lose(ref, once)
    assert skate.get(ref)[0] == 8
    with pytest.raises(ObjectLostError, match=r"Maker\.make_once made it, which is not repeated"):
        skate.get(once)


def test_await_makes_it_again(tmp_path: Path) -> None:
    ref = make.remote(str(tmp_path / "runs"), 3)
    skate.wait([ref])
    lose(ref)

    async def look() -> float:
        return float((await ref)[0])

    assert asyncio.run(look()) == 3
    lose(ref)
    assert ref.future().result()[0] == 3


def test_put_is_not_made_again() -> None:
    ref = skate.put(np.zeros(BIG))
    lose(ref)
    with pytest.raises(ObjectLostError, match=r"test_lost_objects\.py:\d+ in .*made by put\(\)"):
        skate.get(ref)


def test_a_result_of_what_was_put_and_dropped() -> None:
    ref = plus_one.remote(skate.put(np.zeros(BIG)))
    skate.wait([ref])
    lose(ref)
    with pytest.raises(ObjectReconstructionFailedError, match=r"no task made: a value of put\(\)"):
        skate.get(ref)


def test_what_was_put_and_kept_serves_again() -> None:
    kept = skate.put(np.zeros(BIG))
    ref = plus_one.remote(kept)
    skate.wait([ref])
    lose(ref)
    assert skate.get(ref)[0] == 1


def test_max_retries_0_tells_the_story(tmp_path: Path) -> None:
    ref = make.options(max_retries=0).remote(str(tmp_path / "runs"), 3)
    skate.wait([ref])
    lose(ref)
    with pytest.raises(ObjectLostError) as caught:
        skate.get(ref)
    text = str(caught.value)
    assert ref.hex() in text
    assert "make made it, which is not repeated: it has no retries (max_retries)" in text
    assert "test_lost_objects.py" in text
    with pytest.raises(ObjectLostError):
        skate.get(first.remote(ref))
    assert runs(tmp_path / "runs") == ["3"]


def test_retries_are_spent(tmp_path: Path) -> None:
    ref = make.options(max_retries=2).remote(str(tmp_path / "runs"), 3)
    for _ in range(2):
        skate.wait([ref])
        lose(ref)
        assert skate.get(ref)[0] == 3
    lose(ref)
    with pytest.raises(ObjectReconstructionFailedError, match="as often as its retries allow"):
        skate.get(ref)
    assert runs(tmp_path / "runs") == ["3", "3", "3"]


def test_it_raises_the_second_time(tmp_path: Path) -> None:
    @skate.remote
    def once() -> np.ndarray:
        if (tmp_path / "ran").exists():
            raise RuntimeError("never again")
        (tmp_path / "ran").touch()
        return np.zeros(BIG)

    ref = once.remote()
    skate.wait([ref])
    lose(ref)
    with pytest.raises(RuntimeError, match="never again"):
        skate.get(ref)


def test_its_worker_dies_the_second_time(tmp_path: Path) -> None:
    @skate.remote(max_retries=2)
    def once() -> np.ndarray:
        import os

        if (tmp_path / "ran").exists():
            os._exit(3)
        (tmp_path / "ran").touch()
        return np.zeros(BIG)

    ref = once.remote()
    skate.wait([ref])
    lose(ref)
    with pytest.raises(ObjectReconstructionFailedError, match="making it again failed.*exited with code 3"):
        skate.get(ref)


def test_refs_inside_of_what_is_lost(tmp_path: Path) -> None:
    @skate.remote
    def pack(path: str) -> tuple[np.ndarray, skate.ObjectRef]:
        return np.zeros(BIG), make.remote(path, 4)

    outer = pack.remote(str(tmp_path / "runs"))
    assert skate.get(skate.get(outer)[1])[0] == 4
    lose(outer)
    assert skate.get(skate.get(outer)[1])[0] == 4


def test_refs_inside_of_arguments_are_remembered(tmp_path: Path) -> None:
    @skate.remote
    def gather(refs: list[skate.ObjectRef]) -> np.ndarray:
        return np.concatenate(skate.get(refs))

    parts = [make.remote(str(tmp_path / "runs"), n) for n in range(2)]
    whole = gather.remote(parts)
    assert skate.get(whole)[[0, -1]].tolist() == [0, 1]
    del parts
    lose(whole)
    assert skate.get(whole)[[0, -1]].tolist() == [0, 1]
    assert sorted(runs(tmp_path / "runs")) == ["0", "0", "1", "1"]


def test_nothing_is_remembered_of_what_is_gone(tmp_path: Path) -> None:
    from skate._worker.process import current

    lineage = current.require_core("look").lineage
    ref = make.remote(str(tmp_path / "runs"), 0)
    for _ in range(5):
        ref = plus_one.remote(ref)
    skate.get(ref)
    assert len(lineage) == 6
    assert lineage.bytes > 0
    del ref
    skate.get(first.remote(np.zeros(1)))
    assert (len(lineage), lineage.bytes) == (0, 0)


def test_a_function_is_not_kept_alive(tmp_path: Path) -> None:
    # TaskRecord and its returns refer to each other; a loss must not need the garbage collector.
    ref = make.remote(str(tmp_path / "runs"), 0)
    skate.wait([ref])
    task = ref._entry.maker
    count = sys.getrefcount(task)
    del ref
    skate.get(first.remote(np.zeros(1)))
    assert sys.getrefcount(task) < count
    assert task.lineage is None
