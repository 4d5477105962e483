"""Turns messages into frames and frames into messages."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Union

import msgspec

from skate._wire import control, debugger, graph, handshake, node, worker
from skate._wire.framing import HEADER_SIZE, pack_header_into
from skate._wire.handshake import PROTOCOL as PROTOCOL
from skate._wire.handshake import Refused

MESSAGES: dict[int, type[msgspec.Struct]] = {
    tag: cls
    for module in (worker, node, control, debugger, graph, handshake)
    for cls in vars(module).values()
    if isinstance(cls, type)
    and issubclass(cls, msgspec.Struct)
    and isinstance(tag := cls.__struct_config__.tag, int)
}
"""Every message by its tag."""

_encoder = msgspec.msgpack.Encoder()

#: Encode and decode structs outside of frames (ActorSpec, ...).
pack = _encoder.encode
unpack = msgspec.msgpack.decode


@functools.cache
def decoder(kinds: frozenset[type]) -> Callable[[bytes | bytearray | memoryview], Any]:
    """Return a function that turns a frame's body into a message of one of these types, or a Refused.

    The function raises one of GARBAGE for anything else, so other messages are not even decoded. Callers make
    it at first need, since that takes time, and in-process mode has no frames.
    """
    return msgspec.msgpack.Decoder(Union[tuple(kinds | {Refused})]).decode  # noqa: UP007


#: The exceptions that decoders raise for bytes that are no message.
GARBAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encode_into = _encoder.encode_into
_NO_HEADER = bytes(HEADER_SIZE)


def append_frame(message: msgspec.Struct, out: bytearray) -> None:
    """Append the message's frame to ``out``."""
    start = len(out)
    out += _NO_HEADER
    _encode_into(message, out, -1)
    pack_header_into(out, start, len(out) - start - HEADER_SIZE)
