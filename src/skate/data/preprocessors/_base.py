"""The protocol of preprocessors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from skate.data._block.batches import from_batch, to_batch
from skate.data._block.frames import is_frame
from skate.data._left_out import reason, refuse
from skate.data.compute import TaskPoolStrategy

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

    from skate.data.dataset import Dataset


class PreprocessorNotFittedException(RuntimeError):
    """A preprocessor that learns from data was used before ``fit``."""


class FitStatus(str, Enum):
    """Whether a preprocessor has learned what it needs."""

    NOT_FITTABLE = "NOT_FITTABLE"
    NOT_FITTED = "NOT_FITTED"
    #: Some parts of a Chain are fitted.
    PARTIALLY_FITTED = "PARTIALLY_FITTED"
    FITTED = "FITTED"


_Status: TypeAlias = FitStatus


class Preprocessor:
    """Learns from one data set (``fit``) and changes others by it (``transform``).

    A class of your own overrides ``_fit``, which stores what it learned in ``self.stats_`` and returns
    ``self``, unless there is nothing to learn (``_is_fittable = False``); and one of ``_transform_pandas``
    (a data frame to a data frame), ``_transform_numpy`` (a dict of arrays to such a dict) and
    ``_transform_arrow`` (a table to a table).

    Attributes:
        stats_: learned values by name, such as ``{"mean(x)": 0.5}``.

    Example:
        >>> class Doubler(Preprocessor):
        ...     _is_fittable = False
        ...
        ...     def _transform_pandas(self, df):
        ...         df["x"] = df["x"] * 2
        ...         return df
        >>> Doubler().transform(ds)
    """

    FitStatus = FitStatus
    #: False: there is nothing to learn.
    _is_fittable: bool = True
    #: Batch formats to the methods that take them, the fastest first.
    _METHODS: ClassVar[Mapping[str, str]] = {
        "pyarrow": "_transform_arrow",
        "numpy": "_transform_numpy",
        "pandas": "_transform_pandas",
    }

    # ------------------------------------------------------------------------------------------ the user's

    def fit(self, ds: Dataset) -> Self:
        """Learn from a data set, in place of what was learned before. It runs the data set.

        Args:
            ds: the data set.

        Returns:
            This preprocessor.
        """
        if not self._is_fittable:
            return self
        self.stats_: dict[str, Any] = {}
        self._is_fitted = False
        self._fit(ds)
        self._is_fitted = True
        return self

    def fit_transform(
        self,
        ds: Dataset,
        *,
        transform_num_cpus: float | None = None,
        transform_memory: float | None = None,
        transform_batch_size: int | None = None,
        transform_concurrency: int | None = None,
    ) -> Dataset:
        """Learn from a data set, and return it transformed; see ``fit`` and ``transform``."""
        return self.fit(ds).transform(
            ds,
            batch_size=transform_batch_size,
            num_cpus=transform_num_cpus,
            memory=transform_memory,
            concurrency=transform_concurrency,
        )

    def transform(
        self,
        ds: Dataset,
        *,
        batch_size: int | None = None,
        num_cpus: float | None = None,
        memory: float | None = None,
        concurrency: int | None = None,
    ) -> Dataset:
        """Return a data set transformed; nothing runs yet.

        Args:
            ds: the data set.
            batch_size: rows that are transformed at a time; None: a block.
            num_cpus: CPUs of one task.
            memory: bytes of heap memory of one task.
            concurrency: tasks at a time.

        Returns:
            A Dataset.

        Raises:
            PreprocessorNotFittedException: ``fit`` has to be called first.
        """
        self._check_fitted("transform")
        return self._mapped(
            ds, self._transform, batch_size=batch_size, num_cpus=num_cpus, memory=memory,
            concurrency=concurrency,
        )  # fmt: skip

    def transform_batch(self, data: Any) -> Any:
        """Transform one batch.

        Args:
            data: a data frame, a dict of arrays or a ``pyarrow.Table``.

        Returns:
            A batch of the same kind.

        Raises:
            PreprocessorNotFittedException: ``fit`` has to be called first.
            TypeError: it is no batch.
        """
        self._check_fitted("transform_batch")
        table = from_batch(data, f"{type(self).__name__}.transform_batch")
        own_format = self.preferred_batch_format()
        made = self._transform(to_batch(table, own_format, writable=True))
        if is_frame(data):
            return to_batch(from_batch(made, type(self).__name__), "pandas", writable=True)
        if isinstance(data, Mapping):
            return to_batch(from_batch(made, type(self).__name__), "numpy", writable=True)
        return from_batch(made, type(self).__name__)

    def fit_status(self) -> _Status:
        """Return whether it has learned what it needs."""
        if not self._is_fittable:
            return FitStatus.NOT_FITTABLE
        return FitStatus.FITTED if getattr(self, "_is_fitted", False) else FitStatus.NOT_FITTED

    def has_stats(self) -> bool:
        """Tell whether there are learned values."""
        return bool(getattr(self, "stats_", None))

    def get_input_columns(self) -> list[str]:
        """Return the columns that are read."""
        return list(getattr(self, "columns", None) or ())

    def get_output_columns(self) -> list[str]:
        """Return the columns that are written."""
        return list(getattr(self, "output_columns", None) or ())

    @classmethod
    def preferred_batch_format(cls) -> str:
        """Return the batch format of the transformation: ``"pyarrow"``, ``"numpy"`` or ``"pandas"``.

        Raises:
            NotImplementedError: the class has no transformation.
        """
        for batch_format, method in cls._METHODS.items():
            if hasattr(cls, method):
                return batch_format
        raise NotImplementedError(
            f"{cls.__name__} has no transformation: define one of {', '.join(cls._METHODS.values())}"
        )

    def serialize(self) -> bytes:
        """Return the preprocessor, with what it learned, as bytes for ``deserialize``."""
        from skate import cloudpickle

        return cloudpickle.dumps(self)

    @staticmethod
    def deserialize(serialized: bytes) -> Preprocessor:
        """Return the preprocessor of ``serialize``; call it only with bytes that you trust.

        Args:
            serialized: what ``serialize`` returned.

        Raises:
            TypeError: the bytes hold something else.
        """
        from skate import cloudpickle

        found = cloudpickle.loads(serialized)
        if not isinstance(found, Preprocessor):
            raise TypeError(f"deserialize(serialized) holds a {type(found).__name__}, not a Preprocessor")
        return found

    # ------------------------------------------------------------------------------------------ for classes

    def _fit(self, dataset: Dataset) -> Any:
        """Learn from a data set; store it in ``self.stats_``."""
        raise NotImplementedError(f"{type(self).__name__} has to define _fit, or _is_fittable = False")

    def _transform(self, batch: Any) -> Any:
        return getattr(self, self._METHODS[self.preferred_batch_format()])(batch)

    def _mapped(self, ds: Dataset, transform: Callable[[Any], Any], **options: Any) -> Dataset:
        def named(batch: Any) -> Any:
            return transform(batch)

        named.__name__ = named.__qualname__ = type(self).__name__
        given = {name: value for name, value in options.items() if value is not None}
        if "concurrency" in given:
            given["compute"] = TaskPoolStrategy(size=given.pop("concurrency"))
        batch_format = self.preferred_batch_format()
        return ds.map_batches(named, batch_format=batch_format, zero_copy_batch=False, **given)

    def _check_fitted(self, verb: str) -> None:
        if self.fit_status() in (FitStatus.NOT_FITTED, FitStatus.PARTIALLY_FITTED):
            raise PreprocessorNotFittedException(
                f"{type(self).__name__}.{verb} needs values that fit learns from data: call fit(ds) before, "
                "or fit_transform(ds)"
            )

    def __getattr__(self, name: str) -> Any:
        if reason(f"Preprocessor.{name}") is not None:
            raise refuse(f"Preprocessor.{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if not name.startswith("_") and name != "stats_"
        )
        return f"{type(self).__name__}({shown})"


class ColumnPreprocessor(Preprocessor):
    """Base of those that make a column of each of some columns.

    Args:
        columns: names of columns.
        output_columns: names of the results; None: in place of the columns.

    Raises:
        TypeError: the names are no list of text.
        ValueError: there are none, one is there twice, or there are not as many results as columns.
    """

    def __init__(self, columns: Sequence[str], output_columns: Sequence[str] | None = None) -> None:
        owner = type(self).__name__
        self.columns = checked_names(owner, "columns", columns)
        self.output_columns = (
            list(self.columns)
            if output_columns is None
            else checked_names(owner, "output_columns", output_columns)
        )
        if len(self.output_columns) != len(self.columns):
            raise ValueError(
                f"{owner}: {len(self.output_columns)} output_columns for {len(self.columns)} columns"
            )

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        made = [(output, self._column(table, name)) for name, output in self._pairs()]
        for output, column in made:
            table = with_column(table, output, column)
        return table

    def _pairs(self) -> Iterator[tuple[str, str]]:
        return zip(self.columns, self.output_columns, strict=True)

    def _column(self, table: pa.Table, name: str) -> Any:
        """Return the result for a column."""
        raise NotImplementedError


def checked_names(owner: str, option: str, names: Any) -> list[str]:
    """Return names of columns as a list.

    Raises:
        TypeError: they are no list of text.
        ValueError: there are none, or one is there twice.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"{owner}({option}={names!r}) must be a list of names of columns")
    listed = list(names)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{owner}({option}=) must be a list of names, but {name!r} is no text")
    if not listed:
        raise ValueError(f"{owner}({option}=[]) needs one column at least")
    if len(set(listed)) < len(listed):
        raise ValueError(f"{owner}({option}={listed}) names a column twice")
    return listed


def with_column(table: pa.Table, name: str, column: Any) -> pa.Table:
    """Return a table with a column in place of that of its name, or after the others."""
    position = table.schema.get_field_index(name)
    return table.append_column(name, column) if position < 0 else table.set_column(position, name, column)
