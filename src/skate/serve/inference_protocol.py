"""The Open Inference Protocol, version 2, over your own models: ``inference_app``."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Mapping
from typing import Any

from skate.serve._client import client as clients
from skate.serve._protocols.failures import cause_of, status_of
from skate.serve._protocols.tensors import Spec, TensorError, decode, encode
from skate.serve.context import request as current_request
from skate.serve.deployment import Application, deployment

__all__ = ["TensorError", "inference_app"]

logger = logging.getLogger("skate.serve")
_VERSION = "1"
_JSON_LENGTH = "inference-header-content-length"


def inference_app(models: Mapping[str, Application], **options: Any) -> Application:
    """Return an application that speaks the Open Inference Protocol, as Triton and KServe do, over models of
    yours.

    A model's class has a method ``infer(inputs)``, which gets a dict from name to numpy array and returns
    one. With ``@serve.batch`` it gets the dicts of several requests as a list. Class attributes ``inputs``
    and ``outputs``, dicts from name to (datatype, shape), describe its tensors; requests are checked by them.
    Elements of the datatype BYTES are ``bytes`` objects. A ``TensorError`` that the method raises is the
    answer.

    Args:
        models: the name by which clients ask for it, and what ``bind`` returned. The version is "1".
        options: of the entrance, as in ``@serve.deployment``; it runs 1,000 requests at a time by default.

    Raises:
        TypeError: a model is no class with the method.
        ValueError: a tensor that it describes has a datatype or shape that does not exist.

    Example:
        >>> @serve.deployment
        ... class Double:
        ...     inputs = {"x": ("FP32", [-1])}
        ...     outputs = {"y": ("FP32", [-1])}
        ...     def infer(self, inputs):
        ...         return {"y": 2 * inputs["x"]}
        >>> serve.run(inference_app({"double": Double.bind()}))
    """
    described = {name: _describe(name, one) for name, one in models.items()}
    entrance: Any = deployment(**{"name": "OpenInference", "max_ongoing_requests": 1000, **options})(
        _Entrance
    )
    return entrance.bind(dict(models), described)  # type: ignore[no-any-return]


def _describe(name: str, model: Application) -> tuple[list[Spec], list[Spec]]:
    """Return the inputs and outputs that a model says that it has."""
    if not isinstance(model, Application):
        raise TypeError(f"the model {name!r} is no Application: give what bind() returned, got {model!r:.80}")
    made = model._deployment.func_or_class
    if not inspect.isclass(made) or not hasattr(made, "infer"):
        raise TypeError(f"the model {name!r} ({made.__name__}) has no method infer(inputs)")

    def specs(attribute: str) -> list[Spec]:
        found: Mapping[str, Any] = getattr(made, attribute, None) or {}
        return [Spec(tensor, kind, tuple(shape)) for tensor, (kind, shape) in found.items()]

    return specs("inputs"), specs("outputs")


class _Entrance:
    """The deployment that clients talk to.

    Args:
        models: name to handle.
        described: name to the model's inputs and outputs.
    """

    def __init__(self, models: dict[str, Any], described: dict[str, tuple[list[Spec], list[Spec]]]) -> None:
        self._models = models
        self._described = described

    async def __call__(self, request: Any) -> Any:
        from starlette.responses import Response

        try:
            status, body, json_length = 200, *await self._route(request)
        except Exception as raised:
            status, text = _as_answer(raised)
            body, json_length = json.dumps({"error": text}).encode(), None
        kind = "application/json" if json_length is None else "application/octet-stream"
        headers = {} if json_length is None else {_JSON_LENGTH: str(json_length)}
        return Response(body, status, headers, kind)

    async def _route(self, request: Any) -> tuple[bytes, int | None]:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        parts = path.strip("/").split("/")
        if request.method == "POST" and parts[:2] == ["v2", "models"] and parts[-1] == "infer":
            return await self._infer(self._name_in(parts[2:-1]), request)
        if request.method == "GET":
            if parts == ["v2"]:
                return _json({"name": "skate.serve", "version": "2", "extensions": ["binary_tensor_data"]})
            if parts == ["v2", "health", "live"]:
                return _json({"live": True})
            if parts == ["v2", "health", "ready"]:
                return self._ready([*self._models])
            if parts[:2] == ["v2", "models"] and parts[-1] == "ready":
                return self._ready([self._name_in(parts[2:-1])])
            if parts[:2] == ["v2", "models"]:
                return self._metadata(self._name_in(parts[2:]))
        raise TensorError(f"there is no {request.method} {path} here", 404)

    def _name_in(self, parts: list[str]) -> str:
        """Return the model that a path names."""
        name, *version = parts or [""]
        if name not in self._models:
            raise TensorError(f"there is no model {name!r} here; there are {', '.join(self._models)}", 404)
        if version not in ([], ["versions", _VERSION]):
            raise TensorError(f"the model {name!r} has the version {_VERSION} only", 404)
        return name

    def _ready(self, names: list[str]) -> tuple[bytes, int | None]:
        for name in names:
            table = clients.this_process().port(self._models[name].deployment_id).table
            if table is None or not table.replicas:
                raise TensorError(f"the model {name!r} has no replica that is ready", 503)
        return _json({"ready": True})

    def _metadata(self, name: str) -> tuple[bytes, int | None]:
        inputs, outputs = self._described[name]
        return _json({
            "name": name, "versions": [_VERSION], "platform": "skate.serve",
            "inputs": [one.described() for one in inputs], "outputs": [one.described() for one in outputs],
        })  # fmt: skip

    async def _infer(self, name: str, request: Any) -> tuple[bytes, int | None]:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise TensorError(f"bodies are taken as they are, not as {encoding}", 415)
        length = request.headers.get(_JSON_LENGTH)
        if length is not None and not length.isdecimal():
            raise TensorError(f"the header {_JSON_LENGTH} is a number, got {length!r}")
        asked = decode(await request.body(), None if length is None else int(length))
        described = self._described[name][0]
        if described:
            known = {one.name: one for one in described}
            if asked.inputs.keys() != known.keys():
                raise TensorError(
                    f"the inputs are {', '.join(known)}, got {', '.join(asked.inputs) or 'none'}"
                )
            for one, array in asked.inputs.items():
                known[one].check(array, asked.datatypes[one])
        results = await self._models[name].infer.remote(asked.inputs)
        if not isinstance(results, Mapping):
            raise TypeError(
                f"infer() of {name} returned {type(results).__name__}, not a dict from name to array"
            )
        return encode(asked, results, name, _VERSION)


def _json(value: Any) -> tuple[bytes, int | None]:
    return json.dumps(value).encode(), None


def _as_answer(raised: Exception) -> tuple[int, str]:
    """Return the status and text of an error. One of the model's is logged: its text may be no client's
    business."""
    error = cause_of(raised)
    if isinstance(error, TensorError):
        return error.status, error.message
    status, request_id = status_of(error), current_request.get().request_id
    if status is not None:
        return status, f"{error} (Request {request_id})"
    if error is raised:  # else the replica that ran it has written it already
        logger.error("request %s failed", request_id, exc_info=raised)
    return 500, f"the model failed; its log has more of request {request_id}"
