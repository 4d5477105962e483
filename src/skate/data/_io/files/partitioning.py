"""Columns that the folders of a path give to the rows of a file: ``year=2024/month=05/`` or ``2024/05/``."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

from skate.data._io.files.filesystem import resolve
from skate.data._options import check_type

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

PartitionDataType = type


class PartitionStyle(str, Enum):
    """How folders name values: ``HIVE`` as ``key=value``, ``DIRECTORY`` by position."""

    HIVE = "hive"
    DIRECTORY = "dir"


@dataclass
class Partitioning:
    """How the folders of paths are read.

    Args:
        style: ``"hive"`` or ``"dir"``, or a ``PartitionStyle``.
        base_dir: the folder below which folders count; None: the whole path, for hive only.
        field_names: names of the values; needed for ``"dir"``, one for each level of folders. For
            ``"hive"``: the keys that paths must have, in order; None: any.
        field_types: type of a value by its name: int, float, bool or str; str if not named.
        filesystem: of ``base_dir``; None: found by its scheme.

    Raises:
        ValueError: unknown style, or ``"dir"`` without field names.

    Example:
        >>> Partitioning("dir", field_names=["label"], base_dir="photos")  # doctest: +SKIP
    """

    style: PartitionStyle
    base_dir: str | None = None
    field_names: list[str] | None = None
    field_types: dict[str, PartitionDataType] | None = None
    filesystem: Any = None

    def __post_init__(self) -> None:
        try:
            self.style = PartitionStyle(self.style)
        except ValueError:
            raise ValueError(f"style must be 'hive' or 'dir', not {self.style!r}") from None
        if self.base_dir is None:
            self.base_dir = ""
        if self.field_types is None:
            self.field_types = {}
        check_type("field_types", self.field_types, dict, "a dict of types by name")
        if self.style is PartitionStyle.DIRECTORY and not self.field_names:
            raise ValueError(
                "Partitioning('dir') needs field_names: one for each level of folders below base_dir"
            )
        self._normalized: str | None = None

    @property
    def normalized_base_dir(self) -> str:
        """``base_dir`` as paths of its filesystem begin: absolute, without scheme, ending with a slash."""
        if self._normalized is None:
            if not self.base_dir:
                self._normalized = ""
            else:
                _, [path] = resolve([self.base_dir], self.filesystem)
                self._normalized = path.rstrip("/") + "/"
        return self._normalized

    @property
    def resolved_filesystem(self) -> Any:
        """The ``pyarrow.fs.FileSystem`` of ``base_dir``."""
        return resolve([self.base_dir or "."], self.filesystem)[0].arrow()

    def to_pyarrow(self) -> Any:
        """Return the same as a ``pyarrow.dataset.Partitioning``."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        types = self.field_types or {}
        names = self.field_names or list(types)
        schema = pa.schema([(name, _arrow_type(types.get(name, str))) for name in names])
        if self.style is PartitionStyle.HIVE:
            return ds.HivePartitioning(schema) if names else ds.HivePartitioning.discover()
        return ds.DirectoryPartitioning(schema)


class PathPartitionParser:
    """Reads the values out of paths.

    Args:
        partitioning: how.

    Example:
        >>> PathPartitionParser.of("hive")("data/year=2024/month=05/a.csv")
        {'year': '2024', 'month': '05'}
    """

    def __init__(self, partitioning: Partitioning) -> None:
        check_type("partitioning", partitioning, Partitioning, "a Partitioning")
        self._scheme = partitioning

    @staticmethod
    def of(
        style: PartitionStyle | str = PartitionStyle.HIVE,
        base_dir: str | None = None,
        field_names: list[str] | None = None,
        field_types: dict[str, PartitionDataType] | None = None,
        filesystem: Any = None,
    ) -> PathPartitionParser:
        """Return a parser; the arguments are those of ``Partitioning``."""
        return PathPartitionParser(
            Partitioning(PartitionStyle(style), base_dir, field_names, field_types, filesystem)
        )

    @property
    def scheme(self) -> Partitioning:
        """How paths are read."""
        return self._scheme

    def __call__(self, path: str) -> dict[str, Any]:
        """Return the values of a path by name; empty if it lies outside of ``base_dir`` or has no folders.

        Raises:
            ValueError: the folders do not fit ``field_names``, or a value is not of its type.
        """
        base = self._scheme.normalized_base_dir
        if base and not path.startswith(base):
            return {}
        folders = [part for part in posixpath.dirname(path[len(base) :]).split("/") if part]
        read = self._hive if self._scheme.style is PartitionStyle.HIVE else self._positions
        return {name: self._typed(name, text, path) for name, text in read(folders, path).items()}

    def evaluate_predicate_on_partition(self, path: str, predicate: Any) -> bool:
        """Tell whether rows of a file can fulfil an expression, as far as its path says.

        Args:
            path: the file.
            predicate: an expression with ``columns()`` and ``evaluate(table)``.
        """
        values = self(path)
        if not set(predicate.columns()) <= values.keys():
            return True
        import pyarrow as pa

        table = pa.table(
            {name: pa.array([value], _arrow_type(type(value))) for name, value in values.items()}
        )
        return bool(predicate.evaluate(table)[0].as_py())

    def _hive(self, folders: Sequence[str], path: str) -> Mapping[str, str | None]:
        values: dict[str, str | None] = {}
        for folder in folders:
            key, separator, text = folder.partition("=")
            if separator and key:
                values[unquote(key)] = None if text == _HIVE_NULL else unquote(text)
        wanted = self._scheme.field_names
        if wanted and values and list(values) != list(wanted):
            raise ValueError(
                f"{path} has the partition keys {list(values)}, but field_names are {list(wanted)}"
            )
        return values

    def _positions(self, folders: Sequence[str], path: str) -> Mapping[str, str | None]:
        names = self._scheme.field_names or []
        if not folders:
            return {}
        if len(folders) != len(names):
            raise ValueError(
                f"{path} has {len(folders)} folders below base_dir {self._scheme.base_dir!r} "
                f"({list(folders)}), but field_names has {len(names)} names: {list(names)}"
            )
        return dict(zip(names, folders, strict=True))

    def _typed(self, name: str, text: str | None, path: str) -> Any:
        wanted = (self._scheme.field_types or {}).get(name, str)
        if text is None or wanted is str:
            return text
        try:
            if wanted is bool:
                return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            return wanted(text)
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"the partition value {name}={text!r} of {path} is no {wanted.__name__} (field_types)"
            ) from None


class PathPartitionFilter:
    """Keeps the files whose partition values a function accepts.

    Args:
        path_partition_parser: reads the values.
        filter_fn: gets a dict of values, returns whether the file is read; files without values get ``{}``.

    Example:
        >>> keep = PathPartitionFilter.of(lambda values: values.get("year") == "2024")
        >>> keep(["data/year=2023/a.csv", "data/year=2024/a.csv"])
        ['data/year=2024/a.csv']
    """

    def __init__(
        self, path_partition_parser: PathPartitionParser, filter_fn: Callable[[dict[str, Any]], bool]
    ) -> None:
        if not callable(filter_fn):
            raise TypeError(f"filter_fn must be a function of a dict, not {filter_fn!r}")
        self._parser = path_partition_parser
        self._filter_fn = filter_fn

    @staticmethod
    def of(
        filter_fn: Callable[[dict[str, Any]], bool],
        style: PartitionStyle | str = PartitionStyle.HIVE,
        base_dir: str | None = None,
        field_names: list[str] | None = None,
        field_types: dict[str, PartitionDataType] | None = None,
        filesystem: Any = None,
    ) -> PathPartitionFilter:
        """Return a filter; all arguments but the first are those of ``Partitioning``."""
        parser = PathPartitionParser.of(style, base_dir, field_names, field_types, filesystem)
        return PathPartitionFilter(parser, filter_fn)

    @property
    def parser(self) -> PathPartitionParser:
        """Reads the values."""
        return self._parser

    def __call__(self, paths: list[str]) -> list[str]:
        """Return the paths that are kept."""
        return [path for path in paths if self.apply(path)]

    def apply(self, path: str) -> bool:
        """Tell whether a path is kept."""
        return bool(self._filter_fn(self._parser(path)))


def arrow_type_of(partitioning: Partitioning | None, name: str) -> Any:
    """Return the Arrow type of a partition column."""
    types = (partitioning.field_types if partitioning else None) or {}
    return _arrow_type(types.get(name, str))


def _arrow_type(python_type: type) -> Any:
    import pyarrow as pa

    known = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string(), type(None): pa.null()}
    return known.get(python_type, pa.string())
