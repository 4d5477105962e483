"""Groups of rows, and aggregates of them or of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skate.data._operators.exchanges.aggregate import Aggregate
from skate.data._operators.exchanges.groups import MapGroups
from skate.data._operators.functions import GroupFunction, UserFunction, check_batch_format
from skate.data._options import column_names
from skate.data._plan.logical import Exchanged
from skate.data._verbs import facts
from skate.data._verbs import resources as options
from skate.data._verbs.checks import count_or_none, expression
from skate.data._verbs.core import check_columns
from skate.data.aggregate import AggregateFn, Count, Max, Mean, Min, Std, Sum
from skate.data.compute import ComputeStrategy

if TYPE_CHECKING:
    import pyarrow as pa

    from skate.data.expressions import Expr


class GroupedData:
    """The groups of a data set: rows that are equal in some columns. ``Dataset.groupby`` makes it.

    Args:
        dataset: the data set.
        key: the columns; None or none: all rows are one group. Null is a key of its own.
        num_partitions: accepted for Ray's sake: the number is chosen by bytes.
    """

    def __init__(
        self, dataset: Any, key: str | Sequence[str] | None, *, num_partitions: int | None = None
    ) -> None:
        self._dataset = dataset
        self._keys = () if key is None else column_names("groupby", "key", key)
        self._bundles = count_or_none("groupby", "num_partitions", num_partitions)
        check_columns(dataset, "groupby", self._keys)

    def __repr__(self) -> str:
        return f"GroupedData(dataset={self._dataset!r}, key={list(self._keys)!r})"

    def aggregate(self, *aggs: AggregateFn) -> Any:
        """Return one row for each group: its keys and the results.

        Args:
            aggs: aggregates of ``skate.data.aggregate``, or of your own.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: no aggregates, no such column, or two results with one name.

        Example:
            >>> ds.groupby("city").aggregate(Count(), Mean("price", alias_name="price"))
        """
        check_aggregates(self._dataset, aggs)
        exchange = Aggregate(self._keys, aggs, self._bundles)
        return self._dataset._over(Exchanged((self._dataset._plan,), exchange))

    def _on(self, make: Callable[..., AggregateFn], on: str | Sequence[str] | None, **more: Any) -> Any:
        columns = value_columns(self._dataset, on, self._keys)
        return self.aggregate(*(make(column, **more) for column in columns))

    def count(self) -> Any:
        """Return the number of rows of each group, in a column ``count()``."""
        return self.aggregate(Count())

    def sum(self, on: str | Sequence[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Return sums of each group, in columns ``sum(<column>)``.

        Args:
            on: a column or several; None: all but the keys.
            ignore_nulls: leave nulls out; otherwise one null makes the sum null.

        Returns:
            A Dataset; nothing runs yet.
        """
        return self._on(Sum, on, ignore_nulls=ignore_nulls)

    def min(self, on: str | Sequence[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Return the smallest values of each group, in columns ``min(<column>)``; see ``sum``."""
        return self._on(Min, on, ignore_nulls=ignore_nulls)

    def max(self, on: str | Sequence[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Return the largest values of each group, in columns ``max(<column>)``; see ``sum``."""
        return self._on(Max, on, ignore_nulls=ignore_nulls)

    def mean(self, on: str | Sequence[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Return the means of each group, in columns ``mean(<column>)``; see ``sum``."""
        return self._on(Mean, on, ignore_nulls=ignore_nulls)

    def std(self, on: str | Sequence[str] | None = None, ddof: int = 1, ignore_nulls: bool = True) -> Any:
        """Return the standard deviations of each group, in columns ``std(<column>)``; see ``sum``.

        Args:
            on: a column or several; None: all but the keys.
            ddof: delta degrees of freedom: 1 divides by one less than the number of values.
            ignore_nulls: leave nulls out.

        Returns:
            A Dataset; nothing runs yet. Groups of ``ddof`` values or less have NaN.
        """
        return self._on(Std, on, ddof=ddof, ignore_nulls=ignore_nulls)

    def map_groups(
        self,
        fn: Any,
        *,
        zero_copy_batch: bool = True,
        compute: ComputeStrategy | str | None = None,
        batch_format: str | None = "default",
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        ray_remote_args_fn: Callable[[], Mapping[str, Any]] | None = None,
        **ray_remote_args: Any,
    ) -> Any:
        """Call a function with all rows of each group; it returns a batch, or a generator of batches.

        Args:
            fn: a function from a batch to a batch, or a class whose instances are called so.
            zero_copy_batch: the group may be read-only.
            compute: accepted: its tasks are those of the exchange.
            batch_format: what the function gets: ``"pandas"`` (also ``"default"``, as in Ray, whatever its
                documentation says), ``"numpy"``, ``"pyarrow"`` or None.
            fn_args: positional arguments after the group.
            fn_kwargs: keyword arguments of each call.
            fn_constructor_args: of a class's constructor.
            fn_constructor_kwargs: of a class's constructor.
            num_cpus: CPUs of one task.
            num_gpus: GPUs of one task.
            memory: bytes of heap memory of one task.
            concurrency: accepted: the old spelling of ``compute``.
            ray_remote_args_fn: returns further options; called once, here.
            ray_remote_args: options of tasks in the old spelling.

        Returns:
            A Dataset; nothing runs yet.

        Example:
            >>> ds.groupby("user").map_groups(lambda rows: rows.nlargest(3, "score"), batch_format="pandas")
        """
        options.compute("map_groups", fn, compute, concurrency)
        function = UserFunction.of(
            fn,
            fn_args,
            fn_kwargs,
            fn_constructor_args,
            fn_constructor_kwargs,
            "map_groups",
        )
        check_batch_format(batch_format, "map_groups")
        options.free_args("map_groups", ray_remote_args)
        free = {**ray_remote_args, **options.fixed_args("map_groups", ray_remote_args_fn)}
        stage = options.resources("map_groups", num_cpus, num_gpus, memory, free=free)
        called = GroupFunction(function, batch_format, zero_copy_batch)
        exchange = MapGroups(self._keys, called, function.name, self._bundles)
        return self._dataset._over(Exchanged((self._dataset._plan,), exchange, stage))

    def with_column(self, column_name: str, expr: Expr, **ray_remote_args: Any) -> Any:
        """Add a column that an expression makes of the rows of each group.

        Args:
            column_name: the column; one that is there is replaced.
            expr: evaluated over all rows of a group at a time.
            ray_remote_args: options of tasks in the old spelling.

        Returns:
            A Dataset; nothing runs yet.
        """
        options.free_args("with_column", ray_remote_args)
        stage = options.resources("with_column", free=ray_remote_args)
        expression("with_column", column_name, expr)
        check_columns(self._dataset, "with_column", expr.columns())
        function = _WithColumn(column_name, expr)
        exchange = MapGroups(self._keys, function, f"with_column {column_name}", self._bundles)
        return self._dataset._over(Exchanged((self._dataset._plan,), exchange, stage))


class _WithColumn:
    """Adds a column to the rows of a group."""

    def __init__(self, name: str, expr: Expr) -> None:
        self._name = name
        self._expr = expr

    def __call__(self, group: pa.Table) -> Iterator[pa.Table]:
        made = self._expr.evaluate(group)
        position = group.schema.get_field_index(self._name)
        if position >= 0:
            yield group.set_column(position, self._name, made)
        else:
            yield group.append_column(self._name, made)


def check_aggregates(dataset: Any, aggs: Sequence[Any]) -> None:
    """Refuse what is no aggregate, and columns that are not there.

    Raises:
        ValueError: none, or no such column.
        TypeError: something that is no aggregate.
    """
    if not aggs:
        raise ValueError("aggregate() needs at least one aggregate, such as Count() or Mean('price')")
    for one in aggs:
        if not isinstance(one, AggregateFn):
            raise TypeError(
                f"aggregate() takes instances of classes in skate.data.aggregate, such as Sum('x'); got "
                f"{one!r:.80}"
            )
    targets = [getattr(one, "_target_col_name", None) for one in aggs]
    check_columns(dataset, "aggregate", [name for name in targets if name is not None])


def value_columns(dataset: Any, on: str | Sequence[str] | None, keys: Sequence[str] = ()) -> list[str]:
    """Return the columns that an aggregate is of: those that the user named, or all but the keys.

    Raises:
        ValueError: no such column, or none at all.
    """
    if on is not None:
        columns = list(column_names("aggregate", "on", on))
        if not columns:
            raise ValueError("an aggregate needs at least one column in on=, or None for all")
        return columns
    schema = facts.known_schema(dataset._plan)
    names = dataset.columns() if schema is None else schema.names
    return [name for name in names or () if name not in keys]
