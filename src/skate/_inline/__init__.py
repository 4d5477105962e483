"""The in-process mode: control store, daemon and workers played in the driver's own process.

The tables and rules are those of the real roles (``_worker.calls``, ``_worker.objects``,
``_control.server``, ...). What differs is below and above them::

    Turns    in place of the reactor: messages are delivered when the lock is released
    End      in place of a connection: one end of a line within the process
    Strand   in place of a worker: a thread that runs calls
    Player   in place of the workers' executor
    Node     in place of the daemon

A call begins when ``.remote()`` makes it, and whoever began it stands by until it has ended or waits
for something itself. So calls run one after the other, in the order in which they were made, as far
as they do not wait for each other.
"""
