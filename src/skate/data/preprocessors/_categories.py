"""Categories as numbers, vectors and dictionaries."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.columns import from_values, to_values
from skate.data._block.kernels.arrays import column_of, plain
from skate.data.aggregate import Unique, ValueCounter
from skate.data.preprocessors._base import ColumnPreprocessor, checked_names, with_column
from skate.data.preprocessors._numbers import vectors

if TYPE_CHECKING:
    from skate.data.dataset import Dataset


class _Encoder(ColumnPreprocessor):
    """Base of those that learn the values of columns: ``stats_["unique_values(x)"]`` is value to place.

    Args:
        columns: names of columns.
        output_columns: names of the results; None: in place of the columns.
        max_categories: for some columns, how many of the commonest values count; None: all.
        elements: the elements of lists are values; otherwise a list is one value.
    """

    def __init__(
        self,
        columns: Sequence[str],
        output_columns: Sequence[str] | None,
        max_categories: Mapping[str, int] | None,
        elements: bool,
    ) -> None:
        super().__init__(columns, output_columns)
        self.max_categories = _checked_most(type(self).__name__, self.columns, max_categories)
        self._has_elements = elements

    def _fit(self, dataset: Dataset) -> None:
        limited = [name for name in self.columns if name in (self.max_categories or {})]
        rest = [name for name in self.columns if name not in limited]
        if rest:
            aggregates = [Unique(name, alias_name=name, encode_lists=self._has_elements) for name in rest]
            for name, values in dataset.aggregate(*aggregates).items():
                self._learn(name, values or ())
        if limited:
            self._learn_commonest(dataset, limited)

    def _learn_commonest(self, dataset: Dataset, names: Sequence[str]) -> None:
        if self._has_elements:
            for name in names:
                flat = dataset.map_batches(_elements, fn_kwargs={"name": name}, batch_format="pyarrow")
                found = flat.aggregate(ValueCounter(name, alias_name=name))[name]
                self._learn_counted(name, found)
        else:
            counters = [ValueCounter(name, alias_name=name) for name in names]
            for name, found in dataset.aggregate(*counters).items():
                self._learn_counted(name, found)

    def _learn_counted(self, name: str, found: Mapping[str, Any] | None) -> None:
        assert self.max_categories is not None
        pairs = list(zip(found["values"], found["counts"], strict=True)) if found else []
        self._check_no_null(name, [value for value, _ in pairs])
        ordered = sorted(pairs, key=lambda pair: (-pair[1], _place(key_of(pair[0]))))
        self._learn(name, [value for value, _ in ordered[: self.max_categories[name]]])

    def _learn(self, name: str, values: Iterable[Any]) -> None:
        found = list(values)
        self._check_no_null(name, found)
        keys = sorted(map(key_of, found), key=_place)
        self.stats_[f"unique_values({name})"] = {key: place for place, key in enumerate(keys)}

    def _check_no_null(self, name: str, values: Iterable[Any]) -> None:
        if any(value is None for value in values):
            raise ValueError(
                f"{type(self).__name__}: the column {name!r} has nulls, which are no category: put "
                "a value in their place before, by SimpleImputer"
            )

    def _places(self, name: str) -> dict[Hashable, int]:
        """Return the number of each value of a column."""
        found: dict[Hashable, int] = self.stats_[f"unique_values({name})"]
        return found

    def _numbered(self, name: str, values: Any) -> pa.Array:
        """Return the number of each value of an array, null where it was not learned."""
        places = self._places(name)
        if pa.types.is_nested(values.type) or isinstance(values.type, pa.BaseExtensionType):
            numbers = [None if value is None else places.get(key_of(value)) for value in to_values(values)]
            return pa.array(numbers, pa.int64())
        values = plain(values)
        known = from_values(list(places))
        if _is_alike(known.type, values.type):
            try:
                return pc.cast(pc.index_in(values, value_set=known.cast(values.type)), pa.int64())
            except pa.ArrowInvalid:  # a learned number is too large for the type of these
                pass
        return pa.array([places.get(value) for value in to_values(values)], pa.int64())


class OrdinalEncoder(_Encoder):
    """Gives each distinct value of a column the number of its place among all, in order, from 0.

    Args:
        columns: names of columns.
        encode_lists: of a column of lists, the elements are values and become lists of numbers; False: a list
            is one value.
        output_columns: names of the results, int64; None: in place of the columns. Values that were not
            learned are null.

    Raises:
        ValueError: from ``fit``: a column has nulls.

    Example:
        >>> OrdinalEncoder(columns=["size"]).fit_transform(ds)
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        encode_lists: bool = True,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, output_columns, None, encode_lists)
        self.encode_lists = encode_lists

    def _column(self, table: pa.Table, name: str) -> Any:
        column = column_of(table, name, type(self).__name__)
        if not self.encode_lists or not _is_list(column.type):
            return self._numbered(name, column)
        made = []
        for chunk in _lists(column).chunks:
            numbers = self._numbered(name, chunk.flatten())
            lengths = pc.fill_null(pc.list_value_length(chunk), 0)
            offsets = pc.cumulative_sum(pc.cast(lengths, pa.int64()))
            offsets = pa.concat_arrays([pa.array([0], pa.int64()), offsets])
            lists = pa.LargeListArray.from_arrays(offsets, numbers).cast(pa.list_(pa.int64()))
            made.append(pc.if_else(chunk.is_valid(), lists, None) if chunk.null_count else lists)
        return pa.chunked_array(made, pa.list_(pa.int64()))


class _VectorEncoder(_Encoder):
    """Base of those that make a vector with a place for each value."""

    #: The elements of lists are values; otherwise a list is one value.
    _takes_elements = False

    def __init__(
        self,
        columns: Sequence[str],
        *,
        max_categories: Mapping[str, int] | None = None,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, output_columns, max_categories, self._takes_elements)


class OneHotEncoder(_VectorEncoder):
    """Makes of a value a vector that is 1 at the value's place and 0 elsewhere.

    Values that were not learned become a vector of zeros.

    Args:
        columns: names of columns. A list counts as one value.
        max_categories: for some columns, how many of the commonest values have a place: ``{"city": 100}``.
        output_columns: names of the results, vectors of uint8; None: in place of the columns.

    Raises:
        ValueError: from ``fit``: a column has nulls.

    Example:
        >>> OneHotEncoder(columns=["colour"]).fit_transform(ds)
    """

    def _column(self, table: pa.Table, name: str) -> Any:
        import numpy as np

        places = pc.fill_null(self._numbered(name, column_of(table, name, type(self).__name__)), -1)
        places = np.asarray(places)
        made = np.zeros((len(places), len(self._places(name))), np.uint8)
        rows = np.flatnonzero(places >= 0)
        made[rows, places[rows]] = 1
        return vectors(made)

    def safe_get(self, v: Any, stats: Mapping[Hashable, int]) -> int:
        """Return the place of a value, -1 if it has none; a list is looked up as a tuple.

        Args:
            v: the value.
            stats: values to places.
        """
        return stats.get(key_of(v), -1)


class MultiHotEncoder(_VectorEncoder):
    """Makes of a list a vector with the number of times that each value is in it.

    Elements that were not learned do not count; a null list is a vector of zeros.

    Args:
        columns: names of columns of lists; a value that is no list counts as a list of one.
        max_categories: for some columns, how many of the commonest values have a place.
        output_columns: names of the results, vectors of int64; None: in place of the columns.

    Raises:
        ValueError: from ``fit``: a list has nulls.

    Example:
        >>> MultiHotEncoder(columns=["genres"]).fit_transform(ds)
    """

    _takes_elements = True

    def _column(self, table: pa.Table, name: str) -> Any:
        import numpy as np

        column = column_of(table, name, type(self).__name__)
        made = np.zeros((len(column), len(self._places(name))), np.int64)
        if not _is_list(column.type):
            parents, places = (
                np.arange(len(column)),
                np.asarray(pc.fill_null(self._numbered(name, column), -1)),
            )
        else:
            lists = _lists(column).combine_chunks()
            lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
            parents = np.asarray(pc.list_parent_indices(lists))
            places = np.asarray(pc.fill_null(self._numbered(name, lists.flatten()), -1))
        known = places >= 0
        np.add.at(made, (parents[known], places[known]), 1)
        return vectors(made)


class LabelEncoder(_Encoder):
    """Gives each distinct value of one column the number of its place among all, and back.

    Args:
        label_column: the column.
        output_column: name of the result, int64; None: in place of the column.

    Raises:
        ValueError: from ``fit``: the column has nulls.

    Example:
        >>> encoder = LabelEncoder("species")
        >>> encoder.inverse_transform(encoder.fit_transform(ds))
    """

    def __init__(self, label_column: str, *, output_column: str | None = None) -> None:
        [self.label_column] = checked_names("LabelEncoder", "label_column", [label_column])
        self.output_column = label_column if output_column is None else output_column
        super().__init__([self.label_column], [self.output_column], None, elements=False)

    def _column(self, table: pa.Table, name: str) -> Any:
        return self._numbered(name, column_of(table, name, "LabelEncoder"))

    def inverse_transform(self, ds: Dataset) -> Dataset:
        """Return a data set with the labels of the numbers of ``output_column``, in ``label_column``.

        Args:
            ds: a data set with a column of numbers of labels; others, and null, become null.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            PreprocessorNotFittedException: ``fit`` has to be called first.
        """
        self._check_fitted("inverse_transform")
        return self._mapped(ds, self._inverse)

    def _inverse(self, table: pa.Table) -> pa.Table:
        labels = from_values([_value_of(key) for key in self._places(self.label_column)])
        places = pc.cast(column_of(table, self.output_column, "LabelEncoder"), pa.int64(), safe=False)
        inside = pc.and_(pc.greater_equal(places, 0), pc.less(places, len(labels)))
        places = pc.if_else(inside, places, pa.scalar(None, pa.int64()))
        return with_column(table, self.label_column, labels.take(places))


class Categorizer(_Encoder):
    """Makes columns of categories: each value once, and a number for each row (Arrow's dictionary type).

    In pandas they are categorical columns.

    Args:
        columns: names of columns.
        dtypes: for some columns their categories, as ``pandas.CategoricalDtype`` or a list; others learn
            them. Values that are none of them become null.
        output_columns: names of the results; None: in place of the columns.

    Example:
        >>> Categorizer(columns=["size"], dtypes={"size": ["S", "M", "L"]}).fit_transform(ds)
    """

    def __init__(
        self,
        columns: Sequence[str],
        dtypes: Mapping[str, Any] | None = None,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, output_columns, None, elements=False)
        self.dtypes = dict(dtypes or {})
        unknown = [name for name in self.dtypes if name not in self.columns]
        if unknown:
            raise ValueError(f"Categorizer(dtypes=) names {unknown}, which are not in columns={self.columns}")

    def _fit(self, dataset: Dataset) -> None:
        learned = [name for name in self.columns if name not in self.dtypes]
        if learned:
            aggregates = [Unique(name, ignore_nulls=True, alias_name=name) for name in learned]
            for name, values in dataset.aggregate(*aggregates).items():
                self._learn(name, values or ())
        for name, given in self.dtypes.items():
            categories = getattr(given, "categories", given)
            self.stats_[f"unique_values({name})"] = {key: place for place, key in enumerate(categories)}

    def _column(self, table: pa.Table, name: str) -> Any:
        column = column_of(table, name, "Categorizer")
        places = pc.cast(self._numbered(name, column), pa.int32())
        places = places.combine_chunks() if isinstance(places, pa.ChunkedArray) else places
        values = from_values(list(self._places(name)))
        made = [pa.DictionaryArray.from_arrays(chunk, values) for chunk in pa.chunked_array([places]).chunks]
        return pa.chunked_array(made, pa.dictionary(pa.int32(), values.type))


# ------------------------------------------------------------------------------------------------ values


def key_of(value: Any) -> Hashable:
    """Return a value as a key: lists and arrays as tuples."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return tuple(key_of(one) for one in value)
    if isinstance(value, Mapping):
        return tuple((name, key_of(one)) for name, one in sorted(value.items()))
    return value  # type: ignore[no-any-return]


def _value_of(key: Any) -> Any:
    return [_value_of(one) for one in key] if isinstance(key, tuple) else key


def _place(key: Any) -> tuple[str, Any]:
    """Return a key for sorting: numbers by value, texts by text, others by their text."""
    if isinstance(key, (bool, int, float)):
        return "", key
    kind = type(key).__name__
    try:
        key < key  # noqa: B015 - whether it can be compared
    except TypeError:
        return kind, repr(key)
    return kind, key


def _checked_most(
    owner: str, columns: Sequence[str], max_categories: Mapping[str, int] | None
) -> dict[str, int] | None:
    if max_categories is None:
        return None
    for name, most in max_categories.items():
        if name not in columns:
            raise ValueError(f"{owner}(max_categories=) names {name!r}, which is not in columns={columns}")
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"{owner}(max_categories=): {name!r} must have a number from 1, not {most!r}")
    return dict(max_categories)


def _is_alike(left: pa.DataType, right: pa.DataType) -> bool:
    """Tell whether values of two types are equal if they are after a cast: 1 and "1" are not."""
    kinds = (_is_text, pa.types.is_integer, pa.types.is_binary)
    return left == right or any(kind(left) and kind(right) for kind in kinds)


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _is_list(type_: pa.DataType) -> bool:
    return (
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
        or isinstance(type_, pa.BaseExtensionType)
    )


def _lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of lists or vectors as large lists."""
    if isinstance(column.type, pa.BaseExtensionType):
        values = [None if value is None else list(value) for value in to_values(column)]
        made = pa.array(values)
        return pa.chunked_array([made.cast(pa.large_list(made.type.value_type))])
    return column.cast(pa.large_list(column.type.value_type))


def _elements(table: pa.Table, name: str) -> pa.Table:
    """Return the elements of the lists of a column as rows."""
    column = column_of(table, name, "fit")
    flat = pc.list_flatten(_lists(column)) if _is_list(column.type) else column
    return pa.table({name: flat})
