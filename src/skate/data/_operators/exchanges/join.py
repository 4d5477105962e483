"""Join of two sides on equal keys.

Both sides are partitioned by the hash of their keys, or the small one goes to every bundle of the other.
A bundle builds on the right side and streams the left one past it. Only keys and row numbers go through
the join kernel; other columns are gathered by number, so they may be of any type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.errors import SchemaConflictError
from skate.data._block.kernels.arrays import counter, plain, take
from skate.data._block.kernels.joining import join_indices
from skate.data._block.schemas import NO_COLUMNS, merge_types
from skate.data._block.sources import without_sources
from skate.data._block.tables import cast_column, concat, nulls, size_bytes
from skate.data._operators.exchanges.partitions import (
    Cluster,
    Sides,
    bucket_bundles,
    bundle_count,
    cut_blocks,
    groups_of_blocks,
    in_passes,
    passes_for,
    with_schema,
)
from skate.data._options import check_choice
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle, cut, total_rows

JOIN_TYPES = (
    "inner",
    "left_outer",
    "right_outer",
    "full_outer",
    "left_semi",
    "right_semi",
    "left_anti",
    "right_anti",
)
_RIGHT_MAY_BE_SENT = ("inner", "left_outer", "left_semi", "left_anti")
_LEFT_MAY_BE_SENT = ("inner", "right_outer", "right_semi", "right_anti")

BROADCAST_BYTES = 32 << 20
"""A side up to this size goes to every bundle of the other side, instead of both being partitioned."""

_PROBE_BYTES = 16 << 20
"""Rows of the left side are gathered up to this size before they are matched."""


@dataclass(frozen=True)
class Join(Exchange):
    """Rows of two sides whose keys are equal. Null equals nothing; NaN equals NaN.

    The result has the left side's columns, then the right side's without its keys. Keys are of a type
    that holds both sides' values; in outer joins a key comes from the side that has the row.

    Attributes:
        how: one of ``JOIN_TYPES``.
        on: key columns of the left side.
        right_on: key columns of the right side, in the same order; None: the same names.
        left_suffix: appended to names of the left side that the right side has too.
        right_suffix: appended to names of the right side that the left side has too.
        broadcast: ``"left"`` or ``"right"``: the side known to be small; neither side is partitioned
            then. None: the plan decides, from what was measured.
        broadcast_bytes: the largest side that the plan sends to every bundle.
        bundles: number of output partitions; None: by bytes.

    Raises:
        ValueError: an unknown kind, no keys, numbers of keys differ, or a broadcast that the kind does
        not allow.
    """

    how: str
    on: tuple[str, ...]
    right_on: tuple[str, ...] | None = None
    left_suffix: str | None = None
    right_suffix: str | None = None
    broadcast: str | None = None
    broadcast_bytes: int = BROADCAST_BYTES
    bundles: int | None = None

    def __post_init__(self) -> None:
        check_choice("join(join_type=)", self.how, JOIN_TYPES)
        if not self.on:
            raise ValueError("join needs at least one key column: on=('id',)")
        if len(self.right_keys) != len(self.on):
            raise ValueError(
                f"join got {len(self.on)} keys {self.on} in on= and {len(self.right_keys)} {self.right_keys} "
                "in right_on=; they are matched one by one"
            )
        if self.broadcast is not None:
            allowed = {"left": _LEFT_MAY_BE_SENT, "right": _RIGHT_MAY_BE_SENT}.get(self.broadcast, ())
            if self.how not in allowed:
                raise ValueError(f"join: broadcast={self.broadcast!r} cannot be done for {self.how!r}")

    @property
    def right_keys(self) -> tuple[str, ...]:
        """Key columns of the right side."""
        return self.on if self.right_on is None else self.right_on

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return f"Join({self.how}: {', '.join(self.on)})"

    def partition(self, side: int) -> Operator | None:
        """Return the operator that clusters a side by its keys; None if one side is sent everywhere."""
        if self.broadcast is not None:
            return None
        return Cluster(self.on if side == 0 else self.right_keys, "join")

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles: of buckets of both sides, or of ranges of one side with all of the other."""
        left, right = sides
        if not left and not right:
            return []
        sent = self.broadcast or self._small_side(sides, limits)
        if sent is None:
            return bucket_bundles([right, left], limits, bundles=self.bundles)
        whole, parted = (right, left) if sent == "right" else (left, right)
        rows = total_rows(parted)
        count = min(bundle_count(sum(p.size_bytes for p in parted), limits), max(1, rows))
        everywhere = with_schema([piece for piece in whole if piece.num_rows], whole)
        bundles = []
        for part in cut(parted, [number * rows // count for number in range(1, count)]):
            one = with_schema(part, parted)
            first, second = (everywhere, one) if sent == "right" else (one, everywhere)
            sizes = (sum(p.size_bytes for p in first), sum(p.size_bytes for p in second))
            params = Sides((len(first), len(second)), sizes, limits.target_bytes)
            bundles.append(Bundle((*first, *second), params))
        return bundles

    def _small_side(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> str | None:
        """Return the side to send everywhere, if the other one needs several bundles and this one is
        small.
        """
        if self.bundles is not None:
            return None
        left, right = (sum(piece.size_bytes for piece in side) for side in sides)
        limit = min(self.broadcast_bytes, limits.target_bytes // 4)
        if self.how in _RIGHT_MAY_BE_SENT and right <= min(limit, left):
            return "right"
        if self.how in _LEFT_MAY_BE_SENT and left <= min(limit, right):
            return "left"
        return None

    def merge(self) -> Operator:
        """Return the operator that joins a bundle."""
        return _JoinBundle(self)


class _JoinBundle(Operator):
    def __init__(self, join: Join) -> None:
        self.join = join
        self.name = join.name

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield joined rows; right rows without a partner come last."""
        sides: Sides = task.params
        right_count, left_count = sides.counts
        right = [next(blocks) for _ in range(right_count)]
        left: Iterator[pa.Table] = (next(blocks) for _ in range(left_count))
        passes = passes_for(sides.size_bytes[0], sides.target_bytes)
        if passes == 1:
            yield from self._pass(left, right, task)
            return
        held = list(left)
        parts = zip(
            in_passes(held, self.join.on, "join", passes),
            in_passes(right, self.join.right_keys, "join", passes),
            strict=True,
        )
        for left_part, right_part in parts:
            yield from self._pass(iter(left_part), right_part, task)

    def _pass(
        self, left: Iterator[pa.Table], right: Sequence[pa.Table], task: TaskContext
    ) -> Iterator[pa.Table]:
        matcher = _Matcher(self.join, without_sources(concat(right, task.on_conflict)))
        chunk_bytes = max(_PROBE_BYTES, size_bytes(matcher.right))
        for chunk in groups_of_blocks(left, chunk_bytes, task.on_conflict):
            made = matcher.probe(without_sources(chunk))
            if made is not None:
                yield from cut_blocks(made, task.target_max_block_bytes)
        last = matcher.rest()
        if last is not None:
            yield from cut_blocks(last, task.target_max_block_bytes)


class _Matcher:
    """Matches chunks of left rows with all right rows of a bundle, and remembers which of these found a
    partner.
    """

    def __init__(self, join: Join, right: pa.Table) -> None:
        self.join = join
        self.right = right if right.num_columns else _only_keys(join.right_keys)
        _check_keys(self.right, join.right_keys, "right")
        self._matched: list[pa.Array] = []
        self._left_schema: pa.Schema | None = None

    def probe(self, left: pa.Table) -> pa.Table | None:
        """Return the rows that a chunk of the left side gives."""
        join = self.join
        if not left.num_columns:
            left = _only_keys(join.on)
        _check_keys(left, join.on, "left")
        left_keys, right_keys = _same_types(left, self.right, join)
        left = _with_columns(left, join.on, left_keys)
        self._left_schema = left.schema
        if join.how in ("left_semi", "left_anti"):
            rows, _ = join_indices(left_keys, right_keys, join.how.replace("_", " "))
            assert rows is not None
            return take(left, rows)
        if join.how in ("right_semi", "right_anti"):
            _, rows = join_indices(left_keys, right_keys, "right semi")
            assert rows is not None
            self._matched.append(rows)
            return None
        kind = "left outer" if join.how in ("left_outer", "full_outer") else "inner"
        left_rows, right_rows = join_indices(left_keys, right_keys, kind)
        assert left_rows is not None
        assert right_rows is not None
        if join.how in ("right_outer", "full_outer"):
            self._matched.append(pc.unique(pc.drop_null(right_rows)))
        return self._side_by_side(take(left, left_rows), take(self.right, right_rows))

    def rest(self) -> pa.Table | None:
        """Return what right rows give after all left rows were seen."""
        join = self.join
        if join.how not in ("right_outer", "full_outer", "right_semi", "right_anti"):
            return None
        if self._left_schema is None:
            self._left_schema = _only_keys(join.on).schema
        seen = pa.concat_arrays(self._matched) if self._matched else pa.array([], pa.uint64())
        rows = counter(self.right.num_rows)
        found = pc.is_in(rows, value_set=seen.cast(pa.uint64()))
        if join.how == "right_semi":
            return self.right.filter(found)
        alone = self.right.filter(pc.invert(found))
        if join.how == "right_anti":
            return alone
        columns = {field.name: nulls(alone.num_rows, field.type) for field in self._left_schema}
        for name, right_name in zip(join.on, join.right_keys, strict=True):
            column = plain(alone[right_name])
            type_ = merge_types(self._left_schema.field(name).type, column.type, name)
            columns[name] = cast_column(column, type_, name)
        return self._side_by_side(pa.table(columns), alone)

    def _side_by_side(self, left: pa.Table, right: pa.Table) -> pa.Table:
        names = _output_names(left.column_names, right.column_names, self.join)
        columns = [*left.columns, *(right[name] for name in right.column_names if name in names.right)]
        return pa.table(columns, names=[*names.left.values(), *names.right.values()])


@dataclass(frozen=True, slots=True)
class _Names:
    left: dict[str, str]
    right: dict[str, str]


def _output_names(left: Sequence[str], right: Sequence[str], join: Join) -> _Names:
    """Return the output's name of each column that is kept.

    Raises:
        ValueError: a name is taken twice.
    """
    kept = [name for name in right if name not in join.right_keys and name != NO_COLUMNS]
    clashes = [name for name in kept if name in left]
    if clashes and not join.left_suffix and not join.right_suffix:
        raise ValueError(
            f"join: both sides have columns {clashes} besides the keys; give left_suffix= or right_suffix=, "
            "or rename or drop them before"
        )
    left_names = {
        name: name + (join.left_suffix or "") if name in clashes and name not in join.on else name
        for name in left
    }
    right_names = {name: name + (join.right_suffix or "") if name in clashes else name for name in kept}
    every = [*left_names.values(), *right_names.values()]
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise ValueError(f"join: several columns would be called {twice} with these suffixes; choose others")
    return _Names(left_names, right_names)


def _check_keys(table: pa.Table, keys: Sequence[str], side: str) -> None:
    for key in keys:
        if key not in table.column_names:
            raise ValueError(
                f"join: the {side} side has no column {key!r}; its columns are {table.column_names}"
            )


def _same_types(
    left: pa.Table, right: pa.Table, join: Join
) -> tuple[list[pa.ChunkedArray], list[pa.ChunkedArray]]:
    """Return both sides' keys in types that hold both.

    Raises:
        ValueError: there is no such type.
    """
    left_keys, right_keys = [], []
    for name, right_name in zip(join.on, join.right_keys, strict=True):
        left_key, right_key = plain(left[name]), plain(right[right_name])
        try:
            type_ = merge_types(left_key.type, right_key.type, name)
        except SchemaConflictError as error:
            raise ValueError(
                f"join: key {name!r} is {left_key.type} on the left side and {right_name!r} is "
                f"{right_key.type} on the right side, which no type holds both; cast one of them, as in "
                f"with_column({name!r}, col({name!r}).cast(...))"
            ) from error
        type_ = pa.int8() if pa.types.is_null(type_) else type_
        left_keys.append(cast_column(left_key, type_, name))
        right_keys.append(cast_column(right_key, type_, right_name))
    return left_keys, right_keys


def _with_columns(table: pa.Table, names: Sequence[str], columns: Sequence[pa.ChunkedArray]) -> pa.Table:
    for name, column in zip(names, columns, strict=True):
        if table[name].type != column.type:
            table = table.set_column(table.column_names.index(name), name, column)
    return table


def _only_keys(keys: Sequence[str]) -> pa.Table:
    """Stand in for a side without any block, of which nothing is known but its keys."""
    return pa.table({key: pa.nulls(0) for key in keys})
