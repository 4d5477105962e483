"""Public names of the reading side, as in ``ray.data.datasource``: ``Datasource``, ``Partitioning``, ...

Datasinks are in ``skate.data.datasink``.
"""

from __future__ import annotations

from skate.data._io.datasource import BlockMetadata, Datasource, ReadTask
from skate.data._io.files.errors import FileReadError, FileTooLargeError
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.partitioning import (
    Partitioning,
    PartitionStyle,
    PathPartitionFilter,
    PathPartitionParser,
)

__all__ = [
    "BlockMetadata",
    "Datasource",
    "FileBasedDatasource",
    "FileReadError",
    "FileTooLargeError",
    "PartitionStyle",
    "Partitioning",
    "PathPartitionFilter",
    "PathPartitionParser",
    "ReadTask",
]
