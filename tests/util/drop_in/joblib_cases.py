"""What programs do with joblib: ``python joblib_cases.py {loky | skate | inline}``."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import joblib
import numpy as np
import pandas as pd
from cases import kind, outcome, run
from joblib import Parallel, delayed


def write(a: Any) -> Any:
    a[0] = 7
    return a


def write_frame(frame: Any) -> float:
    frame.loc[0, "a"] = 7
    return float(frame["a"].sum())


def is_writable(*arrays: Any, **named: Any) -> list[bool]:
    return [bool(a.flags.writeable) for a in (*arrays, *named.values())]


def store(out: Any, position: int) -> None:
    out[position] = position + 1


def square(x: int) -> int:
    return x * x


def fail(x: int) -> int:
    if x >= 2:
        raise ValueError("no")
    return x


def nested(n: int) -> Any:
    return Parallel(n_jobs=2)(delayed(square)(i) for i in range(n))


def crash(_: int) -> None:
    os._exit(3)


def not_picklable(_: int) -> Any:
    return (i for i in range(3))


def bad_items() -> Any:
    yield delayed(square)(1)
    raise KeyError("the iterable")


# --------------------------------------------------------------------------- cases, by name


def case_small_arrays_are_writable() -> Any:
    arrays = [np.zeros(3), np.zeros((4, 4))[:, 1], np.zeros(50_000)]
    back = Parallel(n_jobs=2)(delayed(write)(a) for a in arrays)
    for array in back:
        array[1] = 1
    return [float(a.sum()) for a in back], Parallel(n_jobs=2)(
        [delayed(write_frame)(pd.DataFrame({"a": [1, 2]}))] * 2
    )


def case_large_arrays_are_shared() -> Any:
    small, large = np.zeros(131_000), np.zeros(131_073)
    got = Parallel(n_jobs=2)(delayed(is_writable)(small, large, named=large, other=small) for _ in range(2))
    copies = Parallel(n_jobs=2, max_nbytes=None)(delayed(is_writable)(small, large) for _ in range(2))
    lower = Parallel(n_jobs=2, max_nbytes="500K")(delayed(is_writable)(small, np.zeros(9)) for _ in range(2))
    private = Parallel(n_jobs=2, mmap_mode="c")(delayed(is_writable)(large) for _ in range(2))
    return got, copies, lower, private


def case_results_into_a_file() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        out = np.memmap(os.path.join(folder, "out"), dtype="int64", shape=(4, 2), mode="w+")
        Parallel(n_jobs=2)(delayed(store)(out[:, 1], i) for i in range(4))
        Parallel(n_jobs=2)(delayed(store)(np.asarray(out)[1:, 0], i) for i in range(3))
        return out.tolist()


def case_memory_of_a_loaded_file() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "data.joblib")
        joblib.dump(np.arange(10.0), path)
        data = joblib.load(path, mmap_mode="r")
        return Parallel(n_jobs=2)(delayed(np.sum)(data[i:]) for i in range(3)), Parallel(n_jobs=2)(
            [delayed(is_writable)(data)] * 2
        )


def case_batches() -> Any:
    return [
        Parallel(n_jobs=2, batch_size=size, pre_dispatch=ahead)(delayed(square)(i) for i in range(20))
        for size, ahead in ((1, "all"), (7, "2*n_jobs"), ("auto", 1))
    ]


def case_generators() -> Any:
    # One after the other: loky's have one set of processes, which the end of one takes from the next.
    ordered = Parallel(n_jobs=2, return_as="generator")(delayed(square)(i) for i in range(9))
    first, rest = next(ordered), list(ordered)
    unordered = Parallel(n_jobs=2, return_as="generator_unordered")(delayed(square)(i) for i in range(9))
    return first, rest, sorted(unordered)


def case_errors() -> Any:
    return (
        outcome(Parallel(n_jobs=2), (delayed(fail)(i) for i in range(20))),
        outcome(Parallel(n_jobs=2), bad_items()),
        Parallel(n_jobs=2)(delayed(square)(i) for i in range(3)),
    )


def case_used_again_after_an_error() -> Any:
    # One error a run: joblib's own backend may report a second one late, out of the run that follows.
    failing = [*(delayed(square)(i) for i in range(7)), delayed(fail)(7)]
    with Parallel(n_jobs=2) as parallel:
        return (
            outcome(parallel, failing),
            parallel(delayed(square)(i) for i in range(3)),
            outcome(parallel, failing),
        )


def case_nested() -> Any:
    return Parallel(n_jobs=2)(delayed(nested)(n) for n in (2, 3))


def case_lambdas() -> Any:
    two = np.array([2.0])
    return Parallel(n_jobs=2)(delayed(lambda x: float(x * two[0]))(i) for i in range(3))


def case_what_cannot_be_pickled() -> Any:
    return (
        kind(Parallel(n_jobs=2), [delayed(not_picklable)(1)] * 2) == "list",
        kind(Parallel(n_jobs=2), [delayed(square)(sys._getframe())] * 2) == "list",
    )


def case_timeouts() -> Any:
    return kind(Parallel(n_jobs=2, timeout=0.01), [delayed(sum)(range(30_000_000))] * 2)


def case_a_worker_that_dies() -> Any:
    return isinstance(outcome(Parallel(n_jobs=2), [delayed(crash)(1)] * 2), tuple)


def main() -> None:
    which, *names = sys.argv[1:]
    if which != "loky":
        import skate
        from skate.util.joblib import register_skate

        register_skate()
        skate.init(num_cpus=2, log_to_driver=False, mode="inline" if which == "inline" else None)
    with joblib.parallel_config(backend="loky" if which == "loky" else "skate"):
        run(globals(), names)


if __name__ == "__main__":
    main()
