"""Expressions over columns: ``col("a") * 2 > lit(3)``.

Example:
    >>> from skate.data.expressions import col
    >>> ds.filter(expr=(col("width") > 640) & col("path").str.ends_with(".png"))
"""

from typing import Any

from skate.data.expressions._operations import Operation
from skate.data.expressions._pushdown import conjuncts, to_arrow
from skate.data.expressions._sources import (
    MonotonicallyIncreasingIdExpr,
    RandomExpr,
    RowIdExpr,
    StarExpr,
    UnnestExpr,
    UUIDExpr,
)
from skate.data.expressions._strings import parse_condition
from skate.data.expressions._tree import (
    AliasExpr,
    BinaryExpr,
    ColumnExpr,
    Expr,
    LiteralExpr,
    UnaryExpr,
    as_expr,
)
from skate.data.expressions._udf import DownloadExpr, UDFExpr, pyarrow_udf, udf
from skate.data.expressions._values import RowPlace, arrow_type

__all__ = [
    "AliasExpr",
    "BinaryExpr",
    "ColumnExpr",
    "DownloadExpr",
    "Expr",
    "LiteralExpr",
    "MonotonicallyIncreasingIdExpr",
    "Operation",
    "RandomExpr",
    "RowIdExpr",
    "RowPlace",
    "StarExpr",
    "UDFExpr",
    "UUIDExpr",
    "UnaryExpr",
    "UnnestExpr",
    "arrow_type",
    "as_expr",
    "col",
    "conjuncts",
    "download",
    "lit",
    "monotonically_increasing_id",
    "parse_condition",
    "pyarrow_udf",
    "random",
    "row_id",
    "star",
    "to_arrow",
    "udf",
    "unnest",
    "uuid",
]


def col(name: str) -> ColumnExpr:
    """Return the column of a name.

    Example:
        >>> ds.with_column("double", col("x") * 2)
    """
    return ColumnExpr(name)


def lit(value: Any) -> LiteralExpr:
    """Return one value for all rows.

    Raises:
        TypeError: Arrow cannot hold the value.
    """
    return LiteralExpr(value)


def star() -> StarExpr:
    """Return what stands for all columns in a list of columns."""
    return StarExpr()


def unnest(expr: Expr) -> UnnestExpr:
    """Return what stands for the fields of a struct in a list of columns."""
    return UnnestExpr(expr)


def download(uri_column_name: str, *, filesystem: Any = None) -> DownloadExpr:
    """Return the bytes of the files that a column names; of null it is null.

    Args:
        uri_column_name: column of paths, ``file://``, ``s3://``, ``gs://`` or ``http(s)://`` addresses.
        filesystem: a pyarrow or fsspec file system; by default each address says which.

    Raises:
        OSError: while it runs, if a file cannot be read; the message has its address.

    Example:
        >>> ds.with_column("bytes", download("path"))
    """
    return DownloadExpr(uri_column_name, filesystem)


def monotonically_increasing_id() -> MonotonicallyIncreasingIdExpr:
    """Return an int64 for each row, larger than those of all rows before it in its task and its task's
    neighbours.
    """
    return MonotonicallyIncreasingIdExpr()


def row_id() -> RowIdExpr:
    """Return a text for each row that is the same in every run of a plan: ``"<task>:<row>"``."""
    return RowIdExpr()


def random(*, seed: int | None = None, reseed_after_execution: bool = True) -> RandomExpr:
    """Return a random number from 0 to 1 for each row.

    Args:
        seed: the same seed gives the same numbers; None: one is drawn, and shown by ``repr``.
        reseed_after_execution: accepted for Ray's sake, without effect: an expression keeps its seed.
    """
    return RandomExpr(seed, reseed_after_execution)


def uuid() -> UUIDExpr:
    """Return a random UUID as text for each row."""
    return UUIDExpr()
