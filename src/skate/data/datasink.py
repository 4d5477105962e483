"""Sinks of users' own, modes of writing and names of files: the public names of the writing side.

Example:
    >>> from skate.data.datasink import Datasink
    >>> class Count(Datasink):
    ...     def write(self, blocks, ctx):
    ...         return sum(block.num_rows for block in blocks)
    >>> ds.write_datasink(Count())
"""

from __future__ import annotations

from skate.data._io.commit import CommitError, PlanChanged, SaveMode, TargetInUse
from skate.data._io.writers.datasinks import (
    BlockBasedFileDatasink,
    Datasink,
    DummyOutputDatasink,
    RowBasedFileDatasink,
    WriteContext,
    WriteResult,
)
from skate.data._io.writers.names import FilenameProvider

__all__ = [
    "BlockBasedFileDatasink",
    "CommitError",
    "Datasink",
    "DummyOutputDatasink",
    "FilenameProvider",
    "PlanChanged",
    "RowBasedFileDatasink",
    "SaveMode",
    "TargetInUse",
    "WriteContext",
    "WriteResult",
]
