"""The same work without skate: a plain loop, and multiprocessing from the standard library."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Sequence

from demo.ocr import Model
from demo.readings import Reading

#: The model of this pool process. Functions sent to a pool have nowhere else to find it.
_model: Model | None = None


def read_with_loop(paths: Sequence[str]) -> Generator[Reading, None, None]:
    """Read one picture after the other in this process."""
    model = Model()
    for path in paths:
        yield model.read_file(path)


def read_with_multiprocessing(paths: Sequence[str], workers: int) -> Generator[Reading, None, None]:
    """Read with a pool of processes; yield readings as they are done.

    The processes are spawned: a fork would copy a process that already has threads.
    """
    # Ctrl-C in a terminal reaches the pool's processes too. They are to be stopped by this process, not to
    # print a traceback each, so they inherit that they ignore it.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pool = multiprocessing.get_context("spawn").Pool(workers, initializer=_load_model)
    finally:
        signal.signal(signal.SIGINT, handler)
    with pool:
        yield from pool.imap_unordered(_read, paths)


def _load_model() -> None:
    global _model
    _model = Model()


def _read(path: str) -> Reading:
    assert _model is not None, "the pool's initializer loads it"
    return _model.read_file(path)
