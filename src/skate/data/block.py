"""Blocks, for authors of datasources and sinks: the public names of ``ray.data.block``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Union

import pyarrow as pa

from skate.data._io.block_accessor import BlockAccessor, BlockType
from skate.data._io.datasource import BlockMetadata

__all__ = [
    "BatchFormat",
    "Block",
    "BlockAccessor",
    "BlockMetadata",
    "BlockType",
    "DataBatch",
    "UserDefinedFunction",
]

#: A block of rows: what the functions of a ``ReadTask`` return and what a ``Datasink`` gets.
Block = pa.Table
#: Types that functions of ``map_batches`` take: a table, a data frame, or a dict of arrays.
DataBatch = Union[pa.Table, Any, Mapping[str, Any]]  # noqa: UP007 - a data frame is Any without pandas
#: Types that ``map_batches`` takes: a function or a class whose instances are called.
UserDefinedFunction = Union[Callable[..., Any], type]  # noqa: UP007


class BatchFormat(str, Enum):
    """Formats of batches; ``batch_format=`` takes the values."""

    ARROW = "pyarrow"
    PANDAS = "pandas"
    NUMPY = "numpy"
