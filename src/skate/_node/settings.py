"""The settings that a daemon is started with: JSON on its command line, written by ``_launch``."""

from __future__ import annotations

import msgspec


class KeptControl(msgspec.Struct, frozen=True):
    """The control store of the head's daemon, which starts it anew when it ends."""

    #: Its command line. It gets the listening socket as 3, the lock of the session as 4, a lifeline as 5.
    argv: list[str]
    #: Where it writes what it has to say.
    log: str
    #: It ends with the process that started it.
    lifeline: bool
    #: The daemon's duplicate of its listening socket, and a pidfd of the first one.
    listen_fd: int
    pidfd: int


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
    #: The daemon ends when this connection (its driver's) does; -1: it has none, and stays.
    driver_fd: int
    listen_fd: int
    hostname: str
    labels: dict[str, str]
    #: None: this node is not the head.
    control: KeptControl | None = None
