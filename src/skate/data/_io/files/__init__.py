"""Files as datasources read them.

``filesystem``: where they are. ``listing``: which there are. ``partitioning``: what their paths say.
``bundles``: how they are packed into tasks. ``reading``: their bytes, read ahead. ``output``: blocks and
letters of a task. ``file_source``: all of it together.
"""
