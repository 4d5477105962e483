"""`python -m demo` as a user runs it, on pictures drawn here, with words that the model must find."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from demo.readings import Reading

for package in ("skate", "rapidocr", "onnxruntime", "pyarrow", "numpy", "rich", "PIL"):
    pytest.importorskip(package, reason=f"the demo needs {package}: pip install -e '.[demo]'")

# Not by import statements: those would have to stand above the skips.
Image = pytest.importorskip("PIL.Image")
ImageDraw = pytest.importorskip("PIL.ImageDraw")
output = pytest.importorskip("demo.output")

ROOT = Path(__file__).resolve().parents[2]
#: A run starts processes that load models, some on one CPU.
pytestmark = pytest.mark.time_limit(300)

WORDS = {
    "harbour.png": "HARBOUR",
    "lantern.jpg": "Lantern",
    "below/meadow.png": "Meadow",
    "below/clockwork.bmp": "Clockwork",
    "transparent.png": "Window",
    "grey.png": "Orchard",
}
#: Mode, paper and ink, where they are not RGB, white and black.
COLOURS = {"transparent.png": ("RGBA", "#00000000", "#000000ff"), "grey.png": ("L", "white", "black")}
BROKEN = "broken.png"


def run_demo(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(arguments), cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def command(arguments: Sequence[str | Path]) -> list[str]:
    return [sys.executable, "-m", "demo", *map(str, arguments)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures in several formats and colour modes, and a file that only claims to be one."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, word in WORDS.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        mode, paper, ink = COLOURS.get(name, ("RGB", "white", "black"))
        picture = Image.new(mode, (480, 160), paper)
        ImageDraw.Draw(picture).text((40, 40), word, fill=ink, font_size=64)
        picture.save(path)
    (folder / BROKEN).write_bytes(b"this is no picture")
    with pytest.raises(OSError):
        Image.open(folder / BROKEN)
    return folder


@pytest.fixture(scope="module")
def complete(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of a run with all baselines, and what the run printed."""
    out = tmp_path_factory.mktemp("complete")
    done = run_demo("--folder", folder, "--out", out, "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def assert_all_read_once(out: Path, folder: Path) -> None:
    readings = {reading.path: reading for reading in output.load(out)}
    paths = Counter(reading.path for reading in output.load(out))
    assert paths == Counter(str(folder / name) for name in [*WORDS, BROKEN])
    for name, word in WORDS.items():
        reading = readings[str(folder / name)]
        assert (reading.error, reading.width, reading.height) == (None, 480, 160)
        assert word.lower() in reading.text.lower(), f"{name}: {reading.text!r}"
        for line in reading.lines:
            assert 0 < line.confidence <= 1
            assert len(line.box) == 4
    assert readings[str(folder / BROKEN)] == Reading(
        str(folder / BROKEN), error="cannot be decoded: not a picture in any format that Pillow knows"
    )


def test_every_picture_is_in_the_output_once_with_its_words(complete: tuple[Path, str], folder: Path) -> None:
    out, printed = complete
    assert_all_read_once(out, folder)
    assert f"{BROKEN}: cannot be decoded" in printed
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 400
    assert re.search(r"^Why +\S", printed, re.MULTILINE), printed
    assert (out / "run.svg").read_text().startswith("<svg")
    assert sorted(path.name for path in out.iterdir()) == ["contact-sheet.png", "pictures.parquet", "run.svg"]


def test_the_baselines_find_the_same(complete: tuple[Path, str]) -> None:
    _, printed = complete
    for name in ("multiprocessing", "plain loop"):
        assert re.search(rf"^ *{name}  .* equal *$", printed, re.MULTILINE), printed


def test_chaos_kills_a_reader_and_loses_nothing(folder: Path, tmp_path: Path) -> None:
    done = run_demo("--folder", folder, "--out", tmp_path, "--workers", "2", "--chaos", "--no-baselines")
    assert done.returncode == 0, done.stdout + done.stderr
    killed = re.search(r"killed a reader \(pid (\d+)\) while it read (\S+)", done.stdout)
    assert killed, done.stdout
    assert killed[2] in {Path(name).name for name in WORDS}
    with pytest.raises(ProcessLookupError):
        os.kill(int(killed[1]), 0)
    assert_all_read_once(tmp_path, folder)
    assert "plain loop" not in done.stdout


def test_the_seed_chooses_the_same_pictures_again(folder: Path, tmp_path: Path) -> None:
    chosen = []
    for out in (tmp_path / "first", tmp_path / "second"):
        done = run_demo(
            "--folder",
            folder,
            "--out",
            out,
            "--count",
            "2",
            "--seed",
            "5",
            "--workers",
            "1",
            "--no-baselines",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        chosen.append([reading.path for reading in output.load(out)])
    assert len(chosen[0]) == 2
    assert chosen[0] == chosen[1]


def test_search_finds_a_picture_by_its_text(complete: tuple[Path, str], folder: Path) -> None:
    out, _ = complete
    done = run_demo("--out", out, "--search", "haRBour")
    assert done.returncode == 0, done.stderr
    assert str(folder / "harbour.png") in done.stdout
    assert re.search(r"^ +\d+%  HARBOUR$", done.stdout, re.MULTILINE)
    assert "1 line in 1 picture" in done.stdout


def test_search_says_when_nothing_is_found(complete: tuple[Path, str]) -> None:
    out, _ = complete
    done = run_demo("--out", out, "--search", "xylophone")
    assert done.returncode == 1
    assert "nothing found" in done.stdout


def test_search_without_output_says_what_to_do(tmp_path: Path) -> None:
    done = run_demo("--out", tmp_path, "--search", "harbour")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no pictures.parquet")


def test_errors_are_one_line(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file"
    file.touch()
    for arguments, message in (
        (("--folder", tmp_path / "missing", "--out", tmp_path), "there is no folder"),
        (("--folder", file, "--out", tmp_path), "is not a folder"),
        (("--folder", empty, "--out", tmp_path), "no pictures in"),
        (("--folder", folder, "--out", file), "cannot write to the output folder"),
    ):
        done = run_demo(*arguments)
        assert done.returncode == 2
        assert re.fullmatch(rf"error: .*{message}.*\n", done.stderr), done.stderr


def test_without_apt_it_says_so_and_goes_on(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run_demo("--out", tmp_path, "--count", "1", "--workers", "1", "--no-baselines", env=env)
    assert "No pictures from Debian's package gimp-help-en: apt-get is not on this machine" in done.stdout
    if done.returncode:
        assert done.stderr.startswith("error: scikit-image is not installed either"), done.stderr
    else:
        assert len(output.load(tmp_path)) == 1


def test_ctrl_c_ends_it_with_one_line(folder: Path, tmp_path: Path) -> None:
    with started("--folder", folder, "--out", tmp_path, "--no-baselines") as running:
        assert running.stdout is not None
        while not running.stdout.readline().startswith("Workers"):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    assert running.returncode == 130
    assert errors == "Stopped; the same command goes on with the pictures that are left.\n"
    assert not (tmp_path / "pictures.parquet").exists()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on(folder: Path, tmp_path: Path, end: signal.Signals) -> None:
    arguments = ("--folder", folder, "--out", tmp_path, "--workers", "1", "--no-baselines")
    with started(*arguments) as running:
        while not written(tmp_path):
            assert running.poll() is None
        running.send_signal(end)
        running.communicate()
    before = written(tmp_path)
    done = run_demo(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    resumed = re.search(r"^Resumed +(\d+) pictures", done.stdout, re.MULTILINE)
    assert resumed, f"{before} were written: {done.stdout}"
    assert_all_read_once(tmp_path, folder)
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.parametrize("point", ["after_record:6", "before_list", "after_marker"])
def test_a_run_that_was_killed_late_still_says_why_pictures_are_missing(
    folder: Path, tmp_path: Path, point: str
) -> None:
    """The picture that is none was found out by the run that was killed, and is not looked at again."""
    arguments = ("--folder", folder, "--out", tmp_path, "--workers", "1", "--no-baselines")
    killed = run_demo(*arguments, env={**os.environ, "SKATE_DATA_CRASH_POINT": point})
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    done = run_demo(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_all_read_once(tmp_path, folder)


def test_what_a_run_left_is_dropped_when_other_pictures_are_to_be_read(folder: Path, tmp_path: Path) -> None:
    with started("--folder", folder, "--out", tmp_path, "--workers", "1", "--no-baselines") as running:
        while not written(tmp_path):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        running.communicate()
    done = run_demo(
        "--folder", folder / "below", "--out", tmp_path, "--workers", "1", "--no-baselines", "--count", "1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it is dropped" in done.stdout
    assert [Path(reading.path).parent for reading in output.load(tmp_path)] == [folder / "below"]


def test_pictures_that_are_all_unreadable_are_an_error(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / BROKEN).write_bytes(b"this is no picture")
    done = run_demo("--folder", pictures, "--out", tmp_path, "--no-baselines")
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.fullmatch(r"error: none of the pictures could be read.*\n", done.stderr), done.stderr
    [reading] = output.load(tmp_path)
    assert reading.error == "cannot be decoded: not a picture in any format that Pillow knows"


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(out: Path) -> int:
    """Return how many pictures a run under way has recorded as read."""
    return sum(len(path.read_bytes().splitlines()) for path in out.glob("unfinished/_skate/*/manifest*"))
