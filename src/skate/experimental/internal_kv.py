"""Bytes by key, kept by the control store with the session: small things that all processes must find.

Recorded before the call returns. Keys and values may be given as text: then UTF-8 is meant.
"""

from __future__ import annotations

from typing import Any

from skate import cluster


def _internal_kv_initialized() -> bool:
    """Tell whether this process is connected, so that the table can be used."""
    return cluster.state_source() is not None


def _internal_kv_reset() -> None:
    """Do nothing: the table needs no connection of its own that could be given up."""


def _internal_kv_get(key: str | bytes, *, namespace: str | bytes | None = None) -> bytes | None:
    """Return the value of a key, or None."""
    found: bytes | None = _do("get", key, namespace)
    return found


def _internal_kv_exists(key: str | bytes, *, namespace: str | bytes | None = None) -> bool:
    """Tell whether a key has a value."""
    return bool(_do("exists", key, namespace))


def _internal_kv_put(
    key: str | bytes,
    value: str | bytes,
    overwrite: bool = True,
    *,
    namespace: str | bytes | None = None,
) -> bool:
    """Give a key a value.

    Args:
        key, value: bytes, or text.
        overwrite: False: leave a value that is there.
        namespace: keys of different namespaces have nothing to do with each other.

    Returns:
        Whether the key had a value before.

    Example:
        >>> _internal_kv_put("last-run", "2026-11-26")
        False
        >>> _internal_kv_get("last-run")
        b'2026-11-26'
    """
    return bool(_do("put", key, namespace, _bytes(value, "value"), overwrite))


def _internal_kv_del(
    key: str | bytes, *, del_by_prefix: bool = False, namespace: str | bytes | None = None
) -> int:
    """Forget a key, or all keys that begin with it; return how many are gone."""
    return int(_do("delete_prefix" if del_by_prefix else "delete", key, namespace))


def _internal_kv_list(prefix: str | bytes, *, namespace: str | bytes | None = None) -> list[bytes]:
    """Return the keys that begin with a prefix, in order."""
    found: list[bytes] = _do("list", prefix, namespace)
    return found


def _do(operation: str, key: Any, namespace: Any, value: bytes = b"", overwrite: bool = True) -> Any:
    table = b"" if namespace is None else _bytes(namespace, "namespace")
    return cluster.key_value(operation, table, _bytes(key, "key"), value, overwrite)


def _bytes(given: Any, what: str) -> bytes:
    if isinstance(given, str):
        return given.encode()
    if not isinstance(given, bytes):
        raise TypeError(f"{what} takes bytes or a string, got {given!r} ({type(given).__name__})")
    return given
