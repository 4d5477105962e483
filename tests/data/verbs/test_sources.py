"""Where data sets come from: range, from_*, read_*."""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import skate
import skate.data
from skate.data import Datasource, ReadTask
from skate.data.block import BlockMetadata
from skate.data.dataset import MaterializedDataset

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})


def test_ranges() -> None:
    assert skate.data.range(3).take_all() == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert skate.data.range(np.int64(2)).count() == 2
    assert skate.data.range(1000).materialize().num_blocks() == 200
    made = skate.data.range_tensor(3, shape=(2, 2)).take_batch()["data"]
    assert made.tolist() == [[[n, n], [n, n]] for n in range(3)]
    for wrong in (-1, 1.5, "3", True):
        with pytest.raises((ValueError, TypeError), match="range"):
            skate.data.range(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        skate.data.range_tensor(3, shape=(-1,))
    with pytest.warns(DeprecationWarning, match="override_num_blocks"):
        assert skate.data.range(10, parallelism=2).materialize().num_blocks() == 2
    for wrong, error in ((0, ValueError), ("2", TypeError)):
        with pytest.raises(error, match="override_num_blocks"):
            skate.data.range(10, override_num_blocks=wrong)  # type: ignore[arg-type]


def test_items() -> None:
    ds = skate.data.from_items([1, "a", {"x": 2}, None])
    assert ds.take_all() == [{"item": 1}, {"item": "a"}, {"x": 2}, {"item": None}]
    assert isinstance(ds, MaterializedDataset)
    assert skate.data.from_items(list(range(10))).num_blocks() == 10
    assert skate.data.from_items(list(range(500))).num_blocks() == 200
    assert skate.data.from_items(list(range(10)), override_num_blocks=3).num_blocks() == 3
    assert skate.data.from_items(range(3)).count() == 3


def test_tables() -> None:
    assert skate.data.from_arrow(TABLE).take(1) == [{"a": 1, "b": "x"}]
    assert skate.data.from_arrow([TABLE, TABLE]).num_blocks() == 2
    cut = skate.data.from_arrow([TABLE, TABLE], override_num_blocks=4)
    assert cut.num_blocks() == 4
    assert [row["a"] for row in cut.take_all()] == [1, 2, 3, 1, 2, 3]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    assert skate.data.from_arrow(sink.getvalue().to_pybytes()).count() == 3
    assert skate.data.from_blocks([TABLE, TABLE.to_pandas()]).count() == 6
    with pytest.raises(TypeError):
        skate.data.from_arrow({"a": 1})


def test_frames() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None]}, index=[7, 8])
    ds = skate.data.from_pandas(frame)
    assert ds.take_all() == [{"a": 1.0, "b": "x"}, {"a": None, "b": None}]
    back = ds.to_pandas()
    assert str(back["a"].dtype) == "double[pyarrow]"
    assert str(skate.data.from_arrow(TABLE).to_pandas()["b"].dtype) == "string[pyarrow]"
    assert skate.data.from_pandas([frame, frame], override_num_blocks=3).count() == 4
    assert skate.data.range(0).to_pandas().columns.tolist() == ["id"]
    with pytest.raises(TypeError, match="DataFrame"):
        skate.data.from_pandas([1])


def test_arrays() -> None:
    ds = skate.data.from_numpy([np.arange(2), np.arange(2, 5)])
    assert [row["data"] for row in ds.take_all()] == [0, 1, 2, 3, 4]
    assert skate.data.from_numpy(np.zeros((3, 2, 2))).take(1)[0]["data"].shape == (2, 2)


def test_references(session: Any) -> None:
    refs = [skate.put(TABLE), skate.put(TABLE)]
    ds = skate.data.from_arrow_refs(refs)
    assert ds.count() == 6
    assert ds.to_arrow_refs() == refs, "whole blocks stay where they are"
    assert skate.data.from_pandas_refs(skate.put(TABLE.to_pandas())).count() == 3
    assert skate.data.from_numpy_refs([skate.put(np.arange(4))]).count() == 4
    frames = skate.get(ds.to_pandas_refs())
    assert [len(frame) for frame in frames] == [3, 3]
    arrays = skate.get(ds.to_numpy_refs(column="a"))
    assert [array.tolist() for array in arrays] == [[1, 2, 3], [1, 2, 3]]
    assert set(skate.get(ds.to_numpy_refs())[0]) == {"a", "b"}
    with pytest.raises(ValueError, match="nothing"):
        ds.to_numpy_refs(column="nothing")
    bundles = list(ds.limit(4).iter_internal_ref_bundles())
    assert [bundle.num_rows() for bundle in bundles] == [3, 1]
    assert [skate.get(ref).num_rows for bundle in bundles for ref in bundle.block_refs] == [3, 1]
    assert bundles[0].schema is not None
    assert sum(bundle.size_bytes() for bundle in bundles) > 0


class Pictures:
    """A map-style data set of torch."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[int, str]:
        return index, "abcde"[index]


class Lines:
    """An iterable data set, as torch and the library datasets have it."""

    def __iter__(self) -> Any:
        return iter({"line": n} for n in range(4))


def test_torch_and_huggingface() -> None:
    ds = skate.data.from_torch(Pictures())
    assert ds.count() == 5
    assert ds.take(1) == [{"item": [0, "a"]}]
    assert [row["line"] for row in skate.data.from_torch(Lines()).take_all()] == [0, 1, 2, 3]
    assert skate.data.from_huggingface(Lines()).limit(2).take_all() == [{"line": 0}, {"line": 1}]

    class Hugging:
        """What is needed of ``datasets.Dataset``."""

        data = TABLE
        _indices = None

    assert skate.data.from_huggingface(Hugging()).count() == 3
    with pytest.raises(TypeError, match="'train'"):
        skate.data.from_huggingface({"train": Hugging(), "test": Hugging()})
    with pytest.raises(TypeError):
        skate.data.from_torch(5)


class Numbers(Datasource):
    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        assert data_context is not None
        return [
            ReadTask(lambda n=n: [{"n": np.array([n, n])}], BlockMetadata(num_rows=2))
            for n in range(max(1, parallelism))
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        return None


def test_datasources_of_users(session: Any) -> None:
    ds = skate.data.read_datasource(Numbers(), override_num_blocks=3)
    assert sorted(row["n"] for row in ds.take_all()) == [0, 0, 1, 1, 2, 2]
    assert repr(ds).startswith("Dataset(num_rows=?, schema=Unknown schema)")
    with pytest.raises(TypeError, match="Datasource"):
        skate.data.read_datasource(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path"):
        skate.data.read_datasource(Numbers(), path="x")


# ---------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for year in ("2020", "2021"):
        (tmp_path / f"year={year}").mkdir()
        pq.write_table(TABLE, tmp_path / f"year={year}" / "a.parquet")
    pyarrow.csv.write_csv(TABLE, tmp_path / "c.csv")
    (tmp_path / "d.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "e.txt").write_text("one\n\ntwo\n")
    np.save(tmp_path / "f.npy", np.arange(4))
    return tmp_path


def test_files(folder: Path) -> None:
    ds = skate.data.read_parquet(str(folder))
    assert ds.count() == 6
    assert ds.columns() == ["a", "b", "year"]
    assert {row["year"] for row in ds.take_all()} == {"2020", "2021"}
    one = skate.data.read_parquet(str(folder / "year=2020/a.parquet"), columns=["b"], partitioning=None)
    assert one.take(1) == [{"b": "x"}]
    assert skate.data.read_csv(str(folder / "c.csv")).take_all() == TABLE.to_pylist()
    assert skate.data.read_json(str(folder / "d.jsonl")).sum("a") == 3
    assert skate.data.read_text(str(folder / "e.txt")).take_all() == [{"text": "one"}, {"text": "two"}]
    assert skate.data.read_text(str(folder / "e.txt"), drop_empty_lines=False).count() == 3
    assert skate.data.read_numpy(str(folder / "f.npy")).sum("data") == 6
    bytes_ = skate.data.read_binary_files(str(folder / "*.txt"), include_paths=True).take_all()
    assert bytes_ == [{"bytes": b"one\n\ntwo\n", "path": str(folder / "e.txt")}]
    facts = skate.data.files(str(folder), file_extensions=["txt", "csv"])
    assert {Path(row["path"]).name for row in facts.take_all()} == {"c.csv", "e.txt"}


def test_missing_files(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        skate.data.read_csv(str(folder / "nothing.csv"))
    ds = skate.data.read_csv([str(folder / "nothing.csv"), str(folder / "c.csv")], ignore_missing_paths=True)
    assert ds.count() == 3
    with pytest.raises(ValueError, match="No files found"):
        skate.data.read_parquet(str(folder), file_extensions=["png"])
    with pytest.raises(NotImplementedError, match="catalog"):
        skate.data.read_parquet(str(folder), catalog=object())


def test_files_that_cannot_be_read(folder: Path) -> None:
    (folder / "g.parquet").write_bytes(b"no parquet")
    paths = [str(folder / "year=2020/a.parquet"), str(folder / "g.parquet")]
    with pytest.raises(Exception, match=r"g\.parquet"):
        skate.data.read_parquet(paths).take_all()
    assert skate.data.read_parquet(paths, on_error="skip").count() == 3
    kept = skate.data.read_parquet(paths, on_error="dead_letter").materialize()
    (letter,) = kept.dead_letters().take_all()
    assert letter["path"].endswith("g.parquet")
    skate.data.DataContext.get_current().max_errored_blocks = -1
    assert skate.data.read_parquet(paths).count() == 3


def test_options_of_reads(folder: Path) -> None:
    path = str(folder / "c.csv")
    ds = skate.data.read_csv(path, concurrency=3, num_cpus=0.5, ray_remote_args={"max_retries": 1})
    node: Any = ds._plan
    assert node.max_tasks == 3
    assert node.resources.num_cpus == 0.5
    assert node.resources.others == {"max_retries": 1}
    for options in ({"concurrency": 0}, {"num_cpus": -1}, {"on_error": "ignore"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            skate.data.read_csv(path, **options)
    with pytest.raises(TypeError, match="nonsense"):
        skate.data.read_csv(path, ray_remote_args={"nonsense": 1})


def connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path)


def test_databases(tmp_path: Path) -> None:
    path = str(tmp_path / "words.db")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE words (a INTEGER, b TEXT)")
    skate.data.from_arrow(TABLE).write_sql("INSERT INTO words VALUES (?, ?)", lambda: connect(path))
    ds = skate.data.read_sql("SELECT * FROM words WHERE a > ?", lambda: connect(path), sql_params=(1,))
    assert ds.sort("a").take_all() == TABLE.to_pylist()[1:]


def test_dask() -> None:
    dd = pytest.importorskip("dask.dataframe")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = dd.from_pandas(TABLE.to_pandas(), npartitions=2)
        ds = skate.data.from_dask(frame)
    assert ds.count() == 3
    with pytest.raises(TypeError, match="dask"):
        skate.data.from_dask(5)
    with pytest.raises(TypeError, match="Spark"):
        skate.data.from_spark(5)
