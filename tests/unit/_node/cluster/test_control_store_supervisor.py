"""How often a control store is started anew."""

from __future__ import annotations

from skate._node.cluster.control_store_supervisor import LIMIT, WINDOW, Restarts


def test_so_often_at_once_and_then_no_more() -> None:
    restarts = Restarts()
    assert [restarts.again(100.0) for _ in range(LIMIT + 1)] == [True] * LIMIT + [False]


def test_what_is_long_ago_does_not_count() -> None:
    restarts = Restarts()
    for number in range(10 * LIMIT):
        assert restarts.again(number * WINDOW / LIMIT)


def test_a_refusal_is_no_restart() -> None:
    restarts = Restarts(limit=1, window=10.0)
    assert restarts.again(0.0)
    assert not restarts.again(9.0)
    assert restarts.again(10.0)
