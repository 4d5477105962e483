"""Warm pools: seen, freed and kept by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import skate
import skate.data
from skate.data._exec.warm import WarmReplicas
from skate.data.context import DataContext


class Pid:
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid()}


@pytest.fixture(autouse=True)
def fresh(session: None) -> Iterator[None]:
    skate.data.free_pools()
    yield
    skate.data.free_pools()


@pytest.fixture
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataContext.get_current(), "pool_linger_s", 0.0)


def pids(n: int = 1) -> set[int]:
    ds = skate.data.range(4).map(Pid, compute=skate.data.ActorPoolStrategy(size=n))
    return {row["pid"] for row in ds.take_all()}


def test_pools_are_seen_and_freed() -> None:
    assert skate.data.pools() == {}
    first = pids()
    assert skate.data.pools() == {"Map(Pid)": 1}
    assert pids() == first
    with pytest.raises(ValueError, match=r"free_pools\('Map\(Other\)'\).*Map\(Pid\)"):
        skate.data.free_pools("Map(Other)")
    assert skate.data.free_pools("Map(Pid)") == 1
    assert skate.data.pools() == {}
    assert pids() != first
    assert skate.data.free_pools() == 1


def test_pools_are_kept_to_the_end_of_a_block(no_linger: None, wait_until: Any) -> None:
    pids()
    assert skate.data.pools() == {}
    with skate.data.keep_warm():
        first = pids()
        with skate.data.keep_warm():
            assert pids() == first
        assert pids() == first
        assert skate.data.pools() == {"Map(Pid)": 1}
    wait_until(lambda: not skate.data.pools())


def test_replicas_that_are_held_have_no_timer() -> None:
    warm = WarmReplicas()
    warm.keep(("a", "s"), "first", 1000.0)
    warm.hold()
    warm.keep(("a", "s"), "second", 1000.0)
    warm.keep(("b", "t"), "third", 1000.0)
    assert [one.timer for one in warm._all()] == [None] * 3
    assert (warm.counts(), warm.counts("t")) == ({"a": 2, "b": 1}, {"b": 1})
    warm.release()
    assert not warm.is_holding
    assert all(one.timer is not None and one.timer.is_alive() for one in warm._all())
    assert warm.take(("a", "s")) == "second"
    assert warm.take(("c", "s")) is None
    assert (warm.clear("b"), warm.clear(), warm.counts()) == (1, 1, {})


def test_pools_without_a_session() -> None:
    skate.shutdown()
    assert skate.data.pools() == {}
    skate.init(num_cpus=2, object_store_memory=512 << 20)
    assert skate.data.pools() == {}
