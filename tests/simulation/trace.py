"""What simulated processes send each other, as lines that can be compared."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from skate._wire.codec import MESSAGES, decoder
from skate._wire.framing import FrameReader

#: Bytes and texts of more are shown by their beginning, their size and their digest.
LONGEST = 40

_decode = decoder(frozenset(MESSAGES.values()))


class Trace:
    """The messages of a run, in the order of their arrival."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, now: float, sender: str, receiver: str, what: str) -> None:
        self.lines.append(f"{now:.6f} {sender} -> {receiver}: {what}")


class Tap:
    """Reads along on one direction of a connection."""

    def __init__(self) -> None:
        self._reader = FrameReader()

    def messages(self, data: bytes) -> list[str]:
        """Return the messages that are complete with these bytes."""
        return [shown(_decode(body)) for body in self._reader.feed(data)]


def shown(value: Any) -> str:
    """Return a value as text: of a message, its name and its fields."""
    if isinstance(value, msgspec.Struct):
        fields = (f"{name}={shown(getattr(value, name))}" for name in value.__struct_fields__)
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{shown(key)}: {shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, bytes):
        text = value.hex()
        digest = hashlib.blake2b(value, digest_size=6).hexdigest()
        return text if len(text) <= LONGEST else f"{text[:8]}.. {len(value)} bytes {digest}"
    text = repr(value)
    if len(text) <= 4 * LONGEST:
        return text
    return f"{text[:LONGEST]}.. {len(text)} characters {hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
