"""Manages objects in shared memory: extents, tables, segments, views."""
