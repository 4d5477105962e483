"""Which calls are remembered, and how lost objects are made again by them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skate._base import ids
from skate._base.kinds import ERROR, PICKLE, SHARED
from skate._worker.calls.lineage import _RECORD_BYTES, Lineage, Plan
from skate._worker.calls.records import TaskRecord
from skate._worker.objects.refs import PENDING, Freed, ObjectEntry, RefTable

from ...effort import effort
from ..making import ME, call, function

F = function("f")


class Owner:
    """A process: its table, its calls, and what the runtime does around them (calls.py, recovery.py)."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self.table = RefTable()
        self.lineage = Lineage(limit)
        self.counter = 0

    def _own(self, seq: int, index: int = 0) -> ObjectEntry:
        entry = self.table.own(ids.object_id(ME, seq, index))
        entry.local = 1
        return entry

    def put(self, *, large: bool = True, data: bytes = b"value") -> ObjectEntry:
        self.counter += 1
        entry = self._own(self.counter)
        self.table.fulfil(entry, SHARED if large else PICKLE, data)
        return entry

    def start(
        self, args: Iterable[ObjectEntry] = (), *, returns: int = 1, retries: int = -1, pickled: bytes = b""
    ) -> TaskRecord:
        self.counter += 1
        seq = self.counter
        made = [self._own(seq, index) for index in range(returns)]
        task = call(seq, F, retries=retries, returns=made, args=pickled)
        task.pins = list(args)
        for entry in task.pins:
            entry.pins += 1
        return task

    def finish(self, task: TaskRecord, *, kinds: Iterable[int] = (), failed: bool = False) -> None:
        entries = task.returns
        if task.is_reconstruction:
            entries = [e if e.gone or e.kind == PENDING else _nobodys() for e in task.returns]
        kinds = list(kinds) or [SHARED] * len(entries)
        for entry, kind in zip(entries, kinds, strict=True):
            if not entry.gone:
                self.table.fulfil(entry, ERROR if failed else kind, b"place")
        if SHARED in kinds and not failed:
            if task.retries_left:
                self.lineage.keep(task, entries)
            else:
                for entry in entries:
                    entry.maker = entry.maker or task.describe()
        pins, task.pins = task.pins, None
        for entry in pins or ():
            self.table.unpin(entry)
        if task.is_reconstruction:
            self.lineage.reconstruction_finished(task)
        self.carry_out()

    def run(
        self, *args: ObjectEntry, returns: int = 1, retries: int = -1, pickled: bytes = b""
    ) -> TaskRecord:
        task = self.start(args, returns=returns, retries=retries, pickled=pickled)
        self.finish(task)
        return task

    def made(self, *args: ObjectEntry) -> ObjectEntry:
        return self.run(*args).returns[0]

    def drop(self, *entries: ObjectEntry) -> None:
        for entry in entries:
            self.table.drop_local(entry)
        self.carry_out()

    def carry_out(self) -> None:
        while self.table.commands:
            commands, self.table.commands = self.table.commands, []
            for command in commands:
                assert isinstance(command, Freed)
                if command.entry.maker is not None:
                    self.lineage.freed(command.entry)

    def plan(self, lost: ObjectEntry) -> Plan:
        plan = self.lineage.plan(lost)
        assert isinstance(plan, Plan), plan
        return plan

    def why_not(self, lost: ObjectEntry) -> str:
        reason = self.lineage.plan(lost)
        assert isinstance(reason, str)
        return reason

    def make_again(self, lost: ObjectEntry, plan: Plan) -> None:
        """Have the calls of a plan run; they are through when ``finish`` says so."""
        self.table.lost(lost)
        for entry in plan.revived:
            self.table.revive(entry)
        for task in plan.tasks:
            task.is_reconstruction = True
            task.spend_retry()
        for task in plan.tasks:
            task.pins = list(task.lineage or ())
            for entry in task.pins:
                entry.pins += 1


def _nobodys() -> ObjectEntry:
    entry = ObjectEntry(b"", None)
    entry.gone = True
    return entry


@pytest.fixture
def owner() -> Owner:
    return Owner()


# ---------------------------------------------------------------------- what is remembered


def test_a_call_is_remembered_as_long_as_what_it_made(owner: Owner) -> None:
    result = owner.made()
    assert len(owner.lineage) == 1
    assert owner.lineage.bytes == _RECORD_BYTES
    owner.drop(result)
    assert len(owner.lineage) == owner.lineage.bytes == 0
    assert result.maker is None


def test_a_call_is_remembered_as_long_as_what_was_made_from_that(owner: Owner) -> None:
    first = owner.made()
    second = owner.made(first)
    third = owner.made(second)
    owner.drop(first, second)
    assert len(owner.lineage) == 3
    assert owner.table.entries == {third.id: third}, "values go; who makes them is known"
    owner.drop(third)
    assert len(owner.lineage) == 0
    assert (first.lineage, second.lineage) == (0, 0)


def test_several_results_of_one_call_count_together(owner: Owner) -> None:
    task = owner.run(returns=3)
    owner.drop(*task.returns[:2])
    assert (len(owner.lineage), task.makes) == (1, 1)
    owner.drop(task.returns[2])
    assert len(owner.lineage) == 0
    assert task.lineage is None


class _Marker:
    """Something whose end a test can see."""


def test_at_the_end_of_a_session_nothing_keeps_itself_alive() -> None:
    """The collector does not see calls and entries: only reference counts free them."""
    owner = Owner(limit=2 * _RECORD_BYTES)
    forgotten = owner.made()
    dropped = owner.made()
    kept = owner.made(dropped)
    markers = []
    for entry in (forgotten, dropped, kept):
        assert isinstance(entry.maker, TaskRecord)
        entry.maker.stream = marker = _Marker()  # type: ignore[assignment]
        markers.append(weakref.ref(marker))
    del entry, marker
    owner.drop(dropped)
    gc.disable()
    try:
        owner.lineage.close(owner.table.entries.values())
        del owner, forgotten, dropped, kept
        assert [marker() for marker in markers] == [None] * 3
    finally:
        gc.enable()


def test_what_was_dropped_before_it_was_made_needs_no_maker(owner: Owner) -> None:
    task = owner.start()
    owner.drop(*task.returns)
    owner.finish(task)
    assert len(owner.lineage) == 0
    assert task.returns[0].maker is None


def test_items_that_come_one_by_one_are_of_one_call(owner: Owner) -> None:
    task = owner.start(returns=2)
    for entry in task.returns:
        owner.table.fulfil(entry, SHARED, b"place")
        owner.lineage.keep(task, [entry])
    assert (len(owner.lineage), task.makes) == (1, 2)


def test_small_arguments_and_values_take_room_large_ones_do_not(owner: Owner) -> None:
    small, large = owner.put(large=False, data=bytes(300)), owner.put(data=bytes(24))
    owner.run(small, large, pickled=bytes(50))
    assert owner.lineage.bytes == _RECORD_BYTES + 50 + 300


def test_the_same_argument_twice(owner: Owner) -> None:
    first = owner.made()
    second = owner.made(first, first)
    owner.drop(first)
    assert first.lineage == 2
    owner.drop(second)
    assert len(owner.lineage) == 0


def test_beyond_its_limit_the_oldest_calls_are_forgotten() -> None:
    owner = Owner(limit=3 * _RECORD_BYTES)
    results = [owner.made() for _ in range(5)]
    assert len(owner.lineage) == 3
    for result in results[:2]:
        assert "the lineage of this process grew beyond its limit (max_lineage_bytes)" in owner.why_not(
            result
        )
    assert owner.plan(results[2]).tasks == [results[2].maker]
    owner.drop(*results)
    assert owner.lineage.bytes == 0


def test_what_only_a_forgotten_call_needed_is_forgotten_with_it() -> None:
    owner = Owner(limit=2 * _RECORD_BYTES)
    first = owner.made()
    second = owner.made(first)
    owner.drop(first)
    owner.made()
    assert first.maker is not None, "its maker was forgotten, it is still needed"
    owner.made()
    assert first.maker is None
    assert second.maker is not None
    assert len(owner.lineage) == 2


def test_the_last_call_is_remembered_however_large() -> None:
    owner = Owner(limit=10)
    result = owner.made()
    assert owner.plan(result).tasks == [result.maker]


# ---------------------------------------------------------------------- plans


def test_only_the_lost_object_if_its_arguments_are_there(owner: Owner) -> None:
    first = owner.made()
    second = owner.made(first)
    assert owner.plan(second) == Plan([second.maker], [])


def test_a_chain_from_the_last_value_that_is_there(owner: Owner) -> None:
    kept = owner.made()
    a = owner.made(kept)
    b = owner.made(a)
    c = owner.made(b)
    makers = [c.maker, b.maker, a.maker]
    owner.drop(a, b)
    plan = owner.plan(c)
    assert plan.tasks == makers
    assert plan.revived == [b, a]
    assert a.gone, "nothing has changed yet"


def test_a_call_that_several_need_runs_once(owner: Owner) -> None:
    root = owner.made()
    left, right = owner.made(root), owner.made(root)
    end = owner.made(left, right)
    root_maker = root.maker
    owner.drop(root, left, right)
    plan = owner.plan(end)
    assert len(plan.tasks) == 4
    assert plan.tasks.count(root_maker) == 1  # type: ignore[arg-type]
    assert {id(one) for one in plan.revived} == {id(root), id(left), id(right)}


def test_small_values_are_still_there(owner: Owner) -> None:
    small = owner.put(large=False)
    result = owner.made(small)
    owner.drop(small)
    assert owner.plan(result) == Plan([result.maker], [small])


def test_small_values_with_refs_inside_are_not(owner: Owner) -> None:
    inner = owner.put()
    task = owner.start(returns=2)
    owner.table.contain(task.returns[0], [inner])
    owner.finish(task, kinds=[PICKLE, SHARED])
    result = owner.made(task.returns[0])
    owner.drop(inner, *task.returns)
    assert owner.plan(result).tasks == [result.maker, task]


def test_what_runs_again_already_is_waited_for(owner: Owner) -> None:
    task = owner.run(returns=2)
    one, two = task.returns
    owner.make_again(one, owner.plan(one))
    assert owner.plan(two) == Plan([], [])
    owner.table.lost(two)
    owner.finish(task)
    assert (one.kind, two.kind) == (SHARED, SHARED)


def test_after_it_ran_again_it_is_remembered_only_if_still_needed(owner: Owner) -> None:
    result = owner.made()
    task = result.maker
    assert isinstance(task, TaskRecord)
    owner.make_again(result, owner.plan(result))
    owner.drop(result)
    assert len(owner.lineage) == 1, "it runs"
    owner.finish(task)
    assert len(owner.lineage) == 0


# ---------------------------------------------------------------------- why not


def test_a_value_of_put(owner: Owner) -> None:
    assert "it was made by put(), and only results of tasks are made again" in owner.why_not(owner.put())


def test_an_argument_that_nobody_can_make(owner: Owner) -> None:
    value = owner.put()
    result = owner.made(value)
    assert owner.plan(result)
    owner.drop(value)
    reason = owner.why_not(result)
    assert f"that takes {value.id.hex()} again, an argument that was freed and that no task made" in reason
    assert "Keep the ref" in reason


def test_a_call_that_may_not_be_repeated(owner: Owner) -> None:
    result = owner.run(retries=0).returns[0]
    assert owner.why_not(result) == "f made it, which is not repeated: it has no retries (max_retries)"
    assert len(owner.lineage) == 0


def test_retries_that_are_used_up(owner: Owner) -> None:
    task = owner.run(retries=1)
    (result,) = task.returns
    owner.make_again(result, owner.plan(result))
    owner.finish(task)
    assert "f made it, which has been repeated as often as its retries allow" in owner.why_not(result)


def test_a_call_that_was_cancelled(owner: Owner) -> None:
    task = owner.run()
    task.cancelled = True
    assert owner.why_not(task.returns[0]) == "f made it, which was cancelled since"


def test_an_argument_of_another_process_that_was_freed(owner: Owner) -> None:
    theirs = owner.table.borrow(ids.object_id(b"other___", 1), "/s/other")
    theirs.local = 1
    result = owner.made(theirs)
    assert owner.plan(result)
    owner.table.drop_local(theirs)
    owner.table.commands.clear()
    assert f"its argument {theirs.id.hex()} belonged to another process" in owner.why_not(result)


def test_a_broken_link_far_down_the_chain(owner: Owner) -> None:
    value = owner.put()
    first = owner.made(value)
    second = owner.made(first)
    third = owner.made(second)
    owner.drop(value, first, second)
    assert f"that takes {value.id.hex()} again" in owner.why_not(third)


def test_freed_while_it_was_made_again(owner: Owner) -> None:
    """Nobody keeps what the repetition makes: it is made once more when it is needed."""
    first = owner.made()
    second = owner.made(first)
    plan = owner.plan(first)
    owner.make_again(first, plan)
    owner.drop(first)
    (task,) = plan.tasks
    owner.finish(task)
    assert owner.plan(second).tasks == [second.maker, task]
    assert owner.plan(second).revived == [first]


# ---------------------------------------------------------------------- everything at random


class LineageMachine(RuleBasedStateMachine):
    """Calls on results of calls; refs are dropped, values lost, plans carried out, in any order."""

    limit = 1_000_000_000

    @initialize()
    def begin(self) -> None:
        self.owner = Owner(self.limit)
        self.refs: list[ObjectEntry] = []
        #: All calls ever made, with what they were given.
        self.args: dict[TaskRecord, list[ObjectEntry]] = {}
        self.running: list[TaskRecord] = []
        #: What a call has made, and who was to be remembered for it.
        self.makers: dict[ObjectEntry, TaskRecord] = {}

    def some(self, data: st.DataObject) -> ObjectEntry | None:
        return data.draw(st.sampled_from(self.refs), "object") if self.refs else None

    @rule(large=st.booleans())
    def put(self, large: bool) -> None:
        if len(self.refs) < 4:
            self.refs.append(self.owner.put(large=large))

    @rule(data=st.data(), returns=st.integers(1, 2))
    def call(self, data: st.DataObject, returns: int) -> None:
        usable = [entry for entry in self.refs if entry.kind not in (ERROR, PENDING)]
        args = data.draw(st.lists(st.sampled_from(usable), max_size=2), "args") if usable else []
        task = self.owner.start(args, returns=returns)
        self.args[task] = args
        self.refs += task.returns
        self.running.append(task)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        able = [task for task in self.running if all(e.kind != PENDING for e in task.pins or ())]
        if able:
            self.finish_one(data.draw(st.sampled_from(able), "call"), data.draw(st.booleans(), "small"))

    def finish_one(self, task: TaskRecord, small: bool = False) -> None:
        self.running.remove(task)
        failed = any(entry.kind == ERROR for entry in task.pins or ())
        kinds = [
            PICKLE if small and not task.is_reconstruction else SHARED,
            *[SHARED] * (len(task.returns) - 1),
        ]
        if SHARED in kinds and not failed and not task.is_reconstruction:
            self.makers.update({entry: task for entry in task.returns if not entry.gone})
        self.owner.finish(task, kinds=kinds, failed=failed)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        entry = self.some(data)
        if entry is not None:
            self.refs.remove(entry)
            self.owner.drop(entry)

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        entry = self.some(data)
        if entry is None or entry.kind != SHARED:
            return
        plan = self.owner.lineage.plan(entry)
        self.check_plan(entry, plan)
        if isinstance(plan, Plan):
            self.owner.make_again(entry, plan)
            self.running += plan.tasks
        else:
            self.owner.table.fulfil(entry, ERROR, b"lost")

    def check_plan(self, lost: ObjectEntry, plan: Plan | str) -> None:
        assert isinstance(plan, Plan) == self.can_be_made(lost)
        if not isinstance(plan, Plan):
            return
        assert len(set(plan.tasks)) == len(plan.tasks)
        for task in plan.tasks:
            assert task not in self.running
            for entry in self.args[task]:
                assert not entry.gone or entry in plan.revived
        for entry in [lost, *(entry for entry in plan.revived if entry.has_no_value)]:
            maker = self.makers[entry]
            assert maker in plan.tasks or maker.is_reconstruction

    def can_be_made(self, entry: ObjectEntry) -> bool:
        """The model: walk down to what is there."""
        task = self.makers.get(entry)
        if task is None:
            return False
        return task.is_reconstruction or all(
            not arg.gone or not arg.has_no_value or self.can_be_made(arg) for arg in self.args[task]
        )

    # ------------------------------------------------------------------ what holds

    @invariant()
    def exactly_what_is_needed_is_remembered(self) -> None:
        needed: set[TaskRecord] = set()
        todo = [task for entry, task in self.makers.items() if not entry.gone]
        todo += [task for task in self.running if task.is_reconstruction]
        while todo:
            task = todo.pop()
            if task not in needed:
                needed.add(task)
                todo += [self.makers[arg] for arg in self.args[task] if arg in self.makers]
        assert set(self.owner.lineage._sizes) == needed

    @invariant()
    def sizes_add_up(self) -> None:
        lineage = self.owner.lineage
        assert lineage.bytes == sum(lineage._sizes.values())
        assert lineage.bytes <= self.limit or len(lineage) == 1

    @invariant()
    def counts_are_exact(self) -> None:
        counted: dict[ObjectEntry, int] = {}
        for task in self.owner.lineage._sizes:
            for entry in task.lineage or ():
                counted[entry] = counted.get(entry, 0) + 1
        for task, args in self.args.items():
            for entry in [*args, *task.returns]:
                assert entry.lineage == counted.get(entry, 0)

    def teardown(self) -> None:
        while self.running:
            able = [task for task in self.running if all(e.kind != PENDING for e in task.pins or ())]
            assert able, "calls wait for each other"
            for task in able:
                self.finish_one(task)
        for entry in self.refs:
            assert entry.kind != PENDING
        self.owner.drop(*self.refs)
        assert self.owner.table.entries == {}
        assert len(self.owner.lineage) == self.owner.lineage.bytes == 0


class LimitedLineageMachine(LineageMachine):
    """The same, with room for three calls: what is forgotten makes plans impossible, never wrong."""

    limit = 3 * _RECORD_BYTES + 500

    def check_plan(self, lost: ObjectEntry, plan: Plan | str) -> None:
        if isinstance(plan, Plan):
            super().check_plan(lost, plan)

    @invariant()
    def exactly_what_is_needed_is_remembered(self) -> None:
        pass


TestLineageMachine = LineageMachine.TestCase
TestLineageMachine.settings = effort(80)
TestLimitedLineageMachine = LimitedLineageMachine.TestCase
TestLimitedLineageMachine.settings = effort(50)
