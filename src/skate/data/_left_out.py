"""Names of Ray Data's that are left out, and the reasons."""

from __future__ import annotations

_SERVICE = (
    "it needs a service or a heavy client. Read it with a Datasource of your own "
    "(skate.data.read_datasource) "
    "or write it with a Datasink (Dataset.write_datasink): each is one class"
)
_TABLE_FORMAT = (
    "table formats with a catalogue are left out. The files under the table can be read by read_parquet, "
    "or the "
    "table by its own library: skate.data.from_arrow(table)"
)
_FRAME = "the library behind it is not maintained, or is another engine. Go by from_pandas or from_arrow"
_TENSORFLOW = "tensorflow is left out: go by iter_batches(batch_format='numpy')"
_JAX = "jax is left out: go by iter_batches(batch_format='numpy') and jax.device_put"
_ROBOTS = "its decoder is left out: read the files by read_binary_files and decode them in map or flat_map"

_REASONS: dict[str, str] = {
    **dict.fromkeys(("from_mars", "from_modin", "from_daft", "to_mars", "to_modin", "to_daft"), _FRAME),
    **dict.fromkeys(
        (
            "read_kafka", "read_mongo", "read_bigquery", "read_snowflake", "read_clickhouse",
            "read_databricks_tables", "read_unity_catalog", "read_delta_sharing_tables", "write_kafka",
            "write_mongo", "write_bigquery", "write_snowflake", "write_clickhouse", "write_turbopuffer",
            "ClickHouseTableSettings", "KafkaAuthConfig", "SinkMode", "TurbopufferDatasink",
        ),
        _SERVICE,
    ),
    **dict.fromkeys(
        (
            "read_hudi", "read_iceberg", "read_delta", "read_lance", "write_iceberg", "write_delta",
            "write_lance",
        ),
        _TABLE_FORMAT,
    ),
    **dict.fromkeys(("read_mcap", "read_lerobot", "read_zarr"), _ROBOTS),
    "read_avro": "the format is left out: read the files by read_binary_files and decode them in flat_map",
    "read_orc": "the format is left out: pyarrow.orc reads a file, skate.data.from_arrow takes its table",
    "write_orc": "the format is left out: write_parquet holds the same types",
    **dict.fromkeys(("from_tf", "to_tf", "iter_tf_batches"), _TENSORFLOW),
    "iter_jax_batches": _JAX,
    "to_random_access_dataset": "it is not maintained in Ray either: sort by the key and write_parquet",
    "mix": "mixing by weights is left out: random_sample each data set, union them and random_shuffle",
    "MixStoppingCondition": "Dataset.mix is left out",
    "streaming_train_test_split": "use train_test_split, or filter by a hash of a column",
    **dict.fromkeys(
        ("serialize_lineage", "deserialize_lineage"),
        "a Dataset pickles as it is: pickle.dumps(ds) holds its plan and no rows",
    ),
    **dict.fromkeys(
        ("to_dask", "to_spark"), "write_parquet(path) and read it there, or go by to_pandas for small data"
    ),
    "summary": "call aggregate(Count(), Mean('x'), Std('x'), ...), or to_pandas().describe() for small data",
    "DatasetSummary": "Dataset.summary is left out: call aggregate(Count(), Mean('x'), Std('x'), ...)",
    "has_serializable_lineage": "a Dataset pickles as it is: pickle.dumps(ds)",
    "Preprocessor.stat_computation_plan": "it is internal to Ray: override _fit, and store values in stats_",
    **dict.fromkeys(("get_internal_block_refs",), "use iter_internal_ref_bundles or to_arrow_refs"),
}  # fmt: skip


def reason(name: str) -> str | None:
    """Return why a name of Ray Data's is left out and what to do instead, or None."""
    return _REASONS.get(name)


class LeftOutError(NotImplementedError, AttributeError):
    """A name of Ray Data's that is left out; ``hasattr`` is False for it."""


def refuse(name: str) -> LeftOutError:
    """Return the error of a name that is left out."""
    return LeftOutError(f"{name} is not in skate.data: {_REASONS[name]}.")


def names() -> list[str]:
    """Return all names that are left out."""
    return sorted(_REASONS)
