"""What a daemon is started with: JSON on its command line, written by ``_launch``."""

from __future__ import annotations

import msgspec


class NodeSettings(msgspec.Struct, frozen=True):
    """One node of one session."""

    node_id: str
    session_dir: str
    #: User-visible amounts, in fixed point.
    resources: dict[str, int]
    store_capacity: int
    #: Where objects go that memory has no room for; empty: the temporary folder.
    spill_folder: str
    #: Ids of its GPUs.
    gpus: list[str]
    config: dict[str, int]
    #: The daemon ends when this connection (its driver's) does; -1: it is nobody's.
    driver_fd: int
    listen_fd: int
    hostname: str
    labels: dict[str, str]
