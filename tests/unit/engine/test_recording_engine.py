"""The public API on an engine that is no runtime: whatever it checks, it checks itself."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import test_bad_input as bad

import skate
from skate import _starting, api
from skate import engine as connection
from skate._inline.session import InlineEngine
from skate._worker.objects.object_ref import NotConnectedError
from skate._worker.process import current
from skate.dag import ClassNode, FunctionNode, InputNode
from skate.engine.interface import Engine
from skate.engine.runtime import RuntimeEngine
from skate.exceptions import ActorAlreadyExistsError, ActorDiedError
from skate.experimental import get_object_locations, internal_kv, tqdm_ray
from skate.util import ActorPool, Executor, as_completed, list_named_actors, map_unordered, state
from skate.util._queue_readers import UNTRACKED, this_process
from skate.util.metrics import Counter as CounterMetric

from .recording import ActorExit, RecordingEngine

_init = api.init


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingEngine]:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a session was started beside the engine")

    monkeypatch.setattr(_starting, "start", refuse)
    made = RecordingEngine()
    connection.use(made)
    yield made
    connection.leave()
    assert current.process.core is None
    assert not skate.is_initialized()


def asked(engine: RecordingEngine, name: str) -> list[list[Any]]:
    return [arguments for what, *arguments in engine.asked if what == name]


# ---------------------------------------------------------------------- the whole of it


def _methods() -> dict[str, Any]:
    return {
        name: one for name, one in inspect.getmembers(Engine, inspect.isfunction) if not name.startswith("_")
    }


@pytest.mark.parametrize("kind", [RuntimeEngine, InlineEngine, RecordingEngine])
@pytest.mark.parametrize("name", _methods())
def test_every_engine_has_every_method(name: str, kind: type) -> None:
    found = getattr(kind, name, None)
    if found is None:  # bound in the constructor, from a part of the runtime: see RuntimeEngine
        assert name in inspect.getsource(kind.__mro__[-2].__init__)
        return
    assert [*inspect.signature(found).parameters] == [*inspect.signature(_methods()[name]).parameters]


# ---------------------------------------------------------------------- validation, by the tests of a real session


def _on_any_engine() -> list[str]:
    """Return the tests of bad input that need nothing but a session that works."""
    return [
        name for name, test in vars(bad).items()
        if name.startswith("test_") and [*inspect.signature(test).parameters] == ["unharmed"]
    ]  # fmt: skip


@pytest.mark.parametrize("name", _on_any_engine())
def test_bad_input(name: str, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skate, "init", _init)  # it is to say that this process is connected
    counter = bad.Counter.remote()
    assert skate.get([bad.square.remote(3), counter.add.remote()]) == [9, 1]
    getattr(bad, name)(None)
    assert skate.get([bad.square.remote(4), counter.add.remote()]) == [16, 2]


def test_the_tests_of_bad_input_are_found() -> None:
    assert len(_on_any_engine()) >= 12


# ---------------------------------------------------------------------- calls


def test_options_of_a_task(engine: RecordingEngine) -> None:
    @skate.remote(num_cpus=2, resources={"license": 0.5}, max_retries=7)
    def pair(a: int, b: int = 1) -> tuple[int, int]:
        return a, b

    refs = pair.options(num_returns=2, name="two").remote(1, b=2)
    assert skate.get(refs) == [1, 2]
    ((name, options),) = asked(engine, "bind_function")
    assert (name, options.name, options.num_returns, options.max_retries) == ("pair", "two", 2, 7)
    assert options.resources == {"CPU": 20000, "license": 5000}
    assert asked(engine, "submit") == [["two", (1,), {"b": 2}]]
    assert pair.options(num_returns=0).remote(1) is None


def test_a_function_is_bound_once_an_engine(engine: RecordingEngine) -> None:
    for _ in range(3):
        assert skate.get(bad.square.options().remote(2)) == 4
    square = bad.square.options()
    square.remote(1), square.remote(2)
    assert len(asked(engine, "bind_function")) == 4
    connection.leave()
    other = RecordingEngine()
    connection.use(other)
    assert skate.get(square.remote(3)) == 9
    assert len(asked(other, "bind_function")) == 1


def test_refs_as_arguments(engine: RecordingEngine) -> None:
    assert skate.get(bad.square.remote(bad.square.remote(skate.put(3)))) == 81
    ready, rest = skate.wait([bad.square.remote(n) for n in range(3)], num_returns=2)
    assert (skate.get(ready), skate.get(rest)) == ([0, 1], [4])


def test_errors_keep_their_type(engine: RecordingEngine) -> None:
    @skate.remote
    def fail() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing") as caught:
        skate.get(fail.remote())
    assert isinstance(caught.value, skate.exceptions.RayTaskError)


def test_generators(engine: RecordingEngine) -> None:
    @skate.remote
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    assert [skate.get(ref) for ref in count.remote(3)] == [0, 1, 2]


def test_actors_and_their_names(engine: RecordingEngine) -> None:
    counter = bad.Counter.options(name="one", max_restarts=2, namespace="mine").remote(5)
    assert skate.get(counter.add.options(num_returns=1).remote(2)) == 7
    name, args, kwargs, options = asked(engine, "create_actor")[0]
    assert (name, args, kwargs, options.max_restarts, options.namespace) == ("Counter", (5,), {}, 2, "mine")
    with pytest.raises(ValueError, match="Failed to look up"):
        skate.get_actor("one")
    assert skate.get_actor("one", namespace="mine") == counter
    bad.Counter.options(name="two").remote()
    assert list_named_actors() == ["two"]
    assert len(list_named_actors(all_namespaces=True)) == 2
    same = bad.Counter.options(name="one", namespace="mine", get_if_exists=True).remote()
    assert skate.get(same.add.remote()) == 8
    with pytest.raises(ActorAlreadyExistsError):
        bad.Counter.options(name="two").remote()
    skate.kill(counter)
    assert asked(engine, "kill_actor")[0][1] is True
    with pytest.raises(ActorDiedError):
        skate.get(counter.add.remote())


def test_concurrency_groups_are_checked(engine: RecordingEngine) -> None:
    counter = bad.Counter.options(concurrency_groups={"io": 2}).remote()
    assert skate.get(counter.add.options(concurrency_group="io").remote()) == 1
    with pytest.raises(ValueError, match="concurrency group 'no'"):
        counter.add.options(concurrency_group="no").remote()


def test_cancel(engine: RecordingEngine) -> None:
    ref = bad.square.remote(1)
    skate.cancel(ref, recursive=False)
    assert asked(engine, "cancel")[0] == [ref, False, False]
    with pytest.raises(TypeError, match="only supported for object refs"):
        bad.anything.cancel(5)


def test_exit_actor(engine: RecordingEngine) -> None:
    @skate.remote
    class Leaver:
        def leave(self) -> None:
            skate.actor.exit_actor()

    with pytest.raises(skate.exceptions.RayTaskError) as caught:
        skate.get(Leaver.remote().leave.remote())
    assert isinstance(caught.value.cause, ActorExit)


def test_a_ref_that_was_pickled_is_the_engines_again(engine: RecordingEngine) -> None:
    ref = bad.square.remote(3)
    data = pickle.dumps(ref)
    again = pickle.loads(data)
    assert again == ref
    assert skate.get(again) == 9
    assert asked(engine, "adopt_ref") == [[ref.binary(), "recording"]]
    connection.leave()
    left = pickle.loads(data)
    assert left == ref
    with pytest.raises(NotConnectedError, match="before init"):
        left.future()
    assert len(asked(engine, "adopt_ref")) == 1


def test_futures(engine: RecordingEngine) -> None:
    async def wait() -> int:
        return await bad.square.remote(3)

    ref = bad.square.remote(3)
    assert ref.future().result() == 9
    assert (ref.owner_address(), ref.job_id().binary()) == ("recording", engine.identity().job_id)
    assert asyncio.run(wait()) == 9


# ---------------------------------------------------------------------- libraries on the public API


def test_completion(engine: RecordingEngine) -> None:
    refs = [bad.square.remote(n) for n in range(4)]
    assert sorted(as_completed(refs)) == [0, 1, 4, 9]
    assert sorted(map_unordered(bad.square, range(4))) == [0, 1, 4, 9]


def test_a_pool_of_actors(engine: RecordingEngine) -> None:
    pool = ActorPool([bad.Counter.remote(100), bad.Counter.remote(100)])
    assert len([*pool.map(lambda actor, n: actor.add.remote(n), [1, 2, 3])]) == 3
    assert len(asked(engine, "create_actor")) == 2


def test_an_executor(engine: RecordingEngine) -> None:
    with Executor() as executor:
        assert executor.submit(pow, 2, 5).result(timeout=30) == 32
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(timeout=30)


# ---------------------------------------------------------------------- the process and the cluster


def test_the_runtime_context(engine: RecordingEngine) -> None:
    @skate.remote(num_cpus=3)
    def look() -> dict[str, Any]:
        context = skate.get_runtime_context()
        return {
            "name": context.get_task_name(), "held": context.get_assigned_resources(), "mode": context.worker.mode,
            "actor": context.get_actor_id(), "cancelled": context.is_canceled(),
        }  # fmt: skip

    @skate.remote
    class Self:
        def handle(self) -> Any:
            return skate.get_runtime_context().current_actor

    context = skate.get_runtime_context()
    assert (context.namespace, context.get_task_id(), context.worker.mode) == (
        "recorded",
        None,
        skate.SCRIPT_MODE,
    )
    assert context.get_node_labels() == {"zone": "a"}
    assert context.gcs_address == "recording:1"
    assert context.get_session_name() == "session"
    assert context.runtime_env == {}
    assert context.worker.connected
    assert skate.get(look.remote()) == {
        "name": "look", "held": {"CPU": 3.0}, "mode": skate.WORKER_MODE, "actor": None, "cancelled": False,
    }  # fmt: skip
    one = Self.remote()
    assert skate.get(one.handle.remote()) == one
    assert skate.get_gpu_ids() == [3, "GPU-ab"]
    connection.leave()
    assert not context.worker.connected


def test_the_cluster(engine: RecordingEngine) -> None:
    assert (skate.cluster_resources(), skate.available_resources()) == ({"CPU": 4.0}, {"CPU": 3.0})
    assert [node["Labels"] for node in skate.nodes()] == [{"zone": "a"}]
    assert state.list_tasks() == []
    assert skate.timeline() == []
    ref = bad.square.remote(1)
    assert get_object_locations([ref])[ref]["node_ids"] == []
    assert _init(ignore_reinit_error=True)["address"] == api.session_context()["address"] == "recording"


def test_key_values(engine: RecordingEngine) -> None:
    assert internal_kv._internal_kv_put("a1", "x") is False
    assert internal_kv._internal_kv_put("a1", "y", overwrite=False) is True
    assert internal_kv._internal_kv_get(b"a1") == b"x"
    assert internal_kv._internal_kv_get("a1", namespace="other") is None
    assert internal_kv._internal_kv_list("a") == [b"a1"]
    assert internal_kv._internal_kv_del("a", del_by_prefix=True) == 1
    with pytest.raises(TypeError, match="key takes bytes or a string"):
        internal_kv._internal_kv_get(5)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- tools


def test_metrics(engine: RecordingEngine) -> None:
    served = CounterMetric("recorded_requests", tag_keys=("route",))
    with pytest.raises(ValueError, match="needs a value of the tag"):
        served.inc()
    served.inc(tags={"route": "/"})
    assert asked(engine, "metrics_changed")


def test_progress_bars(engine: RecordingEngine) -> None:
    with tqdm_ray.tqdm(range(3), desc="work") as bar:
        assert list(bar) == [0, 1, 2]
    assert asked(engine, "show_bar")[-1] == ["work", 3]


def test_serializers(engine: RecordingEngine) -> None:
    class Own:
        pass

    skate.util.register_serializer(Own, serializer=str, deserializer=str)
    skate.util.deregister_serializer(Own)
    assert len(asked(engine, "serializers_changed")) == 2


def test_breakpoints(engine: RecordingEngine) -> None:
    skate.util.pdb.set_trace()
    assert asked(engine, "set_trace")[0] == ["test_breakpoints"]
    try:
        raise KeyError(1)
    except KeyError:
        skate.util.pdb.post_mortem()
    assert type(asked(engine, "post_mortem")[0][0]) is KeyError


def test_readers_of_queues_are_not_followed(engine: RecordingEngine) -> None:
    assert this_process().ticket() == UNTRACKED


def test_graphs(engine: RecordingEngine) -> None:
    counter = bad.Counter.remote()
    with InputNode() as number:
        graph = counter.add.bind(bad.square.bind(number))
    assert skate.get(graph.execute(3)) == 9
    assert skate.get(bad.Counter.bind(1).add.bind(2).execute()) == 3
    with InputNode() as number:
        graph = counter.add.bind(number)
    with pytest.raises(NotImplementedError, match="recording engine has no compiled graphs"):
        graph.experimental_compile()


def test_nodes_made_by_hand(engine: RecordingEngine) -> None:
    assert skate.get(FunctionNode(pow, (2, 5), {}, {"name": "power"}).execute()) == 32
    assert asked(engine, "submit")[-1] == ["power", (2, 5), {}]
    handle = ClassNode(bad.Counter.__ray_actor_class__, (4,), {}, {"name": "by hand"}).execute()
    assert skate.get_actor("by hand") == handle
    with pytest.raises(ValueError, match="Invalid option keyword num_cpu "):
        FunctionNode(pow, (2, 5), {}, {"num_cpu": 1})


# ---------------------------------------------------------------------- which engine there is


def test_the_engine_of_a_process() -> None:
    assert connection.engine() is None
    with pytest.raises(
        RuntimeError, match=r"cannot wait: this process is not connected; call init\(\) first"
    ):
        connection.require_engine("wait")
    one = RecordingEngine()
    connection.use(one)
    assert connection.engine() is one
    assert connection.require_engine("wait") is one
    connection.leave()
    assert connection.engine() is None


class Core:
    """A runtime, as far as ``skate.engine`` looks at it: its engine is made by the first call."""

    engine: Any = None


def test_a_runtime_that_is_left_is_not_connected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core()
    core.engine = RecordingEngine()
    monkeypatch.setattr(current.process, "core", core)
    assert connection.engine() is core.engine
    connection.leave()
    assert connection.engine() is None, "the runtime still closes its connections"
    with pytest.raises(RuntimeError, match="cannot wait: the session is being shut down"):
        connection.require_engine("wait")
    other = Core()
    other.engine = RecordingEngine()
    monkeypatch.setattr(current.process, "core", other)
    assert connection.engine() is other.engine
    connection.leave()


FORKED = """
import os, sys, types
sys.path.insert(0, sys.argv[1])
import skate
from skate import engine

engine.use(types.SimpleNamespace(adopt_ref=None))
assert skate.is_initialized()
child = os.fork()
if child == 0:
    try:
        assert not skate.is_initialized()
        try:
            skate.put(1)
        except RuntimeError as error:
            assert "forked" in str(error), error
            os._exit(0)
    finally:
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert skate.is_initialized()
"""


def test_a_forked_child_has_no_engine() -> None:
    subprocess.run([sys.executable, "-c", FORKED, ""], check=True, timeout=60)


def test_placement_groups(engine: RecordingEngine) -> None:
    util = skate.util
    group = util.placement_group(
        [{"CPU": 1}, {"CPU": 2}], strategy="SPREAD", name="trainers", lifetime="detached"
    )
    assert (
        "create_group",
        [{"CPU": 10_000}, {"CPU": 20_000}],
        "SPREAD",
        [[], []],
        "trainers",
        True,
        "",
    ) in engine.asked
    assert group.wait(1) and skate.get(group.ready()) == group
    assert util.get_placement_group("trainers").bundle_specs == [{"CPU": 1.0}, {"CPU": 2.0}]
    assert util.placement_group_table(group)["stats"]["end_to_end_creation_latency_ms"] == 500
    assert util.get_current_placement_group() is None
    util.remove_placement_group(group)
    assert util.placement_group_table(group)["state"] == "REMOVED"
    with pytest.raises(ValueError, match="does not exist any more|does not exist \\(any more\\)"):
        group.wait(1)
