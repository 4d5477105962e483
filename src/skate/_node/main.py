"""Runs a daemon on this machine: makes its real effects."""

from __future__ import annotations

import os
import socket

import msgspec

from skate._base import descriptors, memory
from skate._node.cluster.control_store_supervisor import ControlStoreSupervisor
from skate._node.daemon import Daemon, Effects
from skate._node.environments.preparer import Preparation
from skate._node.objects.copier import DiskCopier
from skate._node.settings import NodeSettings
from skate._node.workers.launcher import Launcher, ProgressTable
from skate._node.workers.logs import WorkerLog
from skate._store.segment import Segments
from skate._transport.dialing import adopt
from skate._transport.reactor import Reactor

#: Holds the session's lock: see ``_launch.session``.
_ALIVE_FD = 4


def effects(settings: NodeSettings, zygote_argv: list[str], progress_fd: int) -> Effects:
    """Make the parts through which a daemon acts on this machine."""
    reactor = Reactor("node daemon")
    progress = ProgressTable(progress_fd)
    launcher = Launcher(reactor, zygote_argv, progress, os.dup(2))
    segments = Segments()
    kept = settings.control
    supervisor = ControlStoreSupervisor(reactor, kept, _ALIVE_FD) if kept is not None else None
    return Effects(
        reactor=reactor,
        launcher=launcher,
        progress=progress,
        open_log=WorkerLog,
        prepare=Preparation,
        segments=segments,
        copier=DiskCopier(reactor, segments),
        memory=memory,
        supervisor=supervisor,
    )


def run(
    settings_json: str, zygote_argv: list[str], progress_fd: int, zygote: tuple[int, socket.socket]
) -> None:
    """Run a daemon, whose zygote was executed already, until its driver is gone."""
    descriptors.keep_reserve()
    settings = msgspec.json.decode(settings_json, type=NodeSettings)
    made = effects(settings, zygote_argv, progress_fd)
    daemon = Daemon(settings, made)
    with made.reactor.lock:
        made.launcher.adopt(*zygote)
        lifeline = adopt(settings.driver_fd) if settings.driver_fd >= 0 else None
        daemon.start(adopt(settings.listen_fd), lifeline)
    made.reactor.run()
