"""Names that programs import, and how classes call themselves."""

from __future__ import annotations

import importlib
import io
import pickle

import pyarrow as pa
import pytest
import ray.data

from .helpers import differs, ids

NAMES = [
    "ray.data.ActorPoolStrategy", "ray.data.DataContext", "ray.data.DataIterator", "ray.data.Dataset",
    "ray.data.Datasink", "ray.data.Datasource", "ray.data.ExecutionOptions", "ray.data.ExecutionResources",
    "ray.data.FileShuffleConfig", "ray.data.NodeIdStr", "ray.data.RandomSeedConfig",
    "ray.data.ReadTask", "ray.data.RowBasedFileDatasink", "ray.data.BlockBasedFileDatasink", "ray.data.SaveMode",
    "ray.data.Schema", "ray.data.TaskPoolStrategy", "ray.data.DatasetContext",
    "ray.data.aggregate.AbsMax", "ray.data.aggregate.AggregateFn", "ray.data.aggregate.AggregateFnV2",
    "ray.data.aggregate.ApproximateQuantile", "ray.data.aggregate.AsList", "ray.data.aggregate.Count",
    "ray.data.aggregate.CountDistinct", "ray.data.aggregate.Max", "ray.data.aggregate.Mean", "ray.data.aggregate.Min",
    "ray.data.aggregate.MissingValuePercentage", "ray.data.aggregate.Quantile", "ray.data.aggregate.Std",
    "ray.data.aggregate.Sum", "ray.data.aggregate.Unique", "ray.data.aggregate.ValueCounter",
    "ray.data.block.Block", "ray.data.block.BlockAccessor", "ray.data.block.BlockMetadata", "ray.data.block.BatchFormat",
    "ray.data.block.DataBatch", "ray.data.block.UserDefinedFunction", "ray.data.block.BlockType",
    "ray.data.context.DataContext", "ray.data.context.ShuffleStrategy",
    "ray.data.dataset.Dataset", "ray.data.dataset.MaterializedDataset", "ray.data.dataset.Schema",
    "ray.data.datasource.BlockBasedFileDatasink", "ray.data.datasource.Datasink", "ray.data.datasource.Datasource",
    "ray.data.datasource.DummyOutputDatasink", "ray.data.datasource.FileBasedDatasource",
    "ray.data.datasource.FileShuffleConfig", "ray.data.datasource.FilenameProvider",
    "ray.data.datasource.Partitioning", "ray.data.datasource.PartitionStyle",
    "ray.data.datasource.PathPartitionFilter", "ray.data.datasource.PathPartitionParser",
    "ray.data.datasource.ReadTask", "ray.data.datasource.RowBasedFileDatasink", "ray.data.datasource.SaveMode",
    "ray.data.datasource.WriteResult",
    "ray.data.datasource.datasource.Datasource", "ray.data.datasource.datasource.ReadTask",
    "ray.data.datasource.datasink.Datasink", "ray.data.datasource.datasink.WriteResult",
    "ray.data.datasource.file_datasink.RowBasedFileDatasink",
    "ray.data.datasource.file_based_datasource.FileBasedDatasource",
    "ray.data.datasource.filename_provider.FilenameProvider", "ray.data.datasource.partitioning.Partitioning",
    "ray.data.datasource.path_util._resolve_paths_and_filesystem",
    "ray.data.datatype.DataType", "ray.data.datatype.TypeCategory",
    "ray.data.exceptions.RayDataUserCodeException",
    "ray.data.expressions.col", "ray.data.expressions.lit", "ray.data.expressions.star", "ray.data.expressions.udf",
    "ray.data.expressions.download", "ray.data.expressions.Expr", "ray.data.expressions.pyarrow_udf",
    "ray.data.extensions.ArrowTensorArray", "ray.data.extensions.ArrowTensorType",
    "ray.data.extensions.ArrowTensorTypeV2", "ray.data.extensions.ArrowVariableShapedTensorType",
    "ray.data.extensions.TensorArray", "ray.data.extensions.TensorDtype",
    "ray.data.extensions.tensor_extension.ArrowTensorArray", "ray.data.extensions.tensor_extension.TensorArray",
    "ray.data.grouped_data.GroupedData", "ray.data.iterator.DataIterator",
    "ray.data.collate_fn.ArrowBatchCollateFn", "ray.data.collate_fn.NumpyBatchCollateFn",
    "ray.data.read_api.read_parquet", "ray.data.read_api.from_items",
    "ray.data._internal.arrow_block.ArrowBlockAccessor", "ray.data._internal.compute.ActorPoolStrategy",
    "ray.data._internal.compute.TaskPoolStrategy",
    "ray.data._internal.datasource.csv_datasource.CSVDatasource",
    "ray.data._internal.datasource.parquet_datasource.ParquetDatasource",
    "ray.data._internal.datasource.json_datasource.ArrowJSONDatasource",
    "ray.data._internal.delegating_block_builder.DelegatingBlockBuilder",
    "ray.data._internal.execution.interfaces.ExecutionOptions",
    "ray.data._internal.execution.interfaces.ExecutionResources",
    "ray.data._internal.execution.interfaces.RefBundle", "ray.data._internal.execution.interfaces.TaskContext",
    "ray.data._internal.execution.interfaces.execution_options.ExecutionOptions",
    "ray.data._internal.tensor_extensions.arrow.ArrowTensorArray",
    "ray.data._internal.util._check_import",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_there(name):
    module, _, last = name.rpartition(".")
    assert getattr(importlib.import_module(module), last) is not None


#: Where classes say that they are from, however they were imported.
MODULES = {
    "Dataset": "ray.data.dataset",
    "Schema": "ray.data.dataset",
    "DataContext": "ray.data.context",
    "DataIterator": "ray.data.iterator",
    "Datasink": "ray.data.datasource.datasink",
    "Datasource": "ray.data.datasource.datasource",
    "ReadTask": "ray.data.datasource.datasource",
    "SaveMode": "ray.data._internal.savemode",
    "ActorPoolStrategy": "ray.data._internal.compute",
    "ExecutionOptions": "ray.data._internal.execution.interfaces.execution_options",
    "RowBasedFileDatasink": "ray.data.datasource.file_datasink",
}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_module_of_a_class(name):
    assert getattr(ray.data, name).__module__ == MODULES[name]


def test_modules_of_classes_below():
    from ray.data import aggregate, block, expressions

    assert aggregate.Sum.__module__ == "ray.data.aggregate"
    assert block.BlockAccessor.__module__ == block.BlockMetadata.__module__ == "ray.data.block"
    assert type(expressions.col("a") + 1).__module__ == "ray.data.expressions"


def test_modules_print_as_those_of_ray():
    assert ray.data.__name__ == "ray.data"
    assert str(ray.data).startswith("<module 'ray.data' ")


def test_classes_of_old_import_paths_are_the_same():
    from ray.data._internal.compute import ActorPoolStrategy
    from ray.data.datasource.datasource import Datasource

    assert ActorPoolStrategy is ray.data.ActorPoolStrategy
    assert Datasource is ray.data.Datasource


def test_classes_pickle_by_their_names():
    for kind in (ray.data.Schema, ray.data.Datasink, ray.data.SaveMode, ray.data.ActorPoolStrategy):
        assert pickle.loads(pickle.dumps(kind)) is kind


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ray.data.no_such_name
    with pytest.raises(ImportError):
        from ray.data import no_such_name  # noqa: F401


@differs(
    on="ray",
    reason="It has the name, and needs the service's client when it is called. See the names that are left out.",
)
def test_a_name_that_is_left_out_says_why():
    with pytest.raises(AttributeError, match="Datasource of your own"):
        _ = ray.data.read_mongo
    with pytest.raises(ImportError, match="Datasource of your own"):
        from ray.data import read_mongo  # noqa: F401


def test_a_reader_of_ones_own_as_documentation_shows_it(tmp_path):
    from ray.data._internal.delegating_block_builder import DelegatingBlockBuilder
    from ray.data.datasource import FileBasedDatasource

    class Lengths(FileBasedDatasource):
        def _read_stream(self, f, path):
            builder = DelegatingBlockBuilder()
            for line in io.TextIOWrapper(io.BytesIO(f.readall())):
                builder.add({"length": len(line.strip())})
            yield builder.build()

    (tmp_path / "a.txt").write_text("one\nseven\n")
    ds = ray.data.read_datasource(Lengths(str(tmp_path)))
    assert sorted(row["length"] for row in ds.take_all()) == [3, 5]


def test_blocks_are_looked_into_by_their_accessor():
    from ray.data.block import BlockAccessor

    accessor = BlockAccessor.for_block(pa.table({"x": [1, 2, 3]}))
    assert (accessor.num_rows(), accessor.size_bytes()) == (3, 24)
    assert accessor.slice(1, 3).to_pydict() == {"x": [2, 3]}
    assert accessor.to_pandas()["x"].tolist() == [1, 2, 3]
    builder = accessor.builder()
    builder.add_block(pa.table({"x": [4]}))
    assert builder.build().to_pydict() == {"x": [4]}


def test_paths_are_resolved_for_authors_of_datasources(tmp_path):
    from ray.data.datasource.path_util import _resolve_paths_and_filesystem

    paths, filesystem = _resolve_paths_and_filesystem(str(tmp_path))
    assert paths == [str(tmp_path)]
    assert type(filesystem).__name__ in ("LocalFileSystem", "RetryingPyFileSystem")


def test_a_source_behind_a_reader():
    from ray.data._internal.datasource.range_datasource import RangeDatasource

    assert RangeDatasource.__name__ == "RangeDatasource"
    assert ids(ray.data.range(2)) == [0, 1]
