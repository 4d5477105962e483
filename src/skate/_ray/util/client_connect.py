"""``ray.util.client_connect``: what Ray Client is for, where there is nothing between program and session.

A driver here speaks to the session itself, and sessions have one machine. So an address of this machine means
the session that runs on it; any other is refused by name.
"""

from __future__ import annotations

import sys
from typing import Any

import skate
from skate._as_ray import RAY_VERSION

_HERE = ("localhost", "127.0.0.1", "[::1]", "")


def connect(
    conn_str: str,
    secure: bool = False,
    metadata: list[tuple[str, str]] | None = None,
    connection_retries: int = 3,
    job_config: skate.job_config.JobConfig | None = None,
    namespace: str | None = None,
    *,
    ignore_version: bool = False,
    _credentials: Any = None,
    ray_init_kwargs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Join the session that runs on this machine.

    Args:
        conn_str: ``host:port``; the host must be this machine, the port does not matter.
        job_config: as with ``init``.
        namespace: the namespace of named actors.
        ray_init_kwargs: more arguments of ``init``.
        secure, metadata, connection_retries, ignore_version, _credentials: taken for Ray's sake.

    Returns:
        Versions, and the number of clients as Ray reports it (1).

    Raises:
        ConnectionError: the host is another one, or no session runs here.
        RuntimeError: this process is connected already.

    Example:
        >>> ray.util.connect("localhost:10001")
    """
    host = conn_str.removeprefix("ray://").rpartition(":")[0]
    if host not in _HERE:
        raise ConnectionError(
            f"nobody answers at {conn_str!r}: this version of skate has no clients on other machines. Run "
            "the program on the machine of the session"
        )
    if skate.is_initialized():
        raise RuntimeError(
            "this process is connected already: call ray.util.disconnect() or shutdown() first"
        )
    given: dict[str, Any] = {
        key: value for key, value in (("job_config", job_config), ("namespace", namespace)) if value
    }
    skate.init(address="auto", **given, **(ray_init_kwargs or {}))
    return {
        "num_clients": 1,
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "ray_version": RAY_VERSION,
        "ray_commit": skate.__commit__,
    }


def disconnect() -> None:
    """Leave the session."""
    skate.shutdown()
