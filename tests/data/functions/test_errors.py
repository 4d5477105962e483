"""on_error, bisection, retries, exits: which rows are kept, which become letters, and how many calls that takes."""

from __future__ import annotations

import math
import os
import pickle
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.sources import with_sources
from skate.data._operators.dead_letters import ErrorPolicy
from skate.data._operators.functions import UserFunction
from skate.data._operators.map_operators import FilterRows, FlatMap, MapBatches, MapRows
from skate.data._task.operators import TaskContext
from skate.data.exceptions import RayDataUserCodeException, UserExitError

of = UserFunction.of
KEEP = ErrorPolicy.of("map", on_error="dead_letter")
SKIP = ErrorPolicy.of("map", on_error="skip")


class Bad(Exception):
    pass


def failing(bad, kind=Bad):
    """A function for each operator that fails for some values of x, and the calls that it got."""
    calls = []

    def check(x):
        calls.append(x)
        if x in bad:
            raise kind(f"x is {x}")

    def row(row):
        check(row["x"])
        return row

    def rows(row):
        check(row["x"])
        return [row, row]

    def gen(row):
        yield row
        check(row["x"])
        yield row

    def truth(row):
        check(row["x"])
        return True

    def batch(batch):
        calls.append(len(batch["x"]))
        for x in batch["x"].tolist():
            if x in bad:
                raise kind(f"x is {x}")
        return batch

    def batches(batch):
        calls.append(len(batch["x"]))
        for i, x in enumerate(batch["x"].tolist()):
            if x in bad:
                raise kind(f"x is {x}")
            yield {name: values[i : i + 1] for name, values in batch.items()}

    async def arow(row):
        return globals_of["row"](row)

    async def abatch(b):
        return batch(b)

    async def agen(row):
        yield row
        check(row["x"])
        yield row

    async def abatches(b):
        for one in batches(b):
            yield one

    globals_of = {"row": row}
    return calls, {
        "map": (MapRows, row, 1),
        "flat_map": (FlatMap, rows, 2),
        "flat_map_gen": (FlatMap, gen, 2),
        "filter": (FilterRows, truth, 1),
        "batch": (MapBatches, batch, 1),
        "batch_gen": (MapBatches, batches, 1),
        "async_map": (MapRows, arow, 1),
        "async_flat_map": (FlatMap, agen, 2),
        "async_batch": (MapBatches, abatch, 1),
        "async_batch_gen": (MapBatches, abatches, 1),
    }


KINDS = list(failing(())[1])


def make(kind, fn, policy, batch_size=None):
    if kind is MapBatches:
        return MapBatches(of(fn), batch_size, errors=policy)
    return kind(of(fn), policy)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=15, deadline=None)
@given(
    bad=st.sets(st.integers(0, 39), max_size=6),
    lengths=st.lists(st.integers(0, 10), max_size=4),
    size=st.sampled_from([None, 1, 4, 16]),
)
def test_good_rows_once_in_order_bad_rows_in_letters(run, make_numbers, name, bad, lengths, size):
    kind, fn, copies = failing(bad)[1][name]
    tables = make_numbers(*lengths)
    total = sum(lengths)
    found = run(make(kind, fn, KEEP, size), *tables)
    good = [x for x in range(total) if x not in bad for _ in range(copies)]
    assert (found.column() if found.rows else []) == good
    expected = sorted(x for x in bad if x < total)
    assert found.failed == [f"0.0:{x}" for x in expected]
    assert [letter.row for letter in found.letters] == [{"x": x, "s": str(x)} for x in expected]
    for letter, x in zip(found.letters, expected, strict=True):
        assert isinstance(letter.error, Bad) and f"x is {x}" in str(letter.error)
        assert "raise kind(" in letter.traceback_text
        assert letter.is_kept and letter.attempts == 1
        pickle.dumps(letter)


@pytest.mark.parametrize("name", KINDS)
def test_skip_counts_without_keeping(run, make_numbers, name):
    kind, fn, copies = failing({3})[1][name]
    found = run(make(kind, fn, SKIP), *make_numbers(5))
    assert len(found.rows) == 4 * copies
    (letter,) = found.letters
    assert not letter.is_kept and letter.row is None and letter.row_id == "0.0:3"
    assert found.task.counts[f"rows_seen:{letter.stage}"] == 5


@pytest.mark.parametrize("name", KINDS)
def test_raise_has_both_types_and_the_row(run, make_numbers, name):
    kind, fn, _ = failing({3}, KeyError)[1][name]
    with pytest.raises(KeyError) as caught:
        run(make(kind, fn, ErrorPolicy()), *make_numbers(5))
    error = caught.value
    assert isinstance(error, RayDataUserCodeException)
    assert error.row_id == ("0.0:0-4" if kind is MapBatches else "0.0:3")
    assert error.args == ("x is 3",)
    assert isinstance(error.__cause__, KeyError)
    pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize(("rows", "bad"), [(256, 1), (256, 7), (1024, 1), (1000, 7)])
def test_calls_of_a_bisection(run, make_numbers, rows, bad):
    values = {(i * 131 + 17) % rows for i in range(bad)}
    calls, made = failing(values)
    found = run(MapBatches(of(made["batch"][1]), None, errors=KEEP), *make_numbers(rows))
    assert len(found.letters) == len(values) == bad
    assert len(found.rows) == rows - bad
    log = math.ceil(math.log2(rows))
    assert len(calls) <= (log + 3 if bad == 1 else bad * 2 * log)


def test_seven_of_a_thousand(run, make_numbers):
    tables = [with_sources(t, [(f"f{i}", 200)]) for i, t in enumerate(make_numbers(*[200] * 5))]
    bad = {5, 199, 200, 431, 432, 700, 999}
    calls, made = failing(bad)
    found = run(MapBatches(of(made["batch"][1]), 64, errors=KEEP), *tables)
    assert len(found.rows) == 993
    assert [letter.path for letter in found.letters] == [f"f{x // 200}" for x in sorted(bad)]
    assert len(calls) <= 1000 // 64 + 1 + 7 * 2 * 6


def test_function_that_changes_its_batch_does_not_see_that_again(run, make_numbers):
    def change(batch):
        batch["x"] *= 10
        if 30 in batch["x"]:
            raise Bad
        return batch

    operator = MapBatches(of(change), None, zero_copy_batch=False, errors=KEEP)
    found = run(operator, *make_numbers(8))
    assert found.column() == [0, 10, 20, 40, 50, 60, 70]
    assert found.letters[0].row == {"x": 3, "s": "3"}


def test_function_that_changes_its_row_does_not_see_that_again(run, make_numbers):
    attempts = []

    def change(row):
        row["x"] += 100
        attempts.append(row["x"])
        if len(attempts) < 3:
            raise OSError
        return row

    policy = ErrorPolicy.of("map", on_error="dead_letter", retry_on=OSError, max_retries=3)
    assert run(MapRows(of(change), policy, None, lambda s: None), *make_numbers(1)).column() == [100]
    assert attempts == [100, 100, 100]


def test_a_function_that_always_fails(run, make_numbers):
    calls, made = failing(set(range(16)))
    found = run(MapBatches(of(made["batch"][1]), None, errors=KEEP), *make_numbers(16))
    assert found.rows == [] and len(found.letters) == 16
    assert len(calls) <= 2 * 16


def test_a_function_that_fails_for_large_batches_alone(run, make_numbers):
    calls = []

    def small(batch):
        calls.append(1)
        if len(batch["x"]) > 10:
            raise MemoryError
        return batch

    found = run(MapBatches(of(small), None, errors=KEEP), *make_numbers(100))
    assert found.column() == list(range(100)) and not found.letters
    assert len(calls) < 40


def test_row_ids_count_over_blocks_and_batches(run, make_numbers):
    _, made = failing({7, 12})
    for name in ("map", "batch"):
        kind, fn, _ = made[name]
        found = run(make(kind, fn, KEEP, 4), *make_numbers(3, 0, 6, 5), task=TaskContext("3.17"))
        assert found.failed == ["3.17:7", "3.17:12"]


def test_wrong_returns_are_letters_too(run, make_numbers):
    def odd(row):
        return None if row["x"] % 2 else row

    found = run(MapRows(of(odd), KEEP), *make_numbers(5))
    assert found.column() == [0, 2, 4] and len(found.letters) == 2
    assert "must return a dict" in str(found.letters[0].error)

    def uneven(batch):
        return {"x": batch["x"], "y": [1] * (3 if 3 in batch["x"] else len(batch["x"]))}

    found = run(MapBatches(of(uneven), None, errors=KEEP), *make_numbers(8))
    assert found.failed == ["0.0:3"]
    found = run(FlatMap(of(lambda row: [row, None if row["x"] == 2 else row]), KEEP), *make_numbers(4))
    assert found.failed == ["0.0:2"]
    assert found.column() == [0, 0, 1, 1, 3, 3]


def test_rows_that_no_column_can_hold_are_letters(run, make_numbers):
    import threading

    def odd(row):
        return {**row, "o": threading.Lock() if row["x"] == 2 else None}

    found = run(MapRows(of(odd), KEEP), *make_numbers(5))
    assert found.failed == ["0.0:2"] and found.column() == [0, 1, 3, 4]
    found = run(FlatMap(of(lambda row: [row, odd(row)]), KEEP), *make_numbers(4))
    assert found.failed == ["0.0:2"] and found.column() == [0, 0, 1, 1, 3, 3]


def test_nothing_of_a_generator_that_fails_late(make_numbers):
    def frames(row):
        for i in range(60):
            if row["x"] == 1 and i == 59:
                raise Bad
            yield {"x": row["x"], "f": np.zeros(1 << 20, np.uint8)}

    def batches(batch):
        for x in batch["x"].tolist():
            yield from ({"x": [one["x"]], "f": one["f"][None]} for one in frames({"x": x}))

    for operator in (FlatMap(of(frames), KEEP), MapBatches(of(batches), None, errors=KEEP)):
        task = TaskContext("0.0", target_max_block_bytes=16 << 20)
        found = [x for t in operator.process(iter(make_numbers(3)), task) for x in t["x"].to_pylist()]
        assert found == [0] * 60 + [2] * 60
        assert [letter.row_id for letter in task.letters] == ["0.0:1"]


# ---------------------------------------------------------------------- retries


@pytest.mark.parametrize(
    "name", ["map", "flat_map", "flat_map_gen", "filter", "batch", "batch_gen", "async_map"]
)
def test_retries_wait_longer_each_time(run, make_numbers, name):
    left = {"n": 3}
    calls, made = failing(())
    kind, fn, copies = made[name]
    waits = []

    def flaky(data):
        if left["n"]:
            left["n"] -= 1
            raise ConnectionError("later")
        return fn(data)

    async def aflaky(data):
        return await flaky(data)

    policy = ErrorPolicy.of(
        "map", on_error="dead_letter", retry_on=ConnectionError, max_retries=3, backoff_s=1e-3
    )
    operator = make(kind, aflaky if name.startswith("async") else flaky, policy)
    operator.sleep = waits.append
    found = run(operator, *make_numbers(1))
    assert len(found.rows) == copies and not found.letters
    assert found.task.counts["retries"] == 3
    if not name.startswith("async"):
        assert waits == [0.001, 0.002, 0.004]


def test_letter_tells_its_attempts(run, make_numbers):
    _, made = failing({2}, OSError)
    policy = ErrorPolicy.of("map", on_error="dead_letter", retry_on=OSError, max_retries=2)
    for name in ("map", "batch"):
        operator = make(*made[name][:2], policy)
        operator.sleep = lambda s: None
        found = run(operator, *make_numbers(4))
        assert [(letter.row_id, letter.attempts) for letter in found.letters] == [("0.0:2", 3)]


def test_other_errors_are_not_retried(run, make_numbers):
    calls, made = failing({2}, ValueError)
    operator = MapRows(of(made["map"][1]), ErrorPolicy.of("map", retry_on=OSError))
    with pytest.raises(ValueError):
        run(operator, *make_numbers(4))
    assert calls == [0, 1, 2]


def test_retries_with_raise(run, make_numbers):
    calls, made = failing({2}, OSError)
    operator = MapRows(of(made["map"][1]), ErrorPolicy.of("map", retry_on=OSError, max_retries=2))
    operator.sleep = lambda s: None
    with pytest.raises(OSError):
        run(operator, *make_numbers(4))
    assert calls == [0, 1, 2, 2, 2]


# ---------------------------------------------------------------------- ways to end


def test_sys_exit_is_an_error_of_the_row(run, make_numbers):
    def leave(row):
        if row["x"] == 2:
            sys.exit("enough")
        return row

    found = run(MapRows(of(leave), KEEP), *make_numbers(4))
    assert found.column() == [0, 1, 3]
    assert isinstance(found.letters[0].error, UserExitError)
    with pytest.raises(UserExitError, match="enough") as caught:
        run(MapRows(of(leave)), *make_numbers(4))
    assert not isinstance(caught.value, SystemExit)
    with pytest.raises(UserExitError):
        run(MapBatches(of(lambda b: sys.exit(3))), *make_numbers(4))


@pytest.mark.parametrize("kind", [MapRows, FlatMap, FilterRows, MapBatches])
def test_keyboard_interrupt_passes(run, make_numbers, kind):
    def interrupted(data):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kind(of(interrupted), errors=KEEP), *make_numbers(4))


def test_stop_iteration_is_an_error(run, make_numbers):
    def stop(row):
        return next(iter([]))

    with pytest.raises(RayDataUserCodeException, match="StopIteration"):
        run(MapRows(of(stop)), *make_numbers(2))
    found = run(FlatMap(of(stop), KEEP), *make_numbers(2))
    assert len(found.letters) == 2


def test_errors_of_the_input_are_not_the_functions(run, make_numbers):
    def broken():
        yield from make_numbers(2)
        raise LookupError("reader")

    for kind in (MapRows, FlatMap, FilterRows, MapBatches):
        task = TaskContext("0.0")
        operator = kind(of(lambda data, wraps: [data] if wraps else data, [kind is FlatMap]), errors=KEEP)
        with pytest.raises(LookupError) as caught:
            list(operator.process(broken(), task))
        assert not isinstance(caught.value, RayDataUserCodeException)
        assert not task.letters


def test_letters_do_not_keep_what_the_function_held(run, make_numbers):
    import gc
    import weakref

    class Thing:
        pass

    seen = []

    def fails(row):
        thing = Thing()
        seen.append(weakref.ref(thing))
        raise Bad

    found = run(MapRows(of(fails), KEEP), *make_numbers(2))
    gc.collect()
    assert len(found.letters) == 2 and all(ref() is None for ref in seen)


def test_pandas_that_is_missing_is_no_error_of_rows(run, make_numbers, monkeypatch):
    from skate.data._operators import batch_operator

    def missing(*args):
        raise ImportError("pandas is not installed")

    monkeypatch.setattr(batch_operator, "to_batch", missing)
    with pytest.raises(ImportError) as caught:
        run(MapBatches(of(lambda b: b), errors=KEEP), *make_numbers(2))
    assert not isinstance(caught.value, RayDataUserCodeException)


def test_pid_is_the_tasks_own_without_a_time_limit(run, make_numbers):
    pids = run(MapRows(of(lambda row: {"pid": os.getpid()}), KEEP), *make_numbers(1)).column("pid")
    assert pids == [os.getpid()]


def test_empty_input(run):
    empty = pa.table({"x": pa.array([], pa.int64())})
    for kind in (MapRows, FlatMap, FilterRows, MapBatches):
        assert run(kind(of(lambda data: 1 / 0), errors=KEEP), empty, empty).rows == []
        assert run(kind(of(lambda data: 1 / 0), errors=KEEP)).rows == []
