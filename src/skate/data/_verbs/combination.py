"""Several data sets as one: union, zip, join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.schemas import unify_schemas
from skate.data._block.tables import cast_to
from skate.data._notices import deprecated, without_effect
from skate.data._operators.column_operators import ColumnOperator
from skate.data._operators.exchanges.join import Join
from skate.data._operators.exchanges.zip import Zip
from skate.data._options import column_names
from skate.data._plan.logical import Apply, Exchanged, Node, Union
from skate.data._verbs import facts
from skate.data._verbs import resources as options
from skate.data._verbs.checks import count_or_none, text_or_none
from skate.data._verbs.core import Core, check_columns, check_same_kind
from skate.data.expressions import RowPlace

if TYPE_CHECKING:
    from typing_extensions import Self


class Combination(Core):
    """``union``, ``zip``, ``join``."""

    def union(self, *other: Any) -> Self:
        """Return the rows of this and other data sets, one data set after the other.

        Columns that one of them lacks are null in its rows, if the columns of all are known; otherwise
        rows keep the columns that they have.

        Args:
            other: data sets, or lists of them.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            TypeError: something that is no data set.
            SchemaConflictError: a column has types that do not go together; it is a ValueError.
        """
        others = [one for given in other for one in (given if isinstance(given, (list, tuple)) else (given,))]
        check_same_kind("union", others)
        parts: list[Node] = []
        for plan in (self._plan, *(one._plan for one in others)):
            # A union in a loop is as deep as one of all.
            parts += plan.parts if isinstance(plan, Union) else (plan,)
        return self._over(Union(tuple(_aligned(parts, self._context.on_schema))))

    def zip(self, *other: Any) -> Self:
        """Return the i-th rows of this and other data sets as one row.

        Names that are taken get ``_1``, ``_2``, ...

        Args:
            other: data sets of as many rows.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            TypeError: something that is no data set.
            ValueError: when it runs: the data sets have different numbers of rows.
        """
        check_same_kind("zip", other)
        if not other:
            return self._over(self._plan)
        counts = [facts.known_rows(one._plan) for one in (self, *other)]
        known = {count for count in counts if count is not None}
        if len(known) > 1:
            raise ValueError(f"zip() takes data sets of as many rows, but these have {counts}")
        plans = (self._plan, *(one._plan for one in other))
        return self._over(Exchanged(plans, Zip(len(plans))))

    def join(
        self,
        ds: Any,
        join_type: str,
        num_partitions: int | None = None,
        on: str | Sequence[str] = ("id",),
        right_on: str | Sequence[str] | None = None,
        left_suffix: str | None = None,
        right_suffix: str | None = None,
        *,
        partition_size_hint: int | None = None,
        aggregator_ray_remote_args: Mapping[str, Any] | None = None,
        validate_schemas: bool = False,
    ) -> Self:
        """Return the rows of two data sets whose keys are equal. Null equals nothing.

        The result has the left columns, then the right ones without the keys.

        Args:
            ds: the right side.
            join_type: ``"inner"``, ``"left_outer"``, ``"right_outer"``, ``"full_outer"``, ``"left_semi"``,
                ``"right_semi"``, ``"left_anti"`` or ``"right_anti"``.
            num_partitions: accepted for Ray's sake: the number is chosen by bytes.
            on: key columns of the left side.
            right_on: key columns of the right side, in the same order; None: the same names.
            left_suffix: appended to names of the left side that the right side has too.
            right_suffix: appended to names of the right side that the left side has too.
            partition_size_hint: accepted for Ray's sake.
            aggregator_ray_remote_args: options of its tasks.
            validate_schemas: accepted for Ray's sake: schemas that are known are checked at once, always.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: an unknown kind of join, no such column, or columns of both sides with one name.
            TypeError: keys whose types have nothing in common.

        Example:
            >>> photos.join(labels, "left_outer", on="path")
        """
        check_same_kind("join", (ds,))
        if partition_size_hint is not None:
            without_effect("join(partition_size_hint=)", "sizes are measured")
        if aggregator_ray_remote_args is not None:
            deprecated(
                "join(aggregator_ray_remote_args=)", "there are no aggregators: its tasks get the options"
            )
        count_or_none("join", "num_partitions", num_partitions)
        keys = column_names("join", "on", on)
        right_keys = None if right_on is None else column_names("join", "right_on", right_on)
        exchange = Join(
            join_type,
            keys,
            right_keys,
            text_or_none("join", "left_suffix", left_suffix),
            text_or_none("join", "right_suffix", right_suffix),
        )
        check_columns(self, "join", keys, side="the left side: ")
        check_columns(ds, "join", exchange.right_keys, side="the right side: ")
        self._check_clash(ds, exchange)
        stage = options.resources("join", free=aggregator_ray_remote_args)
        return self._over(Exchanged((self._plan, ds._plan), exchange, stage))

    def _check_clash(self, other: Any, exchange: Join) -> None:
        left, right = facts.known_schema(self._plan), facts.known_schema(other._plan)
        if left is None or right is None or exchange.how.endswith(("semi", "anti")):
            return
        both = sorted((set(left.names) - set(exchange.on)) & (set(right.names) - set(exchange.right_keys)))
        if both and not exchange.left_suffix and not exchange.right_suffix:
            raise ValueError(
                f"join(): both sides have columns {both}: give left_suffix= or right_suffix=, or rename "
                f"them first"
            )


class Align(ColumnOperator):
    """Gives blocks the columns of a schema; those that are missing are null.

    Args:
        schema: the columns.
    """

    preserves_rows = True

    def __init__(self, schema: pa.Schema) -> None:
        self.columns = schema
        self.name = "Align"

    def apply(self, block: pa.Table, rows: RowPlace) -> pa.Table:
        """Return the block in the schema."""
        return cast_to(block, self.columns)


def _aligned(parts: list[Node], on_schema: str) -> list[Node]:
    """Return the parts of a union with the same columns, where all columns are known without running."""
    known = [facts.known_schema(part) for part in parts]
    schemas = [schema for schema in known if schema is not None]
    if len(schemas) < len(parts) or all(schema.equals(schemas[0]) for schema in schemas):
        return parts
    whole = unify_schemas(schemas, "object" if on_schema == "object" else "error")
    return [
        part if schema.equals(whole) else Apply(_unaligned(part), Align(whole))
        for part, schema in zip(parts, schemas, strict=True)
    ]


def _unaligned(part: Node) -> Node:
    """Return a part of a union as it was given."""
    return part.input if isinstance(part, Apply) and isinstance(part.operator, Align) else part
