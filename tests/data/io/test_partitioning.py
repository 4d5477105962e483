"""Values in the folders of paths."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from skate.data.datasource import Partitioning, PartitionStyle, PathPartitionFilter, PathPartitionParser


def test_hive() -> None:
    parse = PathPartitionParser.of("hive")
    assert parse("/d/year=2024/month=05/a.csv") == {"year": "2024", "month": "05"}
    assert parse("/d/a.csv") == {}
    assert parse("/d/x=__HIVE_DEFAULT_PARTITION__/a.csv") == {"x": None}
    assert parse("/d/x=a%20b%2Fc/a.csv") == {"x": "a b/c"}
    assert parse("/d/x=a=b/a.csv") == {"x": "a=b"}


def test_hive_below_a_base_folder() -> None:
    parse = PathPartitionParser.of("hive", base_dir="/d/x=1")
    assert parse("/d/x=1/y=2/a.csv") == {"y": "2"}
    assert parse("/e/x=1/y=2/a.csv") == {}


def test_hive_with_names() -> None:
    parse = PathPartitionParser.of("hive", field_names=["year", "month"])
    assert parse("/d/year=1/month=2/a") == {"year": "1", "month": "2"}
    assert parse("/d/a") == {}
    with pytest.raises(ValueError, match=r"partition keys \['year'\], but field_names"):
        parse("/d/year=1/a")


def test_folders_by_position(tmp_path: Path) -> None:
    parse = PathPartitionParser.of(
        "dir", base_dir="/d", field_names=["country", "year"], field_types={"year": int}
    )
    assert parse("/d/fr/2024/a.csv") == {"country": "fr", "year": 2024}
    assert parse("/d/a.csv") == {}
    assert parse("/e/fr/2024/a.csv") == {}
    with pytest.raises(ValueError, match="has 1 folders below base_dir"):
        parse("/d/fr/a.csv")
    with pytest.raises(ValueError, match=r"year='x' of /d/fr/x/a.csv is no int"):
        parse("/d/fr/x/a.csv")


def test_types() -> None:
    types = {"a": int, "b": float, "c": bool, "d": str}
    parse = PathPartitionParser.of("hive", field_types=types)
    assert parse("/a=1/b=1.5/c=true/d=1/x") == {"a": 1, "b": 1.5, "c": True, "d": "1"}
    assert parse("/a=__HIVE_DEFAULT_PARTITION__/x") == {"a": None}


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="style must be"):
        Partitioning("nonsense")
    with pytest.raises(ValueError, match="needs field_names"):
        Partitioning("dir")
    with pytest.raises(TypeError, match="field_types"):
        Partitioning("hive", field_types=[int])
    with pytest.raises(TypeError, match="filter_fn"):
        PathPartitionFilter.of(3)


def test_filter() -> None:
    keep = PathPartitionFilter.of(lambda values: values.get("year") == "2024", style="hive")
    assert keep(["/year=2023/a", "/year=2024/b", "/c"]) == ["/year=2024/b"]
    assert keep.parser.scheme.style is PartitionStyle.HIVE


def test_public_attributes() -> None:
    partitioning = Partitioning("dir", base_dir="d/e/", field_names=["x"])
    assert partitioning.normalized_base_dir == str(Path("d/e").absolute()) + "/"
    assert pickle.loads(pickle.dumps(partitioning)) == partitioning
    assert partitioning.resolved_filesystem.type_name == "local"
    assert isinstance(partitioning.to_pyarrow(), ds.DirectoryPartitioning)
    made = Partitioning("hive", field_types={"x": int}).to_pyarrow()
    assert made.schema == pa.schema([("x", pa.int64())])


class Equals:
    def __init__(self, column: str, value: object) -> None:
        self._column, self._value = column, value

    def columns(self) -> tuple[str, ...]:
        return (self._column,)

    def evaluate(self, block: pa.Table) -> pa.ChunkedArray:
        import pyarrow.compute as pc

        return pc.equal(block[self._column], self._value)


def test_predicates_on_values() -> None:
    parser = PathPartitionParser.of("hive", field_types={"x": int})
    assert parser.evaluate_predicate_on_partition("/x=1/a", Equals("x", 1))
    assert not parser.evaluate_predicate_on_partition("/x=2/a", Equals("x", 1))
    assert parser.evaluate_predicate_on_partition("/x=2/a", Equals("y", 1))
