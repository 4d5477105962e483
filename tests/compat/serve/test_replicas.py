"""The inside of replicas: context, configuration, health, threads, local mode."""

from __future__ import annotations

import concurrent.futures
import os
import threading

import pytest
import ray
from ray import serve
from ray.serve.exceptions import RayServeException

from .helpers import deployment, differs, lines, note, until


def test_the_context_of_a_replica(run):
    @deployment(num_replicas=2)
    class Model:
        def __init__(self):
            self.early = serve.get_replica_context().deployment

        def __call__(self):
            here = serve.get_replica_context()
            return (
                self.early,
                here.app_name,
                here.deployment,
                here.servable_object is self,
                here.world_size,
                here.replica_id.unique_id in here.replica_tag,
            )

    handle = run(Model.bind(), name="contexts")
    assert handle.remote().result() == ("Model", "contexts", "Model", True, 2, True)


def test_replicas_have_ranks(run, tmp_path):
    @deployment(num_replicas=3)
    class Ranked:
        def __init__(self):
            note(str(tmp_path), str(serve.get_replica_context().rank.rank))

        def __call__(self):
            pass

    run(Ranked.bind(), name="ranks")
    assert sorted(lines(tmp_path)) == ["0", "1", "2"]


def test_there_is_no_context_outside():
    with pytest.raises(RayServeException):
        serve.get_replica_context()


@deployment()
class Configured:
    def __init__(self, folder):
        note(folder, "init")
        self.folder = folder

    async def reconfigure(self, config):
        note(self.folder, f"config {config['n']}")
        self.n = config["n"]

    def __call__(self):
        return self.n, os.getpid()


def test_reconfigure_runs_after_the_constructor(run, tmp_path):
    handle = run(Configured.options(user_config={"n": 1}).bind(str(tmp_path)))
    assert handle.remote().result()[0] == 1
    assert lines(tmp_path) == ["init", "config 1"]


@differs(on="ray", reason="`serve.run` starts new replicas for another `user_config`, too.")
def test_another_user_config_restarts_nothing(run, tmp_path):
    handle = run(Configured.options(user_config={"n": 1}).bind(str(tmp_path)))
    _, pid = handle.remote().result()
    run(Configured.options(user_config={"n": 2}).bind(str(tmp_path)))
    until(lambda: handle.remote().result() == (2, pid))
    assert lines(tmp_path) == ["init", "config 1", "config 2"]


def test_an_unhealthy_replica_is_replaced(run, tmp_path):
    @deployment(health_check_period_s=0.2)
    class Sick:
        def check_health(self):
            if (tmp_path / str(os.getpid())).exists():
                raise RuntimeError("sick")

        async def __call__(self):
            return os.getpid()

    handle = run(Sick.bind())
    first = handle.remote().result()
    (tmp_path / str(first)).touch()

    def other():
        try:
            return handle.remote().result() != first
        except (ray.exceptions.RayError, RayServeException):
            return False

    until(other, 60)


def test_plain_functions_run_at_once_in_threads(run):
    @deployment(max_ongoing_requests=3)
    class Meeting:
        def __init__(self):
            self.barrier = threading.Barrier(3)

        def __call__(self):
            self.barrier.wait(20)
            return threading.current_thread() is not threading.main_thread()

    handle = run(Meeting.bind())
    assert all(one.result() for one in [handle.remote() for _ in range(3)])


def test_no_more_run_at_once_than_may(run):
    @deployment(max_ongoing_requests=2)
    class Counted:
        def __init__(self):
            self.now = self.most = 0

        async def __call__(self):
            import asyncio

            self.now += 1
            self.most = max(self.most, self.now)
            for _ in range(5):
                await asyncio.sleep(0)
            self.now -= 1
            return self.most

    handle = run(Counted.bind())
    assert max(one.result() for one in [handle.remote() for _ in range(20)]) <= 2


def test_options_of_the_actor_reach_it(run):
    @deployment(ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": {"MINE": "yes"}}})
    def variable():
        return os.environ.get("MINE")

    assert run(variable.bind()).remote().result() == "yes"


@serve.deployment
class Here:
    def __init__(self, inner=None):
        self.inner = inner

    async def __call__(self):
        return os.getpid(), await self.inner.remote(1)

    def fails(self):
        raise KeyError("mine")

    def context(self):
        return serve.get_replica_context().deployment


@serve.deployment
def plus_one(n):
    return n + 1


def test_local_mode_runs_here():
    handle = serve.run(Here.bind(plus_one.bind()), name="local", _local_testing_mode=True)
    assert handle.remote().result() == (os.getpid(), 2)
    with pytest.raises(RayServeException):
        serve.get_replica_context()


def test_exceptions_of_local_mode_are_bare():
    handle = serve.run(Here.bind(), name="local", _local_testing_mode=True)
    with pytest.raises(KeyError) as caught:
        handle.fails.remote().result()
    assert type(caught.value) is KeyError


@differs(on="ray", reason="Calls have no context in local mode.")
def test_local_mode_has_a_context():
    handle = serve.run(Here.bind(), name="local", _local_testing_mode=True)
    assert handle.context.remote().result() == "Here"


@deployment(
    max_ongoing_requests=10,
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 1,
        "upscale_delay_s": 0.2,
        "downscale_delay_s": 0.2,
        "look_back_period_s": 1,
        "metrics_interval_s": 0.2,
    },
)
class Scaled:
    async def __call__(self, folder):
        from .helpers import opened

        await opened(folder)


def test_the_number_of_replicas_follows_the_requests(run, tmp_path):
    def replicas():
        return serve.status().applications["default"].deployments["Scaled"].replica_states.get("RUNNING")

    handle = run(Scaled.bind())
    assert replicas() == 1
    with concurrent.futures.ThreadPoolExecutor() as pool:
        calls = [pool.submit(handle.remote(str(tmp_path)).result) for _ in range(8)]
        until(lambda: replicas() == 3, 60)
        (tmp_path / "open").touch()
        for one in calls:
            one.result()
    until(lambda: replicas() == 1, 60)


def test_initial_replicas(run):
    config = {"min_replicas": 1, "initial_replicas": 2, "max_replicas": 3}
    run(Scaled.options(autoscaling_config=config).bind())
    found = serve.status().applications["default"].deployments["Scaled"]
    assert found.replica_states == {"RUNNING": 2}


def test_the_first_request_starts_a_replica(run, tmp_path):
    (tmp_path / "open").touch()
    config = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1}
    handle = run(Scaled.options(autoscaling_config=config).bind())
    assert serve.status().applications["default"].deployments["Scaled"].replica_states == {}
    assert handle.remote(str(tmp_path)).result() is None


def test_the_factor_of_the_default_policy():
    from ray.serve.config import AutoscalingConfig

    config = AutoscalingConfig(max_replicas=5, upscaling_factor=0.5, downscaling_factor=0.25)
    assert (config.get_upscaling_factor(), config.get_downscaling_factor()) == (0.5, 0.25)
    assert (AutoscalingConfig().get_upscaling_factor(), AutoscalingConfig().get_downscaling_factor()) == (
        1,
        1,
    )
