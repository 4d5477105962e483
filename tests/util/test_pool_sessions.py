"""Pool and sessions: it starts one, and survives the end of one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import skate
from skate.exceptions import ActorDiedError
from skate.util.multiprocessing import Pool

from .gate import Gate
from .test_pool import pass_gate, square


@pytest.fixture(autouse=True)
def end() -> Iterator[None]:
    assert not skate.is_initialized()
    yield
    skate.shutdown()


def test_a_pool_starts_a_session() -> None:
    with Pool(3) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert skate.cluster_resources()["CPU"] == 3


def test_nobody_answers_at_the_address() -> None:
    with pytest.raises(ConnectionError):
        Pool(1, ray_address="10.0.0.1:1")


def test_a_session_that_ends_takes_the_results_along() -> None:
    skate.init(num_cpus=2)
    pool = Pool(2)
    gate = Gate.remote()
    results = [pool.apply_async(pass_gate, (gate, i)) for i in range(4)]
    skate.get(gate.until_arrived.remote(2))
    skate.shutdown()
    for result in results:
        with pytest.raises(ActorDiedError, match="shut down"):
            result.get(60)
    pool.close()
    pool.join()
    assert not skate.is_initialized()
