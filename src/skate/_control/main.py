"""Runs a control store on this machine: its file of records, and the sockets that it was started with."""

from __future__ import annotations

import os

import msgspec

from skate._base import descriptors
from skate._control.server import ControlStore
from skate._transport.dialing import adopt
from skate._transport.reactor import Reactor


class ControlSettings(msgspec.Struct, frozen=True):
    """Holds the settings of a control store: JSON on its command line, written by ``_launch``."""

    session_dir: str
    #: The control store ends when this connection (its driver's) closes; -1: it belongs to no driver.
    driver_fd: int
    listen_fd: int


def main(settings_json: str) -> None:
    """Run a control store until its driver ends."""
    from skate._control.storage import Storage  # SQLite takes a while to import

    descriptors.raise_limit()
    descriptors.keep_reserve()
    settings = msgspec.json.decode(settings_json, type=ControlSettings)
    storage = Storage(os.path.join(settings.session_dir, "control.db"))
    store = ControlStore(Reactor("control store"), storage)
    lifeline = adopt(settings.driver_fd) if settings.driver_fd >= 0 else None
    store.serve(adopt(settings.listen_fd), lifeline)
    store.reactor.run()
