"""Observes serve while it runs: metrics, logs, traces, and where one request is.

::

    entrance, replica, port, batches      count in plain ints: ``metrics.this``, one registry a process
        |
    watcher.Watcher                       a process's answer: its series, its requests, the ended ones
        |  actor calls, in a thread of their own: a blocked loop does not delay them
    _controller.observatory               asks all processes, keeps the counters of the ended (``ledger``)
        |
    page.text | why.sentences | rates.rows    Prometheus' text, words, the live view: pure functions

``logs`` and ``access`` write; ``tracing`` has traceparent and OpenTelemetry; ``frames`` finds the line at
which a request stands.
"""
