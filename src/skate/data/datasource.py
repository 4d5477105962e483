"""Sources and sinks of users' own, with what belongs to them: the public names of ``ray.data.datasource``.

Names of the writing side are in ``skate.data.datasink``, too.
"""

from __future__ import annotations

from typing import NoReturn

from skate.data._io.commit import SaveMode
from skate.data._io.datasource import BlockMetadata, Datasource, ReadTask
from skate.data._io.files.errors import FileReadError, FileTooLargeError
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.partitioning import (
    Partitioning,
    PartitionStyle,
    PathPartitionFilter,
    PathPartitionParser,
)
from skate.data._io.writers.datasinks import (
    BlockBasedFileDatasink,
    Datasink,
    DummyOutputDatasink,
    RowBasedFileDatasink,
    WriteContext,
    WriteResult,
)
from skate.data._io.writers.names import FilenameProvider
from skate.data._left_out import reason, refuse
from skate.data.seeds import FileShuffleConfig

__all__ = [
    "BlockBasedFileDatasink",
    "BlockMetadata",
    "Datasink",
    "Datasource",
    "DummyOutputDatasink",
    "FileBasedDatasource",
    "FileReadError",
    "FileShuffleConfig",
    "FileTooLargeError",
    "FilenameProvider",
    "PartitionStyle",
    "Partitioning",
    "PathPartitionFilter",
    "PathPartitionParser",
    "ReadTask",
    "RowBasedFileDatasink",
    "SaveMode",
    "WriteContext",
    "WriteResult",
]


def __getattr__(name: str) -> NoReturn:
    if reason(name) is not None:
        raise refuse(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
