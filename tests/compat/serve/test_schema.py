"""What the REST API answers, as objects; options of config files and of the port."""

from __future__ import annotations

import json

import pytest
from ray.serve.config import HTTPOptions
from ray.serve.schema import (
    DeploymentDetails,
    ReplicaDetails,
    ServeDeploySchema,
    ServeInstanceDetails,
)

from .helpers import differs

REPLICA = {"replica_id": "a1", "state": "RUNNING", "pid": 7, "start_time_s": 1.5, "node_ip": "192.0.2.1"}
DEPLOYMENT = {
    "name": "Model",
    "status": "HEALTHY",
    "status_trigger": "CONFIG_UPDATE_COMPLETED",
    "message": "",
    "deployment_config": {"name": "Model", "num_replicas": 2, "max_ongoing_requests": 7},
    "target_num_replicas": 1,
    "required_resources": {"CPU": 1},
    "replicas": [REPLICA],
}
APPLICATION = {
    "name": "app",
    "route_prefix": "/app",
    "docs_path": None,
    "status": "RUNNING",
    "message": "",
    "last_deployed_time_s": 2.5,
    "deployed_app_config": {"name": "app", "route_prefix": "/app", "import_path": "module:app"},
    "source": "declarative",
    "deployments": {"Model": DEPLOYMENT},
    "external_scaler_enabled": False,
}
INSTANCE = {
    "controller_info": {"actor_name": "controller", "log_file_path": "/controller.log"},
    "proxy_location": "EveryNode",
    "http_options": {"host": "127.0.0.1", "port": 8001},
    "proxies": {},
    "applications": {"app": APPLICATION},
    "target_capacity": 50,
}


def test_an_answer_becomes_objects():
    found = ServeInstanceDetails(**json.loads(json.dumps(INSTANCE)))
    assert found.controller_info.actor_name == "controller"
    assert (found.http_options.port, found.target_capacity, found.proxies) == (8001, 50, {})
    application = found.applications["app"]
    assert (application.status, application.source) == ("RUNNING", "declarative")
    assert application.deployed_app_config.import_path == "module:app"
    deployment = application.deployments["Model"]
    assert (deployment.status, deployment.target_num_replicas) == ("HEALTHY", 1)
    assert deployment.deployment_config.num_replicas == 2
    assert deployment.deployment_config.max_ongoing_requests == 7
    (replica,) = deployment.replicas
    assert (replica.replica_id, replica.state, replica.pid, replica.node_ip) == (
        "a1",
        "RUNNING",
        7,
        "192.0.2.1",
    )
    assert (replica.node_id, replica.actor_id, replica.log_file_path) == (None, None, None)


def test_the_answer_without_serve():
    found = ServeInstanceDetails(**ServeInstanceDetails.get_empty_schema_dict())
    assert (found.applications, found.proxies, found.target_capacity) == ({}, {}, None)
    assert found.controller_info.actor_id is None


@pytest.mark.parametrize("missing", ["status", "replicas", "target_num_replicas"])
def test_a_field_that_is_missing_is_a_value_error(missing):
    with pytest.raises(ValueError, match=missing):
        DeploymentDetails.model_validate({key: one for key, one in DEPLOYMENT.items() if key != missing})


def test_an_unknown_field_is_a_value_error():
    with pytest.raises(ValueError, match="nonsense"):
        DeploymentDetails.model_validate({**DEPLOYMENT, "nonsense": 1})


def test_an_unknown_state_is_a_value_error():
    with pytest.raises(ValueError, match="RUNING"):
        ReplicaDetails.model_validate({**REPLICA, "state": "RUNING"})


def test_details_do_not_change():
    replica = ReplicaDetails(**REPLICA)
    with pytest.raises((ValueError, AttributeError)):
        replica.pid = 8
    assert replica.pid == 7


@pytest.mark.parametrize("percent", [None, 0, 12.5, 100])
def test_a_target_capacity(percent):
    found = ServeDeploySchema.model_validate({"applications": [], "target_capacity": percent})
    assert found.target_capacity == percent


@pytest.mark.parametrize("percent", [-1, 100.5, "much"])
def test_a_target_capacity_is_a_percentage(percent):
    with pytest.raises(ValueError, match="target_capacity"):
        ServeDeploySchema.model_validate({"applications": [], "target_capacity": percent})


def test_a_root_url():
    assert HTTPOptions(root_url="https://models.example").root_url == "https://models.example"


def through(app):
    return app


@differs(
    on="ray",
    reason="It takes none any more: they belong into a FastAPI application. Here they are around the port.",
)
def test_middlewares_of_the_port():
    assert HTTPOptions(middlewares=[through]).middlewares == [through]
