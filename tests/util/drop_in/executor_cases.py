"""What programs do with ``ProcessPoolExecutor``: ``python executor_cases.py {standard | skate}``."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import sys
import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pandas as pd
from cases import kind, outcome, run

table: Any = None
cache: dict[str, Any] = {}


def prepare(value: Any) -> None:
    global table
    table = value
    cache["value"] = value


def fail_to_prepare(value: Any) -> None:
    raise ValueError(f"no {value}")


def read_all(x: int) -> Any:
    return x, table, dict(cache)


def count_up(_: Any) -> int:
    cache["count"] = cache.get("count", 0) + 1
    return cache["count"]


def write_array(a: Any) -> Any:
    a[0] = 7
    return a


def write_frame(frame: Any) -> float:
    frame.loc[0, "a"] = 7
    return float(frame["a"].sum())


def is_same(a: Any, b: Any) -> bool:
    return a is b


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> int:
    if x == 2:
        raise ValueError(f"no {x}")
    return x


def crash() -> None:
    os._exit(3)


def times(x: int, y: int = 1, *, z: int = 1) -> int:
    return x * y * z


def not_picklable() -> Any:
    return threading.Lock()


def bad_items() -> Any:
    yield 1
    raise KeyError("the iterable")


# --------------------------------------------------------------------------- cases, by name


def case_initializer_sets_globals(make: Any) -> Any:
    with make(1, initializer=prepare, initargs=(10,)) as executor:
        by_map = list(executor.map(read_all, range(2)))
        return by_map, executor.submit(read_all, 5).result(), table


def case_globals_stay_between_calls(make: Any) -> Any:
    with make(1) as executor:
        executor.submit(prepare, 5).result()
        counts = list(executor.map(count_up, range(3))), list(executor.map(count_up, range(3), chunksize=3))
        return counts, executor.submit(read_all, 1).result()


def case_initializer_raises(make: Any) -> Any:
    with make(1, initializer=fail_to_prepare, initargs=(1,)) as executor:
        futures = [executor.submit(double, x) for x in range(1)]
        got = [kind(future.result, 30) for future in futures]
        refused = kind(executor.submit, double, 1)
        try:
            futures[0].result()
        except concurrent.futures.BrokenExecutor as error:
            caught = isinstance(error, concurrent.futures.process.BrokenProcessPool)
        return got, refused, caught


def case_a_worker_that_dies(make: Any) -> Any:
    with make(1) as executor:
        try:
            executor.submit(crash).result(3600)
        except concurrent.futures.process.BrokenProcessPool:
            return "broken"
    return "not broken"


def case_arrays_are_writable(make: Any) -> Any:
    arrays = [np.zeros(3), np.zeros(300_000), np.zeros((4, 4))[:, 1]]
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    with make(2) as executor:
        back = list(executor.map(write_array, arrays))
        for array in back:
            array[1] = 1
        nested = executor.submit(dict, x=[np.zeros(2)], y={"z": np.zeros(2)}).result()
        nested["x"][0][0] = nested["y"]["z"][1] = 1
        thawed = executor.submit(write_array, frozen).result()
        thawed[1] = 1
        keyword = executor.submit(write_array, a=np.zeros(2)).result()
        keyword[1] = 2
        return (
            [float(a.sum()) for a in back],
            arrays[0].sum(),
            repr(nested),
            thawed.tolist(),
            keyword.tolist(),
        )


def case_frames_are_writable(make: Any) -> Any:
    with make(1) as executor:
        return executor.submit(write_frame, pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})).result()


def case_identity_within_a_call(make: Any) -> Any:
    array = np.zeros(2)
    with make(1) as executor:
        return executor.submit(is_same, array, array).result(), executor.submit(
            is_same, a=array, b=array
        ).result()


def case_keywords(make: Any) -> Any:
    with make(1) as executor:
        return (
            executor.submit(times, 2, 3, z=4).result(),
            executor.submit(functools.partial(times, z=5), 2).result(),
            list(executor.map(times, range(3), range(3, 6))),
            outcome(executor.submit(times, 1, 2, 3).result),
            kind(executor.submit),
        )


def case_chunks(make: Any) -> Any:
    with make(2) as executor:
        return (
            [list(executor.map(double, range(7), chunksize=size)) for size in (1, 3, 100)],
            kind(executor.map, double, [1], chunksize=0),
            list(executor.map(double, [])),
        )


def case_errors(make: Any) -> Any:
    with make(1) as executor:
        future = executor.submit(fail, 2)
        error = future.exception(3600)
        results = executor.map(fail, range(4))
        return (
            type(error).__name__,
            str(error),
            type(error.__cause__).__name__ != "NoneType",
            [outcome(next, results) for _ in range(4)],
            outcome(list, executor.map(fail, range(4), chunksize=4)),
            future.done(),
            future.cancel(),
            kind(executor.submit(not_picklable).result, 30),
            kind(executor.submit(double, threading.Lock()).result, 30),
            outcome(executor.map, double, bad_items()),
            executor.submit(double, 4).result(),
        )


def case_callbacks(make: Any) -> Any:
    told: list[Any] = []
    with make(1) as executor:
        futures = [executor.submit(double, x) for x in range(4)]
        for future in futures:
            future.add_done_callback(lambda done: told.append(done.result()))
        concurrent.futures.wait(futures)
        executor.submit(fail, 2).add_done_callback(lambda done: told.append(repr(done.exception())))
    return told


def case_waits(make: Any) -> Any:
    with make(2) as executor:
        futures = [executor.submit(double, x) for x in range(6)]
        done, rest = concurrent.futures.wait(futures)
        ordered = sorted(future.result() for future in concurrent.futures.as_completed(futures))
        failing = [executor.submit(fail, x) for x in (2, 2)]
        first, _ = concurrent.futures.wait(failing, return_when=concurrent.futures.FIRST_EXCEPTION)
        return len(done), len(rest), ordered, len(first) >= 1


def case_cancel(make: Any) -> Any:
    with make(1) as executor:
        long = executor.submit(sum, range(40_000_000))
        while not long.running():
            pass
        waiting = [executor.submit(double, x) for x in range(20)]
        last = waiting[-1]
        cancelled = last.cancel(), last.cancelled(), last.done(), kind(last.result), long.cancel()
        executor.shutdown(cancel_futures=True)
        return (
            cancelled,
            waiting[-2].cancelled(),
            kind(waiting[-2].result),
            long.result() > 0,
            kind(executor.submit, double, 1),
        )


def case_timeouts(make: Any) -> Any:
    with make(1) as executor:
        long = executor.submit(sum, range(20_000_000))
        late = kind(long.result, 0.001), kind(long.exception, 0.001)
        results = executor.map(double, [1], timeout=0.001)
        return late, kind(next, results), long.result() > 0


def case_shutdown(make: Any) -> Any:
    executor = make(1)
    futures = [executor.submit(double, x) for x in range(3)]
    executor.shutdown(wait=False)
    ends = kind(executor.submit, double, 1), kind(executor.map, double, [1])
    executor.shutdown()
    executor.shutdown()
    return [future.result() for future in futures], ends


def case_workers_that_are_replaced(make: Any) -> Any:
    with make(1, max_tasks_per_child=1, initializer=prepare, initargs=(1,)) as executor:
        return [executor.submit(count_up, None).result() for _ in range(3)], executor.submit(
            read_all, 1
        ).result()


def case_arguments(make: Any) -> Any:
    return (
        kind(make, 0),
        kind(make, -1),
        kind(make, 1, initializer="no function"),
        kind(make, 1, max_tasks_per_child=0),
    )


def case_kind_of_future(make: Any) -> Any:
    with make(1) as executor:
        future = executor.submit(double, 1)
        return isinstance(future, Future), isinstance(executor, concurrent.futures.Executor), future.result()


def main() -> None:
    which, *names = sys.argv[1:]
    if which != "standard":
        import skate
        from skate.util import Executor

        skate.init(num_cpus=2, log_to_driver=False, mode="inline" if which == "inline" else None)
        make: Any = Executor
    else:

        def make(*args: Any, **kwargs: Any) -> Any:
            method = "spawn" if "max_tasks_per_child" in kwargs else "fork"
            context = multiprocessing.get_context(method)
            return concurrent.futures.ProcessPoolExecutor(*args, mp_context=context, **kwargs)

    run(globals(), names, make)


if __name__ == "__main__":
    main()
