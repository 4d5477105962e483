"""What skate and Ray are measured against beside each other.

`ProcessPoolExecutor` shows what the standard library gives to those who need only tasks on one machine;
beside `Pool.map` it is `multiprocessing.Pool`, beside joblib its own backend (loky), beside spilling plain
writes and reads of a file. The bare loop is the floor of what two Python processes can do: it pickles calls
and results, keeps a table of pending calls, and does nothing else: no ids to schedule, no errors, no
reference counts.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.measure import MIB, Effort, Sample, expect, rate, rate_of_single_calls
from benchmarks.workloads.helpers import MAPPED, parallel_calls
from benchmarks.workloads.spilling import plain_read, plain_write

PIPELINED = 2000
LARGE_IN_FLIGHT = 50
WORKERS = 2


def noop() -> None:
    """The task of the pool and the method of the bare loop."""


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def size_of(array: Any) -> int:
    return int(array.nbytes)


def make_1mib() -> Any:
    import numpy as np

    return np.ones(MIB, np.uint8)


def start_pool() -> ProcessPoolExecutor:
    """A pool of two workers that have both run a task."""
    pool = ProcessPoolExecutor(WORKERS)
    while len(set(pool.map(nap, [0.1] * WORKERS))) < WORKERS:
        pass
    return pool


def pool_init_first_task() -> Sample:
    """From making the executor to the first result in hand; ms."""
    began = time.perf_counter()
    with ProcessPoolExecutor(WORKERS) as pool:
        pool.submit(noop).result()
        return Sample(1000 * (time.perf_counter() - began))


def pool_tasks_sync(pool: ProcessPoolExecutor, effort: Effort) -> Sample:
    """Submit a function, wait for its result, submit the next; calls a second."""
    return rate_of_single_calls(lambda: pool.submit(noop).result(), effort)


def _pool_batches(pool: ProcessPoolExecutor, effort: Effort, count: int, *task: Any) -> Sample:
    def batch() -> int:
        futures = [pool.submit(*task) for _ in range(count)]
        expect(len([future.result() for future in futures]), count)
        return count

    return rate(batch, effort)


def pool_tasks_pipelined(pool: ProcessPoolExecutor, effort: Effort) -> Sample:
    """Submit 2,000 functions, then wait for all results; calls a second."""
    return _pool_batches(pool, effort, effort.count(PIPELINED), noop)


def pool_arg_value_1mib(pool: ProcessPoolExecutor, effort: Effort) -> Sample:
    """50 calls in flight, each with a 1 MiB numpy array as its argument; calls a second."""
    return _pool_batches(pool, effort, LARGE_IN_FLIGHT, size_of, make_1mib())


def pool_return_1mib(pool: ProcessPoolExecutor, effort: Effort) -> Sample:
    """50 calls in flight, each makes and returns a 1 MiB numpy array; calls a second."""
    return _pool_batches(pool, effort, LARGE_IN_FLIGHT, make_1mib)


POOL: dict[str, dict[str, Callable[[ProcessPoolExecutor, Effort], Sample]]] = {
    "tasks": {
        "tasks_sync": pool_tasks_sync,
        "tasks_pipelined": pool_tasks_pipelined,
        "arg_value_1mib": pool_arg_value_1mib,
        "return_1mib": pool_return_1mib,
    },
}


def square(number: int) -> int:
    """What `Pool.map` and joblib call."""
    return number * number


def multiprocessing_map(effort: Effort) -> Sample:
    """`multiprocessing.Pool(2).map` of `square` over 100,000 ints, default chunks; items a second."""
    numbers = range(effort.count(MAPPED))
    with multiprocessing.Pool(WORKERS) as pool:

        def batch() -> int:
            expect(pool.map(square, numbers)[-1], numbers[-1] ** 2)
            return len(numbers)

        return rate(batch, effort)


def loky_parallel(effort: Effort) -> Sample:
    """`Parallel(n_jobs=2)` over 5,000 calls of `square` with joblib's own processes; calls a second."""
    return parallel_calls("loky", square, effort)


HELPERS: dict[str, Callable[[Effort], Sample]] = {"pool_map": multiprocessing_map, "joblib": loky_parallel}
FILES: dict[str, Callable[[Effort], Sample]] = {"spill": plain_write, "restore": plain_read}


HEADER = struct.Struct("<IQ")
"""Length of the pickled payload, id of the call."""
RECEIVE_SIZE = 1 << 16
CALLS_PER_SEND = 64
MAX_OUTSTANDING = 1024
"""So that neither side blocks in `send` while the other does: so many frames fit in a socket."""
METHODS = {"noop": noop}


class _Pending:
    """The bare counterpart of an object ref: a place for the result of one call."""

    __slots__ = ("payload",)
    payload: bytes | None

    def __init__(self) -> None:
        self.payload = None


def _serve(connection: socket.socket) -> None:
    """Answer calls until the peer closes: unpickle, call, pickle; one `send` for each chunk received."""
    buffer = b""
    while chunk := connection.recv(RECEIVE_SIZE):
        buffer = buffer + chunk if buffer else chunk
        position, replies = 0, []
        while len(buffer) - position >= HEADER.size:
            length, call_id = HEADER.unpack_from(buffer, position)
            end = position + HEADER.size + length
            if end > len(buffer):
                break
            method, arguments, options = pickle.loads(buffer[position + HEADER.size : end])
            result = pickle.dumps(METHODS[method](*arguments, **options), pickle.HIGHEST_PROTOCOL)
            replies.append(HEADER.pack(len(result), call_id) + result)
            position = end
        buffer = buffer[position:]
        if replies:
            connection.sendall(b"".join(replies))


class BareLoop:
    """A caller and, in a forked process, a callee at the other end of a socketpair."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._child = os.fork()
        if not self._child:
            try:
                self._socket.close()
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0
        self._buffer = b""

    def close(self) -> None:
        self._socket.close()
        os.waitpid(self._child, 0)

    def _call(self, method: str, *arguments: Any, **options: Any) -> tuple[bytes, _Pending]:
        payload = pickle.dumps((method, arguments, options), pickle.HIGHEST_PROTOCOL)
        call_id = self._next_id = self._next_id + 1
        pending = self._pending[call_id] = _Pending()
        return HEADER.pack(len(payload), call_id) + payload, pending

    def _receive(self) -> None:
        chunk = self._socket.recv(RECEIVE_SIZE)
        if not chunk:
            raise ConnectionError("the callee of the bare loop has died")
        buffer = self._buffer + chunk if self._buffer else chunk
        position = 0
        while len(buffer) - position >= HEADER.size:
            length, call_id = HEADER.unpack_from(buffer, position)
            end = position + HEADER.size + length
            if end > len(buffer):
                break
            self._pending.pop(call_id).payload = buffer[position + HEADER.size : end]
            position = end
        self._buffer = buffer[position:]

    def _get(self, pending: _Pending) -> Any:
        while pending.payload is None:
            self._receive()
        return pickle.loads(pending.payload)

    def call_and_wait(self) -> None:
        frame, pending = self._call("noop")
        self._socket.sendall(frame)
        self._get(pending)

    def call_many(self, count: int) -> list[Any]:
        """Pipelined: 64 calls in one `send`, replies read as late as the buffers allow."""
        frames, calls = [], []
        for _ in range(count):
            frame, pending = self._call("noop")
            frames.append(frame)
            calls.append(pending)
            if len(frames) == CALLS_PER_SEND:
                self._socket.sendall(b"".join(frames))
                frames.clear()
                while len(self._pending) > MAX_OUTSTANDING:
                    self._receive()
        self._socket.sendall(b"".join(frames))
        return [self._get(pending) for pending in calls]


def bare_sync(loop: BareLoop, effort: Effort) -> Sample:
    """Ping-pong: one call out, its result back, the next; calls a second."""
    return rate_of_single_calls(loop.call_and_wait, effort)


def bare_pipelined(loop: BareLoop, effort: Effort) -> Sample:
    """2,000 calls in a loop, then all results; calls a second."""
    count = effort.count(PIPELINED)

    def batch() -> int:
        expect(len(loop.call_many(count)), count)
        return count

    return rate(batch, effort)


BARE: dict[str, Callable[[BareLoop, Effort], Sample]] = {
    "actor_sync": bare_sync,
    "actor_pipelined": bare_pipelined,
}
