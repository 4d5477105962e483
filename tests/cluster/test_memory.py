"""Memory that runs short, in a session that has a limit of its own: who ends, and what is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate._base.memory import of_process
from skate.exceptions import ActorDiedError, OutOfMemoryError

from .waiting import attempt, wait_for, wait_for_file

#: What the session may take beside this process, which the other tests of its run have made large.
LIMIT = 400_000_000


@pytest.fixture
def limited(leak_check: None) -> Iterator[None]:
    limit = of_process(os.getpid()) + LIMIT
    skate.init(num_cpus=3, _system_config={"memory_limit_bytes": limit, "memory_monitor_refresh_ms": 50})
    yield
    skate.shutdown()


def hoard(path: Path) -> None:
    """Take ever more memory, until somebody ends it or says that it is enough."""
    held = []
    while sum(map(len, held)) < 3 * LIMIT:
        held.append(bytearray(20_000_000))
        if path.exists():
            return
        wait_for(lambda: True, "a moment")
    wait_for_file(path)


@skate.remote
def hog(path: Path) -> int:
    number = attempt(path.with_suffix(".attempts"))
    hoard(path)
    return number


def test_a_task_without_retries(limited: None, tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError) as info:
        skate.get(hog.options(max_retries=0).remote(tmp_path / "enough"))
    text = str(info.value)
    for part in ("task hog", "memory ran short", "limit is ", "a task (process", "the driver (process",
                 "objects in shared memory", "no retries left"):  # fmt: skip
        assert part in text
    assert (tmp_path / "enough.attempts").stat().st_size == 1


def test_a_task_with_retries_comes_through_when_there_is_room(limited: None, tmp_path: Path) -> None:
    ref = hog.options(max_retries=5).remote(tmp_path / "enough")
    wait_for(lambda: (tmp_path / "enough.attempts").exists() and
             (tmp_path / "enough.attempts").stat().st_size >= 2, "a second attempt")  # fmt: skip
    (tmp_path / "enough").touch()
    assert skate.get(ref) >= 2


def test_the_others_go_on(limited: None, tmp_path: Path) -> None:
    @skate.remote(max_retries=0)
    def small() -> int:
        wait_for_file(tmp_path / "later")
        return os.getpid()

    others = [small.remote() for _ in range(2)]
    with pytest.raises(OutOfMemoryError):
        skate.get(hog.options(max_retries=0).remote(tmp_path / "enough"))
    (tmp_path / "later").touch()
    assert len(set(skate.get(others))) == 2


def test_what_can_be_repeated_goes_first(limited: None, tmp_path: Path) -> None:
    @skate.remote(max_retries=0)
    def precious() -> str:
        held = bytearray(LIMIT // 4)
        (tmp_path / "began").touch()
        wait_for_file(tmp_path / "later")
        return f"kept {len(held)}"

    kept = precious.remote()
    wait_for_file(tmp_path / "began")
    ref = hog.options(max_retries=1).remote(tmp_path / "enough")
    with pytest.raises(OutOfMemoryError):
        skate.get(ref)
    assert (tmp_path / "enough.attempts").stat().st_size == 2
    (tmp_path / "later").touch()
    assert skate.get(kept) == f"kept {LIMIT // 4}"


def test_an_actor(limited: None, tmp_path: Path) -> None:
    @skate.remote
    class Hog:
        def hoard(self) -> None:
            hoard(tmp_path / "enough")

    with pytest.raises(ActorDiedError, match="memory ran short.*actor Hog"):
        skate.get(Hog.remote().hoard.remote())


def test_children_of_workers_count(limited: None, tmp_path: Path) -> None:
    @skate.remote(max_retries=0)
    def starts_a_hog() -> None:
        pid = os.fork()
        if not pid:
            try:
                hoard(tmp_path / "enough")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)

    with pytest.raises(OutOfMemoryError):
        skate.get(starts_a_hog.remote())


def test_objects_count(limited: None, tmp_path: Path) -> None:
    """Shared memory and processes have one budget: neither alone is above it."""
    kept: Any = skate.put(b"x" * (LIMIT * 6 // 10))

    @skate.remote(max_retries=0)
    def half() -> None:
        held = bytearray(LIMIT * 6 // 10)
        wait_for_file(tmp_path / "never")
        del held

    with pytest.raises(OutOfMemoryError, match="objects in shared memory: 240 MB"):
        skate.get(half.remote())
    assert len(skate.get(kept)) == LIMIT * 6 // 10
