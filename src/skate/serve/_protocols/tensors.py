"""The Open Inference Protocol, version 2: tensors from JSON or bytes and back. Decisions only: no I/O, no
clock.

A binary tensor follows the JSON of its message, in the order of the tensors there: Triton's extension.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Datatype of the protocol to numpy's. BYTES are arrays of ``bytes`` objects. BF16 becomes 32-bit floats.
_TYPES: dict[str, Any] = {
    "BOOL": np.dtype(np.bool_),
    **{
        f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}")
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


class TensorError(Exception):
    """A request that is answered with an error. A model may raise it, too.

    Args:
        message: for the client.
        status: of the HTTP answer.

    Example:
        >>> raise TensorError("the picture is empty")
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message, status)
        self.message, self.status = message, status

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Spec:
    """A tensor that a model takes or returns.

    Args:
        name: of the tensor.
        datatype: in the words of the protocol, such as "FP32".
        shape: its sizes; -1: any.

    Raises:
        ValueError: there is no such datatype, or a size is none.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.datatype not in _TYPES:
            raise ValueError(f"the tensor {self.name!r} has the datatype {self.datatype!r}: it is one of "
                             f"{', '.join(_TYPES)}")  # fmt: skip
        if not all(isinstance(size, int) and size >= -1 for size in self.shape):
            raise ValueError(
                f"the tensor {self.name!r} has the shape {self.shape}: sizes are numbers, or -1 for any"
            )

    def check(self, array: Any, datatype: str) -> None:
        """Compare what a client sent.

        Raises:
            TensorError: it is something else.
        """
        fits = len(array.shape) == len(self.shape) and all(
            size in (-1, has) for size, has in zip(self.shape, array.shape, strict=True)
        )
        if not fits:
            raise TensorError(f"the input {self.name!r} has the shape {list(array.shape)}; "
                              f"the model takes {list(self.shape)}")  # fmt: skip
        if datatype != self.datatype:
            raise TensorError(f"the input {self.name!r} is {datatype}; the model takes {self.datatype}")

    def described(self) -> dict[str, Any]:
        """Return it as the metadata of a model have it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Infer:
    """A request.

    Args:
        id: the client's; "": it has none.
        inputs: name to array.
        datatypes: name of an input to its datatype.
        outputs: name to whether its bytes are wanted rather than JSON; None: all outputs are.
        is_binary: bytes are wanted where ``outputs`` says nothing.
    """

    id: str
    inputs: dict[str, Any]
    datatypes: dict[str, str]
    outputs: dict[str, bool] | None
    is_binary: bool


def decode(body: bytes, json_length: int | None) -> Infer:
    """Return what a request asks for.

    Args:
        body: of the request.
        json_length: how many bytes of it are JSON; None: all.

    Raises:
        TensorError: it is wrong.
    """
    length = len(body) if json_length is None else json_length
    if not 0 <= length <= len(body):
        raise TensorError(f"the header says that {length} bytes are JSON, but the body has {len(body)}")
    try:
        found = json.loads(body[:length])
    except ValueError as error:
        raise TensorError(f"the request is not JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("inputs"), list):
        raise TensorError("the request is a JSON object with a list of inputs")
    inputs: dict[str, Any] = {}
    datatypes: dict[str, str] = {}
    at = length
    for one in found["inputs"]:
        name, datatype, shape = _head(one)
        if name in inputs:
            raise TensorError(f"the input {name!r} is there twice")
        size = _parameters(one).get("binary_data_size")
        if size is None:
            inputs[name] = _from_json(name, datatype, shape, one.get("data"))
        else:
            if not isinstance(size, int) or not 0 <= size <= len(body) - at:
                raise TensorError(
                    f"the input {name!r} is to have {size} bytes, of which {len(body) - at} came"
                )
            inputs[name] = _from_bytes(name, datatype, shape, body[at : at + size])
            at += size
        datatypes[name] = "FP32" if datatype == "BF16" else datatype
    if at != len(body):
        raise TensorError(f"{len(body) - at} bytes follow the last tensor")
    is_binary = _parameters(found).get("binary_data_output") is True
    return Infer(str(found.get("id") or ""), inputs, datatypes, _outputs(found, is_binary), is_binary)


def _head(one: Any) -> tuple[str, str, tuple[int, ...]]:
    if not isinstance(one, dict) or not isinstance(one.get("name"), str):
        raise TensorError("an input is an object with name, shape, datatype and data")
    name, datatype, shape = one["name"], one.get("datatype"), one.get("shape")
    if datatype not in _TYPES and datatype != "BF16":
        raise TensorError(
            f"the input {name!r} has the datatype {datatype!r}; there are {', '.join(_TYPES)}, BF16"
        )
    if not isinstance(shape, list) or not all(
        isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape
    ):
        raise TensorError(f"the input {name!r} has the shape {shape!r}: a list of numbers from 0")
    return name, datatype, tuple(shape)


def _parameters(one: Mapping[str, Any]) -> dict[str, Any]:
    found = one.get("parameters") or {}
    if not isinstance(found, dict):
        raise TensorError("parameters is an object")
    if "shared_memory_region" in found:
        raise TensorError("tensors in shared memory are not taken: send JSON or bytes")
    return found


def _outputs(found: Mapping[str, Any], is_binary: bool) -> dict[str, bool] | None:
    wanted = found.get("outputs")
    if not wanted:
        return None
    if not isinstance(wanted, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in wanted
    ):
        raise TensorError("outputs is a list of objects with a name")
    for one in wanted:
        if _parameters(one).get("classification"):
            raise TensorError(f"the output {one['name']!r}: classification is not there")
    return {one["name"]: bool(_parameters(one).get("binary_data", is_binary)) for one in wanted}


def _from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Any:
    if datatype == "BF16":
        raise TensorError(f"the input {name!r} is BF16, which JSON cannot hold: send its bytes")
    if not isinstance(data, list):
        raise TensorError(f"the input {name!r} has no list of data")
    if datatype == "BYTES":
        flat = _flat(data)
        if not all(isinstance(one, str) for one in flat):
            raise TensorError(f"the input {name!r} is BYTES: its data are texts")
        array = np.empty(len(flat), object)
        array[:] = [one.encode() for one in flat]
    else:
        try:
            array = np.array(_flat(data), _TYPES[datatype])
        except (TypeError, ValueError, OverflowError) as error:
            raise TensorError(f"the input {name!r} is {datatype}, but its data are not: {error}") from None
    return _shaped(name, array, shape)


def _flat(data: list[Any]) -> list[Any]:
    """Return data row by row; they may be nested as the shape is, or not."""
    while data and isinstance(data[0], list):
        data = [one for part in data for one in (part if isinstance(part, list) else [part])]
    return data


def _from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> Any:
    if datatype == "BYTES":
        return _shaped(name, _objects(name, data), shape)
    kind = np.dtype(np.uint16) if datatype == "BF16" else _TYPES[datatype]
    if len(data) % kind.itemsize:
        raise TensorError(
            f"the input {name!r} has {len(data)} bytes, which are no whole number of {datatype}"
        )
    array = np.frombuffer(data, kind.newbyteorder("<")).astype(kind, copy=False)
    if datatype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return _shaped(name, array, shape)


def _objects(name: str, data: bytes) -> Any:
    """Return the elements of a BYTES tensor, each of which has its length before it, in four bytes."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        if at + 4 + size > len(data):
            raise TensorError(f"the input {name!r} ends in the middle of an element")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    array = np.empty(len(found), object)
    array[:] = found
    return array


def _shaped(name: str, array: Any, shape: tuple[int, ...]) -> Any:
    if array.size != math.prod(shape):
        raise TensorError(f"the input {name!r} of shape {list(shape)} has {array.size} elements")
    return array.reshape(shape)


def encode(request: Infer, results: Mapping[str, Any], model: str, version: str) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how many bytes of it are JSON, if not all.

    Args:
        request: the request.
        results: output to array.
        model, version: which answered.

    Raises:
        TensorError: an output is wanted that is not there, or that cannot be sent as it is wanted.
    """
    wanted = request.outputs
    if wanted is None:
        wanted = dict.fromkeys(results, request.is_binary)
    outputs, parts = [], []
    for name, is_binary in wanted.items():
        if name not in results:
            raise TensorError(f"there is no output {name!r}; there are {', '.join(results)}")
        array = np.asarray(results[name])
        datatype = _datatype(name, array)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if is_binary:
            parts.append(_to_bytes(array, datatype))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = _to_json(name, array, datatype)
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id:
        answer["id"] = request.id
    try:
        head = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise TensorError(
            "an output has numbers that are not finite, which JSON cannot hold: ask for binary_data", 500
        ) from None
    return (b"".join([head, *parts]), len(head)) if parts else (head, None)


def _datatype(name: str, array: Any) -> str:
    if array.dtype.kind in "SUO":
        return "BYTES"
    found = _NAMES.get(array.dtype.newbyteorder("="))
    if found is None:
        raise TensorError(
            f"the model returned {name!r} as {array.dtype}, which the protocol does not have", 500
        )
    return found


def _elements(array: Any) -> Sequence[bytes]:
    return [one if isinstance(one, bytes) else str(one).encode() for one in array.ravel().tolist()]


def _to_bytes(array: Any, datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(one).to_bytes(4, "little") + one for one in _elements(array))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()  # type: ignore[no-any-return]


def _to_json(name: str, array: Any, datatype: str) -> list[Any]:
    if datatype != "BYTES":
        return array.ravel().tolist()  # type: ignore[no-any-return]
    try:
        return [one.decode() for one in _elements(array)]
    except UnicodeDecodeError:
        raise TensorError(
            f"the output {name!r} has bytes that are no text: ask for binary_data", 500
        ) from None
