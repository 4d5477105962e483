"""`python -m demo_search` as a user runs it, on documents written here."""

from __future__ import annotations

import gzip
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("wordllama", "pypdfium2", "selectolax", "pyarrow", "numpy", "rich"):
    pytest.importorskip(package, reason=f"demo_search needs {package}: pip install -e '.[demo-search]'")

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.time_limit(300)

BREAD = "Knead the dough of flour, water and yeast for ten minutes, and bake the loaf in a hot oven. "
BOATS = "Hoist the sail when the wind blows from behind, and hold the rudder of the boat steady. "
STARS = "A telescope shows the rings of Saturn and the moons of Jupiter on a clear night. "


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo_search", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def pdf(*pages: str) -> bytes:
    """Write a PDF file by hand: a page for each text."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    numbers = []
    for text in pages:
        stream = f"BT /F1 8 Tf 20 100 Td ({text}) Tj ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 4000 144] /Contents {len(objects)} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        numbers.append(len(objects))
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(numbers)} >>"
    made, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(made))
        made += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(made)}\n%%EOF\n"
    return f"{made}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{end}".encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    (folder / "bread.html").write_text(f"<title>Baking</title><p>{BREAD * 3}</p>")
    (folder / "copy.html").write_text(f"<title>Baking</title><p>{BREAD * 3}</p>")
    (folder / "boats.pdf").write_bytes(pdf("Contents of this book.", BOATS * 3))
    (folder / "below").mkdir()
    (folder / "below" / "stars.pdf.gz").write_bytes(gzip.compress(pdf(STARS * 3)))
    (folder / "broken.pdf").write_bytes(b"this is no PDF")
    return folder


@pytest.fixture(scope="module")
def indexed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder, and what was printed while it was made."""
    out = tmp_path_factory.mktemp("out")
    done = run("--folder", folder, "--out", out, "--workers", "1", "how", "do", "I", "bake", "a", "loaf?")
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_the_first_answer_is_about_the_question(indexed: tuple[Path, str], folder: Path) -> None:
    _, printed = indexed
    assert "\nhow do I bake a loaf?\n" in printed
    first = re.search(r"^1\. (\S+), Baking +\d\.\d\d$", printed, re.MULTILINE)
    assert first, printed
    assert first[1].endswith("bread.html")
    assert "Knead the dough" in printed


def test_near_duplicates_and_unreadable_documents_are_told(indexed: tuple[Path, str], folder: Path) -> None:
    out, printed = indexed
    assert re.search(r"^Index +4 chunks of text, without 1 near duplicates, in ", printed, re.MULTILINE), (
        printed
    )
    assert f"{folder / 'broken.pdf'}: " in printed
    assert "copy.html" not in printed
    assert re.search(r"^Why +\S", printed, re.MULTILINE)
    assert (out / "run.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("question", "name", "page"), [("sailing with the wind", "boats.pdf", 2), ("planets", "stars.pdf.gz", 1)]
)
def test_the_index_answers_again_with_file_and_page(
    indexed: tuple[Path, str], question: str, name: str, page: int
) -> None:
    out, _ = indexed
    done = run("--out", out, "--top", "1", question)
    assert done.returncode == 0, done.stderr
    assert "Index" not in done.stdout
    assert re.search(rf"^1\. \S+{re.escape(name)}, page {page}  ", done.stdout, re.MULTILINE), done.stdout


def test_without_apt_it_asks_the_reference_of_python(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run("--out", tmp_path / "out", "--top", "2", "how do I catch an exception", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No documents from Debian's package gimp-help-en: apt-get is not on this machine" in done.stdout
    assert re.search(r"^1\. python-reference/\w+\.html, ", done.stdout, re.MULTILINE), done.stdout
    assert "exception" in done.stdout.lower().partition("catch an exception")[2]


def test_errors_are_one_line(tmp_path: Path) -> None:
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    for arguments, message in (
        (("--folder", tmp_path / "missing"), "there is no folder"),
        (("--folder", file), "is not a folder"),
        (("--folder", empty), "no documents in"),
    ):
        done = run(*arguments, "--out", tmp_path / "out", "question")
        assert done.returncode == 2
        assert re.fullmatch(rf"error: .*{message}.*\n", done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


def test_documents_without_text_are_told(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "empty.html").write_text("<p></p>")
    done = run("--folder", documents, "--out", tmp_path / "out", "question")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == "nothing found: the documents have no text\n"


@pytest.mark.parametrize(
    ("words", "sizes"),
    [(0, []), (1, [1]), (128, [128]), (160, [160]), (161, [128, 33]), (300, [128, 128, 44])],
)
def test_chunks(words: int, sizes: list[int]) -> None:
    index = importlib.import_module("demo_search.index")
    row = {"path": "a", "page": 4, "text": " \n".join(map(str, range(words)))}
    chunks = list(index.cut(row))
    assert [len(chunk["text"].split()) for chunk in chunks] == sizes
    assert " ".join(chunk["text"] for chunk in chunks).split() == list(map(str, range(words)))
    assert {chunk["page"] for chunk in chunks} <= {5}
