"""Every format: what is written is what is read back by the format's own library."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import pickle
import sqlite3
import struct
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skate.data._block.rows import from_rows
from skate.data._io.sink import Sink
from skate.data._io.writers.crc32c import _update, crc32c
from skate.data._io.writers.csv_files import CSVSink
from skate.data._io.writers.images import ImageSink
from skate.data._io.writers.json_lines import JSONSink
from skate.data._io.writers.numpy_files import NumpySink
from skate.data._io.writers.parquet import NULL_PARTITION, ParquetSink, split_by_partition
from skate.data._io.writers.sql import SQLSink
from skate.data._io.writers.tfrecords import TFRecordSink
from skate.data._io.writers.webdataset import WebDatasetSink
from skate.data._task.operators import TaskContext
from skate.data.datasink import FilenameProvider

NOON = datetime.datetime.fromisoformat("2026-01-02T12:04:05.000600")


def write(sink: Sink, *tasks: list[pa.Table], schema: pa.Schema | None = None) -> list[Any]:
    """Write each list of blocks as a task."""
    sink.start(schema)
    sent: Sink = pickle.loads(cloudpickle.dumps(sink))
    results = [sent.write(iter(blocks), TaskContext(f"0.{number}")) for number, blocks in enumerate(tasks)]
    sink.commit(results, schema)
    return results


def files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


# -- Parquet -------------------------------------------------------------------------------------------------


def test_parquet_round_trip_with_tensors(tmp_path: Path) -> None:
    rows = [
        {
            "image": np.full((2, 3), n, np.float32),
            "ragged": np.zeros((n + 1, 2)),
            "text": f"é{n}",
            "none": None,
        }
        for n in range(5)
    ]
    block = from_rows(rows)
    write(ParquetSink(str(tmp_path)), [block.slice(0, 2), block.slice(2)])
    found = pq.read_table(tmp_path)
    assert found.schema.names == block.schema.names
    assert found["text"].to_pylist() == [row["text"] for row in rows]
    assert found["image"].type == block["image"].type
    assert found["ragged"].type == block["ragged"].type
    assert not any(key.startswith(b"skate:") for key in pq.read_schema(files(tmp_path)[0]).metadata or {})


def test_parquet_files_have_the_rows_asked_for(tmp_path: Path) -> None:
    blocks = [pa.table({"x": list(range(start, start + 3))}) for start in range(0, 12, 3)]
    write(ParquetSink(str(tmp_path), max_rows_per_file=5), blocks)
    tables = [pq.read_table(file) for file in files(tmp_path)]
    assert [table["x"].to_pylist() for table in tables] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert [file.name[-9:] for file in files(tmp_path)] == ["0.parquet", "1.parquet", "2.parquet"]


def test_parquet_options(tmp_path: Path) -> None:
    sink = ParquetSink(
        str(tmp_path), row_group_size=2, arrow_parquet_args_fn=_zstd, compression="gzip", min_rows_per_file=7
    )
    assert sink.min_rows == 7
    write(sink, [pa.table({"x": list(range(5))})])
    meta = pq.ParquetFile(files(tmp_path)[0]).metadata
    assert meta.num_row_groups == 3
    assert meta.row_group(0).column(0).compression == "ZSTD"


def _zstd() -> dict[str, Any]:
    return {"compression": "zstd"}


def test_blocks_of_a_task_get_one_schema(tmp_path: Path) -> None:
    blocks = [
        pa.table({"x": pa.nulls(2), "y": [1, 2]}),
        pa.table({"x": ["a"], "z": [1.5]}),
    ]
    write(ParquetSink(str(tmp_path)), blocks)
    table = pq.read_table(files(tmp_path)[0])
    assert table.to_pydict() == {"x": [None, None, "a"], "y": [1, 2, None], "z": [None, None, 1.5]}


def test_the_plans_schema_is_kept_by_all_tasks(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.string()), ("y", pa.int64())])
    write(
        ParquetSink(str(tmp_path)),
        [pa.table({"x": pa.nulls(1)})],
        [pa.table({"x": ["a"], "y": [1]})],
        schema=schema,
    )
    assert [pq.read_schema(file) for file in files(tmp_path)] == [schema, schema]


def test_a_schema_that_changes_late_begins_a_new_file_with_the_columns_of_all(tmp_path: Path) -> None:
    context = TaskContext("0.0", target_max_block_bytes=1)
    sink = ParquetSink(str(tmp_path))
    sink.start(None)
    blocks = [pa.table({"x": [1]}), pa.table({"x": pa.nulls(1)}), pa.table({"x": [2], "y": ["a"]})]
    result = sink.write(iter(blocks), context)
    sink.commit([result], None)
    assert [pq.read_table(file).to_pydict() for file in files(tmp_path)] == [
        {"x": [1], "y": [None]},
        {"x": [None, 2], "y": [None, "a"]},
    ]


def test_partitions(tmp_path: Path) -> None:
    table = pa.table({
        "year": [2025, 2026, None, 2026, 2025],
        "name": ["a/b", "ü =", None, "ü =", "a/b"],
        "x": [1, 2, 3, 4, 5],
    })  # fmt: skip
    write(
        ParquetSink(str(tmp_path), partition_cols=["year", "name"]),
        [table.slice(0, 2), table.slice(2)],
        [table],
    )
    assert (tmp_path / f"year={NULL_PARTITION}" / f"name={NULL_PARTITION}").is_dir()
    found = pyarrow.dataset.dataset(tmp_path, format="parquet", partitioning="hive").to_table()
    rows = Counter(tuple(row.values()) for row in found.select(["year", "name", "x"]).to_pylist())
    assert rows == Counter({tuple(row.values()): 2 for row in table.to_pylist()})
    one = files(tmp_path / "year=2025")[0]
    assert pq.ParquetFile(one).read().column_names == ["x"]


def test_partition_columns_are_checked(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.list_(pa.int64()))])
    for columns, message in (
        (["c"], "no column 'c'; columns are a, b"),
        (["b"], "makes no folder name"),
        (["a", "b"], "names all columns"),
    ):
        with pytest.raises(ValueError, match=message):
            ParquetSink(str(tmp_path / "x"), partition_cols=columns).start(schema)
    assert not list(tmp_path.iterdir())


def test_more_partitions_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skate.data._io.writers.parquet._OPEN_FILES", 3)
    sink = ParquetSink(str(tmp_path), partition_cols="p")
    sink.start(None)
    blocks = [pa.table({"p": list(range(10)), "x": [block] * 10}) for block in range(3)]
    result = sink.write(iter(blocks), TaskContext("0.0", target_max_block_bytes=1))
    sink.commit([result], None)
    assert pq.read_table(tmp_path).num_rows == 30


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None]), st.integers(0, 9))),
)
def test_partitions_are_groups(rows: list[tuple[Any, Any, int]]) -> None:
    table = pa.table({
        "a": pa.array([row[0] for row in rows], pa.string()),
        "b": pa.array([row[1] for row in rows], pa.int64()),
        "x": pa.array([row[2] for row in rows], pa.int64()),
    })  # fmt: skip
    found = {
        folder: part["x"].to_pylist()
        for folder, part in split_by_partition(table, ["a", "b"])
        if part.num_rows
    }
    expected: dict[str, list[int]] = {}
    for a, b, x in rows:
        names = [NULL_PARTITION if value is None else value for value in (a, b)]
        expected.setdefault(f"a={names[0]}/b={names[1]}", []).append(x)
    assert found == expected


# -- text ----------------------------------------------------------------------------------------------------


def test_csv_round_trip(tmp_path: Path) -> None:
    table = pa.table(
        {"x": [1, None, 3], "t": ["a,b", 'q"', "line\nbreak"], "d": [datetime.date(2026, 1, 2)] * 3}
    )
    write(CSVSink(str(tmp_path)), [table.slice(0, 1), table.slice(1)])
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    assert pyarrow.csv.read_csv(files(tmp_path)[0], parse_options=options).to_pylist() == table.to_pylist()
    assert files(tmp_path)[0].name.endswith("_000000.csv")


def test_csv_options_and_compression(tmp_path: Path) -> None:
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter=";")
    sink = CSVSink(str(tmp_path), write_options=options, arrow_open_stream_args={"compression": "gzip"})
    write(sink, [pa.table({"x": [1], "y": [2]})])
    import gzip

    assert gzip.decompress(files(tmp_path)[0].read_bytes()) == b"1;2\n"


def test_csv_says_which_column_it_cannot_hold(tmp_path: Path) -> None:
    table = pa.table({"x": [[1]]})
    with pytest.raises(ValueError, match="column 'x' has type list.*Write Parquet or JSON"):
        CSVSink(str(tmp_path / "a")).start(table.schema)
    sink = CSVSink(str(tmp_path / "a"))
    sink.start(None)
    with pytest.raises(ValueError, match="column 'x' has type list"):
        sink.write(iter([table]), TaskContext("0.0"))


def test_json_values(tmp_path: Path) -> None:
    rows = [
        {
            "i": 1, "f": float("nan"), "inf": float("inf"), "t": "é\n", "b": b"\xff", "l": [1, None],
            "s": {"k": [float("nan"), 1.5]}, "n": None, "ts": NOON,
            "d": datetime.date(2026, 1, 2), "dec": decimal.Decimal("1.5"), "dur": datetime.timedelta(seconds=1.5),
            "a": np.array([[1.0, float("nan")]]),
        }
    ]  # fmt: skip
    write(JSONSink(str(tmp_path)), [from_rows(rows)])
    (line,) = files(tmp_path)[0].read_text().splitlines()
    assert json.loads(line) == {
        "i": 1, "f": None, "inf": None, "t": "é\n", "b": "/w==", "l": [1, None], "s": {"k": [None, 1.5]}, "n": None,
        "ts": "2026-01-02T12:04:05.000600", "d": "2026-01-02", "dec": 1.5, "dur": 1.5, "a": [[1.0, None]],
    }  # fmt: skip


@given(
    st.lists(
        st.fixed_dictionaries({
            "i": st.none() | st.integers(-(2**53), 2**53),
            "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "t": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            "l": st.lists(st.integers(0, 3), max_size=3),
        }),
        min_size=1,
    ),
    st.integers(1, 5),
)  # fmt: skip
def test_json_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("json")
    block = from_rows(rows)
    write(JSONSink(str(path)), [block.slice(at, cut) for at in range(0, len(rows), cut)])
    assert [json.loads(line) for line in files(path)[0].read_text().split("\n")[:-1]] == rows


def test_json_by_pandas(tmp_path: Path) -> None:
    write(JSONSink(str(tmp_path), double_precision=1), [pa.table({"x": [1.25]})])
    assert json.loads(files(tmp_path)[0].read_text()) == {"x": 1.2}


def test_json_says_which_column_it_cannot_hold(tmp_path: Path) -> None:
    sink = JSONSink(str(tmp_path))
    sink.start(None)
    with pytest.raises(ValueError, match="column 'x'.*cannot be written as JSON"):
        sink.write(iter([from_rows([{"x": 1j}])]), TaskContext("0.0"))


# -- arrays and images ---------------------------------------------------------------------------------------


def test_numpy(tmp_path: Path) -> None:
    rows = [{"a": np.full((2, 2), n, np.uint8), "t": f"text {n}", "x": n} for n in range(3)]
    for column in ("a", "t", "x"):
        write(NumpySink(str(tmp_path / column), column=column), [from_rows(rows[:1]), from_rows(rows[1:])])
        (file,) = files(tmp_path / column)
        found = np.load(file)
        assert found.tolist() == np.array([row[column] for row in rows]).tolist()
    assert np.load(files(tmp_path / "a")[0]).dtype == np.uint8
    with pytest.raises(ValueError, match="no such column; columns are a, t, x"):
        NumpySink(str(tmp_path / "y"), column="y").start(from_rows(rows).schema)
    write(NumpySink(str(tmp_path / "empty"), column="x"), schema=pa.schema([("x", pa.int32())]))
    assert np.load(files(tmp_path / "empty")[0]).shape == (0,)


class ByLabel(FilenameProvider):
    def get_filename_for_row(
        self, row: dict[str, Any], write_uuid: str, task_index: int, block_index: int, row_index: int
    ) -> str:
        return f"{row['label']}/{task_index}_{block_index}_{row_index}.png"


def test_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"image": rng.integers(0, 256, shape, np.uint8), "label": label}
        for shape, label in (((4, 5, 3), "cat"), ((4, 5), "dog"), ((3, 3, 4), "cat"), ((2, 2, 1), "dog"))
    ]
    write(ImageSink(str(tmp_path / "a"), "image"), [from_rows(rows[:1]), from_rows(rows[1:])])
    assert [file.name[-24:] for file in files(tmp_path / "a")] == [
        f"_000000_{block:06}_{row:06}.png"[-24:] for block, row in ((0, 0), (1, 0), (1, 1), (1, 2))
    ]
    for file, row in zip(files(tmp_path / "a"), rows, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), np.squeeze(row["image"]))
    write(ImageSink(str(tmp_path / "b"), "image", filename_provider=ByLabel()), [from_rows(rows)])
    assert [str(file.relative_to(tmp_path / "b")) for file in files(tmp_path / "b")] == [
        "cat/0_0_0.png", "cat/0_0_2.png", "dog/0_0_1.png", "dog/0_0_3.png"
    ]  # fmt: skip
    encoded = files(tmp_path / "a")[0].read_bytes()
    write(ImageSink(str(tmp_path / "c"), "x"), [pa.table({"x": [encoded]})])
    assert files(tmp_path / "c")[0].read_bytes() == encoded
    write(ImageSink(str(tmp_path / "d"), "x", "jpeg"), [pa.table({"x": [encoded]})])
    assert Image.open(files(tmp_path / "d")[0]).format == "JPEG"
    write(ImageSink(str(tmp_path / "e"), "x"), schema=pa.schema([("x", pa.binary())]))
    assert not files(tmp_path / "e")
    assert (tmp_path / "e").is_dir()


def test_many_files_of_a_task_are_synced_together(tmp_path: Path) -> None:
    sink = ImageSink(str(tmp_path), "image", resume=True)
    sink.identify({})
    write(sink, [from_rows([{"image": np.full((2, 2), n, np.uint8)} for n in range(40)])])
    assert len(list(tmp_path.glob("*.png"))) == 40


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((2, 2), np.float64), "turn it into uint8"),
        (np.zeros((2,), np.uint8), "is no image"),
        (None, "is null"),
    ],
)
def test_images_that_are_none(tmp_path: Path, value: Any, message: str) -> None:
    sink = ImageSink(str(tmp_path), "image")
    sink.start(None)
    with pytest.raises(ValueError, match=f"row 0 of block 0 of task 0.7: column 'image'.*{message}"):
        sink.write(iter([from_rows([{"image": value}])]), TaskContext("0.7"))
    with pytest.raises(ValueError, match="Pillow writes no such format"):
        ImageSink(str(tmp_path), "image", "nope").start(None)


# -- archives and records ------------------------------------------------------------------------------------


def test_webdataset(tmp_path: Path) -> None:
    rows = [
        {
            "__key__": f"k{n}", "__url__": "u", "png": np.full((2, 2, 3), n, np.uint8), "cls": n, "txt": f"é{n}",
            "json": {"a": [n]}, "npy": np.arange(n + 1), "seg.bin": b"\x00" * n, "gone": None,
        }
        for n in range(3)
    ]  # fmt: skip
    write(WebDatasetSink(str(tmp_path)), [from_rows(rows[:2]), from_rows(rows[2:])])
    (file,) = files(tmp_path)
    with tarfile.open(file) as tar:
        found = {entry.name: tar.extractfile(entry).read() for entry in tar.getmembers()}  # type: ignore[union-attr]
    assert set(found) == {
        f"k{n}.{name}" for n in range(3) for name in ("png", "cls", "txt", "json", "npy", "seg.bin")
    }
    assert found["k2.cls"] == b"2"
    assert found["k2.txt"] == "é2".encode()
    assert json.loads(found["k2.json"]) == {"a": [2]}
    assert np.load(io.BytesIO(found["k2.npy"])).tolist() == [0, 1, 2]
    assert np.asarray(Image.open(io.BytesIO(found["k2.png"])))[0, 0, 0] == 2


def test_webdataset_encoders_and_bad_rows(tmp_path: Path) -> None:
    table = pa.table({"v": [1, 2]})
    write(WebDatasetSink(str(tmp_path / "a"), encoder=lambda row: {"bin": bytes([row["v"]])}), [table])
    with tarfile.open(files(tmp_path / "a")[0]) as tar:
        keys = [name.partition(".")[0] for name in tar.getnames()]
    assert len(set(keys)) == 2, "rows without a key get one of their own"
    for sink, rows, message in (
        (WebDatasetSink(str(tmp_path / "b"), encoder=False), table, "column 'v' of row .* is int, not bytes"),
        (WebDatasetSink(str(tmp_path / "b")), pa.table({"__key__": ["a.b"], "txt": ["x"]}), "has a dot"),
        (
            WebDatasetSink(str(tmp_path / "b")),
            pa.table({"cls": [[1]]}),
            "column 'cls' of row .* cannot be encoded",
        ),
    ):
        sink.start(None)
        with pytest.raises((ValueError, TypeError), match=message):
            sink.write(iter([rows]), TaskContext("0.0"))
        sink.abort(RuntimeError())


@given(st.binary(max_size=5000))
def test_crc32c_of_lanes_is_that_of_the_table(data: bytes) -> None:
    data = data * 3
    assert crc32c(data) == _update(0xFFFFFFFF, data) ^ 0xFFFFFFFF


def test_crc32c_of_known_texts() -> None:
    # The check value of the polynomial, and examples of RFC 3720, B.4.
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E
    for size in (2047, 2048, 2049, 100_003):
        data = np.random.default_rng(size).bytes(size)
        assert crc32c(data) == _update(0xFFFFFFFF, data) ^ 0xFFFFFFFF


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """Return the fields of a message, all of which are length-delimited."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    found, at = [], 0
    while at < len(data):
        tag, at = varint(at)
        size, at = varint(at)
        found.append((tag >> 3, data[at : at + size]))
        at += size
    return found


def test_tfrecords(tmp_path: Path) -> None:
    rows = [
        {
            "i": -1,
            "f": 1.5,
            "t": "é",
            "b": b"\xff",
            "l": [1, 300],
            "n": None,
            "a": np.array([[1.0, 2.0]], np.float32),
        },
        {"i": 2, "f": 2.5, "t": "", "b": b"", "l": [], "n": None, "a": np.array([[3.0, 4.0]], np.float32)},
    ]
    write(TFRecordSink(str(tmp_path)), [from_rows(rows)])
    data = files(tmp_path)[0].read_bytes()
    messages = []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        assert len(data) >= size + 16
        messages.append(data[12 : 12 + size])
        data = data[16 + size :]
    assert len(messages) == 2
    ((_, features),) = _fields(messages[0])
    found = {}
    for _, entry in _fields(features):
        (_, name), (_, feature) = _fields(entry)
        found[name.decode()] = _fields(feature)
    ((kind, value),) = found["i"]
    assert (kind, _fields(value)) == (3, [(1, b"\xff" * 9 + b"\x01")])
    ((kind, value),) = found["f"]
    assert (kind, _fields(value)) == (2, [(1, struct.pack("<f", 1.5))])
    assert [(kind, _fields(value)) for kind, value in found["t"]] == [(1, [(1, "é".encode())])]
    assert [(kind, _fields(value)) for kind, value in found["l"]] == [(3, [(1, b"\x01\xac\x02")])]
    assert [(kind, _fields(value)) for kind, value in found["a"]] == [(2, [(1, struct.pack("<2f", 1, 2))])]
    assert found["n"] == []
    with pytest.raises(ValueError, match="column 's' has type struct"):
        TFRecordSink(str(tmp_path)).start(pa.schema([("s", pa.struct([("x", pa.int64())]))]))
    with pytest.raises(NotImplementedError, match="tensorflow_metadata"):
        TFRecordSink(str(tmp_path), tf_schema=object())


# -- databases -----------------------------------------------------------------------------------------------


def test_sql(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    sink = SQLSink("INSERT INTO t VALUES (?, ?)", lambda: sqlite3.connect(path))
    sink.start(None)
    results = [
        sink.write(iter([pa.table({"a": [n, n + 10], "b": ["x", None]})]), TaskContext(f"0.{n}"))
        for n in range(3)
    ]
    assert sink.write(iter([]), TaskContext("0.9")) == {"rows": 0}
    with pytest.raises(sqlite3.IntegrityError):
        sink.write(
            iter([pa.table({"a": [100], "b": ["new"]}), pa.table({"a": [0], "b": ["again"]})]),
            TaskContext("0.4"),
        )
    sink.commit(results, None)
    assert sink.facts.rows == 6
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT * FROM t ORDER BY a").fetchall()
    assert rows == [(0, "x"), (1, "x"), (2, "x"), (10, None), (11, None), (12, None)]
