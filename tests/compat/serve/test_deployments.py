"""Options of deployments: defaults, checks, copies. Nothing runs."""

from __future__ import annotations

import pytest
from ray import serve

from .helpers import deployment


class Plain:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def __call__(self):
        return [one.deployment_name for one in self.args]


def test_with_and_without_parentheses():
    assert serve.deployment(Plain).name == serve.deployment()(Plain).name == "Plain"


def test_a_function_is_a_deployment():
    @serve.deployment
    def hello(request):
        return "hello"

    assert hello.name == "hello"
    assert isinstance(hello, serve.Deployment)


def test_names_have_no_hash():
    with pytest.raises(ValueError, match="#"):
        serve.deployment(name="a#b")(Plain)


def test_unknown_options_are_type_errors():
    with pytest.raises(TypeError):
        serve.deployment(replicas=2)(Plain)
    with pytest.raises(TypeError):
        serve.deployment(Plain).options(replicas=2)


def test_defaults():
    made = serve.deployment(Plain)
    assert (made.num_replicas, made.max_ongoing_requests, made.max_queued_requests) == (1, 5, -1)
    assert made.user_config is None


def test_the_default_of_the_actors_options():
    assert serve.deployment(Plain).ray_actor_options == {"num_cpus": 1}


def test_attributes():
    made = serve.deployment(
        name="x", num_replicas=3, max_ongoing_requests=7, max_queued_requests=9, user_config={"a": [1]}
    )(Plain)
    assert (made.name, made.num_replicas, made.max_ongoing_requests) == ("x", 3, 7)
    assert (made.max_queued_requests, made.user_config) == (9, {"a": [1]})


@pytest.mark.parametrize(
    "options",
    [
        {"num_replicas": 0},
        {"num_replicas": -1},
        {"num_replicas": 2, "autoscaling_config": {"max_replicas": 3}},
        {"max_ongoing_requests": 0},
        {"max_ongoing_requests": -1},
        {"max_queued_requests": 0},
        {"max_queued_requests": -2},
        {"autoscaling_config": {"min_replicas": 3, "max_replicas": 2}},
        {"autoscaling_config": {"initial_replicas": 9, "max_replicas": 2}},
        {"rolling_update_percentage": 0},
        {"graceful_shutdown_timeout_s": -1},
        {"health_check_period_s": -1},
        {"health_check_timeout_s": -1},
        {"user_config": {"a": b"bytes"}},
        {"user_config": object()},
        {"version": "1"},
        {"ray_actor_options": {"max_restarts": 3}},
        {"ray_actor_options": {"name": "x"}},
    ],
    ids=repr,
)
def test_values_are_checked_at_the_decorator(options):
    with pytest.raises(ValueError):
        serve.deployment(**options)(Plain)


def test_a_version_has_been_removed():
    with pytest.raises(ValueError, match="removed"):
        serve.deployment(version="1")(Plain)


@pytest.mark.parametrize(
    "options", [{"num_cpus": 0.5}, {"resources": {"a": 1}}, {"memory": 1000}, {"runtime_env": {}}], ids=repr
)
def test_options_of_the_replicas_actor(options):
    made = serve.deployment(ray_actor_options=options)(Plain)
    assert options.items() <= made.ray_actor_options.items()


def test_options_leave_the_old_deployment():
    old = serve.deployment(num_replicas=2)(Plain)
    new = old.options(num_replicas=3, name="other")
    assert (old.num_replicas, old.name, new.num_replicas, new.name) == (2, "Plain", 3, "other")


def test_bind_makes_an_application():
    assert isinstance(serve.deployment(Plain).bind(1, a=2), serve.Application)


def test_a_deployment_is_not_called():
    with pytest.raises(RuntimeError):
        serve.deployment(Plain)()


def test_run_takes_applications_only():
    with pytest.raises(TypeError):
        serve.run(serve.deployment(Plain))
    with pytest.raises(TypeError):
        serve.run(Plain)


def test_auto_is_one_to_a_hundred_replicas(run):
    from ray.serve.config import AutoscalingConfig

    made = AutoscalingConfig.default()
    assert (made.min_replicas, made.max_replicas, made.target_ongoing_requests) == (1, 100, 2)
    assert (made.upscale_delay_s, made.downscale_delay_s, made.look_back_period_s) == (30, 600, 30)
    assert serve.deployment(num_replicas="auto")(Plain).max_ongoing_requests == 5


def test_two_deployments_of_one_name_get_suffixes(run):
    made = deployment()(Plain)
    handle = run(deployment(name="entrance")(Plain).bind(made.bind(), made.bind()))
    assert sorted(handle.remote().result()) == ["Plain", "Plain_1"]


def test_applications_at_any_depth_become_handles(run):
    @deployment()
    class Outer:
        def __init__(self, models, more):
            self.models, self.more = models, more

        async def __call__(self):
            return [await self.models["a"][0].remote(), await self.more[0].remote()]

    @deployment()
    def inner():
        return "inner"

    bound = inner.bind()
    assert run(Outer.bind({"a": [bound]}, more=(bound,))).remote().result() == ["inner", "inner"]
