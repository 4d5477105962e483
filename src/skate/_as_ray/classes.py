"""Public classes of ``skate.data`` that are defined in modules of its own, and where Ray has them."""

from __future__ import annotations


def _of(place: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, place)


_SINKS = "ray.data.datasource.datasink"
_FILE_SINKS = "ray.data.datasource.file_datasink"
_SOURCES = "ray.data.datasource.datasource"
_INTERFACES = "ray.data._internal.execution.interfaces"
_PREPROCESSORS = "ray.data.preprocessors"

#: Module of skate, to class, to module of Ray.
PLACES: dict[str, dict[str, str]] = {
    "skate.data._block.errors": _of("ray.data._internal.tensor_extensions.arrow", "ArrowConversionError"),
    "skate.data._io.block_accessor": _of("ray.data.block", "BlockAccessor", "BlockType"),
    "skate.data._io.commit": _of("ray.data._internal.savemode", "SaveMode"),
    "skate.data._io.datasource": {
        **_of("ray.data.block", "BlockMetadata"),
        **_of(_SOURCES, "Datasource", "ReadTask"),
    },
    "skate.data._io.files.file_source": _of(
        "ray.data.datasource.file_based_datasource", "FileBasedDatasource"
    ),
    "skate.data._io.files.partitioning": _of(
        "ray.data.datasource.partitioning",
        "PartitionStyle",
        "Partitioning",
        "PathPartitionFilter",
        "PathPartitionParser",
    ),
    "skate.data._io.writers.datasinks": {
        **_of(_SINKS, "Datasink", "DummyOutputDatasink", "WriteResult"),
        **_of(_FILE_SINKS, "BlockBasedFileDatasink", "RowBasedFileDatasink"),
    },
    "skate.data._io.writers.names": _of("ray.data.datasource.filename_provider", "FilenameProvider"),
    "skate.data._verbs.conversion": _of(f"{_INTERFACES}.ref_bundle", "RefBundle"),
    "skate.data._verbs.grouped": _of("ray.data.grouped_data", "GroupedData"),
    "skate.data._verbs.iterators": _of("ray.data.iterator", "DataIterator"),
    "skate.data._verbs.schema": _of("ray.data.dataset", "Schema"),
    "skate.data.compute": _of(
        "ray.data._internal.compute", "ActorPoolStrategy", "ComputeStrategy", "TaskPoolStrategy"
    ),
    "skate.data.execution_options": _of(
        f"{_INTERFACES}.execution_options", "ExecutionOptions", "ExecutionResources"
    ),
    "skate.data.seeds": {
        **_of("ray.data._internal.random_config", "RandomSeedConfig"),
        **_of("ray.data.datasource.file_based_datasource", "FileShuffleConfig"),
    },
    "skate.data.aggregate._approximate": _of("ray.data.aggregate", "ApproximateQuantile", "ApproximateTopK"),
    "skate.data.aggregate._base": _of(
        "ray.data.aggregate", "AggregateFn", "AggregateFnV2", "VectorizedAggregateFnV2"
    ),
    "skate.data.aggregate._collections": _of(
        "ray.data.aggregate", "AsList", "CountDistinct", "Quantile", "Unique", "ValueCounter"
    ),
    "skate.data.aggregate._numbers": _of(
        "ray.data.aggregate",
        "AbsMax",
        "Count",
        "Max",
        "Mean",
        "Min",
        "MissingValuePercentage",
        "Std",
        "Sum",
        "ZeroPercentage",
    ),
    "skate.data.expressions._operations": _of("ray.data.expressions", "Operation"),
    "skate.data.expressions._sources": _of(
        "ray.data.expressions",
        "MonotonicallyIncreasingIdExpr",
        "RandomExpr",
        "StarExpr",
        "UUIDExpr",
        "UnnestExpr",
    ),
    "skate.data.expressions._tree": _of(
        "ray.data.expressions", "AliasExpr", "BinaryExpr", "ColumnExpr", "Expr", "LiteralExpr", "UnaryExpr"
    ),
    "skate.data.expressions._udf": _of("ray.data.expressions", "DownloadExpr", "UDFExpr"),
    "skate.data.preprocessors._base": _of(
        "ray.data.preprocessor", "Preprocessor", "PreprocessorNotFittedException"
    ),
    "skate.data.preprocessors._categories": _of(
        f"{_PREPROCESSORS}.encoder",
        "Categorizer",
        "LabelEncoder",
        "MultiHotEncoder",
        "OneHotEncoder",
        "OrdinalEncoder",
    ),
    "skate.data.preprocessors._chain": _of(f"{_PREPROCESSORS}.chain", "Chain"),
    "skate.data.preprocessors._concatenator": _of(f"{_PREPROCESSORS}.concatenator", "Concatenator"),
    "skate.data.preprocessors._discretizers": _of(
        f"{_PREPROCESSORS}.discretizer", "CustomKBinsDiscretizer", "UniformKBinsDiscretizer"
    ),
    "skate.data.preprocessors._imputer": _of(f"{_PREPROCESSORS}.imputer", "SimpleImputer"),
    "skate.data.preprocessors._rows": {
        **_of(f"{_PREPROCESSORS}.transformer", "PowerTransformer"),
        **_of(f"{_PREPROCESSORS}.normalizer", "Normalizer"),
    },
    "skate.data.preprocessors._scalers": _of(
        f"{_PREPROCESSORS}.scaler", "MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler"
    ),
    "skate.data.preprocessors._text": {
        **_of(f"{_PREPROCESSORS}.hasher", "FeatureHasher"),
        **_of(f"{_PREPROCESSORS}.vectorizer", "CountVectorizer", "HashingVectorizer"),
        **_of(f"{_PREPROCESSORS}.tokenizer", "Tokenizer"),
    },
    "skate.data.preprocessors._torch": _of(f"{_PREPROCESSORS}.torch", "TorchVisionPreprocessor"),
}
