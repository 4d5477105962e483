"""References that travel: what is referred to anywhere stays, what is referred to nowhere goes.

The leak check after each test finds the store and the driver's table empty: that is half of each test.
"""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import skate
from skate import ObjectRef
from skate.api import RayContext as Session
from skate.exceptions import ActorDiedError, OwnerDiedError, WorkerCrashedError

from . import processes
from .arithmetic import pack, unpack
from .stored import stored, worker_pids
from .waiting import AGES, attempt, wait_for, wait_for_file, wait_until_none

LARGE = 300_000
#: What is made of these two lies in shared memory and in the owner itself.
SIZES = pytest.mark.parametrize("size", [LARGE, 10], ids=["large", "small"])


def objects() -> int:
    gc.collect()
    return stored().objects


def wait_until_free() -> None:
    wait_for(lambda: objects() == 0, "the object to be freed")


@skate.remote
def total(value: bytes) -> int:
    return len(value)


@skate.remote
def total_inside(refs: list[ObjectRef[Any]]) -> int:
    return sum(len(array) for array in skate.get(refs))


@skate.remote
def pass_on(value: Any) -> Any:
    return value


@skate.remote
def make_there(size: int) -> list[ObjectRef[Any]]:
    """The worker owns what it puts."""
    return [skate.put(bytes(size))]


@skate.remote
class Keeper:
    """Keeps refs in its state, makes some, hands them on."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def keep(self, value: Any) -> None:
        self.value = value

    def give(self) -> Any:
        return self.value

    def drop(self) -> None:
        self.value = None

    def read(self) -> int:
        return len(skate.get(self.value[0]))

    def make(self, size: int) -> list[ObjectRef[Any]]:
        return [skate.put(bytes(size))]

    def make_and_keep(self, size: int) -> list[ObjectRef[Any]]:
        self.value = self.make(size)
        return self.value  # type: ignore[no-any-return]

    def hand_to(self, other: Any) -> None:
        skate.get(other.keep.remote(self.value))

    def pid(self) -> int:
        return os.getpid()

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


# ---------------------------------------------------------------------- the owner is the driver


def test_an_object_goes_with_its_last_ref(session: Session) -> None:
    ref = skate.put(bytes(LARGE))
    same = skate.get(skate.put([ref]))[0]
    del ref
    assert objects() == 1
    assert skate.get(total.remote(same)) == LARGE
    del same
    wait_until_free()


@SIZES
def test_refs_in_arguments(session: Session, size: int, tmp_path: Path) -> None:
    @skate.remote
    def late(path: Path, nested: dict[str, Any], direct: Any) -> int:
        wait_for_file(path)
        return len(skate.get(nested["refs"][0][0])) + len(direct)

    ref = skate.put(bytes(size))
    result = late.remote(tmp_path / "go", {"refs": ([ref],)}, direct=ref)
    del ref
    gc.collect()
    (tmp_path / "go").touch()
    assert skate.get(result) == 2 * size
    wait_until_free()


@SIZES
def test_refs_in_the_state_of_an_actor(session: Session, size: int) -> None:
    keeper = Keeper.remote()
    ref = skate.put(bytes(size))
    skate.get(keeper.keep.remote([ref]))
    del ref
    assert objects() == (1 if size == LARGE else 0)
    assert skate.get(keeper.read.remote()) == size
    skate.get(keeper.drop.remote())
    wait_until_free()


@SIZES
def test_refs_in_the_arguments_of_a_constructor(session: Session, size: int) -> None:
    keeper = Keeper.remote([skate.put(bytes(size))])
    gc.collect()
    assert skate.get(keeper.read.remote()) == size
    del keeper
    wait_until_free()


def test_an_actor_that_is_killed_borrows_nothing(session: Session) -> None:
    keeper = Keeper.remote()
    ref = skate.put(bytes(LARGE))
    skate.get(keeper.keep.remote([ref]))
    view = skate.get(keeper.give.remote())
    del ref, view
    assert objects() == 1
    skate.kill(keeper)
    wait_until_free()


def test_a_borrower_that_crashes_borrows_nothing(session: Session) -> None:
    keeper = Keeper.remote()
    skate.get(keeper.keep.remote([skate.put(bytes(LARGE))]))
    assert objects() == 1
    with pytest.raises(ActorDiedError):
        skate.get(keeper.crash.remote())
    wait_until_free()


@SIZES
def test_a_borrower_hands_the_ref_to_another(session: Session, size: int) -> None:
    first, second, third = Keeper.remote(), Keeper.remote(), Keeper.remote()
    skate.get(first.keep.remote([skate.put(bytes(size))]))
    skate.get(first.hand_to.remote(second))
    skate.get(first.drop.remote())
    skate.get(second.hand_to.remote(third))
    skate.kill(second)
    gc.collect()
    assert skate.get(third.read.remote()) == size
    assert skate.get(total_inside.remote(skate.get(third.give.remote()))) == size
    skate.get(third.drop.remote())
    wait_until_free()


@SIZES
def test_refs_inside_objects_inside_objects(session: Session, size: int) -> None:
    ref = skate.put(bytes(size))
    for _ in range(5):
        ref = skate.put({"inner": [ref], "filler": bytes(LARGE)})
    keeper = Keeper.remote()
    skate.get(keeper.keep.remote([ref]))
    del ref
    assert objects() == (6 if size == LARGE else 5)
    outer = skate.get(keeper.give.remote())[0]
    skate.get(keeper.drop.remote())
    for _ in range(5):
        outer = skate.get(outer)["inner"][0]
    wait_for(lambda: objects() == (1 if size == LARGE else 0), "the outer objects to be freed")
    assert skate.get(total.remote(outer)) == size
    del outer
    wait_until_free()


@SIZES
def test_a_ref_that_comes_back(session: Session, size: int) -> None:
    ref = skate.put(bytes(size))
    for _ in range(3):
        (back,) = skate.get(pass_on.remote([ref]))
        assert back == ref
        ref = back
        del back
    assert skate.get(total.remote(ref)) == size


def test_the_same_ref_many_times(session: Session) -> None:
    keeper, ref = Keeper.remote(), skate.put(bytes(LARGE))
    for _ in range(100):
        keeper.keep.remote([ref, ref, [ref]])
    assert skate.get(keeper.read.remote()) == LARGE
    assert skate.get([total_inside.remote([ref] * 10) for _ in range(5)]) == [10 * LARGE] * 5
    del ref
    assert objects() == 1
    skate.get(keeper.drop.remote())
    wait_until_free()


def test_keep_and_drop_again_and_again(session: Session) -> None:
    """A borrower leaves and comes back: the messages of one visit must not end the next."""
    keeper, ref = Keeper.remote(), skate.put(bytes(LARGE))
    for _ in range(100):
        keeper.keep.remote([ref])
        keeper.drop.remote()
    skate.get(keeper.keep.remote([ref]))
    del ref
    assert objects() == 1
    assert skate.get(keeper.read.remote()) == LARGE
    skate.get(keeper.drop.remote())
    wait_until_free()


@SIZES
def test_keep_and_drop_what_a_third_process_owns(session: Session, size: int) -> None:
    """A reply that waits for the owner to know of the borrower, which lets go of the ref meanwhile."""
    owner, keeper = Keeper.remote(), Keeper.remote()
    (ref,) = skate.get(owner.make.remote(size))
    calls = []
    for _ in range(100):
        calls += [keeper.keep.remote([ref]), keeper.drop.remote()]
    skate.get(calls)
    skate.get(keeper.keep.remote([ref]))
    del ref
    assert skate.get(keeper.read.remote()) == size
    skate.get(keeper.drop.remote())
    wait_until_free()


def test_a_thousand_refs_in_one_argument(session: Session) -> None:
    refs = [skate.put(bytes([i % 200]) * 10) for i in range(1000)]

    @skate.remote
    def choose(refs: list[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
        return refs[::10]

    chosen = skate.get(choose.remote(refs))
    expected = [skate.get(ref)[0] for ref in refs[::10]]
    del refs
    assert [value[0] for value in skate.get(chosen)] == expected


def test_refs_of_a_failed_task(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def fail(refs: list[ObjectRef[Any]]) -> None:
        skate.get(refs)
        raise ValueError("failed")

    @skate.remote(max_retries=1)
    def crash(refs: list[ObjectRef[Any]], path: Path, times: int) -> int:
        value = skate.get(refs[0])
        if attempt(path) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(value)

    ref = skate.put(bytes(LARGE))
    with pytest.raises(ValueError, match="failed"):
        skate.get(fail.remote([ref]))
    assert skate.get(crash.remote([ref], tmp_path / "once", 1)) == LARGE
    with pytest.raises(WorkerCrashedError):
        skate.get(crash.remote([ref], tmp_path / "twice", 2))
    assert skate.get(total.remote(ref)) == LARGE
    del ref
    wait_until_free()


def test_wait_on_borrowed_refs(session: Session, tmp_path: Path) -> None:
    @skate.remote(num_cpus=0)
    def late(path: Path) -> int:
        wait_for_file(path)
        return 1

    @skate.remote
    def wait_for_both(refs: list[ObjectRef[int]], path: Path) -> list[int]:
        ready, rest = skate.wait(refs, timeout=AGES)
        path.touch()
        done, _ = skate.wait(refs, num_returns=2)
        return [len(ready), len(rest), len(done), sum(skate.get(refs))]

    refs = [late.remote(tmp_path / "go"), pass_on.remote(2)]
    skate.get(refs[1])
    assert skate.get(wait_for_both.remote(refs, tmp_path / "go")) == [1, 1, 2, 3]


def test_refs_captured_by_functions_and_classes(session: Session) -> None:
    ref = skate.put(bytes(LARGE))

    @skate.remote
    def captured() -> int:
        return len(skate.get(ref))

    @skate.remote
    class Captured:
        held = [ref]

        def read(self, extra: ObjectRef[Any] = ref) -> int:
            return len(skate.get(self.held[0])) + len(skate.get(extra))

    assert skate.get(captured.remote()) == LARGE
    assert skate.get(Captured.remote().read.remote()) == 2 * LARGE
    assert skate.get(pass_on.remote(lambda: ref))() == ref
    # The functions go, and what they captured with them: see the leak check.


# ---------------------------------------------------------------------- the owner is a worker


@SIZES
def test_refs_in_results(session: Session, size: int) -> None:
    (ref,) = skate.get(make_there.remote(size))
    assert skate.get(total.remote(ref)) == size
    assert len(skate.get(ref)) == size
    del ref
    wait_until_free()


@SIZES
def test_refs_in_results_of_results(session: Session, size: int) -> None:
    @skate.remote
    def nest(depth: int) -> list[ObjectRef[Any]]:
        return [nest.remote(depth - 1)] if depth else [skate.put(bytes(size))]

    ref = nest.remote(5)
    for _ in range(6):
        (ref,) = skate.get(ref)
    assert len(skate.get(ref)) == size
    del ref
    wait_until_free()


@SIZES
def test_a_result_that_nobody_reads(session: Session, size: int) -> None:
    refs = [make_there.remote(size) for _ in range(5)]
    skate.wait(refs, num_returns=5)
    del refs
    wait_until_free()
    for _ in range(5):
        make_there.remote(size)
    skate.get(total.remote(bytes(10)))


@SIZES
def test_a_worker_lives_as_long_as_what_it_owns(size: int) -> None:
    skate.init(num_cpus=1, _system_config={"idle_worker_ms": 20})

    @skate.remote(num_cpus=0)
    def make_and_meet(folder: str, name: int, size: int) -> tuple[int, list[ObjectRef[Any]] | None]:
        from .waiting import meet

        meet(folder, name, 6)
        return os.getpid(), [skate.put(bytes(size))] if name < 3 else None

    folder = os.path.join(skate.init(ignore_reinit_error=True)["session_dir"], "meeting")
    made = skate.get([make_and_meet.remote(folder, i, size) for i in range(6)])
    owners = {pid for pid, refs in made if refs}
    assert len(owners) == 3
    wait_for(lambda: len(worker_pids()) <= 4, "idle workers to be retired")
    assert owners <= {*worker_pids()}
    assert [len(skate.get(refs[0])) for _, refs in made if refs] == [size] * 3
    del made
    wait_until_free()
    wait_for(lambda: len(worker_pids()) <= 1, "the owners to be retired")


@SIZES
def test_an_actor_that_ends_takes_no_object_of_a_task_with_it(size: int) -> None:
    skate.init(num_cpus=1)
    (ref,) = skate.get(make_there.remote(size))
    keeper = Keeper.remote()
    pid = skate.get(keeper.pid.remote())
    del keeper
    wait_until_none(lambda: processes.alive(pid), "the process of the actor")
    assert len(skate.get(ref)) == size


@SIZES
def test_a_third_process_borrows_from_a_worker(session: Session, size: int) -> None:
    owner, keeper = Keeper.remote(), Keeper.remote()
    refs = skate.get(owner.make.remote(size))
    skate.get(keeper.keep.remote(refs))
    del refs
    gc.collect()
    assert skate.get(keeper.read.remote()) == size
    assert skate.get(total_inside.remote(skate.get(keeper.give.remote()))) == size
    skate.get(keeper.drop.remote())
    wait_until_free()


def test_a_ref_goes_home_to_its_owner(session: Session) -> None:
    owner, keeper = Keeper.remote(), Keeper.remote()
    skate.get(keeper.keep.remote(owner.make.remote(LARGE)))
    skate.get(keeper.hand_to.remote(owner))
    skate.get(keeper.drop.remote())
    assert objects() == 1
    assert skate.get(owner.read.remote()) == LARGE
    skate.get(owner.drop.remote())
    wait_until_free()


def test_a_ref_of_a_running_task_goes_around(session: Session, tmp_path: Path) -> None:
    @skate.remote(num_cpus=0)
    def late(path: Path, size: int) -> Any:
        wait_for_file(path)
        return bytes(size)

    @skate.remote
    def start(path: Path, size: int) -> list[ObjectRef[Any]]:
        return [late.remote(path, size)]

    keeper = Keeper.remote()
    refs = skate.get(start.remote(tmp_path / "go", LARGE))
    skate.get(keeper.keep.remote(refs))
    reading, totals = keeper.read.remote(), total_inside.remote(refs)
    assert skate.wait([reading, totals], timeout=0.05)[0] == []
    del refs
    (tmp_path / "go").touch()
    assert skate.get([reading, totals]) == [LARGE, LARGE]
    skate.get(keeper.drop.remote())
    wait_until_free()


# ---------------------------------------------------------------------- the owner dies


@SIZES
@pytest.mark.parametrize("how", ["kill", "crash"])
def test_the_owners_death_is_an_error_in_every_borrower(session: Session, size: int, how: str) -> None:
    owner, keeper = Keeper.remote(), Keeper.remote()
    refs = skate.get(owner.make_and_keep.remote(size))
    skate.get(keeper.keep.remote(refs))
    if how == "kill":
        skate.kill(owner)
    else:
        with pytest.raises(ActorDiedError):
            skate.get(owner.crash.remote())
    wait_until_free()
    with pytest.raises(OwnerDiedError, match=refs[0].hex()):
        skate.get(refs[0])
    with pytest.raises(OwnerDiedError):
        skate.get(keeper.read.remote())
    with pytest.raises(OwnerDiedError):
        skate.get(total.remote(refs[0]))
    with pytest.raises(OwnerDiedError):
        skate.get(total_inside.remote(refs))
    # Whoever has the ref may still pass it on and drop it.
    assert skate.get(keeper.give.remote()) == refs
    skate.get(keeper.drop.remote())


def test_the_owners_death_ends_a_wait(session: Session, tmp_path: Path) -> None:
    @skate.remote(num_cpus=0)
    def never(path: Path) -> None:
        wait_for_file(path)

    @skate.remote
    class Owner:
        def start(self, path: Path) -> list[ObjectRef[None]]:
            return [never.remote(path)]

    owner, keeper = Owner.remote(), Keeper.remote()
    refs = skate.get(owner.start.remote(tmp_path / "never"))
    skate.get(keeper.keep.remote(refs))
    reading = keeper.read.remote()
    future = refs[0].future()
    skate.kill(owner)
    with pytest.raises(OwnerDiedError):
        skate.get(refs[0])
    with pytest.raises(OwnerDiedError):
        skate.get(reading)
    assert isinstance(future.exception(), OwnerDiedError)
    assert skate.wait(refs) == (refs, [])


def test_an_object_inside_a_value_whose_owner_died(session: Session) -> None:
    owner = Keeper.remote()
    outer = skate.put(skate.get(owner.make.remote(LARGE)))
    skate.kill(owner)
    wait_until_free()
    (inner,) = skate.get(outer)
    with pytest.raises(OwnerDiedError):
        skate.get(inner)


def test_a_dead_owners_object_that_was_read_before(session: Session) -> None:
    owner = Keeper.remote()
    (ref,) = skate.get(owner.__ray_call__.remote(lambda self: [skate.put(pack(7, True))]))
    view = skate.get(ref)
    skate.kill(owner)
    assert unpack(view) == 7
    try:
        assert unpack(skate.get(ref)) == 7
    except OwnerDiedError:
        pass
    del view, ref
    wait_until_free()


# ---------------------------------------------------------------------- behind the runtime's back


def test_refs_that_the_user_pickles_are_kept_to_the_end(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        """
        import gc, pickle
        import skate

        skate.init(num_cpus=1)

        @skate.remote
        class Keeper:
            def keep(self, data):
                self.data = data
            def read(self):
                return len(skate.get(pickle.loads(self.data)[0]))

        keeper = Keeper.remote()
        for size in (10, 300_000):
            data = pickle.dumps([skate.put(bytes(size))])
            skate.get(keeper.keep.remote(data))
            gc.collect()
            skate.get([skate.put(bytes(300_000)) for _ in range(20)])
            assert skate.get(keeper.read.remote()) == size
            assert len(skate.get(pickle.loads(data)[0])) == size
        print("fine")
        """,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_refs_inside_errors(session: Session) -> None:
    class Carrying(Exception):
        pass

    @skate.remote
    def fail(size: int) -> None:
        raise Carrying([skate.put(bytes(size))])

    with pytest.raises(Carrying) as caught:
        skate.get(fail.remote(LARGE))
    (ref,) = caught.value.args[0]
    assert len(skate.get(ref)) == LARGE
