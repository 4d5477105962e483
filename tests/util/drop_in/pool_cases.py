"""What programs do with ``multiprocessing.Pool``: ``python pool_cases.py {standard | skate}``."""

from __future__ import annotations

import collections
import functools
import multiprocessing
import pickle
import sys
import threading
from typing import Any

import numpy as np
import pandas as pd
from cases import kind, outcome, run

table: Any = None
cache: dict[str, Any] = {}
factor = 2


class Settings:
    scale = 1
    names: list[str] = []

    @classmethod
    def scaled(cls, x: int) -> int:
        return cls.scale * x


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def with_table(self, _: Any = None) -> Any:
        return self.x, table

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.x == other.x


Pair = collections.namedtuple("Pair", "left right")


def prepare(value: Any) -> None:
    global table
    table = value
    cache["value"] = value
    Settings.scale = value
    Settings.names.append("prepared")


def prepare_nothing() -> None:
    cache["nothing"] = True


def read_all(x: int) -> Any:
    return x, table, dict(cache), Settings.scaled(x), Settings.names


def use_helper(x: int) -> Any:
    return helper(x)


def helper(x: int) -> Any:
    return x + table


def count_up(_: Any) -> int:
    cache["count"] = cache.get("count", 0) + 1
    return cache["count"]


def write_array(a: Any) -> Any:
    a[0] = 7
    return a


def write_nested(item: Any) -> Any:
    item["list"][0][0] = 7
    item["pair"].left[1] = 8
    return item


def write_frame(frame: Any) -> float:
    frame.loc[0, "a"] = 7
    return float(frame["a"].sum())


def write_frozen(a: Any) -> bool:
    return bool(a.flags.writeable)


def is_same(pair: Any) -> bool:
    return pair[0] is pair[1]


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> int:
    if x == 2:
        raise ValueError(f"no {x}")
    return x


def not_picklable(x: int) -> Any:
    return threading.Lock() if x == 1 else x


def times(x: int, y: int = 1, *, z: int = 1) -> int:
    return x * y * z


def bad_items() -> Any:
    yield 1
    yield 2
    raise KeyError("the iterable")


# --------------------------------------------------------------------------- cases, by name


def case_initializer_sets_globals(pool_class: Any) -> Any:
    with pool_class(1, initializer=prepare, initargs=(10,)) as pool:
        return pool.map(read_all, range(2)), pool.apply(use_helper, (1,)), table


def case_initializer_without_arguments(pool_class: Any) -> Any:
    with pool_class(1, prepare_nothing) as pool:
        return pool.map(read_all, [1])


def case_methods_see_the_global(pool_class: Any) -> Any:
    with pool_class(1, prepare, ("t",)) as pool:
        return pool.map(Point(3).with_table, [1]), pool.map(Point.with_table, [Point(4)])


def case_globals_stay_between_calls(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        pool.apply(prepare, (5,))
        return pool.map(count_up, range(3)), pool.map(count_up, range(2)), pool.apply(read_all, (1,))


def case_initializer_runs_again_in_new_workers(pool_class: Any) -> Any:
    with pool_class(1, prepare, (3,), maxtasksperchild=1) as pool:
        return [pool.apply(use_helper, (x,)) for x in range(3)], pool.map(count_up, range(3), chunksize=1)


def case_partials_of_main(pool_class: Any) -> Any:
    with pool_class(1, prepare, (3,)) as pool:
        return pool.map(functools.partial(times, 2, z=3), range(3)), pool.map(
            functools.partial(use_helper), [1]
        )


def case_arrays_are_writable(pool_class: Any) -> Any:
    arrays = [np.zeros(3), np.zeros(300_000), np.zeros((4, 4))[:, 1], np.asfortranarray(np.zeros((3, 3)))[0]]
    with pool_class(2) as pool:
        back = pool.map(write_array, arrays)
        for array in back:
            array[1] = 1
        by_apply = pool.apply(write_array, (np.zeros(2),))
        by_apply[1] = 2
        ordered = list(pool.imap(write_array, [np.zeros(2)] * 3))
        ordered[0][1] = 3
        starred = pool.starmap(np.add, [(np.zeros(2), 1)])
        starred[0][1] = 4
        by_keyword = pool.apply(write_array, kwds={"a": np.zeros(2)})
        by_keyword[1] = 5
    sums = [float(array.sum()) for array in back]
    return (
        sums,
        arrays[0].sum(),
        by_apply.tolist(),
        ordered[0].tolist(),
        starred[0].tolist(),
        by_keyword.tolist(),
    )


def case_nested_arrays_are_writable(pool_class: Any) -> Any:
    item = {"list": [np.zeros(2), [np.zeros(2)]], "pair": Pair(np.zeros(2), {"deep": np.zeros(2)})}
    with pool_class(1) as pool:
        (back,) = pool.map(write_nested, [item])
    back["list"][1][0][0] = 1
    back["pair"].right["deep"][0] = 2
    return repr(back)


def case_frames_are_writable(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        return pool.map(write_frame, [pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})] * 2)


def case_frozen_arrays(pool_class: Any) -> Any:
    array = np.zeros(3)
    array.flags.writeable = False
    with pool_class(1) as pool:
        return pool.map(write_frozen, [array])


def case_captured_array(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        return pool.map(functools.partial(np.copyto, np.zeros(2)), [1.0, 2.0])


def case_bytearrays(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        return pool.map(write_array, [bytearray(3), bytearray(200_000)])[0]


def case_identity_within_an_item(pool_class: Any) -> Any:
    array = np.zeros(2)
    with pool_class(1) as pool:
        return pool.map(is_same, [(array, array)]), pool.apply(is_same, ((array, array),))


def case_results_of_main_classes(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        points = pool.map(Point, range(3))
        return (
            points == [Point(0), Point(1), Point(2)],
            type(points[0]) is Point,
            pool.map(Pair._make, [(1, 2)]),
        )


def case_empty(pool_class: Any) -> Any:
    with pool_class(2) as pool:
        empty = pool.map_async(double, [])
        return (
            pool.map(double, []),
            empty.get(5),
            list(pool.imap(double, [])),
            pool.starmap(times, []),
            empty.ready(),
        )


def case_chunks(pool_class: Any) -> Any:
    with pool_class(2) as pool:
        return (
            [pool.map(double, range(7), chunksize=size) for size in (1, 3, 7, 100)],
            list(pool.imap(double, range(7), 3)),
            sorted(pool.imap_unordered(double, range(7), 2)),
            pool.starmap(times, zip(range(4), range(4), strict=True), 2),
            kind(pool.imap, double, range(3), 0),
        )


def case_errors(pool_class: Any) -> Any:
    with pool_class(2) as pool:
        result = pool.map_async(fail, range(4))
        result.wait(3600)
        return (
            outcome(pool.map, fail, range(4)),
            outcome(pool.apply, fail, (2,)),
            outcome(pool.starmap, times, [(1, 2, 3)]),
            result.ready(),
            result.successful(),
            outcome(result.get),
        )


def case_imap_goes_on_after_an_error(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        results = pool.imap(fail, range(4))
        return [outcome(results.next, 30) for _ in range(4)], outcome(results.next)


def case_results_that_cannot_be_pickled(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        results = pool.imap(not_picklable, range(3))
        return [kind(results.next, 30) for _ in range(3)], kind(pool.apply, not_picklable, (1,))


def case_items_that_cannot_be_pickled(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        return kind(pool.apply, double, (threading.Lock(),)), pool.map(double, [1, 2])


def case_failing_iterables(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        results = pool.imap(double, bad_items())
        return (
            [outcome(results.next, 30) for _ in range(3)],
            outcome(pool.map, double, bad_items()),
            outcome(pool.starmap, times, [1]),
            kind(pool.map, double, 5),
            pool.map(double, [4]),
        )


def case_callbacks(pool_class: Any) -> Any:
    told: list[Any] = []
    with pool_class(1) as pool:
        pool.map_async(double, range(3), callback=told.append).get()
        pool.apply_async(double, (5,), callback=told.append).get()
        failed = pool.apply_async(
            fail, (2,), callback=told.append, error_callback=lambda e: told.append(repr(e))
        )
        failed.wait()
        pool.map_async(fail, range(4), error_callback=lambda e: told.append(repr(e))).wait()
        several = [pool.apply_async(double, (x,), callback=told.append) for x in range(5)]
        [one.wait() for one in several]
    # Of calls made one by one, a machine that is busy may end the last before the first in one process.
    return told[:-5], sorted(told[-5:])


def case_ends(pool_class: Any) -> Any:
    pool = pool_class(2)
    running = kind(pool.join)
    result = pool.map_async(double, range(20))
    lazy = pool.imap(double, range(20))
    pool.close()
    refused = [kind(call, double, [1]) for call in (pool.map, pool.imap, pool.apply, pool.map_async)]
    pool.join()
    again = kind(pool.join), kind(pool.close), kind(pool.terminate), kind(pool.join)
    entered = kind(pool.__enter__)
    return running, refused, result.get(1), list(lazy), again, entered


def case_terminated(pool_class: Any) -> Any:
    pool = pool_class(1)
    with pool:
        pool.map(double, [1])
    return kind(pool.map, double, [1]), kind(pool.join)


def case_timeouts(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        gate = threading.Event()

        def never() -> Any:
            gate.wait()
            yield 1

        result = pool.apply_async(double, (1,))
        result.wait(3600)
        not_ready = kind(pool.imap(double, [1]).next, 30)
        gate.set()
        return result.get(0), not_ready, kind(pool.apply_async(double, (2,)).get, 30)


def case_not_ready(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        result = pool.apply_async(sum, (range(30_000_000),))
        got = kind(result.get, 0), kind(result.successful), result.ready(), kind(result.get, 0.01)
        pool.terminate()
        return got


def case_arguments(pool_class: Any) -> Any:
    return (
        kind(pool_class, 0),
        kind(pool_class, -1),
        kind(pool_class, 1, "no function"),
        kind(pool_class, 1, maxtasksperchild=0),
        kind(pool_class, 1, maxtasksperchild="one"),
    )


def case_pickling_of_a_pool(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        return kind(pickle.dumps, pool)


def case_results_are_passed_on(pool_class: Any) -> Any:
    with pool_class(2) as pool:
        results = [pool.apply_async(times, (x, 2), {"z": 3}) for x in range(4)]
        return [result.get() for result in results], kind(pickle.dumps, results[0])


def case_iterator_protocol(pool_class: Any) -> Any:
    with pool_class(1) as pool:
        results = pool.imap(double, range(3))
        return iter(results) is results, next(results), list(results), list(results)


def main() -> None:
    which, *names = sys.argv[1:]
    if which != "standard":
        import skate
        from skate.util.multiprocessing import Pool

        skate.init(num_cpus=2, log_to_driver=False, mode="inline" if which == "inline" else None)
        pool_class: Any = Pool
    else:
        pool_class = multiprocessing.get_context("fork").Pool
    run(globals(), names, pool_class)


if __name__ == "__main__":
    main()
