"""RayServeAPIService: Ray's own service for clients that ask after applications. Decisions only: no I/O.

Its two answers have one field, so they are written by hand: a replica's protobuf may be of any version.
"""

from __future__ import annotations

from collections.abc import Iterable

SERVICE = "ray.serve.RayServeAPIService"
LIST_APPLICATIONS = f"/{SERVICE}/ListApplications"
HEALTHZ = f"/{SERVICE}/Healthz"

#: The tag of field 1 with a length before its bytes.
_TAG = b"\x0a"


def applications(names: Iterable[str]) -> bytes:
    """Return a ListApplicationsResponse: ``repeated string application_names = 1``.

    Example:
        >>> applications(["a", "b"])
        b'\\n\\x01a\\n\\x01b'
    """
    return b"".join(_field(one) for one in names)


def health(message: str) -> bytes:
    """Return a HealthzResponse: ``string message = 1``."""
    return _field(message)


def _field(text: str) -> bytes:
    data = text.encode()
    return _TAG + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
