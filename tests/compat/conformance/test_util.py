"""``ray.util``: pools, queues, joblib, completion, serializers."""

from __future__ import annotations

import threading

import pytest
import ray
from ray.util import ActorPool, inspect_serializability
from ray.util.multiprocessing import Pool
from ray.util.queue import Empty, Full, Queue

from compat.conformance.helpers import Gate, differs, needs_processes

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def echo(value):
    return value


# ---------------------------------------------------------------------- ActorPool


@ray.remote(num_cpus=0)
class Doubler:
    def double(self, x):
        return 2 * x

    def wait(self, gate, x):
        if gate is not None:
            ray.get(gate.wait.remote())
        return x

    def fail(self, x):
        raise ValueError(x)


def pool_of(n) -> ActorPool:
    return ActorPool([Doubler.remote() for _ in range(n)])


def test_pool_map_keeps_the_order() -> None:
    assert list(pool_of(2).map(lambda actor, x: actor.double.remote(x), range(6))) == [0, 2, 4, 6, 8, 10]


def test_pool_map_unordered() -> None:
    found = pool_of(2).map_unordered(lambda actor, x: actor.double.remote(x), range(6))
    assert sorted(found) == [0, 2, 4, 6, 8, 10]


def test_pool_submit_and_get_next() -> None:
    pool = pool_of(1)
    assert not pool.has_next()
    for i in range(3):
        pool.submit(lambda actor, x: actor.double.remote(x), i)
    assert pool.has_next()
    assert [pool.get_next() for _ in range(3)] == [0, 2, 4]
    assert not pool.has_next()
    with pytest.raises(StopIteration):
        pool.get_next()


def test_pool_get_next_unordered_gives_what_is_there() -> None:
    gate, pool = Gate.remote(), pool_of(2)
    pool.submit(lambda actor, x: actor.wait.remote(gate, x), "slow")
    pool.submit(lambda actor, x: actor.wait.remote(None, x), "fast")
    assert pool.get_next_unordered() == "fast"
    ray.get(gate.open.remote())
    assert pool.get_next_unordered() == "slow"


def test_pool_get_next_times_out() -> None:
    gate, pool = Gate.remote(), pool_of(1)
    pool.submit(lambda actor, x: actor.wait.remote(gate, x), 1)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.1)
    ray.get(gate.open.remote())
    assert pool.get_next(timeout=60) == 1


def test_pool_errors_leave_it_usable() -> None:
    pool = pool_of(1)
    pool.submit(lambda actor, x: actor.fail.remote(x), 1)
    with pytest.raises(ValueError):
        pool.get_next()
    assert list(pool.map(lambda actor, x: actor.double.remote(x), [1, 2])) == [2, 4]


@differs(
    on="skate",
    reason="after get_next_unordered(), get_next() gives the first in order of those that are left",
)
def test_pool_ways_of_getting_are_not_mixed() -> None:
    pool, gate = pool_of(2), Gate.remote()
    for one in (gate, None):
        pool.submit(lambda actor, x: actor.wait.remote(x, 1), one)
    pool.get_next_unordered()  # the second one's
    gate.open.remote()
    with pytest.raises(ValueError):
        pool.get_next()


def test_pool_map_is_lazy() -> None:
    found = pool_of(1).map(lambda actor, x: actor.double.remote(x), [1, 2])
    assert next(found) == 2
    assert next(found) == 4
    with pytest.raises(StopIteration):
        next(found)


def test_pool_push_and_pop() -> None:
    pool = pool_of(1)
    assert pool.has_free()
    actor = pool.pop_idle()
    assert actor is not None
    assert not pool.has_free()
    assert pool.pop_idle() is None
    pool.push(actor)
    assert pool.has_free()
    with pytest.raises(ValueError):
        pool.push(actor)


# ---------------------------------------------------------------------- Queue


def test_queue_order_and_sizes() -> None:
    queue = Queue(maxsize=3)
    assert queue.empty()
    for i in range(3):
        queue.put(i)
    assert queue.full()
    assert (queue.size(), queue.qsize(), len(queue)) == (3, 3, 3)
    assert [queue.get() for _ in range(3)] == [0, 1, 2]
    queue.shutdown()


def test_queue_empty_and_full() -> None:
    queue = Queue(maxsize=1)
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(timeout=0.05)
    with pytest.raises(Empty):
        queue.get(block=False)
    queue.put_nowait(1)
    with pytest.raises(Full):
        queue.put_nowait(2)
    with pytest.raises(Full):
        queue.put(2, timeout=0.05)
    with pytest.raises(ValueError):
        queue.get(timeout=-1)
    queue.shutdown()


def test_queue_between_tasks() -> None:
    queue = Queue()

    @ray.remote(num_cpus=0)
    def produce(n):
        for i in range(n):
            queue.put(i)

    @ray.remote(num_cpus=0)
    def consume(n):
        return [queue.get() for _ in range(n)]

    consumer = consume.remote(5)
    ray.get(produce.remote(5))
    assert ray.get(consumer) == [0, 1, 2, 3, 4]
    queue.shutdown()


def test_queue_batches() -> None:
    queue = Queue(maxsize=4)
    queue.put_nowait_batch([1, 2, 3])
    with pytest.raises(Full):
        queue.put_nowait_batch([4, 5])
    assert queue.get_nowait_batch(2) == [1, 2]
    with pytest.raises(Empty):
        queue.get_nowait_batch(2)
    queue.shutdown()


def test_queue_options_of_its_actor() -> None:
    queue = Queue(actor_options={"name": "queue of the suite", "num_cpus": 0})
    queue.put(1)
    assert ray.get_actor("queue of the suite") is not None
    queue.shutdown(force=True)


def test_queue_waits_for_room() -> None:
    queue = Queue(maxsize=1)
    queue.put("first")

    @ray.remote(num_cpus=0)
    def put():
        queue.put("second")
        return "put"

    ref = put.remote()
    assert ray.wait([ref], timeout=0.2)[0] == []
    assert queue.get() == "first"
    assert ray.get(ref) == "put"
    assert queue.get() == "second"
    queue.shutdown()


def test_queue_async() -> None:
    import asyncio

    queue = Queue()

    async def main():
        await queue.put_async("a")
        return await queue.get_async()

    assert asyncio.run(main()) == "a"
    queue.shutdown()


# ---------------------------------------------------------------------- multiprocessing.Pool


@pytest.fixture(scope="module")
def pool(session):
    with Pool(processes=2) as made:
        yield made


def square(x):
    return x * x


def add(a, b):
    return a + b


def test_multiprocessing_map(pool) -> None:
    assert pool.map(square, range(10)) == [x * x for x in range(10)]
    assert pool.map(square, range(10), chunksize=3) == [x * x for x in range(10)]
    assert pool.map(square, []) == []


def test_multiprocessing_starmap(pool) -> None:
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]


def test_multiprocessing_apply(pool) -> None:
    assert pool.apply(add, (1,), {"b": 2}) == 3
    result = pool.apply_async(add, (3, 4))
    result.wait(60)
    assert result.ready()
    assert result.successful()
    assert result.get(timeout=60) == 7


def test_multiprocessing_imap(pool) -> None:
    assert list(pool.imap(square, range(6))) == [0, 1, 4, 9, 16, 25]
    assert sorted(pool.imap_unordered(square, range(6))) == [0, 1, 4, 9, 16, 25]


def test_multiprocessing_async_and_callbacks(pool) -> None:
    seen = threading.Event()
    found = []

    def callback(values):
        found.append(values)
        seen.set()

    assert pool.map_async(square, range(3), callback=callback).get(60) == [0, 1, 4]
    assert seen.wait(60)
    assert [sorted(values) for values in found] == [[0, 1, 4]]


@differs(
    on="ray",
    reason="a callback gets the values in the order in which they came, not in that of the calls",
    run=False,
)
def test_multiprocessing_callbacks_get_values_in_order(pool) -> None:
    seen, found = threading.Event(), []

    def callback(values):
        found.append(values)
        seen.set()

    pool.map_async(square, range(20), callback=callback)
    assert seen.wait(60)
    assert found == [[x * x for x in range(20)]]


def test_multiprocessing_errors(pool) -> None:
    def broken(x):
        raise ValueError("in the pool")

    with pytest.raises(ValueError, match="in the pool"):
        pool.map(broken, [1, 2])
    assert pool.map(square, [2]) == [4]


def test_multiprocessing_close() -> None:
    own = Pool(processes=1)
    assert own.map(square, [3]) == [9]
    own.close()
    with pytest.raises(ValueError):
        own.map(square, [1])
    own.join()
    own.terminate()


def test_multiprocessing_initializer() -> None:
    def start(value):
        import builtins

        builtins.conformance_value = value

    def read(_):
        import builtins

        return builtins.conformance_value

    with Pool(processes=1, initializer=start, initargs=("set",)) as own:
        assert own.map(read, [0]) == ["set"]


# ---------------------------------------------------------------------- joblib


def test_joblib() -> None:
    joblib = pytest.importorskip("joblib")
    from ray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_backend("ray", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(8)) == [i * i for i in range(8)]


# ---------------------------------------------------------------------- completion


def test_as_completed() -> None:
    gate = Gate.remote()

    @ray.remote(num_cpus=0)
    def late():
        ray.get(gate.wait.remote())
        return "late"

    refs = [late.remote(), echo.remote("early")]
    found = ray.util.as_completed(refs, chunk_size=1)
    assert next(found) == "early"
    ray.get(gate.open.remote())
    assert list(found) == ["late"]


def test_map_unordered() -> None:
    assert sorted(ray.util.map_unordered(echo, range(8))) == list(range(8))


# ---------------------------------------------------------------------- serialization


def test_inspect_serializability() -> None:
    lock = threading.Lock()

    def uses():
        return lock

    good, nothing = inspect_serializability([1, 2], name="good")
    assert good is True
    assert nothing == set()
    bad, found = inspect_serializability(uses, name="uses")
    assert bad is False
    assert [(one.obj, one.path, one.parent) for one in found] == [(lock, ("uses", "lock"), uses)]


@needs_processes(reason="the process that registers it is the one that receives")
def test_register_serializer() -> None:
    class Handle:
        def __init__(self, n):
            self.n = n
            self.lock = threading.Lock()

    with pytest.raises(TypeError):
        ray.put(Handle(1))
    ray.util.register_serializer(Handle, serializer=lambda one: one.n, deserializer=lambda n: Handle(n + 1))
    assert ray.get(ray.put(Handle(1))).n == 2

    @ray.remote
    def number(handle):
        return handle.n

    # It holds for the process that registered it: a worker reads what comes, but cannot send its like.
    assert ray.get(number.remote(Handle(5))) == 6
    with pytest.raises(TypeError):
        ray.get(echo.remote(Handle(5)))
    ray.util.deregister_serializer(Handle)
    with pytest.raises(TypeError):
        ray.put(Handle(1))


@needs_processes
def test_node_address() -> None:
    address = ray.util.get_node_ip_address()
    assert address.count(".") == 3 or ":" in address


def test_log_once() -> None:
    assert ray.util.log_once("conformance key")
    assert not ray.util.log_once("conformance key")
