"""A process as a caller of deployments: one ``Client``, and a ``Port`` for each deployment that it calls.

A port carries out what its router decides: it sends requests to replicas, reports to their lenders, and
watches the controller's table of replicas. All of it happens on one loop: in an async actor its own,
elsewhere that of a thread.
"""
