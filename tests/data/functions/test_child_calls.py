"""timeout_per_row: functions that hang or crash take a child process with them, and nothing else."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import functools
import gc
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from skate.data._operators.async_calls import one_by_one
from skate.data._operators.child_calls import ChildFunction
from skate.data._operators.dead_letters import ErrorPolicy
from skate.data._operators.functions import UserFunction
from skate.data._operators.map_operators import FilterRows, FlatMap, MapBatches, MapRows
from skate.data._task.operators import NotOfRow, Replica, TaskContext
from skate.data.exceptions import RowCrashedError, RowTimeoutError, UserExitError

of = UserFunction.of
#: Seconds that no call takes but those that hang: the machine may be busy.
LONG = 20.0
QUICK = ErrorPolicy.of("map", on_error="dead_letter", timeout_per_row=0.3)
SLOW = ErrorPolicy.of("map", on_error="dead_letter", timeout_per_row=LONG)


def hang():
    while True:
        pass


def hang_in_c():
    ctypes.CDLL(None).pause()


def abort():
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def segfault():
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def ways(row, way):
    if row["x"] == 2:
        way()
    return row


@pytest.mark.parametrize(
    ("way", "kind", "text", "policy"),
    [
        (hang, RowTimeoutError, "longer than 0.3 s", QUICK),
        (hang_in_c, RowTimeoutError, "killed", QUICK),
        (segfault, RowCrashedError, "SIGSEGV", SLOW),
        (lambda: os._exit(3), RowCrashedError, "exited with code 3", SLOW),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), RowCrashedError, "SIGKILL.*memory", SLOW),
        (abort, RowCrashedError, "SIGABRT", SLOW),
        (lambda: sys.exit(4), UserExitError, r"sys.exit\(4\)", SLOW),
        (lambda: {}["k"], KeyError, "k", SLOW),
    ],
    ids=["hang", "hang-c", "segfault", "exit", "kill", "abort", "sys.exit", "raise"],
)
def test_only_that_row_is_lost(run, make_numbers, way, kind, text, policy):
    found = run(MapRows(of(ways, [way]), policy), *make_numbers(3, 2))
    assert found.column() == [0, 1, 3, 4]
    (letter,) = found.letters
    assert letter.row_id == "0.0:2"
    assert isinstance(letter.error, kind)
    with pytest.raises(kind, match=text):
        raise letter.error


def test_all_operators(run, make_numbers):
    def leave(x):
        if x == 2:
            os._exit(1)

    def rows(row):
        yield row
        leave(row["x"])
        yield row

    def truth(row):
        leave(row["x"])
        return True

    def batch(batch):
        for x in batch["x"].tolist():
            leave(x)
        return {"x": batch["x"], "big": np.zeros((len(batch["x"]), 100_000))}

    tables = make_numbers(4)
    assert run(FlatMap(of(rows), SLOW), *tables).column() == [0, 0, 1, 1, 3, 3]
    assert run(FilterRows(of(truth), SLOW), *tables).column() == [0, 1, 3]
    for size in (None, 3):
        found = run(MapBatches(of(batch), size, errors=SLOW), *tables)
        assert found.column() == [0, 1, 3] and found.failed == ["0.0:2"]


def test_raise(run, make_numbers):
    policy = ErrorPolicy.of("map", timeout_per_row=LONG)
    with pytest.raises(RowCrashedError, match="row 2 of task 0.0") as caught:
        run(MapRows(of(ways, [lambda: os._exit(1)]), policy), *make_numbers(3))
    assert caught.value.row == {"x": 2, "s": "2"}


def test_raise_names_the_row_of_a_batch(run, make_numbers):
    """An exception says what it is about by its traceback; a crash does not."""

    def batch(batch):
        if 5 in batch["x"]:
            os._exit(1)
        return batch

    def items(batch):
        for x in batch["x"].tolist():
            yield batch if x != 5 else os._exit(1)

    def too_many(batch):
        if len(batch["x"]) > 2:
            os._exit(1)
        return batch

    policy = ErrorPolicy.of("map", timeout_per_row=LONG)
    for function in (batch, items):
        with pytest.raises(RowCrashedError, match="code 1\n.* failed at row 5 of task 0.0") as caught:
            run(MapBatches(of(function), 8, errors=policy), *make_numbers(7))
        assert caught.value.row == {"x": 5, "s": "5"}
    with pytest.raises(RowCrashedError, match="a batch, rows 0 to 6 of task 0.0"):
        run(MapBatches(of(too_many), 8, errors=policy), *make_numbers(7))


def test_traceback_of_the_child_is_in_the_letter(run, make_numbers):
    found = run(MapRows(of(ways, [lambda: {}["k"]]), SLOW), *make_numbers(3))
    assert "in ways" in found.letters[0].traceback_text


def test_time_limit_counts_for_each_row_of_a_batch(run, make_numbers):
    class Deadlines(ChildFunction):
        seen = []

        def call(self, data, seconds):
            self.seen.append(seconds)
            return super().call(data, seconds)

    from skate.data._operators import calls

    kept, calls.ChildFunction = calls.ChildFunction, Deadlines
    try:
        policy = ErrorPolicy.of("map", timeout_per_row=2.0)
        run(MapBatches(of(lambda b: b), 3, errors=policy), *make_numbers(4))
    finally:
        calls.ChildFunction = kept
    assert Deadlines.seen == [6.0, 2.0]


class Loads:
    def __init__(self, fail=False):
        if fail:
            raise OSError("no weights")
        self.n = 0

    def __call__(self, row):
        self.n += 1
        if row["x"] == 2:
            os._exit(1)
        return {"x": row["x"], "n": self.n, "pid": os.getpid()}


def test_calls_while_a_generator_is_read():
    child = ChildFunction(lambda: lambda n: iter(range(n)) if n else "none", "numbers")
    items = child.call(4, LONG)
    assert next(items) == 0
    assert child.call(0, LONG) == "none"
    assert list(items) == [1, 2, 3]
    rest = child.call(3, LONG)
    other = child.call(2, LONG)
    assert (list(rest), list(other)) == ([0, 1, 2], [0, 1])
    child.close()


def test_instance_lives_in_the_child_and_is_made_again(run, make_numbers):
    replica = Replica()
    operator = MapRows(of(Loads), SLOW)
    operator.open(0, replica)
    found = run(operator, *make_numbers(5), task=TaskContext("0.0", replica=replica))
    assert found.column("n") == [1, 2, 1, 2]
    assert len(set(found.column("pid"))) == 2 and os.getpid() not in found.column("pid")
    found = run(operator, *make_numbers(1), task=TaskContext("0.1", replica=replica))
    assert found.column("n") == [3]
    replica.instances[0].close()


def test_constructor_error(run, make_numbers):
    with pytest.raises(OSError, match="no weights"):
        MapRows(of(Loads, None, None, [True]), SLOW).open(0, Replica())


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(file.read().split())


def test_no_child_stays(run, make_numbers):
    before = children()
    run(MapRows(of(lambda row: row), SLOW), *make_numbers(3))
    run(MapRows(of(ways, [hang]), QUICK), *make_numbers(3))
    output = FlatMap(of(lambda row: iter([row] * 10_000)), SLOW).process(
        iter(make_numbers(3)), TaskContext("0.0")
    )
    next(output)
    output.close()
    child = ChildFunction(lambda: len, "len")
    assert child.call([1, 2], LONG) == 2
    del child, output
    gc.collect()
    assert children() <= before


def test_child_ends_with_its_parent_even_while_it_hangs(tmp_path, wait_until):
    script = textwrap.dedent("""
        import os, sys, threading, time
        from skate.data._operators.child_calls import ChildFunction

        def hang(path):
            with open(path, "w") as file:
                file.write(str(os.getpid()))
            while True:
                pass

        threading.Thread(target=lambda: ChildFunction(lambda: hang, "hang").call(sys.argv[1], 1e6), daemon=True).start()
        while not os.path.exists(sys.argv[1]) or not os.path.getsize(sys.argv[1]):
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
    """)
    path = tmp_path / "pid"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    pid = int(path.read_text())
    wait_until(lambda: not is_running(pid))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_from_another_thread(run, make_numbers):
    """The thread that started the child may end before it."""
    replica = Replica()
    operator = MapRows(of(Loads), SLOW)
    thread = threading.Thread(target=operator.open, args=(0, replica))
    thread.start()
    thread.join()
    assert run(operator, *make_numbers(1), task=TaskContext("0.0", replica=replica)).column("n") == [1]
    replica.instances[0].close()


class Spreads:
    def __call__(self, row):
        for i in range(3000):
            if row["x"] == 1 and i == 2999:
                os._exit(1)
            yield {"x": row["x"], "i": i}


@pytest.mark.parametrize("fn", [Spreads, Spreads()], ids=["class", "object"])
def test_tasks_in_turns_on_one_replica(make_numbers, fn):
    """The local port takes an item of one task, then one of another."""
    replica = Replica()
    policy = ErrorPolicy.of("map", on_error="dead_letter", timeout_per_row=LONG)
    operator = FlatMap(of(fn), policy)
    tasks = [TaskContext(f"0.{n}", replica=replica, target_max_block_bytes=1) for n in range(3)]
    outputs = [operator.process(iter(make_numbers(3)), task) for task in tasks]
    found = [[], [], []]
    going = {0, 1, 2}
    while going:
        for n in sorted(going):
            table = next(outputs[n], None)
            if table is None:
                going.discard(n)
            else:
                found[n] += zip(table["x"].to_pylist(), table["i"].to_pylist(), strict=True)
    assert found == [[(x, i) for x in (0, 2) for i in range(3000)]] * 3
    assert [[letter.row_id for letter in task.letters] for task in tasks] == [[f"0.{n}:1"] for n in range(3)]
    for one in replica.instances.values():
        one.close()


def test_large_values_both_ways(run, make_numbers):
    child = ChildFunction(lambda: lambda data: (data, data), "twice")
    data = np.arange(3 << 20)
    first, second = child.call(data, LONG)
    assert (first == data).all() and (second == data).all()
    child.close()


def test_where_native_code_crashed_is_in_the_letter(run, make_numbers):
    def crash(row):
        if row["x"] == 1:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            ctypes.string_at(0)
        return row

    found = run(MapRows(of(crash), SLOW), *make_numbers(3))
    text = found.letters[0].traceback_text
    assert text.index("in string_at") < text.index("in crash") < text.index("killed by SIGSEGV")
    assert "_loop" not in text, "frames of ours"


def crash_once(path):
    """A function whose second process cannot make it."""
    with open(path, "a") as file:
        file.write(".")
    if os.path.getsize(path) > 1:
        raise OSError("no weights")
    return leave


def leave(row):
    os._exit(3)


@pytest.mark.parametrize("is_fresh", [False, True])
def test_a_function_that_cannot_be_made_again_is_no_error_of_a_row(tmp_path, is_fresh):
    child = ChildFunction(functools.partial(crash_once, tmp_path / "log"), "f", is_fresh)
    with pytest.raises(RowCrashedError, match="f ended its process: it exited with code 3"):
        child.call(1)
    with pytest.raises(NotOfRow) as passing:
        child.call(1)
    assert isinstance(passing.value.error, OSError)
    child.close()


def test_operators_raise_the_error_that_no_row_is_to_blame_for(run, make_numbers, tmp_path):
    class Once:
        def __init__(self, path):
            self.call = crash_once(path)

        def __call__(self, row):
            return self.call(row)

    for kind in (MapRows, FlatMap, FilterRows, MapBatches):
        path = tmp_path / kind.__name__
        with pytest.raises(OSError, match="no weights"):
            run(kind(of(Once, None, None, [path]), errors=SLOW), *make_numbers(3))


def divide(number):
    return (10 // number, len(sys.argv), hasattr(sys.modules["__main__"], "pytest"))


def count(number):
    return iter(range(number))


def test_a_fresh_child_is_another_python():
    child = ChildFunction(lambda: divide, "divide", is_fresh=True)
    assert child.call(5) == (2, 1, False)
    with pytest.raises(ZeroDivisionError):
        child.call(0)
    assert child.call(2, LONG) == (5, 1, False)
    child.close()
    child = ChildFunction(lambda: count, "count", is_fresh=True)
    assert list(child.call(3)) == [0, 1, 2]
    child.close()


def test_a_fresh_child_that_ends_before_its_first_call():
    child = ChildFunction(functools.partial(os._exit, 5), "f", is_fresh=True)
    with pytest.raises(RowCrashedError, match="f ended its process before its first call: .* code 5"):
        child.start()


async def later(number):
    await asyncio.sleep(0)
    return number * 2


async def items_later(number):
    for item in range(number):
        await asyncio.sleep(0)
        yield item


def test_async_functions_one_by_one():
    assert one_by_one(later)(4) == 8
    assert list(one_by_one(items_later)(3)) == [0, 1, 2]
    assert one_by_one(len)([1]) == 1


def test_what_cannot_be_sent_back_is_an_error_of_the_row(run, make_numbers):
    found = run(MapRows(of(lambda row: {"l": threading.Lock()} if row["x"] else row), SLOW), *make_numbers(2))
    assert found.column() == [0] and found.failed == ["0.0:1"]


def test_text_is_printed_once(capfd, run, make_numbers):
    print("before")

    def says(row):
        print("row", row["x"])
        return row

    run(MapRows(of(says), SLOW), *make_numbers(2))
    sys.stdout.flush()
    assert capfd.readouterr().out.split("\n") == ["before", "row 0", "row 1", ""]
