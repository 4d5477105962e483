"""Leases of workers to processes: resources, queues, grants."""
