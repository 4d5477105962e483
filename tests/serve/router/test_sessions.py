"""Sessions: the same replica everywhere, few moves, patience that ends, the order of all others as before."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._router.router import Refuse, Report, Router, Send
from skate.serve._router.sessions import home_of

NAMES = [f"r{number}" for number in range(5)]


def sends(commands: list[object]) -> list[tuple[object, str]]:
    return [(one.key, one.replica) for one in commands if isinstance(one, Send)]


def grant(router: Router, name: str, count: int = 1) -> list[tuple[object, str]]:
    """Have a replica lend credits; return what is sent."""
    number = router._replicas[name].number
    return sends([*router.answered(name, number, count, 0)])


def made(*names: str, max_queued: int = -1) -> Router:
    router = Router(max_queued)
    router.table_changed(dict.fromkeys(names, 4))
    return router


def session_of(router: Router, home: str) -> str:
    return next(name for name in map(str, range(1000)) if router.home_of(name) == home)


def test_sessions_spread_and_only_those_of_a_replica_that_goes_move() -> None:
    sessions = [f"session {number}" for number in range(2000)]
    before = {one: home_of(one, NAMES) for one in sessions}
    assert all(300 < count < 500 for count in Counter(before.values()).values())
    assert before == {one: home_of(one, reversed(NAMES)) for one in sessions}
    after = {one: home_of(one, NAMES[1:]) for one in sessions}
    assert {one for one in sessions if after[one] != before[one]} == {
        one for one in sessions if before[one] == "r0"
    }
    assert home_of("any", []) is None


def test_a_session_waits_for_its_replica_and_others_pass() -> None:
    router = made("a", "b")
    session = session_of(router, "b")
    router.submitted("mine", session=session)
    router.submitted("other")
    assert grant(router, "a") == [("other", "a")]
    assert router.queued == 1
    assert router.is_patient("mine")
    assert grant(router, "b") == [("mine", "b")]
    assert not router.is_patient("mine")
    assert router.let_go("mine") == []


def test_a_session_that_has_waited_takes_any_credit() -> None:
    router = made("a", "b")
    router.submitted("mine", session=session_of(router, "b"))
    assert grant(router, "a") == []
    assert sends([*router.let_go("mine")]) == [("mine", "a")]


def test_a_credit_goes_to_the_oldest_that_takes_it() -> None:
    router = made("a", "b")
    session = session_of(router, "b")
    router.submitted("first")
    router.submitted("second", session=session)
    router.submitted("third", session=session)
    assert grant(router, "b", 2) == [("first", "b"), ("second", "b")]


def test_the_session_of_a_replica_that_goes_waits_for_another() -> None:
    router = made("a", "b", "c")
    session = session_of(router, "b")
    router.submitted("mine", session=session)
    router.replica_gone("b")
    home = home_of(session, ["a", "c"])
    other = "c" if home == "a" else "a"
    assert grant(router, other) == []
    router.table_changed(
        {other: 4}
    )  # its second replica leaves the table: the credit of the last one will do
    assert router.at("mine") == other


def test_a_blocked_replica_is_no_home_unless_all_are() -> None:
    router = made("a", "b")
    session = session_of(router, "b")
    router.avoided = frozenset({"b"})
    assert router.home_of(session) == "a"
    router.avoided = frozenset({"a", "b"})
    assert router.home_of(session) == "b"


def test_a_full_queue_has_no_patience() -> None:
    router = made("a", "b", max_queued=1)
    session = session_of(router, "b")
    router.submitted("one", session=session)
    assert grant(router, "a") == []
    assert sends([*router.submitted("two", session=session)]) == [("two", "a")]
    assert [one for one in router.submitted("three", session=session) if isinstance(one, Refuse)] == [
        Refuse("three", 1)
    ]


def test_cancelled_and_late_requests_of_sessions_are_forgotten() -> None:
    router = made("a", "b")
    session = session_of(router, "b")
    router.submitted("one", session=session)
    router.submitted("two", 5.0, session=session)
    assert router.withdrawn("one")
    assert len(router.expired(6.0)) == 1
    assert not router.is_patient("one")
    assert not router.is_patient("two")
    assert grant(router, "b") == []


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_random_histories_send_each_request_once_and_none_is_stuck(seed: int) -> None:
    chance = random.Random(seed)
    router = made(*NAMES[: chance.randint(1, 4)])
    waiting: dict[str, str] = {}
    sent: Counter[object] = Counter()

    def note(commands: list[object]) -> None:
        for key, name in sends(commands):
            sent[key] += 1
            session = waiting.pop(str(key))
            # Requests that no longer wait for their session's replica may go anywhere.
            if key not in gone and session:
                assert name == router.home_of(session)
        # A credit lies idle only where all that wait are patient, and for others.
        if router.credits:
            homes = {line.ranks[0][0] for _, line in router._lines.queue.values() if line.session}
            assert all(not router._replicas[home].held for home in homes if home in router.replicas())

    gone: set[object] = set()
    for number in range(chance.randrange(10, 60)):
        key = f"k{number}"
        waiting[key] = chance.choice(["", "", "s1", "s2", "s3"])
        note([*router.submitted(key, session=waiting[key])])
        name = chance.choice(router.replicas())
        if chance.random() < 0.6:
            note([*router.answered(name, router._replicas[name].number, 1, 0)])
        if chance.random() < 0.3 and waiting:
            key = chance.choice(sorted(waiting))
            gone.add(key)
            note([*router.let_go(key)])
        if chance.random() < 0.15:
            note([*router.table_changed(dict.fromkeys(chance.sample(NAMES, chance.randint(1, 4)), 4))])
    for key in sorted(waiting):
        gone.add(key)
        note([*router.let_go(key)])
    assert not router._lines.patient
    name = router.replicas()[0]
    note([*router.answered(name, router._replicas[name].number, len(waiting), 0)])
    assert not waiting
    assert {*sent.values()} <= {1}


def test_without_sessions_the_credits_are_asked_for_as_before() -> None:
    router = made("a", "b")
    commands = router.submitted("one")
    assert [one.replica for one in commands if isinstance(one, Report)] == ["a", "b"]
    assert not router._lines.patient
