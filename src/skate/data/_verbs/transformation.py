"""Functions of users over rows and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skate.data._operators.dead_letters import ErrorPolicy
from skate.data._operators.functions import UserFunction, check_batch_format
from skate.data._operators.map_operators import FilterRows, FlatMap, MapBatches, MapRows
from skate.data._plan.logical import ActorPool, Apply
from skate.data._verbs import resources as options
from skate.data._verbs.checks import flag
from skate.data._verbs.columns import predicate
from skate.data._verbs.core import Core, check_columns
from skate.data.compute import ComputeStrategy
from skate.data.context import DataContext

if TYPE_CHECKING:
    from typing_extensions import Self

    from skate.data.expressions import Expr


class Transformation(Core):
    """``map``, ``map_batches``, ``flat_map``, ``filter``."""

    def map(
        self,
        fn: Any,
        *,
        compute: ComputeStrategy | str | None = None,
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        ray_remote_args_fn: Callable[[], Mapping[str, Any]] | None = None,
        on_error: str = "raise",
        max_errors: float | None = None,
        retry_on: Any = (),
        max_retries: int | None = None,
        timeout_per_row: float | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Call a function for each row; it returns the new row.

        A class is made once in each process of a pool, and its instance called; the pool stays warm after the
        execution (``DataContext.pool_linger_s``). Functions may be async.

        Args:
            fn: a function from a dict to a dict, or a class whose instances are called so.
            compute: ``TaskPoolStrategy`` or ``ActorPoolStrategy``; by default tasks for functions and
                replicas for
                classes, as many as resources allow.
            fn_args: positional arguments after the row.
            fn_kwargs: keyword arguments of each call.
            fn_constructor_args: of a class's constructor.
            fn_constructor_kwargs: of a class's constructor.
            num_cpus: CPUs of one task or replica.
            num_gpus: GPUs of one task or replica; fractions share one.
            memory: bytes of heap memory of one task or replica.
            concurrency: the old spelling of ``compute``.
            label_selector: labels of the nodes where it runs.
            fallback_strategy: further label selectors, tried in turn.
            max_calls: calls after which a process of tasks is replaced.
            resources: amounts of resources with names of your own.
            accelerator_type: kind of GPU.
            runtime_env: environment of its processes.
            ray_remote_args_fn: returns further options; called once, here.
            on_error: what a row does that fails: ``"raise"`` ends the run, ``"skip"`` leaves the row out,
                ``"dead_letter"`` leaves it out and keeps it for ``dead_letters()``.
            max_errors: rows that may fail: a number, or below 1 the fraction of the rows; None: any number.
            retry_on: exception types after which a call is tried again.
            max_retries: tries after the first; None: 3 if ``retry_on`` is given, else none.
            timeout_per_row: seconds that a call may take; it then runs in a process of its own, which is
                killed.
            ray_remote_args: options of tasks in the old spelling.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError, TypeError: an option out of range or of a wrong type; the message names it.

        Example:
            >>> skate.data.range(3).map(lambda row: {"square": row["id"] ** 2}).take_all()
            [{'square': 0}, {'square': 1}, {'square': 4}]
        """
        made = _Options("map", self._context, fn, compute, concurrency, ray_remote_args_fn, ray_remote_args)
        function = UserFunction.of(fn, fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs, "map")
        policy = made.policy(on_error, max_errors, retry_on, max_retries, timeout_per_row)
        pool, stage = made.stage(
            num_cpus,
            num_gpus,
            memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
        )
        return self._over(
            Apply(self._plan, MapRows(function, policy, made.calls(function, pool)), pool, stage)
        )

    def flat_map(
        self,
        fn: Any,
        *,
        compute: ComputeStrategy | str | None = None,
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        ray_remote_args_fn: Callable[[], Mapping[str, Any]] | None = None,
        on_error: str = "raise",
        max_errors: float | None = None,
        retry_on: Any = (),
        max_retries: int | None = None,
        timeout_per_row: float | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Call a function for each row; it returns any number of new rows, as a list or a generator.

        Rows that a generator yields go on while it runs, so a row may become more than fit into memory.

        Args: see ``map``.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError, TypeError: an option out of range or of a wrong type; the message names it.

        Example:
            >>> skate.data.range(2).flat_map(lambda row: [row, row]).count()
            4
        """
        made = _Options(
            "flat_map", self._context, fn, compute, concurrency, ray_remote_args_fn, ray_remote_args
        )
        function = UserFunction.of(
            fn, fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs, "flat_map"
        )
        policy = made.policy(on_error, max_errors, retry_on, max_retries, timeout_per_row)
        pool, stage = made.stage(
            num_cpus,
            num_gpus,
            memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
        )
        return self._over(
            Apply(self._plan, FlatMap(function, policy, made.calls(function, pool)), pool, stage)
        )

    def filter(
        self,
        fn: Any = None,
        expr: Expr | str | None = None,
        *,
        compute: ComputeStrategy | str | None = None,
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        ray_remote_args_fn: Callable[[], Mapping[str, Any]] | None = None,
        on_error: str = "raise",
        max_errors: float | None = None,
        retry_on: Any = (),
        max_retries: int | None = None,
        timeout_per_row: float | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Keep the rows for which a function returns something true, or an expression is true.

        Args: see ``map``; one of the two:
            fn: a function from a row to anything, or a class whose instances are called so.
            expr: an expression such as ``col("id") > 5``; rows for which it is null are left out. Text is
                the old
                spelling: ``"id > 5"``.

        Returns:
            A Dataset; nothing runs yet. Its columns are those of its input.

        Raises:
            ValueError, TypeError: neither or both are given, or an option is out of range or of a wrong type.

        Example:
            >>> skate.data.range(10).filter(expr=col("id") >= 8).take_all()
            [{'id': 8}, {'id': 9}]
        """
        if (fn is None) == (expr is None):
            raise ValueError(f"filter() takes either fn= or expr=, got {'neither' if fn is None else 'both'}")
        made = _Options(
            "filter", self._context, fn, compute, concurrency, ray_remote_args_fn, ray_remote_args
        )
        pool, stage = made.stage(
            num_cpus,
            num_gpus,
            memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
        )
        if expr is not None:
            if any(
                one is not None for one in (fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs)
            ):
                raise ValueError("filter(expr=) takes no fn_args, fn_kwargs or constructor arguments")
            operator = predicate("filter", expr)
            check_columns(self, "filter", operator.condition.columns())
            return self._over(Apply(self._plan, operator, pool, stage))
        if not callable(fn):
            raise ValueError(
                f"filter(fn) takes a function; give an expression by name: filter(expr={fn!r:.60})"
            )
        function = UserFunction.of(
            fn, fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs, "filter"
        )
        policy = made.policy(on_error, max_errors, retry_on, max_retries, timeout_per_row)
        return self._over(
            Apply(self._plan, FilterRows(function, policy, made.calls(function, pool)), pool, stage)
        )

    def map_batches(
        self,
        fn: Any,
        *,
        batch_size: int | str | None = None,
        compute: ComputeStrategy | str | None = None,
        batch_format: str | None = "default",
        zero_copy_batch: bool = True,
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        udf_modifying_row_count: bool = True,
        label_selector: Mapping[str, str] | None = None,
        fallback_strategy: Any = None,
        max_calls: int | None = None,
        resources: Mapping[str, float] | None = None,
        accelerator_type: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        ray_remote_args_fn: Callable[[], Mapping[str, Any]] | None = None,
        on_error: str = "raise",
        max_errors: float | None = None,
        retry_on: Any = (),
        max_retries: int | None = None,
        timeout_per_row: float | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Call a function with batches of rows.

        Batches are packed by rows across blocks, so all but the last have exactly ``batch_size`` rows. A
        batch that
        fails is halved until the failing rows are found, where ``on_error`` says that the others count.

        Args:
            fn: a function from a batch to a batch, or a generator of batches; or a class whose instances are
                called
                so. A batch is a dict of arrays or lists, a ``pandas.DataFrame`` or a ``pyarrow.Table``.
            batch_size: rows; None or ``"auto"``: a whole block, which is cut by bytes.
            compute: see ``map``.
            batch_format: what the function gets: ``"numpy"`` (also ``"default"``): a dict of arrays;
                ``"pandas"``: a
                frame with Arrow-backed types; ``"pyarrow"``; None: the block as it is.
            zero_copy_batch: the batch may be read-only; False: the function may write to it.
            udf_modifying_row_count: False promises that the function returns as many rows as it gets, so that
                ``count()`` need not call it.

            The others: see ``map``.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError, TypeError: an option out of range or of a wrong type; the message names it.

        Example:
            >>> ds.map_batches(Embed, batch_size=32, num_gpus=1, compute=ActorPoolStrategy(size=2))
        """
        made = _Options(
            "map_batches", self._context, fn, compute, concurrency, ray_remote_args_fn, ray_remote_args
        )
        function = UserFunction.of(
            fn,
            fn_args,
            fn_kwargs,
            fn_constructor_args,
            fn_constructor_kwargs,
            "map_batches",
        )
        check_batch_format(batch_format, "map_batches")
        flag("map_batches", "zero_copy_batch", zero_copy_batch)
        flag("map_batches", "udf_modifying_row_count", udf_modifying_row_count)
        policy = made.policy(on_error, max_errors, retry_on, max_retries, timeout_per_row)
        pool, stage = made.stage(
            num_cpus,
            num_gpus,
            memory,
            label_selector=label_selector,
            fallback_strategy=fallback_strategy,
            max_calls=max_calls,
            resources=resources,
            accelerator_type=accelerator_type,
            runtime_env=runtime_env,
        )
        size = _batch_size(batch_size, stage.num_gpus)
        operator = MapBatches(
            function,
            size,
            batch_format,
            zero_copy_batch,
            udf_modifying_row_count,
            policy,
            made.calls(function, pool),
        )
        return self._over(Apply(self._plan, operator, pool, stage, size))

    #: Ray's name of the same for its own parts.
    map_batches_internal = map_batches


class _Options:
    """The options that all four verbs have in common."""

    def __init__(
        self,
        verb: str,
        context: DataContext,
        fn: Any,
        compute: ComputeStrategy | str | None,
        concurrency: Any,
        more: Callable[[], Mapping[str, Any]] | None,
        free: Mapping[str, Any],
    ) -> None:
        self._verb = verb
        self._context = context
        self._pool = options.compute(verb, fn, compute, concurrency, context.max_tasks_in_flight_per_actor)
        old = dict(free)
        # One dict of them is as old a spelling.
        old.update(old.pop("ray_remote_args", None) or {})
        options.free_args(verb, old)
        self._free = {**old, **options.fixed_args(verb, more)}

    def stage(
        self, num_cpus: float | None, num_gpus: float | None, memory: float | None, **named: Any
    ) -> tuple[Any, Any]:
        """Return tasks or pool, and resources."""
        return self._pool, options.resources(self._verb, num_cpus, num_gpus, memory, named, self._free)

    def calls(self, function: UserFunction, pool: Any) -> int | None:
        """Return the calls of an async function that may run at a time in a process; None: chosen."""
        return pool.max_concurrency if isinstance(pool, ActorPool) and pool.max_concurrency > 1 else None

    def policy(
        self,
        on_error: str,
        max_errors: float | None,
        retry_on: Any,
        max_retries: int | None,
        timeout_per_row: float | None,
    ) -> ErrorPolicy:
        """Return what is done about failing rows; the context's options count where the verb has none."""
        context = self._context
        if on_error == "raise" and context.max_errored_blocks:
            on_error = "skip"
            if max_errors is None and context.max_errored_blocks > 0:
                max_errors = context.max_errored_blocks
        if not retry_on and max_retries is None and context.retried_map_errors and context.max_map_retries:
            retried = context.retried_map_errors
            retry_on = (Exception,) if retried is True else tuple(retried)
            max_retries = context.max_map_retries if context.max_map_retries > 0 else 1000
        return ErrorPolicy.of(
            self._verb, on_error, max_errors, retry_on, max_retries, timeout_per_row=timeout_per_row
        )


def _batch_size(size: Any, num_gpus: float | None) -> int | None:
    """Return the rows of a batch, checked; None: a block, which is cut by bytes: what "auto" asks for."""
    if size is None or size == "auto":
        if num_gpus:
            raise ValueError(
                f"map_batches(batch_size={size!r}, num_gpus={num_gpus:g}): name the number of rows that "
                f"go to the "
                "GPU at a time"
            )
        return None
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"map_batches(batch_size=) must be a number of rows, 'auto' or None, got {size!r}")
    if size < 1:
        raise ValueError(f"map_batches(batch_size=) must be at least 1, got {size}")
    return size
