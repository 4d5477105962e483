"""The reference counts of one process, event by event. Several processes: see test_borrowing."""

from __future__ import annotations

import gc
from collections import deque

import pytest

from skate._base import ids
from skate._base.kinds import ERROR, NONE, PICKLE, SHARED
from skate._worker.objects.refs import (
    PENDING,
    REGISTERED,
    REGISTERING,
    UNREGISTERED,
    Command,
    Dropped,
    Freed,
    ObjectEntry,
    RefTable,
    Register,
)

from ..making import call, function

ME, OTHER = b"me______", b"other___"
ADDRESS = "/s/other"


def mine(table: RefTable, number: int = 1) -> ObjectEntry:
    entry = table.own(ids.object_id(ME, number))
    entry.local = 1
    return entry


def borrowed(table: RefTable, number: int = 1) -> ObjectEntry:
    entry = table.borrow(ids.object_id(OTHER, number), ADDRESS)
    entry.local += 1
    return entry


def taken(table: RefTable) -> list[Command]:
    commands, table.commands = table.commands, []
    return commands


# ---------------------------------------------------------------------- what keeps an object


def test_an_object_goes_with_its_last_ref() -> None:
    table = RefTable()
    entry = mine(table)
    entry.local += 1
    table.drop_local(entry)
    assert table.entries == {entry.id: entry}
    table.drop_local(entry)
    assert table.entries == {}
    assert taken(table) == [Freed(entry)]
    assert entry.gone


def test_the_collector_visits_neither_entries_nor_calls() -> None:
    entry = mine(RefTable())
    task = call(1, function("f"), returns=[entry])
    entry.task = task
    assert not gc.is_tracked(entry)
    assert not gc.is_tracked(task)


def test_an_object_that_goes_before_it_is_made_forgets_its_task() -> None:
    table = RefTable()
    entry = mine(table)
    entry.task = call(1, function("f"), returns=[entry])
    table.drop_local(entry)
    assert entry.task is None, "else they keep each other alive, where no collector sees them"


def test_dropping_many_at_once_is_like_dropping_each() -> None:
    """Whatever an entry is: the written-out case of ``drop_locals`` must take none that needs more."""

    def one_of_each(table: RefTable) -> list[ObjectEntry]:
        entries = [mine(table, number) for number in range(1, 13)]
        plain, twice, pinned, lent, outer, inner, failed, shared, handle, made, pending, pickled = entries
        table.fulfil(plain, NONE, b"")
        twice.local = 2
        pinned.pins = 1
        table.add_borrower(lent.id, OTHER, 1)
        table.contain(outer, [inner])
        table.fulfil(failed, ERROR, b"")
        table.fulfil(shared, SHARED, b"place")
        handle.kind, handle.label = NONE, "actor"
        made.kind, made.maker = PICKLE, "f"
        pending.task = call(1, function("f"), returns=[pending])
        table.fulfil(pickled, PICKLE, b"1")
        return [*entries, borrowed(table, 20)]

    one, all_at_once = RefTable(), RefTable()
    first, second = one_of_each(one), one_of_each(all_at_once)
    for entry in first:
        one.drop_local(entry)
    all_at_once.drop_locals(deque(second))
    assert list(one.entries) == list(all_at_once.entries) != []
    assert [entry.gone for entry in first] == [entry.gone for entry in second]
    assert not any(entry.task for entry in second)

    def needing_more(table: RefTable) -> list[bytes]:
        """Return the ids of what somebody is to be told of, or something follows from."""
        return [
            command.entry.id for command in taken(table)
            if isinstance(command, Dropped) or command.entry.kind in (ERROR, SHARED)
            or command.entry.label or command.entry.maker
        ]  # fmt: skip

    assert needing_more(one) == needing_more(all_at_once) != []


def test_a_burst_of_dropped_refs_is_spread_over_turns() -> None:
    table, dead = RefTable(), deque[ObjectEntry]()
    for number in range(1, 20_001):
        dead.append(mine(table, number))
    counted = []
    while dead:
        before = len(dead)
        table.drop_locals(dead, 1000)
        counted.append(before - len(dead))
    assert counted == [6000, *[1000] * 14]
    assert not table.entries


def test_who_makes_and_drops_objects_all_the_time_leaves_none_behind() -> None:
    table, dead = RefTable(), deque[ObjectEntry]()
    for turn in range(50):
        dead.extend(mine(table, turn * 3000 + number) for number in range(1, 3001))
        table.drop_locals(dead, 1000)
        assert not dead


@pytest.mark.parametrize("refs_first", [True, False])
def test_refs_and_uses_keep_it_each(refs_first: bool) -> None:
    table = RefTable()
    entry = mine(table)
    entry.pins += 1
    first, second = table.drop_local, table.unpin
    if not refs_first:
        first, second = second, first
    first(entry)
    assert taken(table) == []
    second(entry)
    assert taken(table) == [Freed(entry)]


def test_a_borrower_keeps_it() -> None:
    table = RefTable()
    entry = mine(table)
    assert table.add_borrower(entry.id, OTHER, 1)
    table.drop_local(entry)
    assert taken(table) == []
    table.remove_borrower(entry.id, OTHER, 1)
    assert taken(table) == [Freed(entry)]


def test_each_borrower_counts_once_however_often_it_registers() -> None:
    table = RefTable()
    entry = mine(table)
    for borrower in (OTHER, b"third___", OTHER, OTHER):
        table.add_borrower(entry.id, borrower, 1)
    table.drop_local(entry)
    table.remove_borrower(entry.id, OTHER, 1)
    table.remove_borrower(entry.id, OTHER, 1)
    assert taken(table) == []
    table.remove_borrower(entry.id, b"third___", 1)
    assert taken(table) == [Freed(entry)]


def test_a_borrower_that_died_keeps_nothing() -> None:
    table = RefTable()
    dropped, held = mine(table, 1), mine(table, 2)
    for entry in (dropped, held):
        table.add_borrower(entry.id, OTHER, 1)
    table.drop_local(dropped)
    table.borrower_died(b"third___")
    assert taken(table) == []
    table.borrower_died(OTHER)
    assert taken(table) == [Freed(dropped)]
    assert held.borrowers == {}


# ---------------------------------------------------------------------- refs inside values


def test_refs_inside_a_value_live_as_long_as_it() -> None:
    table = RefTable()
    outer, inner = mine(table, 1), mine(table, 2)
    table.fulfil(inner, PICKLE, b"value")
    table.contain(outer, [inner])
    table.drop_local(inner)
    assert taken(table) == []
    table.drop_local(outer)
    assert taken(table) == [Freed(outer), Freed(inner)]
    assert outer.contained_refs_released
    assert outer.has_no_value
    assert not inner.has_no_value


def test_one_inside_two_values_goes_with_the_second() -> None:
    table = RefTable()
    first, second, inner = (mine(table, number) for number in range(3))
    table.contain(first, [inner])
    table.contain(second, [inner])
    table.drop_local(inner)
    table.drop_local(first)
    assert taken(table) == [Freed(first)]
    table.drop_local(second)
    assert taken(table) == [Freed(second), Freed(inner)]


def test_a_value_may_get_its_refs_one_by_one() -> None:
    table = RefTable()
    outer, one, two = (mine(table, number) for number in range(3))
    table.contain(outer, [])
    assert outer.contained is None
    table.contain(outer, [one])
    table.contain(outer, [two])
    assert outer.contained == [one, two]


def test_refs_inside_a_value_that_nobody_wants_any_more_go_at_once() -> None:
    table = RefTable()
    outer, inner = mine(table, 1), mine(table, 2)
    table.drop_local(outer)
    table.drop_local(inner)
    taken(table)
    inner = mine(table, 3)
    inner.pins += 1
    table.drop_local(inner)
    table.contain(outer, [inner])
    assert taken(table) == []
    table.unpin(inner)
    assert taken(table) == [Freed(inner)]


def test_a_chain_of_values_goes_without_recursion() -> None:
    table = RefTable()
    chain = [mine(table, number) for number in range(20_000)]
    for outer, inner in zip(chain, chain[1:], strict=False):
        table.contain(outer, [inner])
    for entry in chain[1:]:
        table.drop_local(entry)
    assert taken(table) == []
    table.drop_local(chain[0])
    assert taken(table) == [Freed(entry) for entry in chain]
    assert table.entries == {}


def test_a_borrowed_ref_inside_a_value_is_given_up_with_it() -> None:
    table = RefTable()
    outer, inner = mine(table), borrowed(table)
    table.register(inner)
    taken(table)
    table.contain(outer, [inner])
    table.drop_local(inner)
    table.drop_local(outer)
    assert taken(table) == [Freed(outer), Dropped(inner, True)]


# ---------------------------------------------------------------------- as a borrower


def test_what_arrives_twice_is_one_entry() -> None:
    table = RefTable()
    assert borrowed(table) is borrowed(table)
    assert borrowed(table).local == 3
    assert table.owned_by(ADDRESS) == [borrowed(table)]
    assert table.owned_by("elsewhere") == []


def test_what_was_dropped_before_it_was_registered_is_nobodys_business() -> None:
    table = RefTable()
    entry = borrowed(table)
    table.drop_local(entry)
    assert taken(table) == [Dropped(entry, False)]
    assert table.entries == {}


def test_from_unregistered_to_registered() -> None:
    table = RefTable()
    entry = borrowed(table)
    told: list[str] = []
    assert entry.borrow_state == UNREGISTERED
    table.register(entry, lambda: told.append("first"))
    table.register(entry, lambda: told.append("second"))
    assert taken(table) == [Register(entry)], "asked once"
    assert entry.borrow_state == REGISTERING
    assert told == []
    assert table.registered(entry.id, entry.epoch) is entry
    assert told == ["first", "second"]
    assert entry.borrow_state == REGISTERED
    assert table.registered(entry.id, entry.epoch) is None, "the answer came twice"
    table.register(entry, lambda: told.append("third"))
    assert told == ["first", "second", "third"]
    table.drop_local(entry)
    assert taken(table) == [Dropped(entry, True)]


def test_who_waits_for_a_registration_hears_if_the_ref_was_dropped_instead() -> None:
    table = RefTable()
    entry = borrowed(table)
    told: list[bool] = []
    table.register(entry, lambda: told.append(entry.gone))
    taken(table)
    table.drop_local(entry)
    assert told == [True]
    assert taken(table) == [Dropped(entry, True)], "the owner may have registered us by now"
    assert table.registered(entry.id, entry.epoch) is None
    table.register(entry, lambda: told.append(False))
    assert told == [True, False], "what is gone needs no registration"
    assert taken(table) == []


def test_what_is_our_own_needs_no_registration() -> None:
    table = RefTable()
    told: list[int] = []
    entry = mine(table)
    table.register(entry, lambda: told.append(1))
    table.register(entry)
    assert told == [1]
    assert taken(table) == []


def test_each_time_that_we_borrow_has_an_epoch_of_its_own() -> None:
    table = RefTable()
    first = borrowed(table)
    table.register(first)
    table.drop_local(first)
    second = borrowed(table)
    assert second is not first
    assert second.epoch > first.epoch
    told: list[int] = []
    table.register(second, lambda: told.append(1))
    assert table.registered(second.id, first.epoch) is None, "an answer to what we asked before"
    assert told == []
    assert table.registered(second.id, second.epoch) is second
    assert table.registered(b"unknown", 1) is None


def test_the_reply_to_the_owner_registers_us() -> None:
    table = RefTable()
    entry = borrowed(table)
    assert table.piggyback(entry) == (entry.id, entry.epoch)
    assert entry.borrow_state == REGISTERED
    table.drop_local(entry)
    assert taken(table) == [Dropped(entry, True)]


def test_a_reply_to_the_owner_does_not_make_others_miss_its_acknowledgement() -> None:
    """The ref came from a third process too, and the reply to that one waits for the owner's word."""
    table = RefTable()
    entry = borrowed(table)
    told: list[int] = []
    table.register(entry, lambda: told.append(1))
    table.piggyback(entry)
    assert told == [], "the owner has not read that reply yet, nor our request"
    table.registered(entry.id, entry.epoch)
    assert told == [1]


# ---------------------------------------------------------------------- as an owner


def test_a_remove_that_overtakes_its_add() -> None:
    table = RefTable()
    entry = mine(table)
    table.remove_borrower(entry.id, OTHER, 3)
    assert table.add_borrower(entry.id, OTHER, 3)
    assert not entry.borrowers
    assert table.add_borrower(entry.id, OTHER, 4)
    assert entry.borrowers == {OTHER: 4}


def test_a_late_remove_does_not_end_a_later_registration() -> None:
    table = RefTable()
    entry = mine(table)
    table.add_borrower(entry.id, OTHER, 3)
    table.add_borrower(entry.id, OTHER, 5)
    table.add_borrower(entry.id, OTHER, 4)
    table.remove_borrower(entry.id, OTHER, 4)
    assert entry.borrowers == {OTHER: 5}
    table.remove_borrower(entry.id, OTHER, 5)
    table.remove_borrower(entry.id, OTHER, 2)
    assert entry.borrowers == {}
    table.add_borrower(entry.id, OTHER, 5)
    assert entry.borrowers == {}, "a repeat"


def test_nobody_borrows_what_is_gone_or_is_not_ours() -> None:
    table = RefTable()
    entry = mine(table)
    table.drop_local(entry)
    theirs = borrowed(table)
    taken(table)
    for object_id in (entry.id, theirs.id, b"unknown"):
        assert not table.add_borrower(object_id, b"third___", 1)
        table.remove_borrower(object_id, b"third___", 1)
    assert taken(table) == []
    assert theirs.borrowers is None


# ---------------------------------------------------------------------- values


class Waiting:
    """Stands for a thread in get()."""

    def __init__(self) -> None:
        self.ready: list[int] = []

    def one_ready(self, kind: int) -> None:
        self.ready.append(kind)


def test_a_value_calls_its_dependents_and_the_threads_that_wait() -> None:
    table = RefTable()
    entry = mine(table)
    waiting, gone, seen = Waiting(), Waiting(), list[tuple[int, bytes]]()
    table.expect(entry, "the call that makes it")
    table.await_value(entry, waiting)
    table.await_value(entry, gone)
    table.stop_awaiting(entry, gone)
    table.when_ready(entry, lambda ready: seen.append((ready.kind, ready.data)))
    assert entry.kind == PENDING
    table.fulfil(entry, PICKLE, b"value")
    assert (waiting.ready, gone.ready) == ([PICKLE], [])
    assert seen == [(PICKLE, b"value")]
    assert (entry.waiters, entry.dependents, entry.task) == (None, None, None)
    table.fulfil(entry, ERROR, b"")
    assert waiting.ready == [PICKLE]


def test_pins_and_refs_keep_an_object_until_the_last_of_them_is_gone() -> None:
    table = RefTable()
    entry = table.own(ids.object_id(ME, 1))
    assert table.has_owned()
    table.add_local(entry)
    table.pin(entry)
    for end in (table.drop_local, table.drop_local):
        end(entry)
        assert table.commands == []
    table.unpin(entry)
    assert taken(table) == [Freed(entry)]
    assert not table.has_owned()


def test_another_value_lets_go_of_the_refs_inside_the_first() -> None:
    table = RefTable()
    outer, inner = mine(table, 1), mine(table, 2)
    table.contain(outer, [inner])
    table.drop_local(inner)
    table.replace_value(outer, ERROR, b"freed")
    assert taken(table) == [Freed(inner)]
    assert (outer.kind, outer.data, outer.contained) == (ERROR, b"freed", None)


def test_a_dependent_may_ask_to_be_called_again() -> None:
    """A call that depends on what was lost meanwhile waits for it once more."""
    table = RefTable()
    entry = mine(table)
    seen: list[int] = []

    def again(ready: ObjectEntry) -> None:
        seen.append(ready.kind)
        if len(seen) == 1:
            table.lost(ready)
            ready.dependents = [again]

    entry.dependents = [again]
    table.fulfil(entry, SHARED, b"place")
    table.fulfil(entry, SHARED, b"another place")
    assert seen == [SHARED, SHARED]


def test_values_are_told_along_a_chain_of_any_length_in_their_order() -> None:
    """Whoever is told gives the next one its value, while the first is still being told of."""
    table = RefTable()
    chain = [mine(table, number) for number in range(100_001)]
    told: list[int] = []

    def link(number: int) -> None:
        def pass_on(ready: ObjectEntry) -> None:
            told.append(number)
            table.fulfil(chain[number + 1], ready.kind, ready.data)

        chain[number].dependents = [pass_on]

    for number in range(100_000):
        link(number)
    table.fulfil(chain[0], ERROR, b"why")
    assert told == list(range(100_000))
    assert (chain[-1].kind, chain[-1].data) == (ERROR, b"why")


def test_what_is_told_meanwhile_comes_behind_those_before_it() -> None:
    table = RefTable()
    first, second = mine(table, 1), mine(table, 2)
    told: list[str] = []

    def early(ready: ObjectEntry) -> None:
        table.fulfil(second, PICKLE, b"")
        told.append("early, and all that it does")

    second.dependents = [lambda ready: told.append("of the second")]
    first.dependents = [early, lambda ready: told.append("late")]
    table.fulfil(first, PICKLE, b"")
    assert told == ["early, and all that it does", "late", "of the second"]


def test_one_that_raises_keeps_the_news_from_nobody() -> None:
    table = RefTable()
    entry = mine(table)
    told: list[int] = []

    def broken(ready: ObjectEntry) -> None:
        raise KeyError("a bug")

    entry.dependents = [broken, lambda ready: told.append(ready.kind)]
    with pytest.raises(KeyError):
        table.fulfil(entry, PICKLE, b"")
    assert table.to_notify
    table.notify()
    assert (told, list(table.to_notify)) == ([PICKLE], [])


def test_refs_that_keep_each_other_until_they_are_registered_go_one_after_the_other() -> None:
    """Each is kept until the owner of the next one knows of us, and all are dropped before that."""
    table = RefTable()
    chain = [borrowed(table, number) for number in range(20_000)]
    for outer, inner in zip(chain, chain[1:], strict=False):
        outer.pins += 1
        table.register(inner, lambda outer=outer: table.unpin(outer))  # type: ignore[misc]
        table.drop_local(outer)
    assert len(table.entries) == len(chain)
    table.drop_local(chain[-1])
    assert table.entries == {}
    dropped = [one.entry for one in taken(table) if isinstance(one, Dropped)]
    assert dropped == chain[::-1]


def test_refs_inside_refs_are_freed_however_deep() -> None:
    table = RefTable()
    chain = [mine(table, number) for number in range(100_000)]
    for outer, inner in zip(chain, chain[1:], strict=False):
        table.contain(outer, [inner])
        table.drop_local(inner)
    table.drop_local(chain[0])
    assert taken(table) == [Freed(entry) for entry in chain]


def test_refs_are_put_into_a_value_one_by_one() -> None:
    table = RefTable()
    outer = mine(table, 0)
    inner = [mine(table, number) for number in range(1, 4)]
    given = inner[:1]
    table.contain(outer, given)
    for one in inner[1:]:
        table.contain(outer, [one])
    assert (outer.contained, given) == (inner, inner[:1])


def test_what_is_lost_is_waited_for_again_and_its_refs_go() -> None:
    table = RefTable()
    outer, inner = mine(table, 1), mine(table, 2)
    table.contain(outer, [inner])
    table.fulfil(outer, SHARED, b"place")
    table.drop_local(inner)
    table.add_borrower(outer.id, OTHER, 1)
    table.lost(outer)
    assert taken(table) == [Freed(inner)]
    assert (outer.kind, outer.data, outer.by_request) == (PENDING, b"", True)
    assert table.entries == {outer.id: outer}
    assert (outer.local, outer.borrowers) == (1, {OTHER: 1})


def test_a_freed_object_lives_again_without_the_value_that_was_in_the_store() -> None:
    table = RefTable()
    entry = mine(table)
    table.fulfil(entry, SHARED, b"place")
    table.drop_local(entry)
    taken(table)
    table.revive(entry)
    entry.pins += 1
    assert (entry.kind, entry.data, entry.gone) == (PENDING, b"", False)
    assert table.entries == {entry.id: entry}
    table.unpin(entry)
    assert taken(table) == [Freed(entry)]


def test_a_freed_object_that_was_small_still_has_its_value() -> None:
    table = RefTable()
    entry = mine(table)
    table.fulfil(entry, PICKLE, b"small")
    table.drop_local(entry)
    assert not entry.has_no_value
    table.revive(entry)
    assert (entry.kind, entry.data) == (PICKLE, b"small")


def test_a_freed_object_whose_refs_went_has_no_value_to_live_by() -> None:
    table = RefTable()
    outer, inner = mine(table, 1), mine(table, 2)
    table.contain(outer, [inner])
    table.fulfil(outer, PICKLE, b"names inner")
    table.drop_local(inner)
    table.drop_local(outer)
    table.revive(outer)
    assert (outer.kind, outer.data, outer.contained_refs_released) == (PENDING, b"", False)


def test_entries_tell_what_they_are() -> None:
    table = RefTable()
    entry, other = mine(table), borrowed(table)
    table.fulfil(entry, NONE, b"")
    assert repr(entry) == f"<owned {entry.id.hex()} kind=0 local=1 pins=0 borrowers=None>"
    assert repr(other).startswith(f"<borrowed(0) {other.id.hex()}")
