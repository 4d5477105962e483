"""Tar files, TFRecords, SQL, arrays, facts of files, and rows in memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sqlite3
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.data._block.rows import iter_rows
from skate.data._io.readers import memory
from skate.data._io.readers.file_facts import FilesDatasource, type_of
from skate.data._io.readers.numpy import NumpyDatasource
from skate.data._io.readers.sql import SQLDatasource, SQLReadError
from skate.data._io.readers.tfrecords import TFRecordDatasource, masked_crc32c, parse_example, records
from skate.data._io.readers.webdataset import WebDatasetDatasource

Read = Callable[..., Any]


# ---------------------------------------------------------------------------------------------- tar files


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> bytes:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path.read_bytes()


def npy(array: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


MEMBERS = {
    "d/1.txt": b"one",
    "d/1.cls": b"3",
    "d/1.json": b'{"a": 1, "b": "x"}',
    "d/2.txt": b"two",
    "d/2.meta.json": b"[1]",
    "d/3.npy": npy(np.arange(3)),
    "d/3.bin": b"\0\1",
    "README": b"no sample",
    "d/.hidden": b"no sample",
}


def test_webdataset(tmp_path: Path, read: Read) -> None:
    tar(tmp_path / "a.tar", MEMBERS)
    first, second, third = read(WebDatasetDatasource(tmp_path)).rows
    assert first["__key__"] == "d/1" and first["txt"] == "one" and first["cls"] == 3
    assert first["json"] == {"a": 1, "b": "x"}
    assert second["txt"] == "two" and second["cls"] is None and second["meta.json"] == [1]
    assert third["npy"].tolist() == [0, 1, 2] and third["bin"] == b"\0\1"


def test_numbers_with_gaps_stay_numbers(tmp_path: Path, read: Read) -> None:
    tar(tmp_path / "a.tar", {"1.cls": b"3", "2.txt": b"x"})
    block = read(WebDatasetDatasource(tmp_path)).blocks[0]
    assert block.schema.field("cls").type == pa.int64()


def test_compressed_tar_files(tmp_path: Path, read: Read) -> None:
    tar(tmp_path / "a.tar.gz", {"1.txt": b"x"}, "w:gz")
    tar(tmp_path / "b.tgz", {"2.txt": b"y"}, "w:gz")
    assert read(WebDatasetDatasource(tmp_path)).column("txt") == ["x", "y"]


def test_images_in_tar_files(tmp_path: Path, read: Read) -> None:
    image = pytest.importorskip("PIL.Image")
    png = io.BytesIO()
    image.new("RGB", (4, 3), (1, 2, 3)).save(png, "PNG")
    tar(tmp_path / "a.tar", {"1.png": png.getvalue()})
    assert read(WebDatasetDatasource(tmp_path)).column("png")[0].shape == (3, 4, 3)
    assert read(WebDatasetDatasource(tmp_path, decoder=False)).column("png") == [png.getvalue()]
    size = lambda sample: {"size": sample["png"].size}  # noqa: E731
    assert read(WebDatasetDatasource(tmp_path, decoder=["PIL", size])).column("size") == [[4, 3]]


def test_choosing_members(tmp_path: Path, read: Read) -> None:
    tar(tmp_path / "a.tar", MEMBERS)
    for options in (
        {"suffixes": ["txt", "cls"]},
        {"suffixes": [".txt", "cl*"]},
        {"suffixes": lambda suffix: suffix in ("txt", "cls")},
        {"fileselect": ["*.txt", "*.cls"]},
        {"fileselect": lambda name: name.endswith(("txt", "cls"))},
    ):
        rows = read(WebDatasetDatasource(tmp_path, **options)).rows
        assert [row["__key__"] for row in rows] == ["d/1", "d/2"]
        assert rows[0].keys() == {"__key__", "txt", "cls"}
    for rename in ([("^d/", "e/")], lambda name: name.replace("d/", "e/")):
        assert read(WebDatasetDatasource(tmp_path, filerename=rename)).column("__key__")[0] == "e/1"


def test_expand_json(tmp_path: Path, read: Read) -> None:
    tar(tmp_path / "a.tar", {"1.json": b'{"a": 1, "b": "x"}', "1.txt": b"t"})
    assert read(WebDatasetDatasource(tmp_path, expand_json=True)).rows == [
        {"__key__": "1", "txt": "t", "a": 1, "b": "x"}
    ]
    raw = read(WebDatasetDatasource(tmp_path, expand_json=True, decoder=None)).rows
    assert raw == [{"__key__": "1", "txt": b"t", "a": 1, "b": "x"}]


def test_pickles_are_not_run_unless_asked_for(tmp_path: Path, read: Read) -> None:
    tar(tmp_path / "a.tar", {"1.pkl": pickle.dumps({"a": 1})})
    assert read(WebDatasetDatasource(tmp_path)).column("pkl") == [pickle.dumps({"a": 1})]
    assert read(WebDatasetDatasource(tmp_path, allow_pickle=True)).column("pkl") == [{"a": 1}]


def test_a_bad_sample_is_a_letter_and_the_others_rows(tmp_path: Path, read: Read) -> None:
    tar(tmp_path / "a.tar", {"1.cls": b"1", "2.cls": b"x", "3.cls": b"3"})
    with pytest.raises(ValueError, match=r"a\.tar: .*sample '2': .*member 'cls': invalid literal"):
        read(WebDatasetDatasource(tmp_path))
    result = read(WebDatasetDatasource(tmp_path, on_error="dead_letter"))
    assert result.column("cls") == [1, 3]
    [letter] = result.letters
    assert letter.row == {"__key__": "2", "cls": b"x"} and letter.path == str(tmp_path / "a.tar")


def test_broken_tar_files(tmp_path: Path, read: Read) -> None:
    data = tar(tmp_path / "good.tar", {f"{number}.bin": b"x" * 10_000 for number in range(5)})
    (tmp_path / "cut.tar").write_bytes(data[:25_000])
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "garbage.tar").write_bytes(b"nonsense" * 1000)
    for name in ("cut", "empty", "garbage"):
        with pytest.raises(ValueError, match=rf"{name}\.tar"):
            read(WebDatasetDatasource(tmp_path / f"{name}.tar"))
    result = read(WebDatasetDatasource(tmp_path, on_error="dead_letter"))
    assert len(result.letters) == 3
    assert len(result.rows) >= 5
    (tmp_path / "good.tar.gz").write_bytes(gzip.compress(data))
    with pytest.raises(ValueError, match="its member 0.bin has 10000 bytes, max_file_bytes is 9000"):
        read(WebDatasetDatasource(tmp_path / "good.tar.gz", max_file_bytes=9000))


@pytest.mark.parametrize("option", ["fileselect", "filerename", "suffixes", "decoder", "expand_json"])
def test_wrong_options_of_webdataset(tmp_path: Path, option: str) -> None:
    tar(tmp_path / "a.tar", {"1.txt": b"x"})
    with pytest.raises(TypeError, match=option):
        WebDatasetDatasource(tmp_path, **{option: 3})


# ---------------------------------------------------------------------------------------------- TFRecords


def varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features: dict[str, list[Any]], packed: bool = True) -> bytes:
    entries = b""
    for name, values in features.items():
        if values and isinstance(values[0], bytes):
            feature = field(1, b"".join(field(1, value) for value in values))
        elif values and isinstance(values[0], float):
            parts = [struct.pack("<f", value) for value in values]
            content = (
                field(1, b"".join(parts)) if packed else b"".join(varint(1 << 3 | 5) + part for part in parts)
            )
            feature = field(2, content)
        else:
            numbers = [varint(value) for value in values]
            content = (
                field(1, b"".join(numbers))
                if packed
                else b"".join(varint(1 << 3) + number for number in numbers)
            )
            feature = field(3, content)
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc32c(head)) + data + struct.pack("<I", masked_crc32c(data))


FEATURES = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
        st.lists(st.floats(width=32, allow_nan=False), max_size=4),
        st.lists(st.binary(max_size=6), max_size=4),
    ),
    max_size=4,
)


def test_checksum_as_published() -> None:
    # RFC 3720, B.4: 32 bytes of zeros have the CRC-32C 8A9136AA.
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@settings(max_examples=200, deadline=None)
@given(FEATURES, st.booleans())
def test_examples(features: dict[str, list[Any]], packed: bool) -> None:
    assert parse_example(example(features, packed)) == features


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_no_example_and_never_anything_else_than_a_value_error(data: bytes) -> None:
    try:
        parse_example(data)
    except ValueError:
        pass


def test_tfrecords(tmp_path: Path, read: Read) -> None:
    rows = [
        {"n": [1], "f": [0.5], "b": [b"x"], "l": [1, 2], "e": []},
        {"n": [], "f": [1.5], "b": [b"y"], "l": [3], "only": [7]},
    ]
    data = b"".join(record(example(row)) for row in rows)
    (tmp_path / "a.tfrecords").write_bytes(data)
    (tmp_path / "b.tfrecords.gz").write_bytes(gzip.compress(data))
    expected = [
        {"n": 1, "f": 0.5, "b": b"x", "l": [1, 2], "e": None, "only": None},
        {"n": None, "f": 1.5, "b": b"y", "l": [3], "e": None, "only": 7},
    ]
    result = read(TFRecordDatasource(tmp_path, check_data=True))
    assert result.rows == expected * 2
    assert result.blocks[0].schema.field("f").type == pa.float32()


def test_tfrecords_with_schema(tmp_path: Path, read: Read) -> None:
    class Feature:
        def __init__(self, name: str, sides: int) -> None:
            self.name = name
            self.shape = type("Shape", (), {"dim": [1] * sides})

        def HasField(self, name: str) -> bool:
            return name == "shape" and bool(self.shape.dim)

    class Schema:
        feature = [Feature("n", 0), Feature("v", 1), Feature("absent", 0)]

    (tmp_path / "a").write_bytes(record(example({"n": [1], "v": [2]})))
    assert read(TFRecordDatasource(tmp_path, tf_schema=Schema())).rows == [{"n": 1, "v": [2], "absent": None}]


def test_broken_tfrecords(tmp_path: Path, read: Read) -> None:
    good = record(example({"n": [1]}))
    cases = {
        "cut": good * 3 + good[:20],
        "cut_length": good + good[:5],
        "garbage": b"nonsense" * 100,
        "other": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"cannot read .*{name}: "):
            read(TFRecordDatasource(tmp_path / name))
    (tmp_path / "empty").write_bytes(b"")
    result = read(TFRecordDatasource(tmp_path, on_error="dead_letter"))
    assert len(result.letters) == 4
    (tmp_path / "row").write_bytes(good + record(b"\xff\xff\xff") + good)
    result = read(TFRecordDatasource(tmp_path / "row", on_error="dead_letter"))
    assert result.column("n") == [1, 1]
    assert result.letters[0].row == {"record": b"\xff\xff\xff"} and "record 1" in str(result.letters[0].error)
    flipped = good[:-6] + b"?" + good[-5:]
    with pytest.raises(ValueError, match="checksum of record 0"):
        list(records(io.BytesIO(flipped), check_data=True))


# ---------------------------------------------------------------------------------------------- SQL


@pytest.fixture
def database(tmp_path: Path) -> Callable[[], Any]:
    path = str(tmp_path / "a.db")
    connection = sqlite3.connect(path)
    connection.execute("create table t (id integer, name text)")
    connection.executemany(
        "insert into t values (?, ?)", [(n, f"n{n}" if n % 3 else None) for n in range(10_000)]
    )
    connection.commit()
    connection.close()

    def connect() -> Any:
        made = sqlite3.connect(path)
        made.create_function("CRC", 1, lambda value: hash(int(value) * 7919))
        return made

    return connect


def test_sql(database: Callable[[], Any], read: Read) -> None:
    result = read(SQLDatasource("select * from t order by id;", database))
    assert result.rows == [{"id": n, "name": f"n{n}" if n % 3 else None} for n in range(10_000)]
    by_params = SQLDatasource("select id from t where id < ?", database, sql_params=(3,))
    assert read(by_params).column("id") == [0, 1, 2]
    assert read(by_params, per_task_row_limit=2).column("id") == [0, 1]
    nothing = read(SQLDatasource("select id, name from t where id < 0", database))
    assert [block.column_names for block in nothing.blocks] == [["id", "name"]]
    assert read(SQLDatasource("select 1 as a, 2 as a", database)).rows == [{"a": 1, "a_1": 2}]


def test_sql_in_parts(database: Callable[[], Any], read: Read) -> None:
    source = SQLDatasource("select * from t", database, shard_keys=["id"], shard_hash_fn="CRC")
    result = read(source, parallelism=4)
    assert len(result.tasks) == 4
    assert sorted(result.column("id")) == list(range(10_000))
    assert len(read(source).tasks) == 1


def test_sql_errors(database: Callable[[], Any], read: Read) -> None:
    with pytest.raises(SQLReadError, match="the query failed .*no such table: u.*: select \\* from u"):
        read(SQLDatasource("select * from u", database))
    with pytest.raises(SQLReadError, match="queries that return rows"):
        read(SQLDatasource("delete from t where id = -1", database))
    with pytest.raises(TypeError, match="must return a connection"):
        read(SQLDatasource("select 1", lambda: 3))
    for options, text in [((3, database), "sql must be"), (("select 1", 3), "connection_factory must be")]:
        with pytest.raises(TypeError, match=text):
            SQLDatasource(*options)
    with pytest.raises(TypeError, match="shard_keys"):
        SQLDatasource("select 1", database, shard_keys="id")


# ---------------------------------------------------------------------------------------------- arrays


def test_numpy(tmp_path: Path, read: Read) -> None:
    np.save(tmp_path / "a.npy", np.arange(6).reshape(3, 2))
    np.save(tmp_path / "b.npy", np.arange(10, 12).reshape(1, 2))
    found = read(NumpyDatasource(tmp_path)).column("data")
    np.testing.assert_array_equal(found, [[0, 1], [2, 3], [4, 5], [10, 11]])
    np.save(tmp_path / "c.npy", np.float64(3.5))
    assert read(NumpyDatasource(tmp_path / "c.npy")).column("data") == [3.5]
    np.savez(tmp_path / "d.npz", x=np.arange(2), y=np.array(["a", "b"]))
    assert read(NumpyDatasource(tmp_path / "d.npz")).rows == [{"x": 0, "y": "a"}, {"x": 1, "y": "b"}]


def test_broken_arrays(tmp_path: Path, read: Read) -> None:
    np.save(tmp_path / "good.npy", np.arange(1000))
    np.save(tmp_path / "objects.npy", np.array([{}, None], object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:500])
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "garbage.npy").write_bytes(b"nonsense" * 100)
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 70)
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}\n"
    (tmp_path / "huge.npy").write_bytes(header + huge.rjust(70))
    for name in ("objects", "cut", "empty", "garbage", "huge"):
        with pytest.raises((ValueError, MemoryError), match=rf"{name}\.npy"):
            read(NumpyDatasource(tmp_path / f"{name}.npy"))
    result = read(NumpyDatasource(tmp_path, on_error="dead_letter"))
    assert result.column("data") == list(range(1000)) and len(result.letters) == 5
    assert read(NumpyDatasource(tmp_path / "objects.npy", allow_pickle=True)).column("data") == [{}, None]


# ---------------------------------------------------------------------------------------------- facts of files


def test_files(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a").write_bytes(b"%PDF-1.4")
    (tmp_path / "b.txt").write_text("text")
    os.utime(tmp_path / "a", ns=(0, 1_700_000_000_123_456_000))
    source = FilesDatasource(tmp_path)
    rows = read(source).rows
    assert [(row["path"], row["size"], row["type"]) for row in rows] == [
        (str(tmp_path / "a"), 8, "pdf"),
        (str(tmp_path / "b.txt"), 4, "text"),
    ]
    assert rows[0]["mtime"] == pd.Timestamp(1_700_000_000_123_456_000, tz="UTC").to_pydatetime()
    assert source.num_rows() == 2
    assert read(source).blocks[0].schema.remove_metadata() == source.schema()
    assert "type" not in read(FilesDatasource(tmp_path, detect_type=False)).rows[0]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n...", "png"),
        (b"RIFF\0\0\0\0WAVEfmt ", "wav"),
        (b"\0\0\0\x18ftypmp42", "mp4"),
        (b"\0" * 257 + b"ustar", "tar"),
        (b"  <!DOCTYPE html>", "html"),
        (b'\xef\xbb\xbf{"a": 1}', "json"),
        ("\u00e9".encode() * 256, "text"),
        (b"x" + "\u00e9".encode() * 255 + b"\xc3", "text"),
        (b"\xff\xff\xff plain", "unknown"),
        (b"a\0b", "unknown"),
    ],
)
def test_types_of_files(head: bytes, expected: str) -> None:
    assert type_of(head) == expected


# ---------------------------------------------------------------------------------------------- memory


def test_range(read: Read) -> None:
    source = memory.RangeDatasource(10)
    assert read(source).column("id") == list(range(10))
    assert [block.num_rows for block in read(source, parallelism=4).blocks] == [2, 2, 2, 2, 2]
    assert [block.num_rows for block in read(memory.RangeDatasource(3), parallelism=7).blocks] == [1, 1, 1]
    assert source.num_rows() == 10 and source.schema() == pa.schema([("id", pa.int64())])
    assert read(memory.RangeDatasource(0)).rows == []
    assert len(read(memory.RangeDatasource(1_000_000)).tasks) == 20
    assert [task.name for task in source.get_read_tasks(5)][:2] == ["range[0:2]", "range[2:4]"]
    with pytest.raises(TypeError, match="n must be"):
        memory.RangeDatasource(3.5)
    with pytest.raises(ValueError, match="n must be"):
        memory.RangeDatasource(-1)


def test_range_tensor(read: Read) -> None:
    source = memory.RangeDatasource(4, column="data", tensor_shape=(2, 2))
    assert [cell.tolist() for cell in read(source).column("data")] == [[[n, n], [n, n]] for n in range(4)]
    assert source.schema().field("data").type == pa.fixed_shape_tensor(pa.int64(), [2, 2])
    with pytest.raises(TypeError, match="shape"):
        memory.RangeDatasource(4, tensor_shape=3)


def rows_of(tables: list[pa.Table]) -> list[dict[str, Any]]:
    return [row for table in tables for row in iter_rows(table)]


def test_items() -> None:
    assert rows_of(memory.tables_of_items([1, "x"])) == [{"item": 1}, {"item": "x"}]
    assert rows_of(memory.tables_of_items([{"a": 1}, 2])) == [{"a": 1}, {"item": 2}]
    assert [table.num_rows for table in memory.tables_of_items(range(10))] == [1] * 10
    assert len(memory.tables_of_items(range(1000))) == 200
    assert [table.num_rows for table in memory.tables_of_items(range(10), 3)] == [3, 3, 4]
    assert memory.tables_of_items([]) == []


def test_tables_of_other_libraries() -> None:
    frame = pd.DataFrame({"a": [1.0, None], "b": ["x", "y"]}, index=[5, 6])
    assert rows_of(memory.tables_of_pandas(frame)) == [{"a": 1.0, "b": "x"}, {"a": None, "b": "y"}]
    assert len(memory.tables_of_pandas([frame, frame])) == 2
    assert [row["data"] for row in rows_of(memory.tables_of_numpy([np.arange(2), np.arange(1)]))] == [0, 1, 0]
    table = pa.table({"a": [1]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for item in (table, table.to_batches()[0], sink.getvalue().to_pybytes(), [table]):
        assert memory.tables_of_arrow(item) == [table]
    polars = pytest.importorskip("polars")
    assert rows_of(memory.tables_of_arrow(polars.DataFrame({"a": [1]}))) == [{"a": 1}]
    for function in (memory.tables_of_pandas, memory.tables_of_numpy, memory.tables_of_arrow):
        with pytest.raises(TypeError):
            function(3)
        with pytest.raises(ValueError):
            function([])


def test_huggingface() -> None:
    class Inner:
        table = pa.table({"a": [1, 2, 3]})

    class Indices:
        def column(self, number: int) -> pa.Array:
            return pa.array([2, 0])

    class Dataset:
        data = Inner()
        _indices = None

    dataset = Dataset()
    assert rows_of(memory.tables_of_huggingface(dataset)) == [{"a": 1}, {"a": 2}, {"a": 3}]
    dataset._indices = Indices()
    assert rows_of(memory.tables_of_huggingface(dataset)) == [{"a": 3}, {"a": 1}]
    with pytest.raises(TypeError, match="choose one of 'train', 'test'"):
        memory.tables_of_huggingface({"train": dataset, "test": dataset})
    with pytest.raises(TypeError, match="IterableDataset"):
        memory.tables_of_huggingface(3)


def test_torch(read: Read) -> None:
    class Tensor:
        def __init__(self, value: Any) -> None:
            self.value = value

        def detach(self) -> Any:
            return self

        def cpu(self) -> Any:
            return self

        def numpy(self) -> Any:
            return np.array(self.value)

    class Dataset:
        def __len__(self) -> int:
            return 1000

        def __getitem__(self, number: int) -> Any:
            return Tensor(number), number

    source = memory.TorchDatasource(Dataset())
    result = read(source)
    assert len(result.tasks) == 4 and source.num_rows() == 1000
    assert [[int(part) for part in item] for item in result.column("item")] == [[n, n] for n in range(1000)]
    with pytest.raises(TypeError, match="map-style"):
        memory.TorchDatasource(iter([1]))


def test_user_datasources(tmp_path: Path, read: Read) -> None:
    from skate.data.datasource import FileBasedDatasource

    class Lengths(FileBasedDatasource):
        def _read_stream(self, f: Any, path: str) -> Any:
            yield {"length": [len(f.readall())]}
            yield pd.DataFrame({"length": [-1]})

    (tmp_path / "a").write_bytes(b"12345")
    assert read(Lengths(str(tmp_path), include_paths=True)).rows == [
        {"length": 5, "path": str(tmp_path / "a")},
        {"length": -1, "path": str(tmp_path / "a")},
    ]
    assert json.dumps(Lengths(str(tmp_path)).fingerprint())
    with pytest.raises(NotImplementedError, match="_read_stream"):
        next(FileBasedDatasource(str(tmp_path)).get_read_tasks()[0]())
