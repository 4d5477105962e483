"""Implements a backend of joblib, which runs batches of calls as tasks and shares large data."""

from __future__ import annotations

import copy
import logging
import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from joblib._memmapping_reducer import _get_backing_memmap, _reduce_memmap_backed
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from skate import _starting, api, cluster
from skate.util._copies import SHARED_BYTES, pack
from skate.util.executor import Executor

if TYPE_CHECKING:
    from skate.engine.refs import ObjectRef

_log = logging.getLogger(__name__)

#: Arguments of at least so many bytes are stored once for all tasks.
_STORED_BYTES = 100_000


class SkateBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """The backend. joblib makes one for each ``Parallel`` and calls all its methods."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = False
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **kwargs)
        self._ray_remote_args = ray_remote_args
        self._executor: Executor | None = None
        self._share_from: float = SHARED_BYTES
        self._shared = _SharedArguments(self._share_from)
        self._n_jobs = 1
        self.parallel: Any = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks run at a time: all the session's CPUs for -1, one less for -2, ..."""
        if n_jobs == 0:
            raise ValueError("n_jobs must not be 0; -1 means all CPUs of the session")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        _starting.ensure_started()
        return max(1, int(cluster.cluster_resources().get("CPU", 1)) + 1 + n_jobs)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **kwargs: Any
    ) -> int:
        """Prepare for a call of ``Parallel`` (or a ``with`` block)."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._n_jobs = count
        self._ray_remote_args = kwargs.get("ray_remote_args", self._ray_remote_args)
        self._share_from = _share_from(kwargs)
        self._executor = self._new_executor()
        return count

    def _new_executor(self) -> Executor:
        return Executor(self._n_jobs, ray_remote_args=self._ray_remote_args)

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Run a batch, and call ``callback`` with its future."""
        assert self._executor is not None
        future = self._executor.submit(_run, *self._shared.pack(func))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    #: The name of ``submit`` in joblib before 1.5.
    apply_async = submit

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the results of a batch, or raise its exception."""
        return out.result()

    def start_call(self) -> None:
        """Drop old batches and shared arguments before the tasks of a call."""
        # joblib keeps batches there when a call fails, and runs them in the next call of a ``with`` block.
        left = getattr(self.parallel, "_ready_batches", None)
        while left is not None and not left.empty():
            left.get(block=False)
        self._shared = _SharedArguments(self._share_from)

    def stop_call(self) -> None:
        """Release the shared arguments after the tasks of a call."""
        self._shared = _SharedArguments(self._share_from)

    def terminate(self) -> None:
        """Cancel waiting tasks at the end of the call (or ``with`` block)."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel waiting tasks after one has failed."""
        self.terminate()
        if ensure_ready:
            self._executor = self._new_executor()


def _share_from(options: dict[str, Any]) -> float:
    """Return the size from which tasks read arguments in place, by joblib's options, in bytes."""
    most = options.get("max_nbytes", SHARED_BYTES)
    mode = options.get("mmap_mode", "r")
    if mode in ("r+", "w+"):
        _log.warning("mmap_mode=%r: each task writes to its own copy, which no other task sees", mode)
    return most if most is not None and mode == "r" else math.inf


class _SharedArguments:
    """Large arguments of one call of ``Parallel``: the common data of its tasks."""

    def __init__(self, share_from: float) -> None:
        self._share_from = share_from
        #: By id: the argument, which keeps its id unique, and its ref.
        self._known: dict[int, tuple[Any, ObjectRef[Any]]] = {}

    def pack(self, batch: Any) -> tuple[Any, list[ObjectRef[Any]], float]:
        """Return a batch with slots in place of large arguments, and the refs for the slots."""
        refs: list[ObjectRef[Any]] = []
        if not isinstance(getattr(batch, "items", None), list):
            return batch, refs, self._share_from
        calls = [
            (
                function,
                [self._replace(one, refs) for one in args],
                {name: self._replace(one, refs) for name, one in kwargs.items()},
            )
            for function, args, kwargs in batch.items
        ]
        batch = copy.copy(batch)
        batch.items = calls
        return batch, refs, self._share_from

    def _replace(self, argument: Any, refs: list[ObjectRef[Any]]) -> Any:
        mapped = _mapped(argument)
        if mapped is not None:
            return mapped
        if _bytes_of(argument) < _STORED_BYTES:
            return argument
        known = self._known.get(id(argument))
        if known is None:
            known = self._known[id(argument)] = (argument, api.put(pack(argument)))
        refs.append(known[1])
        return _Slot(len(refs) - 1)


def _bytes_of(argument: Any) -> int:
    """Return the size of arrays, data frames and sparse matrices, and 0 for other objects."""
    size = getattr(argument, "nbytes", None)
    if isinstance(size, int):
        return size
    try:
        if hasattr(argument, "memory_usage"):
            used = argument.memory_usage()
            return int(used.sum() if hasattr(used, "sum") else used)
        if hasattr(argument, "indptr"):
            return int(argument.data.nbytes + argument.indices.nbytes)
    except Exception:
        pass  # an attribute of the same name with another meaning
    return 0


def _mapped(argument: Any) -> _Mapped | None:
    """Return a stand-in for an array that lies in a file, to which writes of tasks go; None for others."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(argument, numpy.ndarray) or argument.base is None:
        return None
    file = _get_backing_memmap(argument)
    if not isinstance(file, numpy.memmap) or not isinstance(file.filename, (str, os.PathLike)):
        return None
    return _Mapped(*_reduce_memmap_backed(argument, file))


class _Mapped:
    """Takes the place of an array that lies in a file."""

    __slots__ = ("make", "args")

    def __init__(self, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.make = make
        self.args = args


class _Slot:
    """Takes the place of an argument that is sent as a ref."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def _run(batch: Any, refs: list[ObjectRef[Any]], share_from: float) -> Any:
    values = api.get(refs) if refs else []

    def fill(one: Any) -> Any:
        if type(one) is _Mapped:
            return one.make(*one.args)
        return values[one.index].load(share_from=share_from) if type(one) is _Slot else one

    if isinstance(getattr(batch, "items", None), list):
        batch.items = [
            (function, [fill(one) for one in args], {name: fill(one) for name, one in kwargs.items()})
            for function, args, kwargs in batch.items
        ]
    return batch()
