"""Text, binary files, JSON and CSV against pandas, pyarrow and plain Python."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions

from skate.data._block.sources import sources
from skate.data._io.files.bundles import BundleLimits, Piece
from skate.data._io.files.filesystem import FileEntry, LocalFileSystem
from skate.data._io.files.reading import InputFile, lines_of, read_ahead, read_range
from skate.data._io.readers import csv as csv_reader
from skate.data._io.readers.binary import BinaryDatasource
from skate.data._io.readers.csv import CSVDatasource
from skate.data._io.readers.json import JSONDatasource
from skate.data._io.readers.text import TextDatasource
from skate.data.datasource import Partitioning, PathPartitionFilter

Read = Callable[..., Any]


# ---------------------------------------------------------------------------------------------- ranges


class InMemory(LocalFileSystem):
    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self, path: str) -> Any:
        return io.BytesIO(self.data)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=20),
    st.booleans(),
    st.integers(1, 9),
)
def test_ranges_give_every_line_once(lines: list[bytes], ends: bool, parts: int) -> None:
    data = b"\n".join(lines) + (b"\n" if ends else b"")
    entry = FileEntry("x", len(data), 0)
    found = []
    for part in range(parts):
        piece = Piece(entry, part, parts)
        file = InputFile(InMemory(data), piece, None, None, None)
        if piece.start < piece.stop:
            for chunk in read_range(file, piece.start, piece.stop):
                assert chunk.endswith(b"\n") or data.endswith(chunk)
                found.append(chunk)
    assert b"".join(found) == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 20))
def test_lines_of_a_stream(data: bytes, chunk: int) -> None:
    made = list(lines_of(io.BytesIO(data), chunk_bytes=chunk))
    assert b"".join(made) == data
    assert all(part.endswith(b"\n") for part in made[:-1])


def test_read_ahead_keeps_order_and_reports_errors(tmp_path: Path) -> None:
    pieces = []
    for number in range(200):
        path = tmp_path / f"{number:03}"
        if number != 77:
            path.write_bytes(bytes([number]) * number)
        pieces.append(Piece(FileEntry(str(path), number, 0)))

    class Remote(LocalFileSystem):
        read_threads = 3

    for filesystem in (LocalFileSystem(), Remote()):
        found = list(read_ahead(filesystem, pieces, max_file_bytes=190))
        assert [piece for piece, _ in found] == pieces
        for number, (_, data) in enumerate(found):
            if number == 77:
                assert isinstance(data, FileNotFoundError)
            elif number > 190:
                assert "max_file_bytes is 190" in str(data)
            else:
                assert data == bytes([number]) * number


def test_errors_that_pass_are_tried_again() -> None:
    from skate.data._io.files.retrying import Retries

    waits: list[float] = []
    calls = 0

    def fails_twice() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError("AWS Error SLOW_DOWN during GetObject")
        return "done"

    assert Retries(["SLOW_DOWN"], waits.append).call(fails_twice) == "done"
    assert len(waits) == 2 and waits[0] < waits[1]
    calls = 0
    assert Retries(["AWS.*DOWN", "["], waits.append).call(fails_twice) == "done"
    calls = 0
    with pytest.raises(OSError):
        Retries(["other"], waits.append).call(fails_twice)
    assert calls == 1
    calls = -100
    with pytest.raises(OSError):
        Retries(["SLOW"], waits.append).call(fails_twice)
    assert calls == -90


def test_reads_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skate.data._io.files import retrying

    class Context:
        retried_io_errors = ("come back",)

    refused = set()

    class Busy(LocalFileSystem):
        read_threads = 2

        def read(self, path: str, size: int) -> bytes:
            if path not in refused:
                refused.add(path)
                raise OSError("busy, come back")
            return super().read(path, size)

    monkeypatch.setattr(retrying, "_FIRST_WAIT_S", 0.0)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    paths = [str(tmp_path)]
    [task] = TextDatasource(paths, filesystem=Busy()).get_read_tasks(data_context=Context())
    assert [row for block in task() for row in block["text"].to_pylist()] == ["a", "b", "c"]
    assert len(refused) == 3
    refused.clear()
    [task] = TextDatasource(paths, filesystem=Busy()).get_read_tasks()
    with pytest.raises(ValueError, match="busy"):
        list(task())


def test_read_ahead_ends_its_threads_when_it_is_left(tmp_path: Path) -> None:
    import threading

    class Remote(LocalFileSystem):
        read_threads = 3

    (tmp_path / "a").write_bytes(b"x")
    pieces = [Piece(FileEntry(str(tmp_path / "a"), 1, 0))] * 500
    loaded = read_ahead(Remote(), pieces)
    next(loaded)
    loaded.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("skate-data-read")]


# ---------------------------------------------------------------------------------------------- text


def test_text(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\r\n   \nthree")
    (tmp_path / "b.txt").write_text("")
    assert read(TextDatasource(tmp_path)).column("text") == ["one", "two", "three"]
    kept = read(TextDatasource(tmp_path, drop_empty_lines=False)).column("text")
    assert kept == ["one", "", "two", "   ", "three"]
    assert TextDatasource(tmp_path).schema() == pa.schema([("text", pa.string())])


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "cp1252", "shift_jis"])
def test_encodings(tmp_path: Path, read: Read, encoding: str) -> None:
    text = "caf\u00e9\nna\u00efve" if encoding != "shift_jis" else "\u8868\n\u8868"
    (tmp_path / "a").write_bytes(text.encode(encoding))
    assert read(TextDatasource(tmp_path, encoding=encoding)).column("text") == text.split("\n")


def test_large_text_is_several_tasks(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"line {number} {'x' * (number % 50)}" for number in range(3000)]
    (tmp_path / "a").write_text("\n".join(lines))
    monkeypatch.setattr(
        TextDatasource, "limits", BundleLimits(most_bytes=10_000, most_files=10, least_bytes=1)
    )
    result = read(TextDatasource(tmp_path))
    assert len(result.tasks) > 5
    assert result.column("text") == lines
    names = [task.name for task in result.tasks]
    assert names[0].startswith("a[0/") and len(set(names)) == len(names)
    assert read(TextDatasource(tmp_path), parallelism=7).column("text") == lines


@pytest.mark.parametrize("name", ["a.gz", "a.bz2", "a.zst", "a.lz4", "a.br"])
def test_compressed(tmp_path: Path, read: Read, name: str) -> None:
    data = b"one\ntwo\n" * 1000
    codec = {"gz": "gzip", "bz2": "bz2", "zst": "zstd", "lz4": "lz4", "br": "brotli"}[name[2:]]
    if codec == "bz2":
        packed = bz2.compress(data)
    else:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        packed = sink.getvalue().to_pybytes()
    (tmp_path / name).write_bytes(packed)
    assert read(TextDatasource(tmp_path)).column("text") == ["one", "two"] * 1000
    assert read(BinaryDatasource(tmp_path)).column("bytes") == [data]
    as_it_is = BinaryDatasource(tmp_path, open_stream_args={"compression": None})
    assert read(as_it_is).column("bytes") == [packed]
    (tmp_path / "other").write_bytes(packed)
    told = TextDatasource(tmp_path / "other", open_stream_args={"compression": codec})
    assert read(told).column("text") == ["one", "two"] * 1000


def test_bombs_are_stopped(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\0" * 10_000_000))
    with pytest.raises(ValueError, match="a.gz: it holds more than max_file_bytes=1000000 bytes"):
        read(BinaryDatasource(tmp_path, max_file_bytes=1_000_000))
    kept = read(BinaryDatasource(tmp_path, max_file_bytes=1_000_000, on_error="dead_letter"))
    assert kept.rows == [] and len(kept.letters) == 1


def test_text_that_is_none(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a").write_bytes(b"ok\n\xff\xfe\xfd")
    (tmp_path / "b").write_bytes(b"fine")
    with pytest.raises(ValueError, match=r"cannot read .*/a: UnicodeDecodeError.*on_error='skip'"):
        read(TextDatasource(tmp_path))
    result = read(TextDatasource(tmp_path, on_error="dead_letter"))
    assert result.column("text") == ["fine"]
    [letter] = result.letters
    assert letter.path == str(tmp_path / "a")
    assert letter.row is None and letter.is_kept
    assert letter.row_id == "0.0:0" and letter.stage == "ReadText"
    assert "UnicodeDecodeError" in letter.traceback_text
    assert [made.is_kept for made in read(TextDatasource(tmp_path, on_error="skip")).letters] == [False]


def test_wrong_options(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    for options, error, text in [
        ({"encoding": "nonsense"}, ValueError, "encoding='nonsense'"),
        ({"encoding": 3}, TypeError, "encoding must be"),
        ({"drop_empty_lines": 1}, TypeError, "drop_empty_lines"),
        ({"include_paths": "yes"}, TypeError, "include_paths"),
        ({"shuffle": True}, ValueError, "shuffle must be"),
        ({"on_error": "ignore"}, ValueError, "on_error must be one of 'raise', 'skip', 'dead_letter'"),
        ({"max_file_bytes": 0}, ValueError, "max_file_bytes"),
        ({"max_file_bytes": "1"}, TypeError, "max_file_bytes"),
        ({"partitioning": "hive"}, TypeError, "partitioning must be"),
        ({"partition_filter": 3}, TypeError, "partition_filter must be"),
        ({"file_extensions": 3}, TypeError, "file_extensions must be"),
        ({"file_extensions": [3]}, TypeError, "file_extensions must be"),
        ({"open_stream_args": "gzip"}, TypeError, "open_stream_args must be"),
        ({"ignore_missing_paths": None}, TypeError, "ignore_missing_paths"),
    ]:
        with pytest.raises(error, match=text):
            TextDatasource(tmp_path, **options)


# ---------------------------------------------------------------------------------------------- columns of paths


def test_binary_files_with_paths_and_partitions(tmp_path: Path, read: Read) -> None:
    for name in ("x=1/a", "x=1/b", "x=__HIVE_DEFAULT_PARTITION__/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name[-1].encode())
    source = BinaryDatasource(
        tmp_path, include_paths=True, partitioning=Partitioning("hive", field_types={"x": int})
    )
    result = read(source)
    assert result.rows == [
        {"bytes": b"a", "x": 1, "path": str(tmp_path / "x=1/a")},
        {"bytes": b"b", "x": 1, "path": str(tmp_path / "x=1/b")},
        {"bytes": b"c", "x": None, "path": str(tmp_path / "x=__HIVE_DEFAULT_PARTITION__/c")},
    ]
    assert source.num_rows() == 3
    assert source.schema() == pa.schema([("bytes", pa.binary()), ("x", pa.int64()), ("path", pa.string())])
    assert source.input_files() == [row["path"] for row in result.rows]
    [block] = result.blocks
    assert sources(block) == [(row["path"], 1) for row in result.rows]
    kept = BinaryDatasource(
        tmp_path, partition_filter=PathPartitionFilter.of(lambda values: values["x"] == "1")
    )
    assert len(kept.input_files()) == 2
    by_list = BinaryDatasource(
        tmp_path, partition_filter=lambda paths: [path for path in paths if path.endswith("c")]
    )
    assert len(by_list.input_files()) == 1


def test_paths_that_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    source = TextDatasource(tmp_path, skip_paths=["a", str(tmp_path / "b")])
    assert source.input_files() == [str(tmp_path / "c")]
    with pytest.raises(TypeError, match="skip_paths"):
        TextDatasource(tmp_path, skip_paths="a")
    with pytest.raises(ValueError, match="partition_filter or skip_paths"):
        TextDatasource(tmp_path, skip_paths=["a", "b", "c"])


def test_folders_as_labels(tmp_path: Path, read: Read) -> None:
    for name in ("cat/1", "dog/2"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    partitioning = Partitioning("dir", field_names=["class"], base_dir=str(tmp_path))
    assert read(TextDatasource(tmp_path, partitioning=partitioning)).column("class") == ["cat", "dog"]


def test_shuffle(tmp_path: Path, read: Read) -> None:
    from skate.data.seeds import FileShuffleConfig

    for number in range(50):
        (tmp_path / f"{number:02}").write_text(str(number))
    plain = [str(number) for number in range(50)]

    class Context:
        _execution_idx = 1

    seeded = TextDatasource(tmp_path, shuffle=FileShuffleConfig(seed=1))
    first = read(seeded).column("text")
    assert first != plain and sorted(first, key=int) == plain
    assert read(seeded).column("text") == first
    assert read(seeded, data_context=Context()).column("text") != first
    same = TextDatasource(tmp_path, shuffle=FileShuffleConfig(seed=1, reseed_after_execution=False))
    assert read(same, data_context=Context()).column("text") == read(same).column("text")
    assert sorted(read(TextDatasource(tmp_path, shuffle="files")).column("text"), key=int) == plain


def test_limits_and_names(tmp_path: Path, read: Read) -> None:
    from skate.data._io.datasource import SourceHints

    for name in ("a", "b"):
        (tmp_path / name).write_text("1\n2\n3")
    source = TextDatasource(tmp_path)
    assert [task.name for task in source.get_read_tasks()] == ["a+1"]
    assert read(source.with_hints(SourceHints(limit=4))).column("text") == ["1", "2", "3", "1"]
    assert read(source, per_task_row_limit=2).column("text") == ["1", "2"]
    twice = TextDatasource([tmp_path / "a", tmp_path / "a"])
    assert [task.name for task in twice.get_read_tasks(2)] == ["a", "a#2"]


def test_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = TextDatasource(tmp_path).fingerprint()
    assert json.loads(json.dumps(first)) == first
    assert TextDatasource(tmp_path).fingerprint() == first
    assert TextDatasource(tmp_path, encoding="latin-1").fingerprint() != first
    (tmp_path / "a").write_text("22")
    assert TextDatasource(tmp_path).fingerprint()["digest"] != first["digest"]


def test_tasks_pickle_without_the_listing(tmp_path: Path) -> None:
    import pickle

    for number in range(300):
        (tmp_path / f"{number:03}").write_text(str(number))
    tasks = TextDatasource(tmp_path).get_read_tasks(100)
    packed = pickle.dumps(tasks[3].read_fn)
    assert len(packed) < 3000
    [block] = pickle.loads(packed)()
    assert block["text"].to_pylist() == ["9", "10", "11"]


def test_a_limit_needs_no_further_files(tmp_path: Path) -> None:
    from skate.data._io.datasource import SourceHints

    for number in range(100):
        (tmp_path / f"{number:03}").write_text(str(number))
    source = BinaryDatasource(tmp_path).with_hints(SourceHints(limit=25))
    tasks = source.get_read_tasks(10)
    assert [task.metadata.num_rows for task in tasks] == [10, 10, 10]
    assert sum(block.num_rows for task in tasks for block in task()) == 30


def test_a_datasource_pickles_with_its_listing(tmp_path: Path, read: Read) -> None:
    import pickle

    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    packed = pickle.dumps(TextDatasource(tmp_path))
    (tmp_path / "c").write_text("c")
    assert read(pickle.loads(packed)).column("text") == ["a", "b"]


def test_blocks_are_cut_by_bytes(tmp_path: Path, read: Read) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}").write_bytes(b"x" * 100_000)
    (tmp_path / "99").write_bytes(b"x" * 5_000_000)
    blocks = read(BinaryDatasource(tmp_path), target=1 << 20).blocks
    assert sum(block.num_rows for block in blocks) == 41
    assert all(block.nbytes < 1.6 * (1 << 20) or block.num_rows == 1 for block in blocks)
    assert sum(rows for block in blocks for _, rows in sources(block)) == 41


# ---------------------------------------------------------------------------------------------- JSON


ROWS = [{"a": 1, "b": "x", "c": [1, 2]}, {"a": None, "b": "y", "c": []}, {"a": 3, "b": None, "c": None}]


def lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (lines(ROWS), ROWS),
        ("\n" + lines(ROWS) + "\n\n", ROWS),
        (json.dumps(ROWS), ROWS),
        (json.dumps(ROWS, indent=2), ROWS),
        (json.dumps(ROWS[0], indent=2), ROWS[:1]),
        (json.dumps(ROWS[0]), ROWS[:1]),
        ("\ufeff" + lines(ROWS), ROWS),
        ("", []),
        ("\n \n", []),
        ("[]", []),
        ('{"a": 1}\n{"a": "x"}\n', [{"a": 1}, {"a": "x"}]),
        ('{"a": 1}\n{"a": 1.5}\n', [{"a": 1.0}, {"a": 1.5}]),
        ('{"a": 1}\n{"b": 2}\n', [{"a": 1, "b": None}, {"a": None, "b": 2}]),
        ('{"a": {"b": 1}}\n{"a": 3}\n', [{"a": {"b": 1}}, {"a": 3}]),
        ('{"a": 123456789012345678901234567890}\n', [{"a": 123456789012345678901234567890.0}]),
    ],
)
def test_json(tmp_path: Path, read: Read, text: str, rows: list[dict[str, Any]]) -> None:
    (tmp_path / "a.json").write_text(text)
    result = read(JSONDatasource(tmp_path))
    assert result.rows == rows
    assert result.letters == []


def test_json_nan(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.json").write_text('[{"a": NaN}, {"a": Infinity}]')
    found = read(JSONDatasource(tmp_path)).column("a")
    assert found[0] != found[0] and found[1] == float("inf")


def test_json_files_of_several_kinds_and_codecs(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "b.jsonl").write_text(lines(ROWS))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(json.dumps(ROWS, indent=1).encode()))
    (tmp_path / "e.txt").write_text("not read")
    assert read(JSONDatasource(tmp_path)).rows == ROWS * 4
    assert read(JSONDatasource(tmp_path / "b.jsonl", lines=True)).rows == ROWS


def test_broken_lines_are_letters_and_the_others_rows(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}\n{"a": \n[1]\n{"a": 2}\n{"a": 3')
    with pytest.raises(ValueError, match=r"a\.json: .*line 2: .*\{\"a\": "):
        read(JSONDatasource(tmp_path))
    result = read(JSONDatasource(tmp_path, on_error="dead_letter"))
    assert result.rows == [{"a": 1}, {"a": 2}]
    assert [letter.row for letter in result.letters] == [
        {"line": '{"a": '},
        {"line": "[1]"},
        {"line": '{"a": 3'},
    ]
    assert all(letter.path == str(tmp_path / "a.json") for letter in result.letters)
    assert "line 5" in str(result.letters[2].error)


def test_a_file_without_any_json_is_one_letter(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.json").write_text("<p>\n" * 1000)
    [letter] = read(JSONDatasource(tmp_path, on_error="dead_letter")).letters
    assert letter.row is None and "none of 1000 lines is a JSON object; line 1: " in str(letter.error)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0", b"[1, 2", b"nonsense", b'[{"a": 1}, {"a": '])
def test_json_that_is_none(tmp_path: Path, read: Read, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*a\.json"):
        read(JSONDatasource(tmp_path))
    assert read(JSONDatasource(tmp_path, on_error="skip")).rows == []


def test_large_json_lines_are_several_tasks(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"n": number, "t": "x" * (number % 40)} for number in range(2000)]
    (tmp_path / "a.json").write_text(lines(rows))
    monkeypatch.setattr(
        JSONDatasource, "limits", BundleLimits(most_bytes=10_000, most_files=10, least_bytes=1)
    )
    result = read(JSONDatasource(tmp_path))
    assert len(result.tasks) > 5
    assert result.rows == rows
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read(JSONDatasource(tmp_path)).rows == rows
    (tmp_path / "a.json").write_text(json.dumps({"rows": rows}, indent=1))
    assert read(JSONDatasource(tmp_path)).rows == [{"rows": rows}]


def test_json_options(tmp_path: Path, read: Read) -> None:
    import pyarrow.json as pajson

    (tmp_path / "a.json").write_text('{"a": 1}\n')
    schema = pa.schema([("a", pa.float32())])
    options = {"parse_options": pajson.ParseOptions(explicit_schema=schema)}
    assert (
        read(JSONDatasource(tmp_path, arrow_json_args=options)).blocks[0].schema.field("a").type
        == pa.float32()
    )
    with pytest.raises(TypeError, match="read_json has no option 'nonsense'"):
        JSONDatasource(tmp_path, arrow_json_args={"nonsense": 1})
    with pytest.raises(TypeError, match="parse_options must be"):
        JSONDatasource(tmp_path, arrow_json_args={"parse_options": 1})
    with pytest.raises(TypeError, match="lines must be"):
        JSONDatasource(tmp_path, lines="yes")


# ---------------------------------------------------------------------------------------------- CSV


def test_csv_as_pandas_reads_it(tmp_path: Path, read: Read) -> None:
    text = 'a,b,c\n1,x,1.5\n2,"y, z",\n,"line\nfeed",3\n'
    (tmp_path / "a.csv").write_text(text)
    found = pd.DataFrame(read(CSVDatasource(tmp_path)).rows)
    pd.testing.assert_frame_equal(found, pd.read_csv(io.StringIO(text)), check_dtype=False)


def test_csv_options(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_text("# hi\n1;x\n2;y\n")
    args = {
        "read_options": ReadOptions(skip_rows=1, column_names=["n", "t"]),
        "parse_options": ParseOptions(delimiter=";"),
        "convert_options": ConvertOptions(column_types={"n": pa.float32()}),
    }
    result = read(CSVDatasource(tmp_path, arrow_csv_args=args))
    assert result.rows == [{"n": 1.0, "t": "x"}, {"n": 2.0, "t": "y"}]
    assert result.blocks[0].schema.field("n").type == pa.float32()
    with pytest.raises(TypeError, match="read_csv has no option 'nonsense'"):
        CSVDatasource(tmp_path, arrow_csv_args={"nonsense": 1})
    with pytest.raises(TypeError, match="read_options must be"):
        CSVDatasource(tmp_path, arrow_csv_args={"read_options": 1})


CELLS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8), st.integers().map(str)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=30), st.integers(20, 200))
def test_csv_in_chunks_is_csv_at_once(rows: list[tuple[str, str]], chunk: int) -> None:
    import tempfile

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(("a", "b"))
    writer.writerows(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv.gz"
        path.write_bytes(gzip.compress(text.getvalue().encode()))
        strings = ConvertOptions(column_types={"a": pa.string(), "b": pa.string()}, strings_can_be_null=False)
        kept = csv_reader._CHUNK_BYTES
        csv_reader._CHUNK_BYTES = chunk
        try:
            source = CSVDatasource(path, arrow_csv_args={"convert_options": strings})
            found = [row for task in source.get_read_tasks() for block in task() for row in block.to_pylist()]
        finally:
            csv_reader._CHUNK_BYTES = kept
    assert [(row["a"], row["b"]) for row in found] == rows


def test_csv_types_that_change_on_the_way(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "_CHUNK_BYTES", 100)
    numbers = [str(number) for number in range(100)] + ["1.5", "2"]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(("n\n" + "\n".join(numbers) + "\n").encode()))
    result = read(CSVDatasource(tmp_path))
    assert result.column("n") == [float(number) for number in numbers]


def test_large_csv_is_several_tasks_if_rows_end_at_line_feeds(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CSVDatasource, "limits", BundleLimits(most_bytes=5_000, most_files=10, least_bytes=1))
    rows = [{"n": number, "t": f"x{number}"} for number in range(3000)]
    text = "n,t\n" + "".join(f"{row['n']},{row['t']}\n" for row in rows)
    (tmp_path / "a.csv").write_text(text)
    assert len(read(CSVDatasource(tmp_path)).tasks) == 1
    for options in (ParseOptions(), ParseOptions(quote_char=False)):
        result = read(CSVDatasource(tmp_path, arrow_csv_args={"parse_options": options}))
        assert len(result.tasks) > 3
        assert result.rows == rows


def test_csv_rows_of_wrong_width(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n4,5,6\n7,8\n")
    with pytest.raises(ValueError, match=r"a\.csv: .*Expected 2 columns, got 1"):
        read(CSVDatasource(tmp_path))
    result = read(CSVDatasource(tmp_path, on_error="dead_letter"))
    assert result.rows == [{"a": 1, "b": 2}, {"a": 7, "b": 8}]
    assert [letter.row for letter in result.letters] == [{"line": "3"}, {"line": "4,5,6"}]


def test_csv_rows_that_are_no_text_are_not_lost_silently(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n\xff\n3,4\n")
    result = read(CSVDatasource(tmp_path, on_error="dead_letter"))
    assert len(result.rows) + len(result.letters) >= 1
    assert [letter.path for letter in result.letters] == [str(tmp_path / "a.csv")]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\0\xff\xfe,\xff\n1\n", b"a,b\n1\n"])
def test_csv_that_is_none(tmp_path: Path, read: Read, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"cannot read .*a\.csv"):
        read(CSVDatasource(tmp_path))
    assert {"a": 1}.items() <= read(CSVDatasource(tmp_path, on_error="skip")).rows[-1].items()


def test_csv_cut_in_the_middle_of_compression(tmp_path: Path, read: Read) -> None:
    packed = gzip.compress(b"a\n" + b"".join(b"%d\n" % number for number in range(100_000)))
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"cannot read .*a\.csv\.gz"):
        read(CSVDatasource(tmp_path))
    assert len(read(CSVDatasource(tmp_path, on_error="dead_letter")).letters) == 1


def test_rows_before_a_failure_are_kept_and_counted(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "_CHUNK_BYTES", 10_000)
    noise = "\n".join(str(hash((number, 1)) % 1_000_003) for number in range(100_000))
    packed = gzip.compress(f"a\n{noise}\n".encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    result = read(CSVDatasource(tmp_path, on_error="dead_letter"))
    [letter] = result.letters
    assert len(result.rows) > 1000
    assert f"(after {len(result.rows)} rows, which are kept)" in str(letter.error)


def test_files_whose_columns_differ(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("b,c\n3.5,x\n")
    (tmp_path / "c.json").write_text("")
    result = read(CSVDatasource(tmp_path, file_extensions=["csv"]))
    assert result.rows == [{"a": 1, "b": 2.0, "c": None}, {"a": None, "b": 3.5, "c": "x"}]


def test_memory_filesystem(read: Read) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for number in range(50):
        memory.pipe(f"/many/{number:02}.csv", f"n\n{number}\n".encode())
    assert read(CSVDatasource("memory://many")).column("n") == list(range(50))
    assert (
        read(CSVDatasource("/many", filesystem=memory, include_paths=True)).column("path")[0]
        == "/many/00.csv"
    )
