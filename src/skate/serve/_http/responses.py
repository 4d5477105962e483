"""A handler's value as an HTTP response."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import GeneratorType
from typing import Any
from uuid import UUID

from skate.serve.exceptions import RayServeException

TEXT = b"text/plain; charset=utf-8"
PLAIN = b"text/plain"
JSON = b"application/json"

_encode = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=lambda one: _plain(one)
).encode

#: The types that keys have in JSON.
_KEYS = (str, int, float, bool, type(None))


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
    except TypeError:
        pass  # perhaps one of its keys is none of JSON's, for which the encoder asks nobody
    except (ValueError, RecursionError) as error:
        raise _refusal_of(error) from None
    try:
        return JSON, _encode(_with_plain_keys(value)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal_of(error) from None


def _refusal_of(error: Exception) -> AnswerError:
    return AnswerError(f"the handler returned what no response can hold: {error}")


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold for one that it cannot, as Ray Serve does.

    Arrays and sets become lists; models, and objects with attributes, become dicts.
    """
    if isinstance(value, type):
        raise _refused(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath | UUID | Exception):
        return str(value)
    if isinstance(value, set | frozenset | deque | GeneratorType):
        return list(value)
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "to_dict"):
        return value.to_dict(**({"orient": "records"} if hasattr(value, "columns") else {}))
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and int(value.as_tuple().exponent) >= 0 else float(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "_to_object_ref"):
        raise TypeError("a response of a handle that was not awaited: return `await handle.remote(...)`")
    attributes = getattr(value, "__dict__", None)
    if attributes is None or callable(value):
        raise _refused(value)
    return attributes


def _with_plain_keys(value: Any) -> Any:
    """Return a value whose dicts have keys of JSON's, such as a number in place of one of numpy's."""
    if isinstance(value, Mapping):
        return {_key(key): _with_plain_keys(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_plain_keys(one) for one in value]
    if isinstance(value, _KEYS):
        return value
    return _with_plain_keys(_plain(value))


def _key(key: Any) -> Any:
    if isinstance(key, _KEYS):
        return key
    plain = _plain(key)
    if isinstance(plain, _KEYS):
        return plain
    raise TypeError(f"a dict with the key {key!r:.100} ({type(key).__name__})")


def _refused(value: Any) -> TypeError:
    return TypeError(
        f"{value!r:.100} ({type(value).__name__}): return text, bytes, what JSON can hold, or a starlette "
        "Response"
    )
