"""Compiled graphs: results, room, errors, deaths, the end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skate
from skate.api import RayContext as Session
from skate.dag import DAGContext, InputNode, MultiOutputNode
from skate.dag.compiled_dag_node import CompiledDAG
from skate.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    RayActorError,
    RayCgraphCapacityExceeded,
    RayChannelError,
    RayChannelTimeoutError,
    RaySystemError,
    RayTaskError,
)
from skate.experimental.compiled_dag_ref import CompiledDAGFuture, CompiledDAGRef

from .processes import Driver
from .waiting import wait_for, wait_for_file


@skate.remote(num_cpus=0)
class Adder:
    """Adds; tells where and when; fails, waits and dies on demand."""

    def __init__(self, n: int = 1) -> None:
        self.n = n
        self.seen: list[Any] = []
        self.kept: list[Any] = []

    def add(self, x: Any) -> Any:
        self.seen.append(x)
        return x + self.n

    def add_all(self, *numbers: int, plus: int = 0) -> int:
        return sum(numbers) + plus

    def total(self, numbers: list[int], more: dict[str, int]) -> int:
        return sum(numbers) + sum(more.values())

    def pair(self, x: int) -> tuple[int, int]:
        return x, x + self.n

    def what(self) -> list[Any]:
        return self.seen

    def where(self, x: Any = None) -> tuple[int, str, str | None]:
        context = skate.get_runtime_context()
        return os.getpid(), threading.current_thread().name, context.get_task_name()

    def same(self, x: Any) -> Any:
        return x

    def keep(self, x: Any) -> float:
        self.kept.append(x)
        return float(x.sum())

    def kept_sums(self) -> list[float]:
        return [float(one.sum()) for one in self.kept]

    def writeable(self, x: Any) -> bool:
        return bool(x.flags.writeable)

    def fail_if_odd(self, x: int) -> int:
        if x % 2:
            raise ValueError(f"{x} is odd")
        return x

    def lambda_(self, x: Any) -> Any:
        return threading.Lock()

    def ref(self, x: Any) -> Any:
        return [skate.put(x)]

    def wait_for(self, path: Path) -> str:
        wait_for_file(path)
        return path.name

    def die_if(self, how: str) -> str:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            skate.actor.exit_actor()
        return how

    def stream(self, x: int) -> Iterator[int]:
        yield x

    def ask(self, x: int) -> int:
        return skate.get(_double.remote(x))

    def compile_myself(self, me: list[Any]) -> str:
        with InputNode() as inp:
            graph = me[0].add.bind(inp)
        try:
            graph.experimental_compile()
        except ValueError as error:
            return str(error)
        return "compiled"

    def execute_other(self, other: list[Any], x: int) -> int:
        with InputNode() as inp:
            graph = other[0].add.bind(inp)
        compiled = graph.experimental_compile()
        results = [compiled.execute(n).get() for n in range(x)]
        compiled.teardown()
        return sum(results)


@skate.remote
def _double(x: int) -> int:
    return 2 * x


@skate.remote(num_cpus=0)
class Sleeper:
    """An async actor."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.gates: dict[str, asyncio.Event] = {}

    async def add(self, x: int) -> int:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is self.loop
        return x + 1

    async def fail(self, x: int) -> int:
        raise KeyError(x)

    async def wait(self, name: str) -> str:
        await self.gates.setdefault(name, asyncio.Event()).wait()
        return name

    async def open(self, name: str) -> None:
        self.gates.setdefault(name, asyncio.Event()).set()


def compiled(actor: Any, method: str = "add", **options: Any) -> CompiledDAG:
    with InputNode() as inp:
        graph = getattr(actor, method).bind(inp)
    return graph.experimental_compile(**options)


def chain(actors: list[Any], method: str = "add", **options: Any) -> CompiledDAG:
    with InputNode() as inp:
        node: Any = inp
        for actor in actors:
            node = getattr(actor, method).bind(node)
    return node.experimental_compile(**options)


# ---------------------------------------------------------------------- results


def test_one_actor(session: Session) -> None:
    graph = compiled(Adder.remote(10))
    assert [graph.execute(n).get() for n in range(200)] == list(range(10, 210))


def test_a_chain(session: Session) -> None:
    graph = chain([Adder.remote(n) for n in (1, 10, 100)])
    assert [graph.execute(n).get() for n in range(100)] == [n + 111 for n in range(100)]


def test_executions_overlap_and_results_may_be_taken_in_any_order(session: Session) -> None:
    graph = chain([Adder.remote(n) for n in (1, 10)])
    refs = [graph.execute(n) for n in range(10)]
    order = [9, 0, 5, 1, 8, 2, 7, 3, 6, 4]
    assert [refs[n].get() for n in order] == [n + 11 for n in order]


def test_get_takes_results_of_executions(session: Session) -> None:
    graph = compiled(Adder.remote())
    assert skate.get(graph.execute(1)) == 2
    assert skate.get([graph.execute(n) for n in range(3)], timeout=10) == [1, 2, 3]
    with pytest.raises(TypeError, match="element 0, CompiledDAGRef"):
        skate.get([graph.execute(1), skate.put(1)])


def test_a_result_is_taken_once(session: Session) -> None:
    ref = compiled(Adder.remote()).execute(1)
    assert isinstance(ref, CompiledDAGRef)
    assert ref.get() == 2
    with pytest.raises(ValueError, match="taken already"):
        ref.get()


def test_several_outputs_of_a_diamond(session: Session) -> None:
    left, right, last = Adder.remote(1), Adder.remote(2), Adder.remote()
    with InputNode() as inp:
        a, b = left.add.bind(inp), right.add.bind(inp)
        both = last.add_all.bind(a, b, plus=inp)
        graph = MultiOutputNode([both, a, b, a, inp]).experimental_compile()
    for n in range(20):
        refs = graph.execute(n)
        assert skate.get(refs) == [3 * n + 3, n + 1, n + 2, n + 1, n]


def test_steps_on_one_actor_pass_values_as_they_are(session: Session) -> None:
    actor, other = Adder.remote(), Adder.remote(5)
    with InputNode() as inp:
        lock = actor.lambda_.bind(inp)  # cannot be sent, need not be
        graph = MultiOutputNode(
            [other.add.bind(actor.add.bind(inp)), actor.same.bind(actor.add_all.bind(inp, 1))]
        )
        there = actor.where.bind(lock)
    graph, where = graph.experimental_compile(), there.experimental_compile()
    assert skate.get(graph.execute(1)) == [7, 2]
    assert where.execute(0).get()[0] == skate.get(actor.where.remote())[0]


def test_back_and_forth(session: Session) -> None:
    """The same actors several times, in both directions: no order of steps may lock up."""
    a, b = Adder.remote(1), Adder.remote(10)
    with InputNode() as inp:
        node: Any = inp
        for _ in range(3):
            node = b.add.bind(a.add.bind(node))
        graph = MultiOutputNode([a.add.bind(b.add.bind(inp)), node]).experimental_compile()
    refs = [graph.execute(n) for n in range(10)]
    assert [skate.get(pair) for pair in refs] == [[n + 11, n + 33] for n in range(10)]


def test_parts_of_the_input_and_values_in_containers(session: Session) -> None:
    actor = Adder.remote()
    with InputNode() as inp:
        graph = actor.total.bind([inp[0], inp[1], 1], {"x": inp.x, "y": actor.add.bind(inp[0])})
    graph = graph.experimental_compile()
    assert graph.execute(1, 2, x=10).get() == 1 + 2 + 1 + 10 + 2
    with pytest.raises(ValueError, match="argument 'x'"):
        graph.execute(1, 2)
    assert graph.execute(1, 2, x=10).get() == 16


def test_constants_and_refs_among_arguments(session: Session) -> None:
    """Refs bound as arguments are replaced by their values, once, as in a call."""
    actor = Adder.remote()
    with InputNode() as inp:
        graph = actor.add_all.bind(inp, 10, skate.put(100), plus=skate.put(1000)).experimental_compile()
    assert graph.execute(1).get() == 1111


def test_a_graph_without_input(session: Session) -> None:
    graph = Adder.remote().add_all.bind(1, 2).experimental_compile()
    assert [graph.execute().get() for _ in range(3)] == [3, 3, 3]
    with pytest.raises(ValueError, match="takes 0 positional arguments"):
        graph.execute(1)


def test_several_values_of_one_call(session: Session) -> None:
    actor, other = Adder.remote(5), Adder.remote(1)
    with InputNode() as inp:
        first, second = actor.pair.options(num_returns=2).bind(inp)
        graph = MultiOutputNode([second, other.add_all.bind(first, second)]).experimental_compile()
    assert skate.get(graph.execute(1)) == [6, 7]


@pytest.mark.parametrize("value", [None, "text", b"bytes", {"a": [1, (2, 3.5)]}, {1, 2}, Path("x")], ids=repr)
def test_any_value(session: Session, value: Any) -> None:
    graph = compiled(Adder.remote(), "same")
    got = graph.execute(value).get()
    assert (got, type(got)) == (value, type(value))


# ---------------------------------------------------------------------- large values


def test_large_arrays_travel_in_place(session: Session) -> None:
    actors = [Adder.remote(n) for n in (1, 2)]
    graph = chain(actors)
    array = np.arange(300_000, dtype=np.int64)
    for n in range(20):
        result = graph.execute(array + n).get()
        assert (result[0], result[-1], len(result)) == (n + 3, n + 3 + 299_999, 300_000)
        assert not result.flags.writeable
    assert not compiled(actors[0], "writeable").execute(array).get()


def test_what_is_kept_of_a_large_value_stays_what_it_is(session: Session) -> None:
    keeper, passer = Adder.remote(), Adder.remote()
    with InputNode() as inp:
        graph = keeper.keep.bind(passer.same.bind(inp)).experimental_compile()
    mine = compiled(passer, "same")
    results = []
    for n in range(12):
        assert graph.execute(np.full(50_000, n)).get() == 50_000 * n
        results.append(mine.execute(np.full(50_000, n)).get())
    assert skate.get(keeper.kept_sums.remote()) == [50_000.0 * n for n in range(12)]
    graph.teardown()
    mine.teardown()
    del graph, mine
    gc.collect()
    assert [int(one[7]) for one in results] == list(range(12))
    assert skate.get(keeper.kept_sums.remote()) == [50_000.0 * n for n in range(12)]


def test_large_values_of_all_kinds_and_sizes(session: Session) -> None:
    graph = compiled(Adder.remote(), "same", _buffer_size_bytes=1)
    for size in (1, 300_000, 10, 2_000_000, 150_000, 5_000_000, 100 * 1024):
        for value in (b"x" * size, "y" * size, [b"a" * size, np.ones(size, dtype=np.uint8)]):
            got = graph.execute(value).get()
            if isinstance(value, list):
                assert got[0] == value[0]
                assert (got[1] == value[1]).all()
            else:
                assert got == value


def test_one_large_value_for_several_actors(session: Session) -> None:
    actors = [Adder.remote(n) for n in range(3)]
    with InputNode() as inp:
        graph = MultiOutputNode([actor.add.bind(inp) for actor in actors]).experimental_compile()
    array = np.zeros(100_000)
    for _ in range(5):
        assert [one[0] for one in skate.get(graph.execute(array))] == [0, 1, 2]


# ---------------------------------------------------------------------- other kinds of actors


def test_steps_of_a_serial_actor_run_on_its_main_thread_between_its_calls(session: Session) -> None:
    actor = Adder.remote()
    graph = compiled(actor, "where")
    pid, thread, name = graph.execute(0).get()
    assert (thread, name) == ("MainThread", "Adder.where")
    assert pid == skate.get(actor.where.remote())[0]


def test_calls_get_through_while_a_graph_runs_without_a_break(session: Session) -> None:
    actor = Adder.remote()
    graph = compiled(actor)
    call = actor.where.remote()
    for n in range(100_000):
        graph.execute(n).get()
        if skate.wait([call], timeout=0)[0]:
            break
    assert skate.get(call, timeout=0)[1] == "MainThread"


def test_async_actors(session: Session) -> None:
    sleeper = Sleeper.remote()
    graph = chain([sleeper, Adder.remote(10), sleeper])
    assert [graph.execute(n).get() for n in range(20)] == [n + 12 for n in range(20)]
    with pytest.raises(KeyError):
        compiled(sleeper, "fail").execute(1).get()
    waiting = compiled(sleeper, "wait").execute("gate")
    skate.get(sleeper.open.remote("gate"))  # its loop is free
    assert waiting.get() == "gate"


def test_threaded_actors(session: Session) -> None:
    actor = Adder.options(max_concurrency=2).remote()
    graph = compiled(actor)
    assert [graph.execute(n).get() for n in range(20)] == list(range(1, 21))
    assert compiled(actor, "where").execute(0).get()[1] == "skate-graph"


def test_a_step_may_use_tasks(session: Session) -> None:
    graph = compiled(Adder.remote(), "ask")
    assert [graph.execute(n).get() for n in range(3)] == [0, 2, 4]


def test_tasks_and_actors_may_compile_graphs_of_others(session: Session) -> None:
    actor, other = Adder.remote(), Adder.remote(1)
    assert skate.get(actor.execute_other.remote([other], 10)) == sum(range(1, 11))
    text = skate.get(actor.compile_myself.remote([actor]))
    assert "wait for itself" in text


def test_several_graphs_share_actors(session: Session) -> None:
    a, b = Adder.remote(1), Adder.remote(10)
    graphs = [compiled(a), chain([a, b]), chain([b, a])]
    for n in range(50):
        refs = [graph.execute(n) for graph in graphs]
        assert skate.get(refs) == [n + 1, n + 11, n + 11]


def test_threads_share_a_graph(session: Session) -> None:
    graph = compiled(Adder.remote(1000), _max_inflight_executions=4)
    results: dict[int, list[int]] = {}

    def work(base: int) -> None:
        results[base] = [graph.execute(base + n).get() for n in range(100)]

    threads = [threading.Thread(target=work, args=(base,)) for base in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {base: [base + n + 1000 for n in range(100)] for base in (0, 1000, 2000)}


# ---------------------------------------------------------------------- room and time


def test_more_executions_than_may_be_in_flight(session: Session) -> None:
    graph = compiled(Adder.remote(), _max_inflight_executions=3)
    refs = [graph.execute(n) for n in range(3)]
    with pytest.raises(RayCgraphCapacityExceeded, match="3 executions in flight"):
        graph.execute(3)
    assert refs[2].get() == 3
    refs += [graph.execute(n) for n in (3, 4, 5)]
    assert [ref.get() for ref in refs if ref is not refs[2]] == [1, 2, 4, 5, 6]


def test_more_results_than_may_be_passed_over(session: Session) -> None:
    graph = compiled(Adder.remote(), _max_buffered_results=2)
    refs = [graph.execute(n) for n in range(4)]
    with pytest.raises(RayCgraphCapacityExceeded, match="_max_buffered_results"):
        refs[3].get()
    assert [ref.get() for ref in refs] == [1, 2, 3, 4]


def test_dropped_refs_make_room(session: Session) -> None:
    graph = compiled(Adder.remote(), _max_inflight_executions=2)
    for n in range(50):
        graph.execute(n)
    assert graph.execute(1).get() == 2


def test_waiting_for_room_has_an_end(session: Session, tmp_path: Path) -> None:
    graph = compiled(Adder.remote(), "wait_for", _max_inflight_executions=1, _submit_timeout=0.05)
    graph.execute(tmp_path / "go")
    with pytest.raises(RayChannelTimeoutError, match=r"waited 0\.05 s"):
        graph.execute(tmp_path / "go")
    (tmp_path / "go").touch()


def test_get_has_a_timeout_and_may_be_repeated(session: Session, tmp_path: Path) -> None:
    graph = compiled(Adder.remote(), "wait_for")
    ref = graph.execute(tmp_path / "go")
    for timeout in (0, 0.02):
        with pytest.raises(RayChannelTimeoutError, match="no result"):
            ref.get(timeout=timeout)
    with pytest.raises(TimeoutError):
        skate.get(ref, timeout=0)
    with pytest.raises(ValueError, match="timeout takes seconds"):
        ref.get(timeout=-2)
    (tmp_path / "go").touch()
    assert ref.get(timeout=-1) == "go"


def test_the_context_has_the_defaults(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = DAGContext.get_current()
    monkeypatch.setattr(context, "get_timeout", 0.02)
    monkeypatch.setattr(context, "max_inflight_executions", 1)
    graph = compiled(Adder.remote(), "wait_for")
    ref = graph.execute(tmp_path / "go")
    with pytest.raises(RayCgraphCapacityExceeded):
        graph.execute(tmp_path / "go")
    with pytest.raises(RayChannelTimeoutError):
        ref.get()
    (tmp_path / "go").touch()


# ---------------------------------------------------------------------- asyncio


def test_asyncio(session: Session) -> None:
    a, b = Adder.remote(1), Adder.remote(10)
    with InputNode() as inp:
        graph = MultiOutputNode([a.add.bind(inp), b.add.bind(inp)])
    graph = graph.experimental_compile(enable_asyncio=True)

    async def one(n: int) -> list[int]:
        futures = await graph.execute_async(n)
        assert all(isinstance(future, CompiledDAGFuture) for future in futures)
        return [await future for future in futures]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*[one(n) for n in range(8)])

    assert asyncio.run(main()) == [[n + 1, n + 10] for n in range(8)]
    with pytest.raises(ValueError, match="execute_async"):
        graph.execute(1)


def test_asyncio_errors_and_room(session: Session) -> None:
    graph = compiled(Adder.remote(), "fail_if_odd", enable_asyncio=True, _max_inflight_executions=2)

    async def main() -> None:
        future = await graph.execute_async(1)
        with pytest.raises(ValueError, match="1 is odd"):
            await future
        with pytest.raises(ValueError, match="taken already"):
            await future
        for _ in range(20):
            await graph.execute_async(2)  # dropped
        assert await (await graph.execute_async(4)) == 4

    asyncio.run(main())
    plain = compiled(Adder.remote())
    with pytest.raises(ValueError, match="enable_asyncio"):
        asyncio.run(plain.execute_async(1))


# ---------------------------------------------------------------------- errors


def test_an_exception_is_the_result_of_its_execution_alone(session: Session) -> None:
    graph = chain([Adder.remote(), Adder.remote(), Adder.remote()], "fail_if_odd")
    for n in range(6):
        ref = graph.execute(n)
        if n % 2 == 0:
            assert ref.get() == n
            continue
        with pytest.raises(ValueError, match=f"{n} is odd") as caught:
            ref.get()
        assert isinstance(caught.value, RayTaskError)
        assert "Adder.fail_if_odd failed in worker process" in RayTaskError.__str__(caught.value)


def test_only_outputs_behind_an_exception_fail(session: Session) -> None:
    a, b = Adder.remote(), Adder.remote()
    with InputNode() as inp:
        bad, good = a.fail_if_odd.bind(inp), b.add.bind(inp)
        graph = MultiOutputNode(
            [bad, good, b.add_all.bind(bad, good), a.add.bind(bad)]
        ).experimental_compile()
    refs = graph.execute(1)
    assert refs[1].get() == 2
    for place in (0, 2, 3):
        with pytest.raises(ValueError, match="1 is odd"):
            refs[place].get()
    assert skate.get(graph.execute(2)) == [2, 3, 5, 3]


def test_what_cannot_be_sent(session: Session) -> None:
    actor = Adder.remote()
    graph = compiled(actor, "lambda_")
    with pytest.raises(TypeError, match=r"the input of the graph is a _thread\.lock"):
        graph.execute(threading.Lock())
    with pytest.raises(TypeError, match=r"the result of Adder\.lambda_ is a _thread\.lock"):
        graph.execute(1).get()
    for value in (skate.put(1), [skate.put(1)], actor):
        with pytest.raises(ValueError, match="carry values only"):
            graph.execute(value)
    with pytest.raises(ValueError, match="carry values only"):
        compiled(actor, "ref").execute(1).get()
    ref = graph.execute(1)
    with pytest.raises(TypeError, match="cannot be sent"):
        _double.remote(ref)
    assert compiled(actor).execute(1).get() == 2


def test_what_cannot_be_compiled(session: Session) -> None:
    actor = Adder.remote()
    with InputNode() as inp:
        task, unborn = _double.bind(inp), Adder.bind()
        stream, nothing = actor.stream.bind(inp), actor.add.options(num_returns=0).bind(inp)
        cases = [
            (actor.add.bind(task), NotImplementedError, "the task _double"),
            (unborn.add.bind(inp), ValueError, r"Adder\.remote"),
            (actor.add.bind(unborn), ValueError, r"Adder\.remote"),
            (stream, ValueError, "generator"),
            (nothing, ValueError, "num_returns=0"),
            (actor.add.options(max_task_retries=2).bind(inp), ValueError, "max_task_retries"),
            (MultiOutputNode([inp]), ValueError, "no actor's method"),
            (inp, ValueError, "no actor's method"),
        ]
    for graph, kind, text in cases:
        with pytest.raises(kind, match=text):
            graph.experimental_compile()
    with pytest.raises(ValueError, match="_max_inflight_executions"):
        compiled(actor, _max_inflight_executions=0)


def test_a_session_without_processes_compiles_nothing() -> None:
    skate.init(mode="inline")
    actor = Adder.remote()
    with InputNode() as inp:
        graph = actor.add.bind(inp)
    with pytest.raises(NotImplementedError, match="inline"):
        graph.experimental_compile()
    assert skate.get(graph.execute(1)) == 2


def test_a_graph_is_compiled_once(session: Session) -> None:
    with InputNode() as inp:
        graph = Adder.remote().add.bind(inp)
    first = graph.experimental_compile()
    with pytest.raises(ValueError, match="compiled before"):
        graph.experimental_compile()
    assert skate.get(graph.execute(1)) == first.execute(1).get() == 2


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2), {}), ((1,), {"x": 1}), ((), {"x": 1})])
def test_wrong_arguments(session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    graph = compiled(Adder.remote())
    with pytest.raises(ValueError, match="takes 1 positional argument"):
        graph.execute(*args, **kwargs)


# ---------------------------------------------------------------------- deaths


@pytest.mark.parametrize(("how", "position"), [("kill", 0), ("kill", 1), ("exit", 1), ("exit", 2)])
def test_an_actor_dies_in_a_step(session: Session, how: str, position: int) -> None:
    actors = [Adder.remote() for _ in range(3)]
    with InputNode() as inp:
        node: Any = inp
        for index, actor in enumerate(actors):
            node = actor.die_if.bind(node) if index == position else actor.same.bind(node)
    graph = node.experimental_compile()
    assert graph.execute("not").get() == "not"
    refs = [graph.execute(how) for _ in range(3)]
    for ref in refs:
        with pytest.raises(ActorDiedError, match="SIGKILL" if how == "kill" else "exit_actor") as caught:
            ref.get()
        assert caught.value.actor_id == actors[position]._actor_id.hex()
    with pytest.raises(ActorDiedError):
        graph.execute("not")
    assert graph.is_teardown
    survivors = [actor for index, actor in enumerate(actors) if index != position]
    assert skate.get([actor.same.remote(1) for actor in survivors]) == [1, 1]
    graph.teardown()


def test_an_actor_is_killed_while_a_thread_waits(session: Session, tmp_path: Path) -> None:
    actor, last = Adder.remote(), Adder.remote()
    with InputNode() as inp:
        graph = last.same.bind(actor.wait_for.bind(inp)).experimental_compile()
    there = graph.execute(tmp_path / "first")
    (tmp_path / "first").touch()
    wait_for(lambda: graph._graph._executions.is_there(0, 0), "the first result")
    ref = graph.execute(tmp_path / "never")
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            ref.get(timeout=-1)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    skate.kill(actor)
    thread.join()
    assert "kill()" in str(errors[0])
    assert isinstance(errors[0], ActorDiedError)
    assert there.get() == "first"  # it had arrived before


def test_an_actor_is_restarted_without_its_graph(session: Session) -> None:
    actor = Adder.options(max_restarts=1).remote()
    graph = compiled(actor, "die_if")
    with pytest.raises(ActorUnavailableError, match="compile it again"):
        graph.execute("kill").get()
    again = compiled(actor)
    assert again.execute(1).get() == 2
    assert isinstance(_error_of(graph), ActorUnavailableError)


def _error_of(graph: CompiledDAG) -> BaseException:
    with pytest.raises(RayActorError) as caught:
        graph.execute("x")
    return caught.value


def test_a_dead_actor_cannot_be_compiled(session: Session) -> None:
    alive, dead = Adder.remote(), Adder.remote()
    skate.kill(dead)
    with pytest.raises(ActorDiedError):
        chain([alive, dead])
    assert skate.get(alive.add.remote(1)) == 2
    assert compiled(alive).execute(1).get() == 2


def test_asyncio_learns_of_a_death(session: Session) -> None:
    graph = compiled(Adder.remote(), "die_if", enable_asyncio=True)

    async def main() -> None:
        future = await graph.execute_async("kill")
        with pytest.raises(ActorDiedError, match="SIGKILL"):
            await future

    asyncio.run(main())


# ---------------------------------------------------------------------- the end


def test_teardown_leaves_the_actors_usable(session: Session) -> None:
    actors = [Adder.remote(n) for n in (1, 10)]
    graph = chain(actors)
    there, ref = graph.execute(1), graph.execute(2)
    assert there.get() == 12
    graph.teardown()
    graph.teardown()
    assert graph.is_teardown
    with pytest.raises(RayChannelError, match="torn down"):
        graph.execute(1)
    try:
        assert ref.get() == 13  # it had arrived before
    except RayChannelError as error:
        assert "torn down" in str(error)
    assert skate.get([actor.add.remote(5) for actor in actors]) == [6, 15]
    assert chain(actors).execute(1).get() == 12


def test_teardown_ends_waits(session: Session, tmp_path: Path) -> None:
    actor = Adder.remote()
    graph = compiled(actor, "wait_for")
    ref = graph.execute(tmp_path / "go")
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            ref.get(timeout=-1)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_for(lambda: graph._graph._executions.covered == 0, "the wait to begin")
    graph.teardown()  # the step goes on meanwhile
    thread.join()
    assert type(caught[0]) is RayChannelError
    (tmp_path / "go").touch()
    assert skate.get(actor.add.remote(1)) == 2


def test_teardown_may_kill_the_actors(session: Session) -> None:
    actor = Adder.remote()
    graph = compiled(actor)
    graph.teardown(kill_actors=True)
    with pytest.raises(ActorDiedError):
        skate.get(actor.add.remote(1))


def test_a_graph_that_nobody_refers_to_ends(session: Session) -> None:
    actor = Adder.remote()
    graph = chain([Adder.remote(), actor, Adder.remote()])
    ref = graph.execute(1)
    inner = graph._graph
    del graph
    gc.collect()
    assert ref.get() == 4  # a ref keeps it
    del ref
    gc.collect()
    wait_for(lambda: inner.has_ended, "the end of the graph")
    # However the actors' ends overtake each other, none is taken for a death.
    assert "no reference" in str(inner._executions.error)

    def graphs(instance: Any) -> int:
        core = skate._worker.process.current.process.core
        assert core is not None
        return len(core.executor.host.graphs)

    wait_for(lambda: skate.get(actor.__ray_call__.remote(graphs)) == 0, "the actor to forget it")


def test_shutdown_ends_graphs(session: Session) -> None:
    graph = chain([Adder.remote(), Adder.remote()])
    ref = graph.execute(1)
    skate.shutdown()
    with pytest.raises(RaySystemError):  # the result may have arrived before; nothing else will
        graph.execute(ref.get(timeout=1)).get(timeout=1)


def test_no_socket_is_left_in_the_folder(session: Session) -> None:
    graph = chain([Adder.remote(), Adder.remote()])
    assert graph.execute(1).get() == 3
    core = skate._worker.process.current.process.core
    assert core is not None
    assert [
        name for name in os.listdir(os.path.join(core.context.session_dir, "s")) if name.startswith("g")
    ] == []


def test_drawing(session: Session, tmp_path: Path) -> None:
    with InputNode() as inp:
        graph = Adder.remote().add.bind(Adder.remote().add.bind(inp)).experimental_compile()
    source = graph.visualize(str(tmp_path / "graph"), format="dot", channel_details=True)
    assert (tmp_path / "graph.dot").read_text() == source
    assert "shared memory" in source
    assert graph.visualize(format="ascii").count("Adder.add") == 2


def test_an_interrupt_ends_a_wait(session: Session, tmp_path: Path) -> None:
    graph = compiled(Adder.remote(), "wait_for")
    ref = graph.execute(tmp_path / "go")

    def interrupt() -> None:
        wait_for(lambda: graph._graph._executions.covered == 0, "the wait to begin")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ref.get(timeout=-1)
    thread.join()
    (tmp_path / "go").touch()
    assert ref.get() == "go"


def test_a_driver_that_is_killed_takes_its_graphs_along(session: Session, tmp_path: Path) -> None:
    actor = Adder.options(name="adder", lifetime="detached", namespace="shared").remote(5)
    assert skate.get(actor.add.remote(1)) == 6
    done = Driver(tmp_path, _COMPILES_AND_DIES, session["address"]).finish()
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout == "6\n"

    def graphs(instance: Any) -> int:
        core = skate._worker.process.current.process.core
        assert core is not None
        return len(core.executor.host.graphs)

    wait_for(lambda: skate.get(actor.__ray_call__.remote(graphs)) == 0, "the actor to forget the graph")
    assert compiled(actor).execute(1).get() == 6
    skate.kill(actor)


_COMPILES_AND_DIES = """
import os, signal, sys
import skate
from skate.dag import InputNode

skate.init(address=sys.argv[1])
actor = skate.get_actor("adder", namespace="shared")
with InputNode() as inp:
    graph = actor.add.bind(inp).experimental_compile()
print(graph.execute(1).get(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
