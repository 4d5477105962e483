"""The in-process mode: runs control store, daemon and workers in the driver's own process.

The tables and rules are those of the real roles (``_worker.calls``, ``_worker.objects``,
``_control.server``, ...). These parts differ::

    InlineReactor    replaces the reactor: it delivers messages when the lock is released
    LocalConnection  replaces a connection: one of two ends within the process
    CallThread       replaces a worker: a thread that runs calls
    InlineExecutor   replaces the workers' executor
    InlineNode       replaces the daemon

A call begins when ``.remote()`` makes it, and it runs first: the thread that made it pauses until the
call has ended or waits for something itself. So calls run one after the other, in the order in which
they were made, as far as they do not wait for each other.
"""
