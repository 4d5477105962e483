"""Shared-memory objects: extents, tables, segments, views."""
