"""Columns: select, drop, rename, compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.batches import from_batch
from skate.data._notices import deprecated
from skate.data._operators.column_operators import (
    ColumnOperator,
    Drop,
    FilterExpr,
    Rename,
    Select,
    WithColumns,
)
from skate.data._operators.functions import check_batch_format
from skate.data._options import column_name, column_names
from skate.data._plan.logical import Apply
from skate.data._previews import cell, kind
from skate.data._verbs import facts
from skate.data._verbs import resources as options
from skate.data._verbs.checks import expression
from skate.data._verbs.core import Core, check_columns
from skate.data.compute import ComputeStrategy
from skate.data.expressions import Expr, parse_condition

if TYPE_CHECKING:
    from typing_extensions import Self


class Columns(Core):
    """``select_columns``, ``drop_columns``, ``rename_columns``, ``with_column``, ``add_column``."""

    def select_columns(
        self,
        cols: str | Sequence[str],
        *,
        compute: ComputeStrategy | str | None = None,
        concurrency: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Keep some columns, in the order given.

        Readers of parquet read no others.

        Args:
            cols: a column or several; none keeps the rows without columns.
            compute: ``TaskPoolStrategy(size)``: most tasks at a time.
            concurrency: the old spelling of ``compute``.
            num_cpus, num_gpus, memory, label_selector, ...: of its tasks, see ``map``.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: a column that is not there, or is named twice.

        Example:
            >>> ds.select_columns(["path", "width"])
        """
        operator = Select(column_names("select_columns", "cols", cols))
        check_columns(self, "select_columns", operator.columns)
        return self._columns(
            "select_columns",
            operator,
            compute,
            concurrency,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
            free=ray_remote_args,
        )

    def drop_columns(
        self,
        cols: str | Sequence[str],
        *,
        compute: ComputeStrategy | str | None = None,
        concurrency: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Leave some columns out.

        Args:
            cols: a column or several. Without any column left, rows keep their number.
            compute: ``TaskPoolStrategy(size)``: most tasks at a time.
            concurrency: the old spelling of ``compute``.
            num_cpus, num_gpus, memory, label_selector, ...: of its tasks, see ``map``.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            KeyError: a column that is not there, as Ray raises it.
            ValueError: a column is named twice.
        """
        operator = Drop(column_names("drop_columns", "cols", cols))
        twice = sorted({name for name in operator.columns if operator.columns.count(name) > 1})
        if twice:
            raise ValueError(f"drop_columns: {twice} is named twice")
        check_columns(self, "drop_columns", operator.columns, KeyError)
        return self._columns(
            "drop_columns",
            operator,
            compute,
            concurrency,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
            free=ray_remote_args,
        )

    def rename_columns(
        self,
        names: Mapping[str, str] | Sequence[str],
        *,
        concurrency: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Give columns other names.

        Args:
            names: new names by the old ones, or a list of all names.
            concurrency: most tasks at a time.
            num_cpus, num_gpus, memory, label_selector, ...: of its tasks, see ``map``.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: a column that is not there, two columns would have one name, or a list is too short.

        Example:
            >>> ds.rename_columns({"id": "number"})
        """
        if not isinstance(names, (str, Mapping)):
            names = column_names("rename_columns", "names", names)
        operator = Rename(names)
        known = facts.known_schema(self._plan)
        if known is not None:
            operator.schema(known)  # raises what the run would
        return self._columns(
            "rename_columns",
            operator,
            None,
            concurrency,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
            free=ray_remote_args,
        )

    def with_column(
        self,
        column_name: str,
        expr: Expr,
        *,
        compute: ComputeStrategy | str | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Add a column that an expression makes; one that is there is replaced, in its place.

        Args:
            column_name: the column.
            expr: such as ``col("width") * col("height")``.
            compute: for functions of yours in the expression: ``TaskPoolStrategy`` or ``ActorPoolStrategy``.
            num_cpus, num_gpus, memory, label_selector, ...: of its tasks, see ``map``.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            TypeError: something that is no expression.
            ValueError: the expression names a column that is not there.

        Example:
            >>> ds.with_column("area", col("width") * col("height"))
        """
        operator = self._computed("with_column", {column_name: expr})
        return self._columns(
            "with_column",
            operator,
            compute,
            None,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
            free=ray_remote_args,
        )

    def with_columns(
        self,
        exprs: Mapping[str, Expr] | Expr | None = None,
        *more_exprs: Expr,
        compute: ComputeStrategy | str | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Add columns that expressions make, all from the columns that are there.

        Args:
            exprs: expressions by the names of their columns; or an expression with a name:
                ``(...).alias("area")``.
            more_exprs: further expressions with names.
            compute: for functions of yours in expressions: ``TaskPoolStrategy`` or ``ActorPoolStrategy``.
            num_cpus, num_gpus, memory, label_selector, ...: of its tasks, see ``map``.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            TypeError: something that is no expression.
            ValueError: no expressions, one without a name, or a column that is not there.

        Example:
            >>> ds.with_columns({"area": col("width") * col("height"), "one": lit(1)})
        """
        operator = self._computed("with_columns", _by_name(exprs, more_exprs))
        return self._columns(
            "with_columns",
            operator,
            compute,
            None,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
            free=ray_remote_args,
        )

    def add_column(
        self,
        col: str,
        fn: Callable[[Any], Any],
        *,
        batch_format: str | None = "pandas",
        compute: ComputeStrategy | str | None = None,
        concurrency: int | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Add a column that a function makes of batches; the old spelling of ``with_column`` and
        ``map_batches``.

        Args:
            col: the column; one that is there is replaced.
            fn: a function from a batch to the values of the column.
            batch_format: what the function gets: ``"pandas"``, ``"numpy"`` or ``"pyarrow"``.
            compute: see ``map``.
            concurrency: the old spelling of ``compute``.
            ray_remote_args: options of its tasks.

        Returns:
            A Dataset; nothing runs yet.
        """
        deprecated("add_column()", "write with_column(name, expression), or map_batches()")
        column_name("add_column", "col", col)
        if not callable(fn):
            raise TypeError(f"add_column(fn) takes a function, got {kind(fn)}: {cell(fn)}")
        check_batch_format(batch_format, "add_column")
        return self._added(
            col, fn, batch_format, {"compute": compute, "concurrency": concurrency, **ray_remote_args}
        )

    def _added(self, col: str, fn: Any, batch_format: str | None, more: Mapping[str, Any]) -> Self:
        """Return the data set with a column that a function makes; ``dataset`` has ``map_batches`` for it."""
        raise NotImplementedError

    def _computed(self, verb: str, exprs: Mapping[str, Any]) -> WithColumns:
        """Return the operator of expressions, checked against the columns as far as they are known."""
        for name, expr in exprs.items():
            expression(verb, name, expr)
            check_columns(self, verb, expr.columns())
        return WithColumns(exprs)

    def _columns(
        self,
        verb: str,
        operator: ColumnOperator,
        strategy: ComputeStrategy | str | None,
        concurrency: int | None,
        *,
        free: Mapping[str, Any],
        num_cpus: float | None,
        num_gpus: float | None,
        memory: float | None,
        **named: Any,
    ) -> Self:
        """Return the data set under an operator on columns."""
        options.free_args(verb, free)
        stage = options.resources(verb, num_cpus, num_gpus, memory, named, free)
        pool = options.compute(verb, None, strategy, concurrency, self._context.max_tasks_in_flight_per_actor)
        return self._over(Apply(self._plan, operator, pool, stage))


class AddColumn:
    """The function of ``add_column``: a batch with one column more.

    Args:
        name: the column.
        fn: makes its values.
        batch_format: what ``fn`` gets.
    """

    def __init__(self, name: str, fn: Callable[[Any], Any], batch_format: str | None) -> None:
        self._name = name
        self._fn = fn
        self._batch_format = batch_format

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return the block with the column."""
        from skate.data._block.batches import to_batch

        values = self._fn(to_batch(block, self._batch_format, writable=True))
        function = f"the function of add_column({self._name!r})"
        column = from_batch({self._name: values}, function).column(self._name)
        if len(column) != block.num_rows:
            raise ValueError(
                f"{function} returned {len(column)} values for a batch of {block.num_rows} rows: it must "
                "return one for each"
            )
        position = block.schema.get_field_index(self._name)
        if position >= 0:
            return block.set_column(position, self._name, column)
        return block.append_column(self._name, column)


def predicate(verb: str, expr: Any) -> FilterExpr:
    """Return the operator of a filter.

    Args:
        verb: for errors.
        expr: an expression, or text in the old spelling: ``"id > 5"``.

    Raises:
        TypeError: neither.
        ValueError: text that cannot be read; it says where.
    """
    if isinstance(expr, str):
        deprecated(f"{verb}(expr='...')", "write an expression: filter(expr=col('id') > 5)", stacklevel=4)
        expr = parse_condition(expr)
    if not isinstance(expr, Expr):
        raise TypeError(f"{verb}(expr=) takes an expression such as col('id') > 5, got {expr!r:.80}")
    return FilterExpr(expr)


def _by_name(exprs: Any, more: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    given = list(more)
    if isinstance(exprs, Mapping):
        found.update(exprs)
    elif exprs is not None:
        given.insert(0, exprs)
    for expr in given:
        name = getattr(expr, "name", None)
        if not isinstance(expr, Expr):
            raise TypeError(
                f"with_columns() takes a dict of expressions, or expressions with names, got {expr!r:.80}"
            )
        if name is None:
            raise ValueError(
                f"with_columns(): an expression needs a name: (...).alias('name'); it is\n{expr!r}"
            )
        found[name] = expr
    if not found:
        raise ValueError("with_columns() needs at least one expression")
    return found
