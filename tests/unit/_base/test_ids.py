"""What is read off an id, and how the public classes behave."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._base import ids

CLASSES = [
    ids.UniqueID,
    ids.WorkerID,
    ids.NodeID,
    ids.JobID,
    ids.ActorID,
    ids.TaskID,
    ids.PlacementGroupID,
    ids.FunctionID,
    ids.ActorClassID,
    ids.ClusterID,
]
every_class = pytest.mark.parametrize("kind", CLASSES)
worker_ids = st.binary(min_size=ids.WORKER_ID_SIZE, max_size=ids.WORKER_ID_SIZE)
counters = st.integers(0, 2**48 - 1)
indices = st.integers(0, ids.MAX_RETURNS)


@given(worker_ids, counters, indices)
def test_an_object_id_names_its_owner_and_its_task(worker_id: bytes, counter: int, index: int) -> None:
    object_id = ids.object_id(worker_id, counter, index)
    assert len(object_id) == ids.OBJECT_ID_SIZE
    assert ids.owner_of(object_id) == worker_id
    assert object_id[: ids.TASK_ID_SIZE] == ids.task_id(worker_id, counter)


@given(worker_ids, st.sets(st.tuples(counters, indices)))
def test_different_objects_have_different_ids(worker_id: bytes, objects: set[tuple[int, int]]) -> None:
    assert len({ids.object_id(worker_id, *one) for one in objects}) == len(objects)


def test_new_worker_ids_differ() -> None:
    assert len({ids.new_worker_id() for _ in range(100)}) == 100
    assert len(ids.new_worker_id()) == ids.WORKER_ID_SIZE


@every_class
def test_there_and_back(kind: type[ids.BaseID]) -> None:
    one = kind.from_random()
    assert one.size() == kind.size() == len(one.binary())
    assert kind.from_hex(one.hex()) == one == kind.from_binary(one.binary())
    assert hash(kind(one.binary())) == hash(one)
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == f"{kind.__name__}({one.hex()})"


@every_class
def test_nil(kind: type[ids.BaseID]) -> None:
    assert kind.nil().is_nil()
    assert not kind.from_random().is_nil()


@every_class
@pytest.mark.parametrize("wrong", [b"", b"x" * 3, b"x" * 99])
def test_wrong_lengths_are_refused(kind: type[ids.BaseID], wrong: bytes) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} takes {kind.size()} bytes, got {len(wrong)}"):
        kind(wrong)


@every_class
def test_text_is_refused(kind: type[ids.BaseID]) -> None:
    with pytest.raises(TypeError, match="takes bytes, got str"):
        kind("x" * kind.size())  # type: ignore[arg-type]


def test_ids_of_different_classes_are_never_equal() -> None:
    same = b"x" * 16
    assert ids.NodeID(same) != ids.ActorID(same)
    assert ids.NodeID(same) != same


def test_job_ids_are_numbers() -> None:
    assert ids.JobID.from_int(7).int() == 7
    assert ids.JobID.from_int(7).hex() == "00000007"


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_ids_are_ordered_as_their_bytes(one: bytes, other: bytes) -> None:
    a, b = ids.ActorID(one), ids.ActorID(other)
    assert (a < b, a <= b, a > b, a >= b) == (one < other, one <= other, one > other, one >= other)


def test_ids_of_different_kinds_are_not_ordered() -> None:
    with pytest.raises(TypeError):
        ids.ActorID.nil() < ids.NodeID.nil()  # type: ignore[operator]  # noqa: B015


def test_an_actor_names_its_job() -> None:
    job = ids.JobID.from_int(7)
    parent = ids.TaskID.for_driver_task(job)
    one, other = ids.ActorID.of(job, parent, 1), ids.ActorID.of(job, parent, 2)
    assert one == ids.ActorID.of(job, parent, 1) and one != other
    assert one.job_id() == job
    assert ids.ActorID(ids.new_actor_id(job.binary())).job_id() == job
    assert ids.PlacementGroupID.of(job) != ids.PlacementGroupID.of(job)
    assert ids.TaskID.for_actor_creation_task(one) != ids.TaskID.for_actor_creation_task(other)
    assert ids.TaskID.for_driver_task(job) != ids.TaskID.for_driver_task(ids.JobID.from_int(8))
