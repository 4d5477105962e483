"""Settings of data sets: ``DataContext``."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar

from skate.data._notices import suspicious, without_effect
from skate.data._options import check_choice
from skate.data._unneeded import NOT_NEEDED
from skate.data.execution_options import ExecutionOptions

MIB = 1 << 20


class ShuffleStrategy(str, Enum):
    """Names of Ray's ways to shuffle. There is one here, so all are accepted."""

    SORT_SHUFFLE_PULL_BASED = "sort_shuffle_pull_based"
    SORT_SHUFFLE_PUSH_BASED = "sort_shuffle_push_based"
    HASH_SHUFFLE = "hash_shuffle"
    SHUFFLE_V2 = "shuffle_v2"
    HASH_SHUFFLE_V2 = "shuffle_v2"  # noqa: PIE796 - another name of the same in Ray
    GPU_SHUFFLE = "gpu_shuffle"


@dataclass
class AutoscalingConfig:
    """Thresholds of Ray's pools, without effect: pools grow where the rest of the work is longest."""

    actor_pool_util_upscaling_threshold: float = 1.75
    actor_pool_util_downscaling_threshold: float = 0.5
    actor_pool_max_upscaling_delta: int | None = None


_RETRIED_IO_ERRORS = [
    "AWS Error INTERNAL_FAILURE",
    "AWS Error NETWORK_CONNECTION",
    "AWS Error SLOW_DOWN",
    "AWS Error UNKNOWN (HTTP status 503)",
    "AWS Error SERVICE_UNAVAILABLE",
]

#: Values that an attribute may have.
_CHOICES: dict[str, tuple[str, ...]] = {
    "on_schema": ("unify", "object", "error"),
    "progress": ("auto", "off", "line", "rich"),
}


@dataclass(eq=False)
class DataContext:
    """The settings of data sets that are made from now on; ``DataContext.get_current()`` returns it.

    A Dataset takes a copy when it is made by ``read_*``, ``from_*`` or ``range``, and hands it to the data
    sets that come from it: ``Dataset.context``. All of Ray's attributes are accepted; those that have no
    effect say so once, in the log.

    Attributes:
        target_max_block_size: bytes at which outputs of functions are cut into blocks; None: never.
        target_min_block_size: bytes below which blocks are bundled for the next function.
        streaming_read_buffer_size: bytes that are read from a stream at a time.
        read_op_min_num_blocks: read tasks that a read is cut into at least, where there are so many rows.
        execution_options: order, limits of resources.
        enable_progress_bars: False turns the line of progress off.
        max_errored_blocks: failing rows are skipped in so many blocks; -1: in all. See ``on_error`` of the
            verbs.
        retried_io_errors: reads and writes whose error text has one of these are tried again.
        memory_limit_bytes: the one budget of an execution: objects, working sets, pools. None: what the
            session has.
        local_limit_bytes: data sets known to be smaller run in the caller's process, which a row that ends
            its process ends, unless they need a pool; 0: none.
        pool_linger_s: seconds that replicas stay after an execution for the next one; 0: none.
        actor_init_retry_on_errors: a replica whose class's constructor raises is started again.
        actor_init_max_retries: how often; -1: always.
        execution_no_progress_timeout_s: seconds without a block or an end of a task after which an execution
            fails; None: never.
        on_schema: what happens to blocks whose columns differ, where they meet: ``"unify"`` (null columns
            take the type, missing columns are null, a real conflict is an error), ``"object"`` (a conflict
            makes pickled objects) or ``"error"``. Parquet files of one write meet, too.
        progress: ``"auto"`` (a line in a terminal, nothing in a pipe), ``"off"``, ``"line"`` or ``"rich"``.

    Raises:
        TypeError: an attribute is given a value of a wrong type; the message names it.
        ValueError: a value out of range.

    Example:
        >>> context = DataContext.get_current()
        >>> context.memory_limit_bytes = 2_000_000_000
    """

    target_max_block_size: int | None = 128 * MIB
    target_min_block_size: int = MIB
    streaming_read_buffer_size: int = 32 * MIB
    enable_pandas_block: bool = True
    actor_prefetcher_enabled: bool = False
    autoscaling_config: Any = field(default_factory=AutoscalingConfig)
    use_push_based_shuffle: bool = False
    _shuffle_strategy: ShuffleStrategy = ShuffleStrategy.SHUFFLE_V2
    pipeline_push_based_shuffle_reduce_tasks: bool = True
    default_hash_shuffle_parallelism: int = 200
    shuffle_compression: str | None = "zstd"
    hash_shuffle_reduce_batch_size: int = 16
    hash_shuffle_reduce_get_timeout_s: float = 1800.0
    shuffle_input_batch_bytes: int = 1 << 30
    max_hash_shuffle_aggregators: int | None = None
    min_hash_shuffle_aggregator_wait_time_in_s: int = 300
    hash_shuffle_aggregator_health_warning_interval_s: int = 30
    max_hash_shuffle_finalization_batch_size: int | None = None
    join_operator_actor_num_cpus_override: float | None = None
    hash_shuffle_operator_actor_num_cpus_override: float | None = None
    hash_aggregate_operator_actor_num_cpus_override: float | None = None
    use_disk_based_hash_shuffle: bool = False
    gpu_shuffle_num_actors: int | None = None
    gpu_shuffle_rmm_pool_size: Any = None
    gpu_shuffle_spill_memory_limit: Any = "auto"
    gpu_shuffle_setup_timeout_s: float = 120.0
    scheduling_strategy: Any = "SPREAD"
    scheduling_strategy_large_args: Any = "DEFAULT"
    large_args_threshold: int = 50 * MIB
    use_polars: bool = False
    use_polars_sort: bool = False
    use_legacy_dataset_ids: bool = False
    decoding_size_estimation: bool = True
    min_parallelism: int = 200
    read_op_min_num_blocks: int = 200
    use_datasource_v2: bool = True
    enable_tensor_extension_casting: bool = True
    arrow_fixed_shape_tensor_format: Any = None
    use_arrow_tensor_v2: bool = True
    enable_fallback_to_arrow_object_ext_type: bool | None = None
    enable_auto_log_stats: bool = False
    verbose_stats_logs: bool = False
    accurate_map_phase_timing: bool = False
    per_stage_map_timing: bool = False
    trace_allocations: bool = False
    execution_options: ExecutionOptions = field(default_factory=ExecutionOptions)
    use_ray_tqdm: bool = True
    enable_progress_bars: bool = True
    enable_operator_progress_bars: bool = True
    enable_progress_bar_name_truncation: bool = True
    enable_rich_progress_bars: bool = False
    enable_get_object_locations_for_metrics: bool = False
    write_file_retry_on_errors: Any = tuple(_RETRIED_IO_ERRORS[:4])
    warn_on_driver_memory_usage_bytes: int = 2 << 30
    actor_task_retry_on_errors: Any = False
    actor_init_retry_on_errors: bool = False
    actor_init_max_retries: int = 3
    max_consecutive_actor_init_deaths: int = 0
    retried_map_errors: Any = False
    max_map_retries: int = 0
    op_resource_reservation_enabled: bool = True
    op_resource_reservation_ratio: float = 0.5
    output_backpressure_guard_release_interval_s: float | None = None
    max_errored_blocks: int = 0
    execution_no_progress_timeout_s: float | None = 1800
    log_internal_stack_trace: bool = False
    raise_original_map_exception: bool = False
    print_on_execution_start: bool = True
    s3_try_create_dir: bool = False
    wait_for_min_actors_s: float = -1
    max_tasks_in_flight_per_actor: int | None = None
    retried_io_errors: Any = field(default_factory=lambda: list(_RETRIED_IO_ERRORS))
    lance_config: Any = None
    iceberg_config: Any = None
    delta_config: Any = None
    enable_per_node_metrics: bool = False
    enable_stats_summary_collection: bool = False
    override_object_store_memory_limit_fraction: float | None = None
    memory_usage_poll_interval_s: float | None = 1
    dataset_logger_id: str | None = None
    issue_detectors_config: Any = None
    isolate_read_workers: bool = False
    downstream_capacity_backpressure_ratio: float | None = 2.0
    enable_dynamic_output_queue_size_backpressure: bool = False
    enable_lineage_reconstruction_resource_accounting: bool = True
    enforce_schemas: bool = False
    pandas_block_ignore_metadata: bool = False
    enable_arrow_backed_pandas_conversion: bool = True
    batch_to_block_arrow_format: bool = True
    _checkpoint_config: Any = None
    custom_execution_callback_classes: Any = field(default_factory=list)
    default_map_logical_memory_enabled: bool = False
    _enable_ray_data_reconstruction: bool | None = None
    object_store_reservation_overshoot_ratio: float | None = None
    object_store_memory_pressure_fraction: float | None = None
    # Ours.
    memory_limit_bytes: int | None = None
    local_limit_bytes: int = 32 * MIB
    pool_linger_s: float = 60.0
    on_schema: str = "unify"
    progress: str = "auto"

    #: Attributes to the annotations of their types, as text.
    _types: ClassVar[dict[str, str]]

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self._types.get(name)
        if kind is None and name not in _SETTABLE and not name.startswith("_"):
            suspicious(f"DataContext.{name}", f"DataContext has no setting {name!r}{_near(name)}")
        if kind is not None:
            _check(name, value, kind)
        if name in NOT_NEEDED and "_ready" in vars(self) and value != getattr(self, name, None):
            without_effect(f"DataContext.{name}", NOT_NEEDED[name])
        object.__setattr__(self, name, value)
        if name == "enable_rich_progress_bars" and value is True and self.progress == "auto":
            self.progress = "rich"

    def __post_init__(self) -> None:
        self._kv: dict[str, Any] = {}
        self._ready = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for by copy and pickle, often
            raise AttributeError(name)
        raise AttributeError(f"DataContext has no setting {name!r}{_near(name)}")

    @staticmethod
    def get_current() -> DataContext:
        """Return the settings of this process, or those of the ``current`` block that the thread is in."""
        return _current.get()

    @staticmethod
    @contextmanager
    def current(context: DataContext) -> Iterator[DataContext]:
        """Make settings the current ones of this thread, for the time of a ``with`` block.

        Args:
            context: the settings.

        Yields:
            The same.

        Example:
            >>> with DataContext.current(context):
            ...     ds = skate.data.range(10)
        """
        before = _current.replace(context)
        try:
            yield context
        finally:
            _current.replace(before)

    @staticmethod
    def _set_current(context: DataContext) -> None:
        """Make settings the current ones of this process."""
        _current.default = context

    def copy(self) -> DataContext:
        """Return a copy that shares nothing that can be changed."""
        return copy.deepcopy(self)

    def get_config(self, key: str, default: Any = None) -> Any:
        """Return a value that a program stored under a key of its own, or a default."""
        return self._kv.get(key, default)

    def set_config(self, key: str, value: Any) -> None:
        """Store a value under a key of the program's own; it travels with the context."""
        self._kv[key] = value

    def remove_config(self, key: str) -> None:
        """Remove a key, if it is there."""
        self._kv.pop(key, None)

    def set_dataset_logger_id(self, dataset_id: str | None) -> str | None:
        """Accept an id for Ray's sake, and return the one before: all data sets log to ``skate.data``."""
        before, self.dataset_logger_id = self.dataset_logger_id, dataset_id
        return before

    @property
    def shuffle_strategy(self) -> ShuffleStrategy:
        """The name of one of Ray's ways to shuffle; there is one here."""
        return self._shuffle_strategy

    @shuffle_strategy.setter
    def shuffle_strategy(self, value: ShuffleStrategy | str) -> None:
        self._shuffle_strategy = ShuffleStrategy(value)

    @property
    def hash_shuffle_compression(self) -> str | None:
        """Ray's other name of ``shuffle_compression``."""
        return self.shuffle_compression

    @hash_shuffle_compression.setter
    def hash_shuffle_compression(self, value: str | None) -> None:
        self.shuffle_compression = value

    @property
    def use_external_hash_shuffle(self) -> bool:
        """Ray's other name of ``use_disk_based_hash_shuffle``."""
        return self.use_disk_based_hash_shuffle

    @use_external_hash_shuffle.setter
    def use_external_hash_shuffle(self, value: bool) -> None:
        self.use_disk_based_hash_shuffle = value

    @property
    def checkpoint_config(self) -> Any:
        """Always None: writes resume without it, see ``write_parquet(resume=True)``."""
        return self._checkpoint_config

    @checkpoint_config.setter
    def checkpoint_config(self, value: Any) -> None:
        if value is not None:
            raise NotImplementedError(
                "DataContext.checkpoint_config is left out, because it needs an id column: writes resume "
                "by what "
                "was read and written, with write_parquet(path, resume=True)"
            )
        self._checkpoint_config = None

    @property
    def execution_callback_classes(self) -> list[type]:
        """Classes that were set; they are not called."""
        return list(self.custom_execution_callback_classes)

    @property
    def enable_ray_data_reconstruction(self) -> bool:
        """Always True: blocks that are lost with a node are made again."""
        return True

    @property
    def executions(self) -> int:
        """How many executions began under these settings; what is drawn anew in each counts on it."""
        return int(self.__dict__.get("_execution_idx", 0))

    @executions.setter
    def executions(self, value: int) -> None:
        self._execution_idx = value

    @property
    def on_conflict(self) -> str:
        """``on_schema`` in the words of ``skate.data._block.tables.concat``."""
        return {"unify": "error", "object": "object", "error": "same"}[self.on_schema]

    @property
    def target_block_bytes(self) -> int:
        """``target_max_block_size``, or a number that no block reaches."""
        return self.target_max_block_size or (1 << 62)


DataContext._types = {one.name: str(one.type) for one in fields(DataContext)}

_SETTABLE = (
    "shuffle_strategy",
    "hash_shuffle_compression",
    "use_external_hash_shuffle",
    "checkpoint_config",
    "executions",
)

#: The least value of a number.
_LEAST: dict[str, float] = {
    "target_max_block_size": 1, "target_min_block_size": 0, "streaming_read_buffer_size": 1,
    "min_parallelism": 1,
    "read_op_min_num_blocks": 1, "actor_init_max_retries": -1, "max_map_retries": -1,
    "max_errored_blocks": -1,
    "max_tasks_in_flight_per_actor": 1, "memory_limit_bytes": 1, "local_limit_bytes": 0, "pool_linger_s": 0,
}  # fmt: skip


def _near(name: str) -> str:
    """Return a question with the settings that a wrong name may stand for, or nothing."""
    import difflib

    near = difflib.get_close_matches(name, [*DataContext._types, *_SETTABLE], n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _check(name: str, value: Any, kind: str) -> None:
    """Refuse a value of a wrong type or out of range, with the name of the option."""
    if value is None and "None" in kind:
        return
    base = kind.partition(" ")[0]
    if base == "Any":
        return
    wanted: tuple[type, ...] = {
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
        "str": (str,),
        "ShuffleStrategy": (ShuffleStrategy,),
        "ExecutionOptions": (ExecutionOptions,),
    }[base]
    value_is_bool = isinstance(value, bool)
    if base == "int" and isinstance(value, float) and value.is_integer():
        pass  # 128e6 bytes
    elif not isinstance(value, wanted) or (value_is_bool and base != "bool"):
        name_of_kind = kind.replace("float", "number").replace("|", "or")
        raise TypeError(f"DataContext.{name} must be {name_of_kind}, got {value!r} ({type(value).__name__})")
    if name in _LEAST and value < _LEAST[name]:
        raise ValueError(f"DataContext.{name} must be at least {_LEAST[name]:g}, got {value!r}")
    if name in _CHOICES:
        check_choice(f"DataContext.{name}", value, _CHOICES[name])


class _Current(threading.local):
    """The current settings: of a ``current`` block in this thread, else of the process."""

    shared: ClassVar[dict[tuple[int, str], DataContext]] = {}
    mine: DataContext | None = None

    @property
    def default(self) -> DataContext:
        key = (os.getpid(), "default")
        made = self.shared.get(key)
        return made if made is not None else self.shared.setdefault(key, DataContext())

    @default.setter
    def default(self, context: DataContext) -> None:
        self.shared[os.getpid(), "default"] = context

    def get(self) -> DataContext:
        """Return what holds for this thread."""
        return self.mine or self.default

    def replace(self, context: DataContext | None) -> DataContext | None:
        """Set what holds for this thread (None: that of the process), and return what did before."""
        before, self.mine = self.mine, context
        return before


_current = _Current()


def set_progress_bars(enabled: bool) -> bool:
    """Turn the display of progress on or off for data sets that are made from now on.

    Args:
        enabled: whether it is shown.

    Returns:
        The state before.
    """
    context = DataContext.get_current()
    before, context.enable_progress_bars = context.enable_progress_bars, enabled
    return before
