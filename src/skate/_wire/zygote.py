"""What the daemon says with its zygote, over a socket pair that keeps message boundaries."""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Spawn(Struct, array_like=True, frozen=True, tag=1):
    """Daemon to zygote: fork a worker. Its stdout and stderr come along as two descriptors."""

    worker_id: bytes
    #: Number of the worker's word on the board.
    slot: int
    #: JSON from the driver: sys.path, working directory, environment.
    job_config: bytes


class Spawned(Struct, array_like=True, frozen=True, tag=2):
    """Zygote to daemon: it runs (or could not: pid 0)."""

    worker_id: bytes
    pid: int
    error: str


class Exited(Struct, array_like=True, frozen=True, tag=3):
    """Zygote to daemon: it ended, with this wait status."""

    worker_id: bytes
    pid: int
    status: int


encode = msgspec.msgpack.Encoder().encode
#: What the zygote and what the daemon reads; both raise one of ``codec.GARBAGE`` for anything else.
decode_request = msgspec.msgpack.Decoder(Spawn).decode
decode_report = msgspec.msgpack.Decoder(Spawned | Exited).decode

#: The largest message: a long PYTHONPATH and environment.
MAX_MESSAGE = 512 * 1024
