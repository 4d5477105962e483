"""Files that are cut, empty, noise or of other columns: an error or a letter names each, and the others are read."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skate.data
from skate.data import DataContext
from skate.exceptions import RayTaskError

ROWS = 100
TABLE = pa.table({"a": list(range(ROWS)), "b": [f"text {number}" for number in range(ROWS)]})


def parquet(table: pa.Table = TABLE) -> bytes:
    with io.BytesIO() as file:
        pq.write_table(table, file)
        return file.getvalue()


def csv() -> bytes:
    return b"a,b\n" + b"".join(b"%d,text %d\n" % (number, number) for number in range(ROWS))


def json_lines() -> bytes:
    return b"".join(b'{"a": %d}\n' % number for number in range(ROWS))


def npy() -> bytes:
    with io.BytesIO() as file:
        np.save(file, np.arange(ROWS))
        return file.getvalue()


def npz() -> bytes:
    with io.BytesIO() as file:
        np.savez(file, x=np.arange(ROWS))
        return file.getvalue()


def image(form: str) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, form)
        return file.getvalue()


def tar() -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for number in range(ROWS):
                member = tarfile.TarInfo(f"{number:03}.cls")
                member.size = 1
                archive.addfile(member, io.BytesIO(b"3"))
        return file.getvalue()


def tfrecords() -> bytes:
    from skate.data._io.readers.tfrecords import masked_crc32c

    example = b"\x0a\x0c\x0a\x0a\x0a\x01x\x12\x05\x1a\x03\x0a\x01\x05"  # x: 5
    head = struct.pack("<Q", len(example))
    parts = (head, struct.pack("<I", masked_crc32c(head)), example, struct.pack("<I", masked_crc32c(example)))
    return b"".join(parts) * ROWS


def wav(seconds: int = 1, form: str = "WAV") -> bytes:
    soundfile = pytest.importorskip("soundfile")
    with io.BytesIO() as file:
        soundfile.write(file, np.random.default_rng(0).normal(size=8000 * seconds) / 10, 8000, format=form)
        return file.getvalue()


def flac() -> bytes:
    return wav(form="FLAC")


def pdf() -> bytes:
    pytest.importorskip("pypdfium2")
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/MediaBox[0 0 200 200]/Parent 2 0 R>>endobj\ntrailer<</Size 4/Root 1 0 R>>\n%%EOF"
    )


def mp4() -> bytes:
    av = pytest.importorskip("av")
    with io.BytesIO() as file:
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 64
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return file.getvalue()


#: Format, by its extension: what writes a whole file, and reads a folder.
FORMATS: dict[str, tuple[Callable[[], bytes], Any]] = {
    "parquet": (parquet, skate.data.read_parquet),
    "csv.gz": (lambda: gzip.compress(csv()), skate.data.read_csv),
    "json.gz": (lambda: gzip.compress(json_lines()), skate.data.read_json),
    "npy": (npy, skate.data.read_numpy),
    "npz": (npz, lambda paths, **options: skate.data.read_numpy(paths, file_extensions=["npz"], **options)),
    "png": (lambda: image("PNG"), skate.data.read_images),
    "jpg": (lambda: image("JPEG"), skate.data.read_images),
    "tiff": (lambda: image("TIFF"), skate.data.read_images),
    "tar": (tar, skate.data.read_webdataset),
    "tfrecords": (tfrecords, skate.data.read_tfrecords),
    "wav": (wav, skate.data.read_audio),
    "flac": (flac, skate.data.read_audio),
    "mp4": (mp4, skate.data.read_videos),
    "pdf": (pdf, skate.data.read_pdf),
}
#: A file of rows without a header may well have none.
EMPTY_IS_WHOLE = ("json.gz", "tfrecords")


def half(data: bytes) -> bytes:
    return data[: len(data) // 2 - 1]


def noise(data: bytes) -> bytes:
    return random.Random(1).randbytes(500)


def empty(data: bytes) -> bytes:
    return b""


@pytest.fixture(params=["near", "far"])
def port(request: pytest.FixtureRequest, settings: DataContext) -> None:
    if request.param == "far":
        request.getfixturevalue("session")
        settings.local_limit_bytes = 0


@pytest.mark.parametrize("damage", [half, noise, empty])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.usefixtures("port")
def test_a_bad_file_is_an_error_or_a_letter_and_the_others_are_read(
    form: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    make, read = FORMATS[form]
    data = make()
    (tmp_path / f"good.{form}").write_bytes(data)
    whole = read(str(tmp_path)).take_all()
    (tmp_path / f"bad.{form}").write_bytes(damage(data))
    if damage is empty and form in EMPTY_IS_WHOLE:
        assert len(read(str(tmp_path)).take_all()) == len(whole)
        return
    with pytest.raises(
        ValueError, match=rf"^cannot read {tmp_path}/bad.{form}: [^.].*[^.]\. Pass on_error="
    ) as raised:
        read(str(tmp_path)).take_all()
    assert not isinstance(raised.value, RayTaskError)
    for words in (" at 0x", "pickled", "Traceback"):
        assert words not in str(raised.value)
    rows = read(str(tmp_path), on_error="dead_letter")
    found = rows.take_all()
    letters = rows.dead_letters().take_all()
    assert len(whole) <= len(found) < 2 * len(whole)
    assert {letter["path"] for letter in letters} == {f"{tmp_path}/bad.{form}"}
    assert len(read(str(tmp_path), on_error="skip").take_all()) == len(found)


@pytest.mark.parametrize("cut", [512, 700, 1024, 50 * 1024, -10240, -1])
def test_a_tar_file_that_was_cut_says_so(cut: int, tmp_path: Path) -> None:
    whole = tar()
    data = whole[:cut]
    (tmp_path / "a.tar").write_bytes(data)
    rows = skate.data.read_webdataset(str(tmp_path), on_error="dead_letter")
    found = rows.count(exact=True)
    assert (found < ROWS) <= (rows.dead_letters().count() == 1), "nothing is lost without a letter"
    assert found == min(ROWS, len(data) // 1024), "whole members are kept"


def test_a_sound_file_of_unknown_length_is_whole(tmp_path: Path) -> None:
    data = bytearray(wav())
    position = data.index(b"data") + 4
    data[position : position + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "piped.wav").write_bytes(data)
    assert skate.data.read_audio(str(tmp_path)).count(exact=True) == 1


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def npy_of(items: int) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({items},), }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"x" * 100


def npz_of(zeros: int) -> bytes:
    with io.BytesIO() as file:
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("x.npy", "w") as member,
        ):
            np.save(member, np.zeros(zeros))
        return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "options", "words"),
    [
        ("a.png", png_of(200_000, 200_000), {}, "it has 200000 x 200000 pixels, max_pixels is"),
        ("a.npy", npy_of(10**13), {}, "it does not fit into memory|bytes got 100"),
        ("a.npy", npy_of(10**9), {}, "bytes got 100"),
        ("a.npz", npz_of(10**6), {"max_file_bytes": 10**6}, "its arrays have 8000128 bytes, max_file_bytes is"),
        ("a.json", b"[" * 100_000, {}, "it is nested too deeply"),
        ("a.html", b"<div>" * 200_000, {}, "its elements are 200000 deep; a page may have 5000"),
        ("a.bin.gz", gzip.compress(bytes(10**7)), {"max_file_bytes": 10**6}, "more than max_file_bytes=1000000"),
    ],
)  # fmt: skip
def test_files_that_claim_or_become_too_much_are_letters(
    name: str, data: bytes, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    readers: dict[str, Any] = {"png": skate.data.read_images, "json": skate.data.read_json}
    readers |= {"npy": skate.data.read_numpy, "npz": FORMATS["npz"][1], "gz": skate.data.read_binary_files}
    readers["html"] = skate.data.read_html
    (tmp_path / name).write_bytes(data)
    read = readers[name.rpartition(".")[2]]
    with pytest.raises(ValueError, match=words):
        read(str(tmp_path), **options).take_all()
    rows = read(str(tmp_path), on_error="dead_letter", **options)
    assert rows.take_all() == []
    assert rows.dead_letters().count() == 1


def test_long_pages_are_not_deep(tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>{number}<br><p><b>bold</b>" for number in range(6000))
    (tmp_path / "a.html").write_text(f"<title>long</title><table>{rows}</table>")
    (row,) = skate.data.read_html(str(tmp_path)).take_all()
    assert row["title"] == "long"
    assert row["text"].count("bold") == 6000


# ---------------------------------------------------------------------- columns of files that differ


def drifted(folder: Path, *tables: pa.Table) -> str:
    for number, table in enumerate(tables):
        (folder / f"{number}.parquet").write_bytes(parquet(table))
    return str(folder)


@pytest.mark.usefixtures("port")
def test_types_without_a_common_one_name_both_files(tmp_path: Path) -> None:
    path = drifted(tmp_path, pa.table({"x": [1]}), pa.table({"x": [2.5]}), pa.table({"x": ["three"]}))
    words = (
        f"{path}/2.parquet: its column 'x' is string, and double in files before it, such as {path}/0.parquet"
    )
    with pytest.raises(ValueError, match=words):
        skate.data.read_parquet(path, override_num_blocks=1).take_all()
    rows = skate.data.read_parquet(path, override_num_blocks=1, on_error="dead_letter")
    assert rows.take_all() == [{"x": 1.0}, {"x": 2.5}]
    assert [letter["path"] for letter in rows.dead_letters().take_all()] == [f"{path}/2.parquet"]
    DataContext.get_current().on_schema = "object"
    assert [row["x"] for row in skate.data.read_parquet(path, override_num_blocks=1).take_all()] == [
        1,
        2.5,
        "three",
    ]


def test_missing_columns_are_null_unless_any_difference_is_an_error(
    tmp_path: Path, settings: DataContext
) -> None:
    drifted(tmp_path, pa.table({"x": [1]}), pa.table({"x": [2], "y": [3]}))
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "0.csv").write_text("x\n1\n")
    (tmp_path / "csv" / "1.csv").write_text("x,y\n2,3\n")
    for read, path in (
        (skate.data.read_parquet, f"{tmp_path}/*.parquet"),
        (skate.data.read_csv, f"{tmp_path}/csv"),
    ):
        settings.on_schema = "unify"
        assert read(path).take_all() == [{"x": 1, "y": None}, {"x": 2, "y": 3}]
        settings.on_schema = "error"
        with pytest.raises(
            skate.data.exceptions.SchemaMismatchError, match="its column 'y' is int64, and missing in"
        ):
            read(path).take_all()


def test_two_columns_of_one_name_are_not_one(tmp_path: Path) -> None:
    table = pa.table([[1], [2]], names=["x", "x"])
    (tmp_path / "a.parquet").write_bytes(parquet(table))
    (tmp_path / "a.csv").write_text("x,x\n1,2\n")
    for read, form in ((skate.data.read_parquet, "parquet"), (skate.data.read_csv, "csv")):
        with pytest.raises(
            ValueError, match=f"{tmp_path}/a.{form}: it has more than one column of the name 'x'"
        ):
            read(f"{tmp_path}/*.{form}").take_all()
    for given in (table, table.to_batches()[0], table.to_reader()):
        with pytest.raises(ValueError, match="from_arrow: a table has more than one column of the name 'x'"):
            skate.data.from_arrow(given)


def test_paths_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("x\n1\n")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/none"):
        skate.data.read_csv(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"No file matches.*/\*.tsv"):
        skate.data.read_csv(f"{tmp_path}/*.tsv")
    with pytest.raises(ValueError, match="No files found under .*do not end with one of .json"):
        skate.data.read_json(str(tmp_path))
    with pytest.raises(OSError, match=f"{tmp_path}/file.csv/below"):
        skate.data.read_csv(str(tmp_path / "file.csv" / "below"))
    with pytest.raises(ValueError, match="Protocol not known: foo"):
        skate.data.read_csv("foo://bucket/file.csv")
    assert (
        skate.data.read_csv([str(tmp_path), str(tmp_path / "none")], ignore_missing_paths=True).count() == 1
    )
