"""Text as tokens, and as vectors of counts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.columns import to_values
from skate.data._block.kernels.arrays import column_of
from skate.data.aggregate import Sum
from skate.data.preprocessors._base import ColumnPreprocessor, Preprocessor, checked_names, with_column
from skate.data.preprocessors._numbers import numbers, vectors

if TYPE_CHECKING:
    from skate.data.dataset import Dataset

_KEPT_HASHES = 1 << 16


def split_at_spaces(text: str) -> list[str]:
    """Return the parts of a text between single spaces."""
    return text.split(" ")


class _OfTokens(ColumnPreprocessor):
    """Base of those that take text apart.

    Args:
        columns: names of columns of text.
        tokenization_fn: returns the tokens of a text; None: its parts between spaces.
        output_columns: names of the results; None: in place of the columns.
    """

    def __init__(
        self,
        columns: Sequence[str],
        tokenization_fn: Callable[[str], Iterable[Any]] | None,
        output_columns: Sequence[str] | None,
    ) -> None:
        super().__init__(columns, output_columns)
        if tokenization_fn is not None and not callable(tokenization_fn):
            raise TypeError(f"{type(self).__name__}(tokenization_fn={tokenization_fn!r}) must be a function")
        self.tokenization_fn = tokenization_fn or split_at_spaces

    def _tokens(self, table: pa.Table, name: str) -> Iterable[list[Any] | None]:
        """Yield the tokens of each row, None for null."""
        for value in to_values(column_of(table, name, type(self).__name__)):
            yield None if value is None else list(self.tokenization_fn(value))


class Tokenizer(_OfTokens):
    """Makes lists of tokens of text.

    Args:
        columns: names of columns of text.
        tokenization_fn: returns the tokens of a text; None: its parts between spaces.
        output_columns: names of the results; None: in place of the columns.

    Example:
        >>> Tokenizer(columns=["text"]).transform(ds)
    """

    _is_fittable = False

    def __init__(
        self,
        columns: Sequence[str],
        tokenization_fn: Callable[[str], Iterable[Any]] | None = None,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, tokenization_fn, output_columns)

    def _column(self, table: pa.Table, name: str) -> Any:
        made = pa.array(list(self._tokens(table, name)))
        return made.cast(pa.list_(pa.string())) if pa.types.is_null(made.type) else made


class CountVectorizer(_OfTokens):
    """Makes of a text a vector with the number of times that each token of the learned vocabulary is in it.

    Args:
        columns: names of columns of text.
        tokenization_fn: returns the tokens of a text; None: its parts between spaces.
        max_features: how many of the commonest tokens of a column are its vocabulary; None: all.
        output_columns: names of the results, vectors of int64; None: in place of the columns.

    Example:
        >>> CountVectorizer(columns=["text"], max_features=1000).fit_transform(ds)
    """

    def __init__(
        self,
        columns: Sequence[str],
        tokenization_fn: Callable[[str], Iterable[Any]] | None = None,
        max_features: int | None = None,
        *,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, tokenization_fn, output_columns)
        if max_features is not None and max_features < 1:
            raise ValueError(f"CountVectorizer(max_features={max_features!r}) must be a number from 1")
        self.max_features = max_features

    def _fit(self, dataset: Dataset) -> None:
        counts = (
            dataset.map_batches(self._counted, batch_format="pyarrow")
            .groupby(["column", "token"])
            .aggregate(Sum("count", alias_name="count"))
        )
        found: dict[str, dict[str, int]] = {name: {} for name in self.columns}
        for row in counts.iter_rows():
            found[row["column"]][row["token"]] = row["count"]
        for name, tokens in found.items():
            commonest = sorted(tokens.items(), key=lambda pair: (-pair[1], pair[0]))[: self.max_features]
            self.stats_[f"token_counts({name})"] = dict(sorted(commonest))

    def _counted(self, table: pa.Table) -> pa.Table:
        columns, tokens, counts = [], [], []
        for name in self.columns:
            found = Counter(
                token for listed in self._tokens(table, name) for token in listed or () if token is not None
            )
            columns += [name] * len(found)
            tokens += list(map(str, found))
            counts += list(found.values())
        return pa.table(
            {
                "column": pa.array(columns, pa.string()),
                "token": pa.array(tokens, pa.string()),
                "count": pa.array(counts, pa.int64()),
            }
        )

    def _column(self, table: pa.Table, name: str) -> Any:
        places = {token: at for at, token in enumerate(self.stats_[f"token_counts({name})"])}
        rows = ((places.get(str(token)) for token in listed or ()) for listed in self._tokens(table, name))
        return vectors(_counts(rows, table.num_rows, len(places)))


class HashingVectorizer(_OfTokens):
    """Makes of a text a vector of a fixed length with the number of its tokens of each hash.

    Args:
        columns: names of columns of text.
        num_features: length of the vectors.
        tokenization_fn: returns the tokens of a text; None: its parts between spaces.
        output_columns: names of the results, vectors of int64; None: in place of the columns.

    Example:
        >>> HashingVectorizer(columns=["text"], num_features=256).transform(ds)
    """

    _is_fittable = False

    def __init__(
        self,
        columns: Sequence[str],
        num_features: int,
        tokenization_fn: Callable[[str], Iterable[Any]] | None = None,
        *,
        output_columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(columns, tokenization_fn, output_columns)
        self.num_features = _checked_features("HashingVectorizer", num_features)

    def _column(self, table: pa.Table, name: str) -> Any:
        place = partial(hashed, buckets=self.num_features)
        rows = (map(place, map(str, listed or ())) for listed in self._tokens(table, name))
        return vectors(_counts(rows, table.num_rows, self.num_features))


class FeatureHasher(Preprocessor):
    """Makes one vector of columns of counts: each column's value is added at the hash of its name.

    Args:
        columns: names of columns of numbers, such as counts of tokens.
        num_features: length of the vectors.
        output_column: name of the result, vectors of float64.

    Example:
        >>> FeatureHasher(columns=["I", "like", "cats"], num_features=8, output_column="hashed").transform(ds)
    """

    _is_fittable = False

    def __init__(self, columns: Sequence[str], num_features: int, output_column: str) -> None:
        self.columns = checked_names("FeatureHasher", "columns", columns)
        self.num_features = _checked_features("FeatureHasher", num_features)
        [self.output_column] = checked_names("FeatureHasher", "output_column", [output_column])

    def get_output_columns(self) -> list[str]:
        """Return the name of the result."""
        return [self.output_column]

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        import numpy as np

        made = np.zeros((table.num_rows, self.num_features))
        for name in self.columns:
            values = numbers(table, name, "FeatureHasher").to_numpy()
            made[:, hashed(name, self.num_features)] += np.nan_to_num(values)
        return with_column(table, self.output_column, vectors(made))


@lru_cache(maxsize=_KEPT_HASHES)
def hashed(text: str, buckets: int) -> int:
    """Return a number below ``buckets`` for a text, the same in every process and version."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % buckets


def _counts(rows: Iterable[Iterable[int | None]], count: int, width: int) -> Any:
    import numpy as np

    made = np.zeros((count, width), np.int64)
    for number, places in enumerate(rows):
        found: Mapping[int | None, int] = Counter(places)
        for place, times in found.items():
            if place is not None:
                made[number, place] = times
    return made


def _checked_features(owner: str, num_features: Any) -> int:
    if isinstance(num_features, bool) or not isinstance(num_features, int) or num_features < 1:
        raise ValueError(f"{owner}(num_features={num_features!r}) must be a number from 1")
    return num_features
