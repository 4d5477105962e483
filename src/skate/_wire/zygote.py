"""Defines the messages between the daemon and its zygote, over a socket pair that keeps message
boundaries."""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Spawn(Struct, array_like=True, frozen=True, tag=1):
    """Daemon to zygote: fork a worker. Its stdout and stderr come along as two descriptors."""

    worker_id: bytes
    #: Number of the worker's slot in the progress table.
    slot: int
    #: JSON from the driver: sys.path, working directory, environment.
    job_config: bytes


class Spawned(Struct, array_like=True, frozen=True, tag=2):
    """Zygote to daemon: the worker runs (pid 0: the fork failed)."""

    worker_id: bytes
    pid: int
    error: str


class Exited(Struct, array_like=True, frozen=True, tag=3):
    """Zygote to daemon: the worker ended with this wait status."""

    worker_id: bytes
    pid: int
    status: int


class Preload(Struct, array_like=True, frozen=True, tag=4):
    """Daemon to zygote: import these modules when there is nothing else to do, for the workers to come."""

    modules: list[str]


encode = msgspec.msgpack.Encoder().encode
#: Decode messages at the zygote and at the daemon; both raise one of ``codec.GARBAGE`` for anything else.
decode_request = msgspec.msgpack.Decoder(Spawn | Preload).decode
decode_report = msgspec.msgpack.Decoder(Spawned | Exited).decode

#: The largest message: a long PYTHONPATH and environment.
MAX_MESSAGE = 512 * 1024
