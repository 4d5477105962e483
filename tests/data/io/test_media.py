"""Pictures, sound, video, PDF and HTML: files are made here by the libraries that read them."""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skate.data._io.readers.audio import AudioDatasource
from skate.data._io.readers.html import HTMLDatasource
from skate.data._io.readers.images import ImageDatasource
from skate.data._io.readers.pdf import PDFDatasource
from skate.data._io.readers.videos import VideoDatasource
from skate.data.datasource import Partitioning

Image = pytest.importorskip("PIL.Image")
Read = Callable[..., Any]


def broken_copies(folder: Path, good: bytes, extension: str) -> list[Path]:
    """Write files that are empty, noise, cut, and of another type; return their paths."""
    contents = {
        "empty": b"",
        "garbage": random.Random(1).randbytes(3000),
        "cut": good[: len(good) // 3],
        "other": b"PK\x03\x04 this is a zip file, perhaps",
    }
    paths = []
    for name, content in contents.items():
        path = folder / f"{name}.{extension}"
        path.write_bytes(content)
        paths.append(path)
    return paths


def check_broken(source: type, folder: Path, read: Read, bad: list[Path], rows: int) -> None:
    for path in bad:
        with pytest.raises(ValueError, match=path.name):
            read(source(path))
    result = read(source(folder, on_error="dead_letter"))
    assert len(result.rows) == rows
    assert sorted(letter.path for letter in result.letters) == sorted(map(str, bad))
    assert all(letter.row is None for letter in result.letters)
    assert all(
        path.name in str(letter.error) for path, letter in zip(sorted(bad), result.letters, strict=True)
    )


# ---------------------------------------------------------------------------------------------- pictures


def picture(mode: str = "RGB", size: tuple[int, int] = (4, 3), **options: Any) -> bytes:
    count = size[0] * size[1] * len(Image.new(mode, (1, 1)).getbands())
    made = io.BytesIO()
    image = Image.frombytes(mode, size, bytes(number % 256 for number in range(count)))
    image.save(made, options.pop("format", "PNG"), **options)
    return made.getvalue()


def test_images(tmp_path: Path, read: Read) -> None:
    (tmp_path / "grey.png").write_bytes(picture("L"))
    (tmp_path / "rgb.png").write_bytes(picture("RGB"))
    (tmp_path / "x.txt").write_text("not read")
    source = ImageDatasource(tmp_path, include_paths=True)
    grey, rgb = read(source).rows
    assert grey["image"].shape == (3, 4) and rgb["image"].shape == (3, 4, 3)
    np.testing.assert_array_equal(rgb["image"].ravel(), np.arange(36))
    assert rgb["path"] == str(tmp_path / "rgb.png")
    assert source.num_rows() == 2


def test_mode_and_size(tmp_path: Path, read: Read) -> None:
    (tmp_path / "grey.png").write_bytes(picture("L"))
    (tmp_path / "rgba.png").write_bytes(picture("RGBA"))
    result = read(ImageDatasource(tmp_path, mode="RGB", size=(8, 6)))
    assert [image.shape for image in result.column("image")] == [(8, 6, 3)] * 2
    assert isinstance(result.blocks[0].schema.field("image").type, pa.FixedShapeTensorType)


def test_other_kinds_of_images(tmp_path: Path, read: Read) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    Image.fromarray(np.array([[1, 60000]], np.uint16)).save(tmp_path / "2.png")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).convert("P").save(tmp_path / "3.gif")
    first, second, third = read(ImageDatasource(tmp_path)).column("image")
    assert first.astype(bool).tolist() == [[True, False]]
    assert second.tolist() == [[1, 60000]]
    assert third.shape == (2, 2)


def test_exif_turns_are_not_made(tmp_path: Path, read: Read) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(picture("RGB", (40, 20), format="JPEG", exif=exif.tobytes()))
    assert read(ImageDatasource(tmp_path)).column("image")[0].shape == (20, 40, 3)


def test_broken_images(tmp_path: Path, read: Read) -> None:
    good = picture("RGB", (64, 64))
    (tmp_path / "good.png").write_bytes(good)
    check_broken(ImageDatasource, tmp_path, read, broken_copies(tmp_path, good, "png"), 1)


def test_huge_dimensions_are_refused_before_they_take_memory(tmp_path: Path, read: Read) -> None:
    data = bytearray(picture())
    data[16:24] = struct.pack(">II", 20_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a.png: it has 20000 x 20000 pixels, max_pixels is 178956970"):
        read(ImageDatasource(tmp_path))


def test_the_limit_of_pillow_gives_way_to_ours(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    (tmp_path / "a.png").write_bytes(picture())
    assert len(read(ImageDatasource(tmp_path)).rows) == 1
    assert Image.MAX_IMAGE_PIXELS == 5


def test_labels_by_folder(tmp_path: Path, read: Read) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(picture())
    source = ImageDatasource(
        tmp_path, partitioning=Partitioning("dir", field_names=["class"], base_dir=str(tmp_path))
    )
    assert read(source).column("class") == ["cat", "dog"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"size": 3}, ValueError, "size must be"),
        ({"size": (3,)}, ValueError, "size must be"),
        ({"size": (0, 3)}, ValueError, "size must be"),
        ({"size": (3.5, 3)}, TypeError, "size must be"),
        ({"mode": 3}, TypeError, "mode must be"),
        ({"max_pixels": 0}, ValueError, "max_pixels"),
    ],
)
def test_wrong_options_of_images(tmp_path: Path, options: Any, error: type[Exception], text: str) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    with pytest.raises(error, match=text):
        ImageDatasource(tmp_path, **options)


@pytest.mark.parametrize(
    ("source", "module", "extra"),
    [
        (ImageDatasource, "PIL.Image", "data-images"),
        (AudioDatasource, "soundfile", "data-audio"),
        (VideoDatasource, "av", "data-video"),
        (PDFDatasource, "pypdfium2", "data-pdf"),
        (HTMLDatasource, "selectolax.lexbor", "data-html"),
    ],
)
def test_a_missing_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'skate-runtime\[{extra}\]'"):
        source(tmp_path)


# ---------------------------------------------------------------------------------------------- sound


def sound(folder: Path, name: str, samples: Any, rate: int = 8000, **options: Any) -> bytes:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(folder / name, samples, rate, **options)
    return (folder / name).read_bytes()


def tone(seconds: float = 0.5, rate: int = 8000, channels: int = 1) -> Any:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    return np.stack([wave] * channels, axis=1).astype(np.float32)


def test_audio(tmp_path: Path, read: Read) -> None:
    sound(tmp_path, "a.wav", tone(), subtype="FLOAT")
    sound(tmp_path, "b.flac", tone(0.25, 16_000, 2), 16_000)
    mono, stereo = read(AudioDatasource(tmp_path)).rows
    np.testing.assert_allclose(mono["amplitude"], tone().T)
    assert mono["amplitude"].dtype == np.float32 and mono["sample_rate"] == 8000
    assert stereo["amplitude"].shape == (2, 4000) and stereo["sample_rate"] == 16_000


def test_audio_is_resampled_and_mixed(tmp_path: Path, read: Read) -> None:
    sound(tmp_path, "a.ogg", tone(1, 44_100, 2), 44_100)
    [row] = read(AudioDatasource(tmp_path, sample_rate=16_000, mono=True)).rows
    assert row["amplitude"].shape == (1, 16_000) and row["sample_rate"] == 16_000
    peak = np.abs(np.fft.rfft(row["amplitude"][0])).argmax()
    assert peak == 440


def test_what_libsndfile_does_not_know_is_left_to_ffmpeg(tmp_path: Path, read: Read) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(1).T.copy(), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    [row] = read(AudioDatasource(tmp_path)).rows
    assert row["sample_rate"] == 8000 and 7000 < row["amplitude"].shape[1] < 11_000


def test_broken_audio(tmp_path: Path, read: Read) -> None:
    good = sound(tmp_path, "good.flac", tone(2))
    bad = [path for path in broken_copies(tmp_path, good, "flac") if path.stem != "cut"]
    (tmp_path / "cut.flac").unlink()  # what is there of it may be decoded
    check_broken(AudioDatasource, tmp_path, read, bad, 1)


def test_audio_limits_and_options(tmp_path: Path, read: Read) -> None:
    sound(tmp_path, "a.wav", tone(1))
    with pytest.raises(ValueError, match="it has 8000 samples, max_samples is 100"):
        read(AudioDatasource(tmp_path, max_samples=100))
    with pytest.raises(TypeError, match="sample_rate"):
        AudioDatasource(tmp_path, sample_rate="16k")
    with pytest.raises(TypeError, match="mono"):
        AudioDatasource(tmp_path, mono=1)


# ---------------------------------------------------------------------------------------------- video


def video(path: Path, frames: int = 20, fps: int = 10, size: tuple[int, int] = (64, 48)) -> bytes:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), number % 20 * 10, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path.read_bytes()


def test_videos(tmp_path: Path, read: Read) -> None:
    video(tmp_path / "a.mp4")
    rows = read(VideoDatasource(tmp_path, include_timestamps=True)).rows
    assert [row["frame_index"] for row in rows] == list(range(20))
    assert rows[0]["frame"].shape == (48, 64, 3) and rows[0]["frame"].dtype == np.uint8
    assert [round(row["frame"].mean() / 10) for row in rows] == list(range(20))
    np.testing.assert_allclose(
        [row["frame_timestamp"] for row in rows], [[n / 10, (n + 1) / 10] for n in range(20)]
    )
    assert read(VideoDatasource(tmp_path)).rows[0].keys() == {"frame", "frame_index"}


def test_some_frames(tmp_path: Path, read: Read) -> None:
    video(tmp_path / "a.mp4")
    assert read(VideoDatasource(tmp_path, fps=5)).column("frame_index") == list(range(0, 20, 2))
    assert read(VideoDatasource(tmp_path, fps=100)).column("frame_index") == list(range(20))
    assert read(VideoDatasource(tmp_path, stride=6)).column("frame_index") == [0, 6, 12, 18]
    assert read(VideoDatasource(tmp_path, fps=5, stride=5)).column("frame_index") == [0, 10]
    assert read(VideoDatasource(tmp_path, resize=(10, 20))).column("frame")[0].shape == (10, 20, 3)


def test_frames_come_before_the_video_ends(tmp_path: Path) -> None:
    from skate.data._task.operators import TaskContext

    video(tmp_path / "a.mp4", frames=100)
    [task] = VideoDatasource(tmp_path).get_read_tasks()
    blocks = list(task.read_fn.read(TaskContext("0.0", target_max_block_bytes=100_000)))
    assert len(blocks) >= 5 and sum(block.num_rows for block in blocks) == 100


def test_broken_videos(tmp_path: Path, read: Read) -> None:
    good = video(tmp_path / "good.mp4")
    check_broken(VideoDatasource, tmp_path, read, broken_copies(tmp_path, good, "mp4"), 20)
    with pytest.raises(ValueError, match="its frames have 3072 pixels, max_pixels is 100"):
        read(VideoDatasource(tmp_path / "good.mp4", max_pixels=100))
    with pytest.raises(ValueError, match="stride"):
        VideoDatasource(tmp_path, stride=0)
    with pytest.raises(TypeError, match="fps"):
        VideoDatasource(tmp_path, fps="5")


# ---------------------------------------------------------------------------------------------- PDF


def pdf(*texts: str) -> bytes:
    """Write a PDF file by hand: a page for each text."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    pages = []
    for text in texts:
        stream = f"BT /F1 24 Tf 20 100 Td ({text}) Tj ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 144] /Contents {len(objects)} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        pages.append(len(objects))
    kids = " ".join(f"{page} 0 R" for page in pages)
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"
    made, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(made))
        made += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    made += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{made.rindex('endobj') + 7}\n%%EOF"
    return made.encode()


def test_pdf(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("one", "two", "three"))
    assert read(PDFDatasource(tmp_path)).rows == [
        {"page": number, "num_pages": 3, "text": text} for number, text in enumerate(("one", "two", "three"))
    ]
    assert read(PDFDatasource(tmp_path, per="document")).rows == [{"num_pages": 3, "text": "one\ftwo\fthree"}]
    assert read(PDFDatasource(tmp_path, per="document", max_pages=2)).column("text") == ["one\ftwo"]
    assert len(read(PDFDatasource(tmp_path, max_pages=1)).rows) == 1
    assert PDFDatasource(tmp_path, per="document").num_rows() == 1
    assert PDFDatasource(tmp_path).num_rows() is None


def test_pdf_pictures(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("one"))
    [row] = read(PDFDatasource(tmp_path, render_dpi=144, text=False)).rows
    assert row["image"].shape == (288, 400, 3) and "text" not in row
    assert row["image"].min() < 100 < row["image"].max()
    with pytest.raises(
        ValueError, match="page 0 would have 400 x 288 pixels at render_dpi=144, max_pixels is 1000"
    ):
        read(PDFDatasource(tmp_path, render_dpi=144, max_pixels=1000))
    with pytest.raises(ValueError, match="render_dpi"):
        PDFDatasource(tmp_path, render_dpi=72, per="document")
    with pytest.raises(ValueError, match="per must be one of 'page', 'document'"):
        PDFDatasource(tmp_path, per="line")


def test_broken_pdf(tmp_path: Path, read: Read) -> None:
    (tmp_path / "good.pdf").write_bytes(pdf("one"))
    bad = [path for path in broken_copies(tmp_path, pdf("one"), "pdf") if path.stem != "cut"]
    (tmp_path / "cut.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n<< /Type")
    check_broken(PDFDatasource, tmp_path, read, [*bad, tmp_path / "cut.pdf"], 1)


# ---------------------------------------------------------------------------------------------- HTML


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p><b>a</b> b</p>", "a b"),
        ("<p>one <a href='x'>two</a>,\n  <i>three</i>.</p>", "one two, three."),
        ("<h1>Head</h1>text<div>more<p>deep</p>after</div>", "Head\ntext\nmore\ndeep\nafter"),
        ("a<br>b<br/><br/>c", "a\nb\nc"),
        ("a<p></p>b<!-- no text -->c<hr>d", "a\nbc\nd"),
        ("<ul><li>one<ul><li>two</li></ul><li><b>th</b>ree</ul>", "one\ntwo\nthree"),
        ("<table><tr><th>k<th>v</tr><tr><td><b>x</b> y</td><td> 1 </td></tr></table>", "k\tv\nx y\t1"),
        ("<table><tr><td><p>a</p></td><td><p>b</p></td></tr></table>", "a\nb"),
        ("<pre>def f():\n    return  1\n\n\tx</pre>y", "def f():\n    return  1\n\tx\ny"),
        ("<pre><code>a\r\n<b> b</b></code></pre>", "a\n b"),
        ("a&nbsp;b &lt;c&gt;", "a\xa0b <c>"),
        ("<p> \n </p><div>  </div>", ""),
        ("<div>" * 5_000 + "deep" + "<span>" * 5_000 + "er", "deeper"),
    ],
)
def test_lines_of_html(tmp_path: Path, read: Read, source: str, text: str) -> None:
    (tmp_path / "a.html").write_bytes(source.encode())
    assert read(HTMLDatasource(tmp_path, encoding="utf-8")).column("text") == [text]
    if text.count("\n"):
        joined = read(HTMLDatasource(tmp_path, separator=" | ", encoding="utf-8")).column("text")
        assert joined == [text.replace("\n", " | ")]


def test_html(tmp_path: Path, read: Read) -> None:
    page = "<html><head><title> A  title </title><style>p {}</style></head><body><p>One</p><script>no</script><p>Two"
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.htm").write_text("just text")
    (tmp_path / "c.html").write_bytes("<meta charset='iso-8859-1'><p>caf\u00e9".encode("latin-1"))
    (tmp_path / "d.html").write_bytes("<p>caf\u00e9".encode("utf-16"))
    (tmp_path / "e.html").write_bytes(b"")
    rows = read(HTMLDatasource(tmp_path, include_html=True)).rows
    assert rows[0] == {"title": "A  title", "text": "One\nTwo", "html": page}
    assert rows[1]["title"] is None and rows[1]["text"] == "just text"
    assert [row["text"] for row in rows[2:]] == ["caf\u00e9", "caf\u00e9", ""]
    assert HTMLDatasource(tmp_path).schema() == pa.schema([("title", pa.string()), ("text", pa.string())])
    with pytest.raises(ValueError, match="encoding"):
        HTMLDatasource(tmp_path, encoding="nonsense")
