"""Tensors of the Open Inference Protocol: JSON, bytes, and what is wrong with them."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from skate.serve._protocols.tensors import Infer, Spec, TensorError, decode, encode


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "INT32", "shape": [2, 2], "data": [1, 2, 3, 4], **fields}


def body(*inputs: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **fields}).encode()


def test_data_are_flat_or_nested() -> None:
    for data in ([1, 2, 3, 4], [[1, 2], [3, 4]]):
        found = decode(body(tensor(data=data), id="r1"), None)
        assert found.id == "r1"
        assert found.inputs["x"].tolist() == [[1, 2], [3, 4]]
        assert found.inputs["x"].dtype == np.int32


def test_texts_are_bytes() -> None:
    found = decode(body(tensor(datatype="BYTES", shape=[2], data=["a", "ü"])), None)
    assert found.inputs["x"].tolist() == [b"a", "ü".encode()]
    whole, length = encode(found, {"y": np.array([b"a", "b"], object)}, "m", "1")
    assert length is None
    assert json.loads(whole)["outputs"] == [
        {"name": "y", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
    ]


def test_bytes_follow_the_json_in_its_order() -> None:
    head = body(
        tensor(name="a", datatype="FP32", shape=[1], data=None, parameters={"binary_data_size": 4}),
        tensor(name="b", shape=[1], data=[7]),
        tensor(name="c", datatype="BYTES", shape=[2], parameters={"binary_data_size": 10}),
    )
    found = decode(head + np.float32(1.5).tobytes() + b"\x02\0\0\0hi\0\0\0\0", len(head))
    assert {name: one.tolist() for name, one in found.inputs.items()} == {
        "a": [1.5],
        "b": [7],
        "c": [b"hi", b""],
    }


def test_bf16_becomes_32_bit_floats() -> None:
    head = body(tensor(datatype="BF16", shape=[2], parameters={"binary_data_size": 4}))
    found = decode(
        head + (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes(), len(head)
    )
    assert found.inputs["x"].tolist() == [1.5, -2.0]
    assert (found.inputs["x"].dtype, found.datatypes) == (np.float32, {"x": "FP32"})


@pytest.mark.parametrize(
    ("request_body", "length", "message"),
    [
        (b"{", None, "not JSON"), (b"[]", None, "list of inputs"), (b"{}", 9, "9 bytes are JSON"),
        (body("x"), None, "an input is an object"), (body(tensor(), tensor()), None, "twice"),  # type: ignore[arg-type]
        (body(tensor(datatype="INT7")), None, "INT7"), (body(tensor(shape=[-1])), None, "shape"),
        (body(tensor(shape=[3])), None, "has 4 elements"), (body(tensor(data=[1, 2, 3])), None, "has 3 elements"),
        (body(tensor(data=[1, 2, 3, 2**40])), None, "its data are not"), (body(tensor(data=None)), None, "no list"),
        (body(tensor(data=[1, 2, 3, "a"])), None, "its data are not"), (body(tensor(datatype="BF16")), None, "BF16"),
        (body(tensor(datatype="BYTES")), None, "texts"), (body(tensor(), parameters=[1]), None, "parameters"),
        (body(tensor(parameters={"binary_data_size": 16})), None, "of which 0 came"),
        (body(tensor(parameters={"shared_memory_region": "r"})), None, "shared memory"),
        (body(tensor(), outputs=["y"]), None, "outputs"),
        (body(tensor(), outputs=[{"name": "y", "parameters": {"classification": 1}}]), None, "classification"),
    ],
)  # fmt: skip
def test_wrong_requests(request_body: bytes, length: int | None, message: str) -> None:
    with pytest.raises(TensorError, match=message) as raised:
        decode(request_body, length)
    assert raised.value.status == 400


def test_bytes_that_do_not_fit() -> None:
    head = body(tensor(shape=[1], parameters={"binary_data_size": 3}))
    with pytest.raises(TensorError, match="no whole number"):
        decode(head + b"abc", len(head))
    head = body(tensor(datatype="BYTES", shape=[1], parameters={"binary_data_size": 6}))
    with pytest.raises(TensorError, match="middle of an element"):
        decode(head + b"\x09\0\0\0ab", len(head))
    head = body(tensor())
    with pytest.raises(TensorError, match="1 bytes follow"):
        decode(head + b"a", len(head))


NUMBERS = scalar_dtypes().filter(lambda kind: kind.kind in "biuf" and kind.itemsize <= 8)


@given(array=NUMBERS.flatmap(lambda kind: arrays(kind, array_shapes(min_side=0))), is_binary=st.booleans())
def test_what_is_encoded_is_decoded(array: Any, is_binary: bool) -> None:
    asked = Infer("", {}, {}, None, is_binary)
    try:
        whole, length = encode(asked, {"x": array}, "m", "1")
    except TensorError:
        assert not is_binary
        assert not np.isfinite(array).all()
        return
    answer = json.loads(whole[:length])
    (output,) = answer["outputs"]
    found = decode(json.dumps({"inputs": [output]}).encode() + whole[length:] if is_binary else body(output),
                   len(json.dumps({"inputs": [output]})) if is_binary else None)  # fmt: skip
    np.testing.assert_array_equal(found.inputs["x"], array)
    assert found.inputs["x"].dtype == array.dtype.newbyteorder("=")


def test_outputs_that_are_wanted() -> None:
    results = {"a": np.arange(2), "b": np.zeros(1, np.float16), "c": np.ones(1, bool)}
    asked = decode(
        body(tensor(), outputs=[{"name": "b", "parameters": {"binary_data": True}}, {"name": "a"}]), None
    )
    whole, length = encode(asked, results, "m", "1")
    answer = json.loads(whole[:length])
    assert [(one["name"], one["datatype"]) for one in answer["outputs"]] == [("b", "FP16"), ("a", "INT64")]
    assert answer["outputs"][0]["parameters"] == {"binary_data_size": 2}
    assert answer["outputs"][1]["data"] == [0, 1]
    assert len(whole) == (length or 0) + 2
    with pytest.raises(TensorError, match="no output 'd'"):
        encode(decode(body(tensor(), outputs=[{"name": "d"}]), None), results, "m", "1")
    for array, message in ((np.array([1j]), "complex128"), (np.array([b"\xff"], object), "no text")):
        with pytest.raises(TensorError, match=message) as raised:
            encode(Infer("", {}, {}, None, False), {"a": array}, "m", "1")
        assert raised.value.status == 500


def test_descriptions_check_requests() -> None:
    one = Spec("x", "FP32", (-1, 3))
    one.check(np.zeros((2, 3)), "FP32")
    for shape in ((3,), (2, 2)):
        with pytest.raises(TensorError, match=r"the model takes \[-1, 3\]"):
            one.check(np.zeros(shape), "FP32")
    with pytest.raises(TensorError, match="is INT8; the model takes FP32"):
        one.check(np.zeros((2, 3)), "INT8")
    with pytest.raises(ValueError, match="FLOAT"):
        Spec("x", "FLOAT", (1,))
    with pytest.raises(ValueError, match="sizes"):
        Spec("x", "FP32", (-2,))


def test_errors_travel() -> None:
    error = pickle.loads(pickle.dumps(TensorError("empty", 422)))
    assert (str(error), error.status) == ("empty", 422)
