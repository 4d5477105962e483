"""``inference_app`` with Triton's own client, and with plain HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import skate
from skate import serve
from skate.serve.inference_protocol import TensorError, inference_app

from .conftest import Web

triton = pytest.importorskip("tritonclient.http")
from tritonclient.utils import InferenceServerException  # noqa: E402

Wait = Callable[[Callable[[], object]], None]


@serve.deployment
class Sums:
    inputs = {"x": ("FP32", [-1, 3]), "names": ("BYTES", [-1])}
    outputs = {"sums": ("FP32", [-1]), "greeting": ("BYTES", [-1])}

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if (inputs["x"] < 0).any():
            raise TensorError("numbers are from 0", 422)
        if (inputs["x"] > 100).any():
            raise KeyError("a secret")
        greeting = np.array([b"hello " + one for one in inputs["names"]], object)
        return {"sums": inputs["x"].sum(axis=1), "greeting": greeting}


@serve.deployment
class Batched:
    """Runs requests that come together at once."""

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def infer(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"y": 2 * one["x"]} for one in requests]


@skate.remote(num_cpus=0, max_concurrency=10)
class Gate:
    """Lets replicas start, or has them wait."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def close(self) -> None:
        self.is_open.clear()

    async def open(self) -> None:
        self.is_open.set()

    async def wait(self) -> None:
        await self.is_open.wait()


@serve.deployment
class Gated:
    async def __init__(self) -> None:
        await skate.get_actor("gate").wait.remote()

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def client(web: Web, wait_until: Wait) -> Iterator[Any]:
    serve.run(inference_app({"sums": Sums.bind(), "batched": Batched.bind()}))
    found = triton.InferenceServerClient(f"{web.host}:{web.port}")
    wait_until(found.is_server_ready)
    yield found
    found.close()


def inputs(numbers: Any, is_binary: bool) -> list[Any]:
    array = np.array(numbers, np.float32)
    x = triton.InferInput("x", list(array.shape), "FP32")
    x.set_data_from_numpy(array, binary_data=is_binary)
    names = triton.InferInput("names", [1], "BYTES")
    names.set_data_from_numpy(np.array([b"you"], object), binary_data=is_binary)
    return [x, names]


def test_health_and_metadata(client: Any, web: Web) -> None:
    assert client.is_server_live()
    assert client.is_model_ready("sums")
    assert client.is_model_ready("sums", "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    found = client.get_model_metadata("sums")
    assert found["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3]}, {"name": "names", "datatype": "BYTES", "shape": [-1]},
    ]  # fmt: skip
    assert found["versions"] == ["1"]
    assert web("/v2/models/sums/versions/2").status == 404
    assert web("/v2/nothing").json() == {"error": "there is no GET /v2/nothing here"}


@pytest.mark.parametrize("is_binary", [False, True])
def test_tensors_as_json_and_as_bytes(client: Any, is_binary: bool) -> None:
    wanted = [triton.InferRequestedOutput(name, binary_data=is_binary) for name in ("sums", "greeting")]
    found = client.infer("sums", inputs([[1, 2, 3], [4, 5, 6]], is_binary), outputs=wanted, request_id="r1")
    assert found.as_numpy("sums").tolist() == [6.0, 15.0]
    assert [one if isinstance(one, bytes) else one.encode() for one in found.as_numpy("greeting")] == [
        b"hello you"
    ]
    response = found.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("r1", "sums", "1")


def test_a_batched_model(client: Any) -> None:
    x = triton.InferInput("x", [2], "INT64")
    x.set_data_from_numpy(np.array([1, 2]))
    pending = [client.async_infer("batched", [x]) for _ in range(3)]
    assert [one.get_result().as_numpy("y").tolist() for one in pending] == [[2, 4]] * 3


def test_errors(client: Any, web: Web) -> None:
    for numbers, message in (
        ([[1, 2]], r"the model takes \[-1, 3\]"), ([[-1, 0, 0]], "numbers are from 0"), ([[1000, 0, 0]], "the model failed"),
    ):  # fmt: skip
        with pytest.raises(InferenceServerException, match=message) as raised:
            client.infer("sums", inputs(numbers, True))
        assert "secret" not in str(raised.value)
    with pytest.raises(InferenceServerException, match="the inputs are x, names"):
        client.infer("sums", inputs([[1, 2, 3]], True)[:1])
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        client.infer("other", inputs([[1, 2, 3]], True))
    with pytest.raises(InferenceServerException, match="no output 'z'"):
        client.infer("sums", inputs([[1, 2, 3]], True), outputs=[triton.InferRequestedOutput("z")])
    with pytest.raises(InferenceServerException, match="not as gzip"):
        client.infer("sums", inputs([[1, 2, 3]], True), request_compression_algorithm="gzip")
    broken = web("/v2/models/sums/infer", b"{}", inference_header_content_length="many")
    assert broken.status == 400
    assert "is a number" in json.loads(broken.body)["error"]


def test_a_model_is_ready_while_it_has_a_replica(client: Any, web: Web, wait_until: Wait) -> None:
    """Its only replica is killed; another one is held back until the answer was seen."""
    gate = Gate.options(name="gate").remote()  # type: ignore[attr-defined]
    serve.run(inference_app({"gated": Gated.bind()}))
    wait_until(lambda: client.is_model_ready("gated"))
    skate.get(gate.close.remote())
    pid = serve.get_deployment_handle("Gated", "default").pid.remote().result()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not client.is_model_ready("gated"))
    answer = web("/v2/health/ready")
    assert (answer.status, answer.json()) == (
        503,
        {"error": "the model 'gated' has no replica that is ready"},
    )
    assert client.is_server_live()
    skate.get(gate.open.remote())
    wait_until(lambda: client.is_server_ready())
    skate.kill(gate)


def test_what_is_no_model_is_refused() -> None:
    @serve.deployment
    class Nothing:
        pass

    @serve.deployment
    class Wrong:
        inputs = {"x": ("FLOAT", [1])}

        def infer(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(TypeError, match="has no method infer"):
        inference_app({"x": Nothing.bind()})
    with pytest.raises(TypeError, match="is no Application"):
        inference_app({"x": Nothing})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="FLOAT"):
        inference_app({"x": Wrong.bind()})
