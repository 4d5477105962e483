"""The first thing that a daemon does: execute its zygote, which then imports while the daemon does.

Standard library only, and little of it.
"""

from __future__ import annotations

import os

from skate._base import descriptors
from skate._node.workers.zygote_start import start_zygote

#: Bytes of the progress table: an entry of 16 for each of 8192 workers (see ``launcher.ProgressTable``).
_PROGRESS_SIZE = 16 * 8192


def main(settings_json: str, *zygote_argv: str) -> None:
    """Run a daemon with these settings; the rest is the command line of its zygote."""
    descriptors.raise_limit()  # the zygote, and with it every worker, inherits it
    # For this process only: the listening socket, what keeps the session alive, the driver's connection, and
    # of the control store its listening socket and a pidfd.
    for fd in range(3, 8):
        try:
            os.set_inheritable(fd, False)
        except OSError:
            pass  # no driver: this session was started to stay; or no control store: this is not the head
    progress_fd = os.memfd_create("skate-progress", os.MFD_CLOEXEC)
    os.ftruncate(progress_fd, _PROGRESS_SIZE)
    zygote = start_zygote(list(zygote_argv), progress_fd, 2)
    from skate._node import main

    main.run(settings_json, list(zygote_argv), progress_fd, zygote)
