"""``init`` and ``shutdown``: what starts, what it returns, what ends."""

from __future__ import annotations

import sys

import pytest
import ray

from compat.conformance.helpers import needs_processes

pytestmark = pytest.mark.usefixtures("no_session")


def init(**options):
    return ray.init(num_cpus=2, include_dashboard=False, **options)


@ray.remote
def echo(value):
    return value


@ray.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1
        return self.n


def test_life_of_a_session() -> None:
    assert not ray.is_initialized()
    context = init(namespace="given")
    assert ray.is_initialized()
    assert ray.get_runtime_context().namespace == "given"
    assert context["node_id"] == ray.get_runtime_context().get_node_id()
    assert context.address_info["node_id"] == context["node_id"]
    assert context.address_info["node_ip_address"].count(".") == 3
    assert context.python_version == ".".join(map(str, sys.version_info[:3]))
    assert context.ray_version == ray.__version__
    assert context.ray_commit == ray.__commit__
    assert ray.get(echo.remote(1)) == 1

    with pytest.raises(RuntimeError):
        init()
    assert init(ignore_reinit_error=True)["node_id"] == context["node_id"]

    named = Counter.options(name="of-this-session").remote()
    assert ray.get(named.add.remote()) == 1
    ray.shutdown()
    assert not ray.is_initialized()
    ray.shutdown()

    # Functions and classes go on in the next session; actors and objects do not.
    with init() as second:
        assert ray.is_initialized()
        assert second["node_id"] != context["node_id"]
        assert ray.get(echo.remote(2)) == 2
        assert ray.get(Counter.remote().add.remote()) == 1
        with pytest.raises(ValueError):
            ray.get_actor("of-this-session")
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ray.get(ray.put(5)),
        lambda: ray.get_runtime_context().get_node_id(),
        lambda: ray.get(echo.remote(1)),
    ],
    ids=["put", "get_runtime_context", "remote"],
)
def test_the_first_call_starts_a_session(call) -> None:
    assert call()
    assert ray.is_initialized()


@needs_processes(reason="CUDA_VISIBLE_DEVICES is not set for one task of several")
def test_amounts() -> None:
    init(num_gpus=2, resources={"own": 3})
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["own"]) == (2, 2, 3)

    @ray.remote(num_gpus=1)
    def gpu():
        import os

        return (
            ray.get_gpu_ids(),
            os.environ["CUDA_VISIBLE_DEVICES"],
            ray.get_runtime_context().get_accelerator_ids(),
        )

    ids, visible, accelerators = ray.get(gpu.remote())
    assert len(ids) == 1
    assert [str(one) for one in ids] == visible.split(",") == accelerators["GPU"]


@pytest.mark.parametrize(
    ("wrong", "kind"), [({"namespace": 5}, TypeError), ({"resources": {"x": -1}}, ValueError)], ids=str
)
def test_wrong_arguments(wrong, kind) -> None:
    with pytest.raises(kind):
        init(**wrong)


def test_unknown_arguments() -> None:
    with pytest.raises(RuntimeError):
        init(no_such_argument=1)


@pytest.mark.parametrize("ask", [ray.nodes, ray.cluster_resources, ray.available_resources])
def test_what_needs_a_session(ask) -> None:
    with pytest.raises((RuntimeError, ray.exceptions.RaySystemError)):
        ask()
    assert not ray.is_initialized()


def test_the_version_is_known() -> None:
    assert ray.__version__


@needs_processes(reason="actors take no CPUs there")
def test_a_default_actor_waits_where_there_is_no_cpu_at_all(no_session) -> None:
    ray.init(num_cpus=0, include_dashboard=False)

    @ray.remote
    class Default:
        def ping(self):
            return 1

    waiting = Default.remote().ping.remote()
    needs_none = Default.options(num_cpus=0).remote()
    assert ray.get(needs_none.ping.remote(), timeout=20) == 1
    assert ray.wait([waiting], timeout=0.5) == ([], [waiting])
