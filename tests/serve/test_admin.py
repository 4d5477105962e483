"""The REST API: as a client sees it, on a real session; and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve import _admin

from .conftest import Web

ADDRESS = "127.0.0.1:7"
APP = """
import os
from skate import serve

@serve.deployment
class Model:
    def __init__(self, size=0):
        self.size = size
    def __call__(self, request):
        return {"size": self.size, "pid": os.getpid()}

app = Model.bind()
def build(arguments):
    return Model.bind(arguments["size"])
"""
PATH = "/api/serve/applications/"


class Client:
    """A client that has the token."""

    def __init__(self, address: str, token: str) -> None:
        self.host = address.removeprefix("http://")
        self.headers = {"Authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str = PATH, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, {**self.headers, **headers})
            found = connection.getresponse()
            return found.status, json.loads(found.read())
        finally:
            connection.close()


@pytest.fixture
def client(web: Web, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "rest_app.py").write_text(APP)
    address, file = _admin.start(0, [str(tmp_path)])
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    with open(file) as opened:
        yield Client(address, opened.read())
    serve.api._end_admin()


def file(**more: Any) -> dict[str, Any]:
    one = {"name": "one", "route_prefix": "/one", "import_path": "rest_app:build", "args": {"size": 3}}
    return {"applications": [{**one, **more}]}


def test_applications_come_change_and_go(
    client: Client, web: Web, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    assert client("GET")[1]["applications"] == {}
    assert client("PUT", body=file())[0] == 200
    wait_until(lambda: client("GET")[1]["applications"]["one"]["status"] == "RUNNING")
    first = web("/one").json()
    assert first["size"] == 3
    status, found = client("GET")
    assert (status, found["proxy_location"], found["http_options"]["port"]) == (200, "EveryNode", web.port)
    assert "key" not in json.dumps(found["http_options"])  # API keys and TLS passwords are nobody's
    one = found["applications"]["one"]
    assert (one["name"], one["route_prefix"], one["message"], one["source"]) == (
        "one",
        "/one",
        "",
        "declarative",
    )
    assert one["deployed_app_config"] == file()["applications"][0]
    model = one["deployments"]["Model"]
    assert (model["status"], model["target_num_replicas"]) == ("HEALTHY", 1)
    (replica,) = model["replicas"]
    assert (replica["state"], replica["pid"]) == ("RUNNING", first["pid"])
    assert replica["start_time_s"] > 0

    changed = file(deployments=[{"name": "Model", "max_ongoing_requests": 9}])
    assert client("PUT", body=changed)[0] == 200
    wait_until(lambda: client("GET")[1]["applications"]["one"]["status"] == "RUNNING")
    config = client("GET")[1]["applications"]["one"]["deployments"]["Model"]["deployment_config"]
    assert (config["max_ongoing_requests"], web("/one").json()["pid"]) == (9, first["pid"])

    assert client("DELETE")[0] == 200
    assert client("GET")[1]["applications"] == {}


def test_scaling(client: Client, wait_until: Callable[[Callable[[], object]], None]) -> None:
    path = "/api/v1/applications/one/deployments/Model/scale"
    wanted = {"target_num_replicas": 2}
    assert client("POST", path, wanted)[0] == 404
    client("PUT", body=file())
    status, found = client("POST", path, wanted)
    assert (status, "external_scaler_enabled" in found["error"]) == (412, True)
    client("PUT", body=file(external_scaler_enabled=True))
    assert client("POST", path, wanted)[0] == 200
    wait_until(
        lambda: serve.status().applications["one"].deployments["Model"].replica_states == {"RUNNING": 2}
    )
    assert client("POST", path.replace("Model", "Other"), wanted)[0] == 404
    for wrong in ({}, {"target_num_replicas": 0}, {"target_num_replicas": "2"}, {"a": 1}, [2]):
        assert client("POST", path, wrong)[0] == 400


def test_a_deployment_that_scales_itself_is_not_scaled_from_outside(client: Client) -> None:
    bounds = {"min_replicas": 1, "max_replicas": 3}
    options = {"name": "Model", "autoscaling_config": bounds}
    status, found = client("PUT", body=file(deployments=[options]))
    assert status == 200, found
    path = "/api/v1/applications/one/deployments/Model/scale"
    status, found = client("POST", path, {"target_num_replicas": 2})
    assert status == 409
    assert "Model (application one) follows the load, from 1 to 3" in found["error"]
    assert "\n" not in found["error"]


def test_a_program_may_be_scaled(client: Client, wait_until: Callable[[Callable[[], object]], None]) -> None:
    @serve.deployment
    class Model:
        def __call__(self, request: Any) -> str:
            return "x"

    serve.run(Model.bind(), name="mine", route_prefix=None, external_scaler_enabled=True)
    path = "/api/v1/applications/mine/deployments/Model/scale"
    assert client("POST", path, {"target_num_replicas": 2})[0] == 200
    wait_until(
        lambda: serve.status().applications["mine"].deployments["Model"].replica_states == {"RUNNING": 2}
    )
    # A file removes what files have brought, not what a program has run.
    assert client("PUT", body={"applications": []})[0] == 200
    assert [*client("GET")[1]["applications"]] == ["mine"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "Expecting"),
        ({"applications": [{"import_path": "a:b", "nme": 1}]}, "did you mean 'name'"),
        (file(import_path="rest_app:nothing"), "has no nothing"),
        (file(import_path="no_such_module:app", args={}), "no_such_module"),
        (file(deployments=[{"name": "Modl"}]), "did you mean 'Model'"),
        ({"applications": [], "target_capacity": 101}, "target_capacity"),
    ],
)
def test_mistakes_change_nothing(client: Client, body: Any, text: str) -> None:
    status, found = client("PUT", body=body)
    assert (status, text in found["error"]) == (400, True), found
    assert serve.status().applications == {}


def test_what_is_refused(client: Client) -> None:
    own = client.headers["Authorization"]
    assert client("GET", Authorization="")[0] == 401
    assert client("GET", Authorization=own + "x")[0] == 401
    assert client("GET", Authorization=own.replace("Bearer", "Basic"))[0] == 401
    assert client("GET", Host="evil.example")[0] == 403
    assert client("GET", Origin="http://evil.example")[0] == 403
    assert client("GET", Origin=f"http://{client.host}")[0] == 200
    assert client("GET", "/api/other")[0] == 404
    assert client("POST")[0] == 405
    assert client("PUT", body=b"x" * ((1 << 20) + 1))[0] == 413
    assert client("PUT", body=b"2\r\n{}\r\n0\r\n\r\n", **{"Transfer-Encoding": "chunked"})[0] == 411


def test_the_checks_alone() -> None:
    def status(**headers: str) -> int:
        found = _admin.refusal(
            {"Host": ADDRESS, "Authorization": "Bearer secret", **headers}, ADDRESS, "secret"
        )
        return 0 if found is None else found.status

    assert status() == status(Host="localhost:7") == status(Origin="http://localhost:7") == 0
    assert status(Authorization="bearer secret") == 0
    assert status(Host="127.0.0.1:8") == status(Origin="null") == status(Origin="https://127.0.0.1:7") == 403
    assert status(Authorization="Bearer ä") == status(Authorization="Bearer ") == 401


def test_shutdown_ends_it(web: Web) -> None:
    address, _ = _admin.start(0, [])
    assert _admin.start(0, [])[0] == address
    serve.api._end_admin()
    with pytest.raises(ValueError, match=_admin.ADMIN):
        skate.get_actor(_admin.ADMIN, namespace=_admin.NAMESPACE)
