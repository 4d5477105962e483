"""Functions of users, and downloads, as expressions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from skate.data._block.kernels.arrays import as_array, column_of
from skate.data.expressions._tree import Expr, as_expr
from skate.data.expressions._values import RowPlace, Value, arrow_type, as_column

_DOWNLOADS = 16


class UDFExpr(Expr):
    """A user's function over whole columns.

    Attributes:
        fn: the function, or the class whose instances are called.
        args: expressions of its arguments.
        kwargs: expressions of its named arguments.
    """

    def __init__(
        self,
        data_type: pa.DataType | None,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        constructor: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
    ) -> None:
        self.fn = fn
        self.args = [as_expr(value) for value in args]
        self.kwargs = {name: as_expr(value) for name, value in kwargs.items()}
        self._data_type = data_type
        self._constructor = constructor

    @property
    def data_type(self) -> pa.DataType | None:
        """The type that the user declared."""
        return self._data_type

    @property
    def callable_class_spec(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
        """The class with the arguments of its constructor; None for a function."""
        return None if self._constructor is None else (self.fn, *self._constructor)

    @functools.cached_property
    def _function(self) -> Callable[..., Any]:
        """The function; of a class, one instance in each process."""
        if self._constructor is None:
            return self.fn
        args, kwargs = self._constructor
        instance: Callable[..., Any] = self.fn(*args, **kwargs)
        return instance

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_function"}

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        def column(expr: Expr) -> pa.Array:
            return as_array(as_column(expr._value(block, rows), block.num_rows))

        made = self._function(
            *(column(expr) for expr in self.args),
            **{name: column(expr) for name, expr in self.kwargs.items()},
        )
        return _checked(made, block.num_rows, self._data_type, self._called())

    def _called(self) -> str:
        return getattr(self.fn, "__qualname__", None) or repr(self.fn)

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        named = [(str(number), expr) for number, expr in enumerate(self.args)]
        return [*named, *self.kwargs.items()]

    def _label(self) -> str:
        return f"UDF({self._called()})"

    def _has_unknown_type(self) -> bool:
        return True

    def _is_volatile(self) -> bool:
        return True

    def _own_key(self, of_function: Callable[[Any], str]) -> str:
        return f"{self._data_type} {of_function((self.fn, self._constructor))}"

    def get_type(self, input_schema: pa.Schema) -> pa.DataType | None:
        """Return the declared type."""
        return self._data_type


def _checked(made: Any, num_rows: int, type_: pa.DataType | None, called: str) -> Value:
    if not isinstance(made, (pa.Array, pa.ChunkedArray)):
        if isinstance(made, (str, bytes, dict)) or not hasattr(made, "__len__"):
            raise ValueError(
                f"udf {called} must return a column (an Arrow array, numpy array, Series or list), not "
                f"{type(made).__name__}"
            )
        made = pa.array(made) if type_ is None else pa.array(made, type_)
    if len(made) != num_rows:
        raise ValueError(
            f"udf {called} returned {len(made)} values for {num_rows} rows; it must return one a row"
        )
    return made if type_ is None or made.type == type_ else made.cast(type_)


class _Factory:
    """The product of ``udf`` for a function: called with expressions, it gives an expression."""

    def __init__(
        self,
        fn: Callable[..., Any],
        return_dtype: pa.DataType | None,
        constructor: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
    ) -> None:
        functools.update_wrapper(self, fn, updated=())
        self._fn = fn
        self._return_dtype = return_dtype
        self._constructor = constructor

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self._fn, type) and self._constructor is None:
            return _Factory(self._fn, self._return_dtype, (args, kwargs))
        if not any(isinstance(value, Expr) for value in (*args, *kwargs.values())):
            raise TypeError(
                f"udf {self._fn.__qualname__} takes expressions, such as col('x'); to call the function on "
                f"values use {self._fn.__qualname__}.__wrapped__"
            )
        return UDFExpr(self._return_dtype, self._fn, args, kwargs, self._constructor)


def udf(return_dtype: Any = None) -> Callable[[Callable[..., Any]], Any]:
    """Make a function over columns usable in expressions.

    The function gets an Arrow array for each argument and returns a column of as many values: an Arrow
    array, a numpy array, a Series or a list. A class is constructed once in each process, and its
    instances are called.

    Args:
        return_dtype: type of the result: a pyarrow type, a DataType, a Python type or a name; None: as it
            comes.

    Example:
        >>> @udf(return_dtype=DataType.int64())
        ... def plus_one(x):
        ...     return pc.add(x, 1)
        >>> ds.with_column("y", plus_one(col("x")))
    """
    type_ = None if return_dtype is None else arrow_type(return_dtype)
    return lambda fn: _Factory(fn, type_)


def pyarrow_udf(return_dtype: Any = None) -> Callable[[Callable[..., Any]], Any]:
    """Do what ``udf`` does; arguments are Arrow arrays there too."""
    return udf(return_dtype)


class DownloadExpr(Expr):
    """The bytes of files whose paths are in a column."""

    def __init__(self, uri_column_name: str, filesystem: Any = None) -> None:
        self.uri_column_name = uri_column_name
        self.filesystem = filesystem

    @property
    def data_type(self) -> pa.DataType | None:
        """Binary."""
        return pa.binary()

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        uris = column_of(block, self.uri_column_name, "download").to_pylist()
        if not uris:
            return pa.array([], pa.binary())
        read = functools.partial(_read, filesystem=self.filesystem)
        with ThreadPoolExecutor(min(_DOWNLOADS, len(uris)), "download") as pool:
            contents = list(pool.map(read, uris))
        large = sum(len(content) for content in contents if content is not None) >= 1 << 30
        return pa.array(contents, pa.large_binary() if large else pa.binary())

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return ()

    def columns(self) -> tuple[str, ...]:
        """Return the column of paths."""
        return (self.uri_column_name,)

    def _label(self) -> str:
        return f"DOWNLOAD({self.uri_column_name!r})"


def _read(uri: str | None, filesystem: Any) -> bytes | None:
    if uri is None:
        return None
    try:
        if filesystem is not None:
            if hasattr(filesystem, "open_input_file"):
                with filesystem.open_input_file(uri) as file:
                    return bytes(file.read())
            with filesystem.open(uri, "rb") as file:
                return bytes(file.read())
        if uri.startswith(("http://", "https://")):
            import urllib.request

            with urllib.request.urlopen(uri, timeout=60) as response:  # noqa: S310
                return bytes(response.read())
        if "://" not in uri:
            with open(uri, "rb") as file:
                return file.read()
        from pyarrow import fs

        found, path = fs.FileSystem.from_uri(uri)
        with found.open_input_file(path) as file:
            return bytes(file.read())
    except OSError as error:
        raise type(error)(f"download: cannot read {uri!r}: {error}") from error
