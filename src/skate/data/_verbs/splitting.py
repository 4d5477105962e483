"""Cutting a data set into several, by rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.tables import size_bytes
from skate.data._options import column_name
from skate.data._plan.logical import Blocks
from skate.data._previews import no_such_columns
from skate.data._task.slices import BlockMeta, BlockSlice, cut, total_rows
from skate.data._verbs import running
from skate.data._verbs.checks import flag, listed, number
from skate.data._verbs.core import Core, check_columns
from skate.data._verbs.iterators import DataIterator

if TYPE_CHECKING:
    from skate.data.seeds import RandomSeedConfig


class Splitting(Core):
    """``split*``, ``train_test_split``, ``streaming_split``."""

    def split(self, n: int, *, equal: bool = False, locality_hints: Sequence[Any] | None = None) -> list[Any]:
        """Run the data set and cut it into ``n``.

        Args:
            n: how many.
            equal: all have the same number of rows; up to ``n - 1`` rows at the end are then left out.
            locality_hints: actors, one for each; accepted, as blocks are read from shared memory anyway.

        Returns:
            MaterializedDatasets. Without ``equal`` whole blocks are dealt out, in order.

        Raises:
            ValueError: ``n`` is below 1, or not as many hints as parts.
        """
        _check_parts("split", n, equal, locality_hints)
        slices = [piece for piece in self._slices() if piece.num_rows]
        if equal:
            share = total_rows(slices) // n
            return self._parts(cut(slices, [share * index for index in range(1, n + 1)])[:n])
        if len(slices) < n:
            rows = total_rows(slices)
            return self._parts(cut(slices, [-(-rows * index // n) for index in range(1, n)]))
        # The first parts get one block more.
        few, more = divmod(len(slices), n)
        stops = [few * index + min(index, more) for index in range(n + 1)]
        return self._parts([slices[start:stop] for start, stop in pairwise(stops)])

    def split_at_indices(self, indices: Sequence[int]) -> list[Any]:
        """Run the data set and cut it at row numbers.

        Args:
            indices: row numbers in ascending order, from 0; those beyond the end give empty parts.

        Returns:
            ``len(indices) + 1`` MaterializedDatasets.

        Raises:
            ValueError: no indices, negative ones, or not in ascending order.

        Example:
            >>> [part.count() for part in skate.data.range(10).split_at_indices([2, 5])]
            [2, 3, 5]
        """
        indices = listed("split_at_indices", "indices", indices, "row numbers")
        if not indices:
            raise ValueError("split_at_indices(indices) needs at least one row number")
        if any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in indices):
            raise ValueError(f"split_at_indices(indices) takes row numbers of at least 0, got {indices}")
        if indices != sorted(indices):
            raise ValueError(f"split_at_indices(indices) must be in ascending order, got {indices}")
        return self._parts(cut([piece for piece in self._slices() if piece.num_rows], indices))

    def split_proportionately(self, proportions: Sequence[float]) -> list[Any]:
        """Run the data set and cut it by fractions of its rows.

        Args:
            proportions: fractions, each above 0, together below 1; the last part gets the rest.

        Returns:
            ``len(proportions) + 1`` MaterializedDatasets.

        Raises:
            ValueError: fractions out of range, or so few rows that a part would be empty.

        Example:
            >>> [part.count() for part in skate.data.range(10).split_proportionately([0.2, 0.5])]
            [2, 5, 3]
        """
        proportions = listed("split_proportionately", "proportions", proportions, "fractions")
        for one in proportions:
            number("split_proportionately", "proportions", one)
        if not proportions:
            raise ValueError("split_proportionately(proportions) needs at least one fraction")
        if any(not 0 < one < 1 for one in proportions):
            raise ValueError(f"split_proportionately(proportions) must each be above 0, got {proportions}")
        if math.fsum(proportions) >= 1:
            raise ValueError(
                f"split_proportionately(proportions) must be together below 1, got {proportions}"
            )
        slices = [piece for piece in self._slices() if piece.num_rows]
        rows = total_rows(slices)
        # Fractions such as 0.7 are a bit below what they say: 10 * (1 - 0.3) is 7.
        stops = [
            math.floor(rows * math.fsum(proportions[: index + 1]) + 1e-9) for index in range(len(proportions))
        ]
        # Each part gets a row at least, where there are enough.
        for index in range(len(stops)):
            stops[index] = max(stops[index], index + 1)
        for index in range(len(stops) - 1, -1, -1):
            stops[index] = min(stops[index], rows - (len(stops) - index))
        if stops[0] < 1:
            raise ValueError(
                f"split_proportionately({proportions}): {rows} rows are too few for {len(stops) + 1} "
                f"parts with a "
                "row each"
            )
        return self._parts(cut(slices, stops))

    def train_test_split(
        self,
        test_size: int | float,
        *,
        shuffle: bool = False,
        seed: int | RandomSeedConfig | None = None,
        stratify: str | None = None,
    ) -> tuple[Any, Any]:
        """Run the data set and cut it into a part for training and one for tests.

        Args:
            test_size: the fraction of rows for tests (a float between 0 and 1), or their number (an int).
            shuffle: draw the rows of both parts at random; else the last rows are for tests.
            seed: of the order.
            stratify: a column; both parts get the same fraction of rows of each of its values.

        Returns:
            Two MaterializedDatasets: for training and for tests.

        Raises:
            ValueError: a size out of range, or no such column.

        Example:
            >>> train, test = skate.data.range(10).train_test_split(0.3)
            >>> train.count(), test.count()
            (7, 3)
        """
        if isinstance(test_size, bool) or not isinstance(test_size, (int, float)):
            raise TypeError(f"train_test_split(test_size=) must be a float or an int, got {test_size!r}")
        if isinstance(test_size, float) and not 0 < test_size < 1:
            raise ValueError(
                f"train_test_split(test_size=) as a float must be between 0 and 1, got {test_size}"
            )
        flag("train_test_split", "shuffle", shuffle)
        if stratify is not None:
            check_columns(self, "train_test_split", [column_name("train_test_split", "stratify", stratify)])
        if seed is not None and not shuffle:
            raise ValueError("train_test_split(seed=) needs shuffle=True")
        source = self._shuffled(seed) if shuffle else self
        slices = [piece for piece in source._slices() if piece.num_rows]
        rows = total_rows(slices)
        if isinstance(test_size, int) and not 0 < test_size < rows:
            raise ValueError(
                f"train_test_split(test_size=) as an int must be above 0 and below the {rows} rows there "
                f"are, "
                f"got {test_size}"
            )
        fraction = test_size if isinstance(test_size, float) else test_size / rows
        if stratify is not None:
            return self._stratified(slices, fraction, stratify)
        train_rows = (
            rows - test_size if isinstance(test_size, int) else math.floor(rows * (1 - fraction) + 1e-9)
        )
        train, test = self._parts(cut(slices, [train_rows]))
        return train, test

    def _shuffled(self, seed: Any) -> Core:
        """Return the data set in random order; ``dataset`` has the verb for it."""
        raise NotImplementedError

    def _stratified(self, slices: list[BlockSlice], fraction: float, column: str) -> tuple[Any, Any]:
        """Cut blocks so that each value of a column has the same fraction of rows in both parts."""
        parts: tuple[list[BlockSlice], list[BlockSlice]] = ([], [])
        with running.run(Blocks(tuple(slices)), self._context) as execution:
            keys = []
            for piece in slices:
                table = execution.fetch(piece)
                if column not in table.column_names:
                    wrong = no_such_columns([column], table.column_names)
                    raise ValueError(f"train_test_split(stratify=): {wrong}")
                keys.append(table.column(column))
            is_test = _stratified_mask(keys, fraction)
            start = 0
            for piece in slices:
                mask = is_test.slice(start, piece.num_rows)
                start += piece.num_rows
                table = execution.fetch(piece)
                for part, chosen in zip(parts, (pc.invert(mask), mask), strict=True):
                    rows = table.filter(chosen)
                    if rows.num_rows:
                        meta = BlockMeta(rows.num_rows, size_bytes(rows), rows.schema, piece.meta.input_files)
                        part.append(BlockSlice.whole(execution.port.put(rows), meta))
        train, test = self._parts(parts)
        return train, test

    def streaming_split(
        self, n: int, *, equal: bool = False, locality_hints: Sequence[Any] | None = None
    ) -> list[DataIterator]:
        """Return ``n`` iterators over disjoint parts of the rows, for tasks or actors that run at the
        same time.

        An actor runs the data set and hands out blocks as they are asked for. Each loop over an iterator is
        an
        epoch, which begins when all ``n`` have asked for it.

        Args:
            n: how many.
            equal: all get the same number of rows; up to ``n - 1`` rows of an epoch are then left out.
            locality_hints: ids of the nodes where the iterators are used; accepted, blocks go where they are
                asked
                for.

        Returns:
            DataIterators, which can be passed to tasks and actors.

        Raises:
            ValueError: ``n`` is below 1, or not as many hints as parts.

        Example:
            >>> shards = ds.streaming_split(2, equal=True)
            >>> skate.get([train.remote(shard) for shard in shards])
        """
        _check_parts("streaming_split", n, equal, locality_hints)
        # It needs the session's API, which small data sets do without.
        from skate.data._verbs.streaming import split_streaming

        return split_streaming(self._plan, self._context, n, equal, self._materialized_class())

    def _parts(self, parts: Sequence[Sequence[BlockSlice]]) -> list[Any]:
        schemas = [piece.meta.schema for part in parts for piece in part if piece.meta.schema is not None]
        return [self._held(part, schemas[0] if schemas and not part else None) for part in parts]


def _check_parts(verb: str, n: int, equal: Any, hints: Sequence[Any] | None) -> None:
    flag(verb, "equal", equal)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"{verb}(n) must be a number of at least 1, got {n!r}")
    if hints is not None and len(listed(verb, "locality_hints", hints, "actors or nodes")) != n:
        raise ValueError(
            f"{verb}(locality_hints=) must have one hint for each of the {n} parts, got {len(hints)}"
        )


def _stratified_mask(keys: Sequence[pa.ChunkedArray], fraction: float) -> pa.BooleanArray:
    """Return which rows are for tests: the last ones of each value, in all as many as the fraction says."""
    chunks = [chunk for key in keys for chunk in key.chunks]
    column = pa.chunked_array(chunks) if chunks else pa.chunked_array([pa.nulls(0)])
    codes = column.dictionary_encode(null_encoding="encode").combine_chunks()
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    indices = codes.indices
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(indices).to_pylist()}
    wanted = math.ceil(sum(counts.values()) * fraction - 1e-9)
    # Largest remainders: each value gets what its fraction says, rounded so that the sum is right.
    exact = {code: count * fraction for code, count in counts.items()}
    test = {code: math.floor(share + 1e-9) for code, share in exact.items()}
    missing = wanted - sum(test.values())
    for code in sorted(exact, key=lambda code: (test[code] - exact[code], code))[:missing]:
        test[code] += 1
    left = {code: counts[code] - test[code] for code in counts}
    mask = []
    for code in indices.to_pylist():
        left[code] -= 1
        mask.append(left[code] < 0)
    return pa.array(mask, pa.bool_())
