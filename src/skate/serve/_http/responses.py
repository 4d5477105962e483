"""A handler's value as an HTTP response."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import json
import pathlib
import uuid
from typing import Any

from skate.serve.exceptions import RayServeException

TEXT = b"text/plain; charset=utf-8"
PLAIN = b"text/plain"
JSON = b"application/json"

_encode = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=lambda one: _plain(one)
).encode


class AnswerError(RayServeException, TypeError):
    """A handler has returned what no response can hold."""


def body_of(value: Any) -> tuple[bytes, bytes]:
    """Return content type and body for a value: text, bytes, or anything that JSON can hold.

    Raises:
        AnswerError: JSON cannot hold it.

    Example:
        >>> body_of({"a": [1, 2]})
        (b'application/json', b'{"a":[1,2]}')
    """
    kind = type(value)
    if kind is str:
        return TEXT, value.encode()
    if kind is bytes:
        return PLAIN, value
    if value is None:
        return PLAIN, b""
    if isinstance(value, str):
        return TEXT, value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return PLAIN, bytes(value)
    try:
        return JSON, _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise AnswerError(f"the handler returned what no response can hold: {error}") from None


def _plain(value: Any) -> Any:
    """Return what JSON can hold instead of a value that it cannot, as FastAPI and Ray have it: arrays and
    sets as lists, models as dicts, tables as lists of rows."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, uuid.UUID | pathlib.PurePath):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return int(value) if value.is_finite() and _is_whole(value) else float(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a table of pandas
        return value.to_dict(orient="records")
    if hasattr(value, "_to_object_ref"):
        raise TypeError("a response of a handle that was not awaited: return `await handle.remote(...)`")
    raise TypeError(
        f"{value!r:.100} ({type(value).__name__}): return text, bytes, what JSON can hold, or a starlette "
        "Response"
    )


def _is_whole(number: decimal.Decimal) -> bool:
    """Tell whether a number is written without a fraction: ``1``, but not ``1.0``."""
    return int(number.as_tuple().exponent) >= 0
