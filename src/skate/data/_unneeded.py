"""Settings of Ray's ``DataContext`` that are accepted and have no effect."""

from __future__ import annotations

_OWN_POLICY = "the executor measures and decides itself, within memory_limit_bytes"
_ONE_EXCHANGE = "there is one exchange, which spills by itself"
_ONE_BLOCK = "a block is a pyarrow.Table, always"
_STATS = "Dataset.stats() has all of it"
_NO_CLIENT = "this table format is left out"
_TYPE_KEPT = "errors of your functions keep their type, always"

#: Attributes of Ray's that are accepted and have no effect here, and why.
NOT_NEEDED: dict[str, str] = {
    **dict.fromkeys(
        (
            "actor_prefetcher_enabled", "autoscaling_config", "op_resource_reservation_enabled",
            "op_resource_reservation_ratio", "output_backpressure_guard_release_interval_s",
            "downstream_capacity_backpressure_ratio", "enable_dynamic_output_queue_size_backpressure",
            "enable_lineage_reconstruction_resource_accounting",
            "override_object_store_memory_limit_fraction",
            "default_map_logical_memory_enabled", "object_store_reservation_overshoot_ratio",
            "object_store_memory_pressure_fraction", "isolate_read_workers", "scheduling_strategy",
            "scheduling_strategy_large_args", "large_args_threshold", "decoding_size_estimation",
            "wait_for_min_actors_s", "memory_usage_poll_interval_s", "use_datasource_v2",
            "use_legacy_dataset_ids", "issue_detectors_config",
        ),
        _OWN_POLICY,
    ),
    **dict.fromkeys(
        (
            "use_push_based_shuffle", "shuffle_strategy", "pipeline_push_based_shuffle_reduce_tasks",
            "default_hash_shuffle_parallelism", "shuffle_compression", "hash_shuffle_compression",
            "hash_shuffle_reduce_batch_size", "hash_shuffle_reduce_get_timeout_s",
            "shuffle_input_batch_bytes",
            "max_hash_shuffle_aggregators", "min_hash_shuffle_aggregator_wait_time_in_s",
            "hash_shuffle_aggregator_health_warning_interval_s", "max_hash_shuffle_finalization_batch_size",
            "join_operator_actor_num_cpus_override", "hash_shuffle_operator_actor_num_cpus_override",
            "hash_aggregate_operator_actor_num_cpus_override", "use_disk_based_hash_shuffle",
            "use_external_hash_shuffle", "gpu_shuffle_num_actors", "gpu_shuffle_rmm_pool_size",
            "gpu_shuffle_spill_memory_limit", "gpu_shuffle_setup_timeout_s", "use_polars", "use_polars_sort",
        ),
        _ONE_EXCHANGE,
    ),
    **dict.fromkeys(
        (
            "enable_pandas_block", "enable_tensor_extension_casting", "arrow_fixed_shape_tensor_format",
            "use_arrow_tensor_v2", "enable_fallback_to_arrow_object_ext_type", "pandas_block_ignore_metadata",
            "enable_arrow_backed_pandas_conversion", "batch_to_block_arrow_format", "enforce_schemas",
        ),
        _ONE_BLOCK,
    ),
    **dict.fromkeys(
        (
            "accurate_map_phase_timing", "per_stage_map_timing", "trace_allocations",
            "enable_per_node_metrics",
            "enable_stats_summary_collection", "enable_get_object_locations_for_metrics",
        ),
        _STATS,
    ),
    **dict.fromkeys(("lance_config", "iceberg_config", "delta_config"), _NO_CLIENT),
    **dict.fromkeys(("raise_original_map_exception", "log_internal_stack_trace"), _TYPE_KEPT),
    "use_ray_tqdm": "one line shows the progress: DataContext.progress",
    "enable_progress_bar_name_truncation": "one line shows the progress: DataContext.progress",
    "custom_execution_callback_classes": "callbacks are left out: Dataset.stats() has the figures",
    "s3_try_create_dir": "object stores have no folders to create",
    "dataset_logger_id": "all data sets log to the logger skate.data",
    "max_consecutive_actor_init_deaths": "actor_init_max_retries bounds the attempts",
}  # fmt: skip
