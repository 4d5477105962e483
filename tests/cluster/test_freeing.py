"""Values given up while refs to them are left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import skate
from skate._ray._private.internal_api import free
from skate._ray.util import client_connect
from skate.api import RayContext as Session
from skate.exceptions import ObjectFreedError

from .stored import stored
from .waiting import wait_for, wait_for_file

LARGE = 2_000_000


def _used() -> int:
    return stored().used


@pytest.mark.parametrize("value", [None, 5, "text", b"x" * LARGE, [1, 2]])
def test_who_asks_is_told(session: Session, value: Any) -> None:
    ref = skate.put(value)
    free(ref)
    with pytest.raises(ObjectFreedError, match=ref.hex()):
        skate.get(ref)
    free([ref])


def test_memory_is_given_back(session: Session) -> None:
    refs = [skate.put(bytes(LARGE)) for _ in range(4)]
    assert _used() >= 4 * LARGE
    free(refs)
    wait_for(lambda: _used() < LARGE, "the store is empty")
    with pytest.raises(ObjectFreedError):
        skate.get(refs[0])


def test_results_of_tasks_and_the_refs_inside(session: Session) -> None:
    @skate.remote
    def make() -> bytes:
        return bytes(LARGE)

    inner = skate.put("inner")
    outer = skate.put([inner])
    made = make.remote()
    skate.wait([made])
    free([outer, made])
    assert skate.get(inner) == "inner", "only the ref inside was given up, not its value"
    for ref in (outer, made):
        with pytest.raises(ObjectFreedError):
            skate.get(ref)


def test_what_somebody_looks_at_stays(session: Session) -> None:
    numpy = pytest.importorskip("numpy")
    ref = skate.put(numpy.ones(LARGE))
    view = skate.get(ref)
    free([ref])
    assert view.sum() == LARGE
    assert skate.get(ref).sum() == LARGE, "a view of it is here"


def test_a_task_that_is_given_one(session: Session) -> None:
    @skate.remote
    def size(data: bytes) -> int:
        return len(data)

    ref = skate.put(bytes(LARGE))
    assert skate.get(size.remote(ref)) == LARGE
    free([ref])
    with pytest.raises(ObjectFreedError):
        skate.get(size.remote(ref))


def test_what_is_not_there_yet_or_of_others_stays(session: Session, tmp_path: Path) -> None:
    @skate.remote
    def give(box: list[Any]) -> int:
        free(box)
        return int(skate.get(box[0]))

    ref = skate.put(7)
    assert skate.get(give.remote([ref])) == 7

    @skate.remote
    def later() -> int:
        wait_for_file(tmp_path / "go")
        return 8

    pending = later.remote()
    free([pending])
    (tmp_path / "go").touch()
    assert skate.get(pending) == 8


def test_other_things_are_refused(session: Session) -> None:
    with pytest.raises(TypeError, match="takes ObjectRefs"):
        free([5])  # type: ignore[list-item]


def test_a_client_joins_what_runs_here(session: Session) -> None:
    with pytest.raises(RuntimeError, match="connected already"):
        client_connect.connect("localhost:10001")


def test_a_client_of_another_machine_is_refused() -> None:
    with pytest.raises(ConnectionError, match="no clients on other machines"):
        client_connect.connect("ray://head.example:10001")
