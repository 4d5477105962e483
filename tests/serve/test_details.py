"""What the REST API says of everything, read as programs for Ray read it; and the part of the replicas that a
config file wants to run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate import serve
from skate.cli import serve as command_line
from skate.serve import _admin, schema
from skate.serve.schema import ServeInstanceDetails

from .conftest import Web
from .processes import kill_controller, pid_of, replicas
from .test_admin import Client

APP = """
from skate import serve

@serve.deployment
class Model:
    def __init__(self):
        print("a model is here", flush=True)
    def __call__(self, request):
        return "model"

@serve.deployment
class Front:
    def __init__(self, model):
        self.model = model
    async def __call__(self, request):
        return await self.model.remote(None)

app = Front.bind(Model.bind())
"""
MODEL = {"name": "Model", "num_replicas": 4, "ray_actor_options": {"num_cpus": 0.25}}
SCALED = {
    "name": "Front",
    "autoscaling_config": {"min_replicas": 2, "initial_replicas": 2, "max_replicas": 6},
}

WaitUntil = Callable[[Callable[[], object]], None]


@pytest.fixture
def client(web: Web, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "detailed_app.py").write_text(APP)
    address, file = _admin.start(0, [str(tmp_path)])
    with open(file) as opened:
        yield Client(address, opened.read())
    serve.api._end_admin()


def file(*deployments: dict[str, Any], **more: Any) -> dict[str, Any]:
    one = {"name": "one", "route_prefix": "/one", "import_path": "detailed_app:app"}
    return {"applications": [{**one, "deployments": [*deployments]}], **more}


def details(client: Client) -> ServeInstanceDetails:
    """Return what the REST API answers, read as a program for Ray does it; nothing of it is lost."""
    status, found = client("GET")
    assert status == 200
    read = ServeInstanceDetails(**found)
    again = json.loads(json.dumps(read.model_dump()))
    for name, one in found["applications"].items():
        given, config = one.pop("deployed_app_config"), again["applications"][name].pop("deployed_app_config")
        assert config is given is None or given.items() <= config.items()
        for deployment in one["deployments"].values():
            assert deployment["deployment_config"].pop("user_config") is None
    assert found.pop("http_options").items() <= again.pop("http_options").items()
    assert again == found
    return read


def counts(client: Client) -> dict[str, tuple[int, int]]:
    """Return how many replicas each deployment of the application is to have, and how many run."""
    found = details(client).applications["one"].deployments
    return {
        name: (one.target_num_replicas, [replica.state for replica in one.replicas].count("RUNNING"))
        for name, one in found.items()
    }


def test_an_application_and_its_processes(client: Client, web: Web, wait_until: WaitUntil) -> None:
    assert client("PUT", body=file(MODEL))[0] == 200
    wait_until(lambda: counts(client) == {"Model": (4, 4), "Front": (1, 1)})
    found = details(client)
    assert (found.proxies, found.target_groups, found.target_capacity) == ({}, [], None)
    assert found.proxy_location == "EveryNode"
    assert found.http_options is not None
    assert (found.http_options.host, found.http_options.port) == ("127.0.0.1", web.port)
    node = skate.nodes()[0]["NodeID"]
    assert found.controller_info.actor_name == "SERVE_CONTROLLER_ACTOR"
    assert found.controller_info.node_id == node
    one = found.applications["one"]
    assert (one.status, one.source) == (schema.ApplicationStatus.RUNNING, schema.APIType.DECLARATIVE)
    assert one.deployed_app_config is not None
    assert one.deployed_app_config.import_path == "detailed_app:app"
    model = one.deployments["Model"]
    assert (model.status, model.status_trigger) == ("HEALTHY", "CONFIG_UPDATE_COMPLETED")
    assert model.required_resources == {"CPU": 0.25}
    options = model.deployment_config
    assert (options.num_replicas, options.max_ongoing_requests, options.user_config) == (4, 5, None)
    assert options.ray_actor_options == {"num_cpus": 0.25}
    running = replicas("Model", "one")
    assert {replica.replica_id for replica in model.replicas} == {*running}
    for replica in model.replicas:
        assert replica.pid == pid_of(running[replica.replica_id])
        assert (replica.node_id, replica.node_ip) == (node, "127.0.0.1")
        assert replica.actor_name == f"SERVE_REPLICA::one#Model#{replica.replica_id}"
        assert replica.actor_id == running[replica.replica_id]._actor_id.hex()
        assert replica.start_time_s > 1e9
        assert replica.log_file_path == f"/worker-{replica.worker_id}.log"
    log = Path(f"{skate.init(ignore_reinit_error=True)['session_dir']}/logs{model.replicas[0].log_file_path}")
    wait_until(lambda: log.exists() and "a model is here" in log.read_text())


def test_the_options_of_one_that_scales_itself(client: Client, wait_until: WaitUntil) -> None:
    routing = {"request_router_class": "skate.serve.experimental.round_robin_router:RoundRobinRouter"}
    client("PUT", body=file({**SCALED, "request_router_config": routing, "user_config": None}))
    wait_until(lambda: counts(client)["Front"] == (2, 2))
    options = details(client).applications["one"].deployments["Front"].deployment_config.options
    assert "num_replicas" not in options
    assert options["autoscaling_config"]["max_replicas"] == 6
    assert options["autoscaling_config"]["aggregation_function"] == "mean"
    assert options["request_router_config"]["request_router_class"] == routing["request_router_class"]


def test_applications_by_their_source(client: Client) -> None:
    @serve.deployment
    class Mine:
        def __call__(self, request: Any) -> str:
            return "mine"

    serve.run(Mine.bind(), name="mine", route_prefix=None)
    client("PUT", body=file())

    def shown(query: str) -> set[str]:
        return {*client("GET", f"/api/serve/applications/{query}")[1]["applications"]}

    assert shown("") == {"one", "mine"}
    assert shown("?api_type=declarative") == {"one"}
    assert shown("?api_type=IMPERATIVE") == {"mine"}
    status, found = client("GET", "/api/serve/applications/?api_type=unknown")
    assert (status, found["error"]) == (400, "api_type is imperative or declarative, got 'unknown'")


def test_a_part_of_the_replicas(client: Client, web: Web, wait_until: WaitUntil) -> None:
    @serve.deployment(num_replicas=2)
    class Mine:
        def __call__(self, request: Any) -> str:
            return "mine"

    serve.run(Mine.bind(), name="mine", route_prefix=None)
    assert client("PUT", body=file(MODEL, SCALED, target_capacity=50))[0] == 200
    wait_until(lambda: counts(client) == {"Model": (2, 2), "Front": (1, 1)})
    assert serve.status().target_capacity == details(client).target_capacity == 50
    assert details(client).applications["mine"].deployments["Mine"].target_num_replicas == 2
    options = details(client).applications["one"].deployments["Model"].deployment_config.options
    assert options["num_replicas"] == 4, "the wish of the file"
    before = {pid_of(one) for one in replicas("Model", "one").values()}

    kill_controller()
    wait_until(lambda: counts(client) == {"Model": (2, 2), "Front": (1, 1)})
    assert serve.status().target_capacity == 50
    assert {pid_of(one) for one in replicas("Model", "one").values()} == before

    client("PUT", body=file(MODEL, SCALED, target_capacity=100))
    wait_until(lambda: counts(client) == {"Model": (4, 4), "Front": (2, 2)})
    assert web("/one").text == "model"
    assert before <= {pid_of(one) for one in replicas("Model", "one").values()}

    client("PUT", body=file(MODEL, SCALED, target_capacity=0))
    wait_until(lambda: counts(client) == {"Model": (0, 0), "Front": (0, 0)})
    wait_until(lambda: details(client).applications["one"].status == "RUNNING")
    assert web("/one", x_request_timeout_seconds="0.2").status == 408, "it waits for a replica"

    client("PUT", body=file(MODEL, SCALED))
    wait_until(lambda: counts(client)["Model"] == (4, 4))
    assert serve.status().target_capacity is None
    assert web("/one").text == "model"


def test_deleting_all_forgets_the_capacity(client: Client) -> None:
    client("PUT", body=file(target_capacity=30))
    assert details(client).target_capacity == 30
    assert client("DELETE")[0] == 200
    assert details(client).target_capacity is None


def test_the_command_line_names_the_capacity(capsys: pytest.CaptureFixture[str]) -> None:
    command_line._print(schema.ServeStatus(target_capacity=37.5))
    assert "37.5 percent of the replicas" in capsys.readouterr().out


# ---------------------------------------------------------------------- the schema alone


def test_without_serve() -> None:
    found = ServeInstanceDetails(**ServeInstanceDetails.get_empty_schema_dict())
    assert (found.applications, found.proxies, found.controller_info.actor_id) == ({}, {}, None)


def test_mistakes_are_named_with_their_place() -> None:
    replica = {"replica_id": "x", "state": "RUNING", "start_time_s": 1.0}
    deployment = {
        "name": "D",
        "status": "HEALTHY",
        "status_trigger": "UNSPECIFIED",
        "message": "",
        "deployment_config": {"name": "D"},
        "target_num_replicas": 1,
        "required_resources": {},
        "replicas": [replica],
    }
    with pytest.raises(ValueError, match="replicas.state: 'RUNING' is not a valid ReplicaState"):
        schema.DeploymentDetails.model_validate(deployment)
    with pytest.raises(ValueError, match="the key 'proxies' is missing"):
        ServeInstanceDetails.model_validate({"applications": {}})
