"""API keys: which requests have one. Decisions only: no I/O, no clock.

Processes hold and store salted hashes; keys themselves stay in the program that gives them, and are taken
out of requests before applications see them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from skate.serve._targets import ApiKeys

#: Headers of a refusal.
CHALLENGE = (b"www-authenticate", b'Bearer realm="skate.serve"')
REFUSAL = "Unauthorized: send an API key, as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."

Headers = list[tuple[bytes, bytes]]


def hashed(keys: Iterable[str], salt: bytes) -> ApiKeys:
    """Return what is stored of some keys.

    Args:
        keys: any of them admits a request.
        salt: random bytes.

    Example:
        >>> admitted(hashed(["k1"], salt), [(b"x-api-key", b"k1")])
        []
    """
    return ApiKeys(salt, tuple(_digest(key.encode(), salt) for key in keys))


def admitted(keys: ApiKeys, headers: Headers) -> Headers | None:
    """Return the headers of a request without its key; None: it has none that is right.

    Args:
        keys: the right ones.
        headers: of the request, with names in lower case.
    """
    rest = [(name, value) for name, value in headers if not _has_key(keys, name, value)]
    return rest if len(rest) < len(headers) else None


def _has_key(keys: ApiKeys, name: bytes, value: bytes) -> bool:
    if name == b"authorization":
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
    elif name != b"x-api-key":
        return False
    digest = _digest(value.strip(), keys.salt)
    # All of them, and each in constant time: the time of an answer says nothing of the keys.
    return sum(hmac.compare_digest(digest, one) for one in keys.digests) > 0


def _digest(key: bytes, salt: bytes) -> bytes:
    return hashlib.sha256(salt + key).digest()
