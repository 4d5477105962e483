"""write_*: the verbs over the sinks, which have tests of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skate.data
from skate.data import SaveMode
from skate.data.datasink import Datasink

TEN = skate.data.range(10, override_num_blocks=5)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("_"))


def test_round_trips(tmp_path: Path) -> None:
    for name, read in (
        ("parquet", skate.data.read_parquet),
        ("csv", skate.data.read_csv),
        ("json", skate.data.read_json),
    ):
        folder = tmp_path / name
        assert getattr(TEN, f"write_{name}")(str(folder)) is None
        assert sorted(row["id"] for row in read(str(folder)).take_all()) == list(range(10))
    TEN.write_numpy(str(tmp_path / "numpy"), column="id")
    assert skate.data.read_numpy(str(tmp_path / "numpy")).sum("data") == 45
    TEN.write_tfrecords(str(tmp_path / "records"))
    assert skate.data.read_tfrecords(str(tmp_path / "records")).sum("id") == 45
    samples = skate.data.from_items([{"__key__": str(n), "txt": f"t{n}"} for n in range(3)])
    samples.write_webdataset(str(tmp_path / "shards"))
    found = skate.data.read_webdataset(str(tmp_path / "shards")).take_all()
    assert sorted(row["txt"] for row in found) == ["t0", "t1", "t2"]


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    ds = skate.data.from_items([{"image": image}])
    ds.write_images(str(tmp_path / "p"), column="image")
    (row,) = skate.data.read_images(str(tmp_path / "p")).take_all()
    assert row["image"].tolist() == image.tolist()


def test_an_empty_result_is_an_empty_file_with_its_schema(tmp_path: Path) -> None:
    TEN.filter(lambda row: False).write_parquet(str(tmp_path / "empty"))
    (file,) = files(tmp_path / "empty")
    assert pq.read_table(file).schema.names == ["id"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def f(row: dict[str, Any]) -> dict[str, Any]:
        return {"x": 1 // (row["id"] - 7)}

    with pytest.raises(ZeroDivisionError):
        TEN.map(f).write_parquet(str(tmp_path / "out"))
    assert files(tmp_path) == []


def test_modes(tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    TEN.write_parquet(path)
    TEN.write_parquet(path)
    assert skate.data.read_parquet(path).count() == 20
    TEN.limit(3).write_parquet(path, mode="overwrite")
    assert skate.data.read_parquet(path).count() == 3
    TEN.write_parquet(path, mode=SaveMode.IGNORE)
    assert skate.data.read_parquet(path).count() == 3
    with pytest.raises((ValueError, FileExistsError), match="out"):
        TEN.write_parquet(path, mode=SaveMode.ERROR)
    with pytest.raises(ValueError, match="mode"):
        TEN.write_parquet(path, mode="sometimes")


def test_nothing_runs_if_the_target_cannot_be_written(tmp_path: Path) -> None:
    ran: list[int] = []
    (tmp_path / "file").write_text("in the way")
    ds = TEN.map(lambda row: ran.append(1) or row)
    with pytest.raises((OSError, ValueError)):
        ds.write_parquet(str(tmp_path / "file"))
    assert ran == []


def test_rows_of_files(tmp_path: Path) -> None:
    TEN.write_parquet(str(tmp_path / "a"), max_rows_per_file=3)
    assert all(pq.read_metadata(file).num_rows <= 3 for file in files(tmp_path / "a"))
    TEN.write_parquet(str(tmp_path / "b"), min_rows_per_file=10)
    assert [pq.read_metadata(file).num_rows for file in files(tmp_path / "b")] == [10]
    with pytest.warns(DeprecationWarning, match="min_rows_per_file"):
        TEN.write_csv(str(tmp_path / "c"), num_rows_per_file=10)
    assert len(files(tmp_path / "c")) == 1
    with pytest.raises(ValueError, match="num_rows_per_file"):
        TEN.write_csv(str(tmp_path / "d"), num_rows_per_file=10, min_rows_per_file=5)


def test_partitions(tmp_path: Path) -> None:
    ds = skate.data.from_arrow(pa.table({"k": ["x", "y", None, "x"], "v": [1, 2, 3, 4]}))
    ds.write_parquet(str(tmp_path / "p"), partition_cols=["k"])
    back = skate.data.read_parquet(str(tmp_path / "p")).sort("v").take_all()
    assert back == [{"v": v, "k": k} for v, k in ((1, "x"), (2, "y"), (3, None), (4, "x"))]


def test_rows_that_failed_are_written_too(tmp_path: Path) -> None:
    def f(row: dict[str, Any]) -> dict[str, Any]:
        return {"x": 1 // (row["id"] % 5)}

    ds = TEN.map(f, on_error="dead_letter")
    ds.write_parquet(str(tmp_path / "out"), dead_letter=str(tmp_path / "failed"))
    assert skate.data.read_parquet(str(tmp_path / "out")).count() == 8
    letters = skate.data.read_parquet(str(tmp_path / "failed"))
    assert sorted(row["row"]["id"] for row in letters.take_all()) == [0, 5]
    fixed = TEN.map(f)
    assert fixed.retry(letters)._plan is not None


def test_a_write_can_be_resumed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.txt").write_text(f"line {number}\n")
    target = str(tmp_path / "out")
    ds = skate.data.read_text(str(source), override_num_blocks=4)
    ds.write_parquet(target, resume=True, mode="overwrite")
    assert skate.data.read_parquet(target).count() == 4


def test_sinks_of_users() -> None:
    class Sum(Datasink[int]):
        total = 0

        def write(self, blocks: Any, ctx: Any) -> int:
            return sum(sum(block["id"].to_pylist()) for block in blocks)

        def on_write_complete(self, write_result: Any) -> None:
            self.total = sum(write_result.write_returns)

    sink = Sum()
    TEN.write_datasink(sink)
    assert sink.total == 45
    with pytest.raises(TypeError, match="Datasink"):
        TEN.write_datasink(5)  # type: ignore[arg-type]


def test_catalogues_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="catalog"):
        TEN.write_parquet(str(tmp_path), catalog=object())
    with pytest.raises(NotImplementedError, match="catalogue"):
        _ = TEN.write_iceberg
