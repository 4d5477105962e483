"""Running, replacing, deleting; status; handles by name."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib

import pytest
import ray
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from .helpers import deployment, differs, lines, opened, until


@deployment()
class Pid:
    def __init__(self, answer="pid"):
        self.answer = answer

    async def __call__(self, request=None):
        return os.getpid() if self.answer == "pid" else self.answer


def statuses(name="default"):
    return serve.status().applications[name]


def test_run_returns_the_handle_of_a_running_application(run):
    handle = run(Pid.bind("x"))
    assert isinstance(handle, DeploymentHandle)
    assert statuses().status == "RUNNING"
    assert handle.remote().result() == "x"


def test_a_second_run_replaces_the_first(run):
    run(Pid.bind("one"))
    handle = run(Pid.bind("two"))
    assert until(lambda: handle.remote().result() == "two")
    assert list(serve.status().applications) == ["default"]


@differs(on="ray", reason="Every run starts new replicas, also when nothing has changed.")
def test_a_run_of_the_same_application_keeps_its_replicas(run):
    first = run(Pid.bind()).remote().result()
    assert run(Pid.bind()).remote().result() == first


def test_another_name_runs_beside(run, web):
    run(Pid.bind("one"), name="a", route_prefix="/a")
    run(Pid.bind("two"), name="b", route_prefix="/b")
    assert until(lambda: web("/a").text == "one")
    assert until(lambda: web("/b").text == "two")


def test_a_prefix_of_another_application_is_refused(run):
    run(Pid.bind(), name="a", route_prefix="/same")
    with pytest.raises(RayServeException):
        run(Pid.bind(), name="b", route_prefix="/same")


@pytest.mark.parametrize("prefix", ["nothing", "/end/", "/{name}"])
def test_prefixes_are_checked(run, prefix):
    with pytest.raises(ValueError):
        run(Pid.bind(), route_prefix=prefix)


def test_without_a_prefix_handles_work(run, web):
    assert run(Pid.bind("x"), name="quiet").remote().result() == "x"
    assert "quiet" not in web("/-/routes").json().values()


def test_deleting_an_unknown_application_is_no_error():
    serve.delete("nobody")


def test_a_deleted_application_is_gone(run):
    run(Pid.bind(), name="gone")
    serve.delete("gone")
    assert "gone" not in serve.status().applications
    with pytest.raises(RayServeException):
        serve.get_app_handle("gone")


def test_delete_finishes_requests_in_flight(run, web, tmp_path):
    @deployment()
    class Slow:
        async def __call__(self, request):
            await opened(str(tmp_path))
            return "done"

    run(Slow.bind(), name="slow", route_prefix="/slow")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(web, "/slow")
        until(lambda: lines(tmp_path) == ["started"])
        deleted = pool.submit(serve.delete, "slow")
        until(lambda: "slow" not in serve.status().applications or statuses("slow").status == "DELETING")
        (tmp_path / "open").touch()
        assert (answer.result().status, answer.result().text) == (200, "done")
        deleted.result()


def test_handles_by_name(run):
    run(Pid.bind("x"), name="named")
    assert serve.get_app_handle("named").remote().result() == "x"
    assert serve.get_deployment_handle("Pid", "named").remote().result() == "x"


def test_an_unknown_application_has_no_handle():
    with pytest.raises(RayServeException):
        serve.get_app_handle("nobody")


def test_an_unknown_deployment_is_a_key_error(run):
    run(Pid.bind())
    with pytest.raises(KeyError):
        serve.get_deployment_handle("nobody", "default")


def test_outside_replicas_a_handle_needs_an_application(run):
    run(Pid.bind())
    with pytest.raises(RayServeException):
        serve.get_deployment_handle("Pid")


def test_inside_replicas_the_application_is_their_own(run):
    @deployment()
    class Outer:
        def __init__(self, pid):
            pass

        async def __call__(self):
            return await serve.get_deployment_handle("Pid").remote()

    assert run(Outer.bind(Pid.bind("x"))).remote().result() == "x"


def test_status_of_a_deployment(run):
    run(deployment(num_replicas=2)(Pid.func_or_class).bind())
    found = statuses()
    assert found.last_deployed_time_s > 0
    one = found.deployments["Pid"]
    assert one.status == "HEALTHY"
    assert one.status_trigger == "CONFIG_UPDATE_COMPLETED"
    assert one.replica_states == {"RUNNING": 2}
    assert isinstance(one.status, str)
    assert isinstance(one.message, str)


def test_status_names_the_proxies_and_the_capacity():
    found = serve.status()
    assert found.proxies
    assert found.target_capacity is None


def test_start_again_changes_nothing(web):
    serve.start(http_options={"host": "127.0.0.1", "port": web.port})
    assert web("/-/healthz").status == 200


def test_a_constructor_that_raises_fails_the_run(run):
    @deployment()
    class Broken:
        def __init__(self):
            raise KeyError("mine")

    with pytest.raises(RuntimeError, match="Deploying application broken failed"):
        run(Broken.bind(), name="broken")
    found = statuses("broken")
    assert found.status == "DEPLOY_FAILED"
    assert found.deployments["Broken"].status == "DEPLOY_FAILED"
    assert found.deployments["Broken"].status_trigger == "REPLICA_STARTUP_FAILED"
    assert "mine" in found.deployments["Broken"].message


@differs(on="ray", reason="The error has no traceback of the constructor's; only the status has.")
def test_the_error_of_a_run_has_the_constructors_error(run):
    @deployment()
    class Broken:
        def __init__(self):
            raise KeyError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        run(Broken.bind(), name="broken")


def test_requests_for_what_failed_to_deploy_get_503(run, web):
    @deployment()
    class Broken:
        def __init__(self):
            raise KeyError("mine")

    with pytest.raises(RuntimeError):
        run(Broken.bind(), name="broken", route_prefix="/broken")
    assert web("/broken").status == 503


@differs(on="ray", reason="Half of the old replicas have ended. Here a failed update leaves all of them.")
def test_an_update_that_fails_leaves_all_old_replicas(run, tmp_path):
    @deployment(num_replicas=2)
    class Model:
        def __init__(self, bad):
            if bad:
                raise KeyError("mine")

        def __call__(self):
            return "old"

    handle = run(Model.bind(False), name="updated")
    with pytest.raises(RuntimeError):
        run(Model.bind(True), name="updated")
    assert handle.remote().result() == "old"
    assert statuses("updated").deployments["Model"].replica_states.get("RUNNING") == 2


def test_a_failed_update_answers_still(run):
    @deployment(num_replicas=2)
    class Model:
        def __init__(self, bad):
            if bad:
                raise KeyError("mine")

        def __call__(self):
            return "old"

    handle = run(Model.bind(False), name="updated")
    with pytest.raises(RuntimeError):
        run(Model.bind(True), name="updated")
    assert handle.remote().result() == "old"


def test_no_request_fails_during_an_update(run, tmp_path):
    @deployment(num_replicas=2)
    class Model:
        def __init__(self, answer):
            self.answer = answer

        async def __call__(self):
            return self.answer

    stop = tmp_path / "stop"
    handle = run(Model.bind("old"))

    def client():
        seen = set()
        while not pathlib.Path(stop).exists():
            seen.add(handle.remote().result())
        return seen

    with concurrent.futures.ThreadPoolExecutor() as pool:
        clients = [pool.submit(client) for _ in range(4)]
        try:
            run(Model.bind("new"))
            until(lambda: {handle.remote().result() for _ in range(20)} == {"new"})
        finally:
            stop.touch()
        for each in clients:
            assert each.result() <= {"old", "new"}


def test_a_killed_replica_is_replaced(run):
    handle = run(Pid.bind())
    first = handle.remote().result()
    os.kill(first, 9)

    def other():
        try:
            return handle.remote().result() != first
        except (ray.exceptions.RayError, RayServeException):
            return False

    until(other, 60)
