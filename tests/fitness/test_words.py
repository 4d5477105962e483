"""The code and the documents speak the words of the field: see the glossary in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sources import PACKAGE, ROOT

#: Words that only this project's first authors understood, and the words of the field in their place. Verbs
#: and plurals are listed where they occurred.
BANNED = {
    "arrivals": "deserialized refs",
    "bequeath": "pass on",
    "board": "progress table",
    "certificate": "exit report",
    "certificates": "exit reports",
    "certified": "reported",
    "certifies": "reports",
    "certify": "report",
    "crew": "worker pool key",
    "crews": "worker pool keys",
    "drowsy": "lazy",
    "errand": "callback on the main thread",
    "errands": "callbacks on the main thread",
    "hollow": "contained references released",
    "keeper": "supervisor",
    "keepers": "supervisors",
    "met": "received",
    "nobodys": "discarding",
    "nowhere": "infeasible",
    "sober": "skips polling",
    "strand": "call thread",
    "strands": "call threads",
    "told": "reported, or a snapshot",
    "unfit": "infeasible",
    "unread": "unretrieved",
    "untold": "not yet notified",
    "valueless": "without a value",
    "whoever": "the process, thread or user that is meant",
}
#: Where certificates are those of TLS.
ABOUT_TLS = (
    "src/skate/serve/_http/tls.py",
    "src/skate/serve/_targets.py",
    "src/skate/serve/config.py",
    "docs/serve.md",
)
#: The words of a text: names are split at underscores and capitals.
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
#: A bare *Who* or *What* as the subject of a statement; questions may begin so.
BARE_SUBJECT = re.compile(r"(?:^|(?<=[.:;!?]\s))(?:Who|What|Whoever|Whatever)\b(?![^.?!]*\?)")
#: Code in Markdown, among it what programs really printed.
CODE = re.compile(r"^```.*?^```$|^    .*?$", re.DOTALL | re.MULTILINE)
#: Parts of Markdown that are no sentences: headings, tables, names, links' targets, comments.
NO_PROSE = re.compile(r"^#[^\n]*$|^\|[^\n]*$|`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.DOTALL | re.MULTILINE)

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
#: This table is made of the conformance suite's own words: tests/compat/differences.py.
MADE = re.compile(r"<!-- differences: .*?<!-- end of differences -->", re.DOTALL)


def _parts() -> dict[str, list[Path]]:
    """Return every package and module directly in ``skate``, with its files."""
    found = {path.stem: [path] for path in PACKAGE.glob("*.py")}
    for folder in PACKAGE.iterdir():
        if (folder / "__init__.py").is_file():
            found[folder.name] = sorted(folder.rglob("*.py"))
    return found


PARTS = _parts()


def banned_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the word of each banned word, also where it is a part of a name."""
    for match in WORD.finditer(text):
        if match[0].lower() in BANNED:
            yield text.count("\n", 0, match.start()) + 1, match[0].lower()


def faulty_words(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the line of each banned word in a file, and the words to say instead."""
    is_about_tls = str(path.relative_to(ROOT)) in ABOUT_TLS
    for line, word in banned_in(text):
        if not (is_about_tls and word in ("certificate", "certificates")):
            yield line, f"{word!r}; say {BANNED[word]!r}"


def poor_docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the fault of each docstring that refers to another one or has no noun as subject."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        words = " ".join((ast.get_docstring(node) or "").split())
        line = getattr(node, "lineno", 1)
        if "See the module's text" in words:
            yield line, "See the module's text"
        for match in BARE_SUBJECT.finditer(words):
            yield line, words[match.start() :][:40]


def poor_comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the fault of each block of comments with a sentence that has no noun as subject."""
    blocks: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, words = token.start[0], token.string.lstrip("#: ")
        alone = token.line.strip() == token.string
        if blocks and alone and blocks[-1][0] + blocks[-1][1].count("\n") + 1 == line:
            blocks[-1] = (blocks[-1][0], f"{blocks[-1][1]}\n{words}")
        else:
            blocks.append((line, words))
    for line, words in blocks:
        for match in BARE_SUBJECT.finditer(words.replace("\n", " ")):
            yield line, words[match.start() :][:40]


def _faults(part: str) -> list[str]:
    found = []
    for path in PARTS[part]:
        text, name = path.read_text(), path.relative_to(ROOT)
        found += [f"{name}:{line}: {fault}" for line, fault in faulty_words(path, text)]
        found += [f"{name}:{line}: {fault!r}" for line, fault in poor_docstrings(text)]
        found += [f"{name}:{line}: {fault!r}" for line, fault in poor_comments(text)]
    return found


@pytest.mark.parametrize("part", sorted(PARTS))
def test_sources_use_the_words_of_the_field(part: str) -> None:
    assert _faults(part) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_use_the_words_of_the_field(path: Path) -> None:
    text = CODE.sub("", MADE.sub("", path.read_text()))
    assert [fault for _, fault in faulty_words(path, text)] == []
    prose = NO_PROSE.sub("", text)
    assert [prose[match.start() :][:60] for match in BARE_SUBJECT.finditer(" ".join(prose.split()))] == []


def test_the_glossary_names_the_words_that_are_used_instead() -> None:
    glossary = (ROOT / "ARCHITECTURE.md").read_text().partition("\n## Glossary\n")[2].partition("\n## ")[0]
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", glossary, re.MULTILINE)
    assert len(terms) > 20
    assert terms == sorted(terms, key=str.lower)
    for term in ("worker pool key", "exit report", "progress table", "infeasible", "owner", "lease"):
        assert term in terms


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the crew of a worker", ["crew"]),
        ("CrewTable.find_crews()", ["crew", "crews"]),
        ("_board_fd = 4", ["board"]),
        ("a keyboard and a dashboard", []),
        ("MOST_SOBER = 256", ["sober"]),
        ("unread errors", ["unread"]),
        ("the metric is strict", []),
    ],
)
def test_banned_words_are_seen(text: str, words: list[str]) -> None:
    assert [word for _, word in banned_in(text)] == words


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("See the module's text.", True),
        ("Who waits polls first.", True),
        ("Return it. What is left is freed.", True),
        ("Return what is left.", False),
        ("Whose fault is it?", False),
        ("What does it cost? Nothing.", False),
    ],
)
def test_poor_docstrings_are_seen(docstring: str, fault: bool) -> None:
    assert bool([*poor_docstrings(f'def f():\n    """{docstring}"""\n')]) is fault


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("#: What is left.\nx = 1\n", [1]),
        ("x = 1  # the rest. Who reads it?\n", []),
        ("# It is freed.\n# Whoever\n# reads it waits.\n", [1]),
        ("# Whatever\n", [1]),
    ],
)
def test_poor_comments_are_seen(program: str, lines: list[int]) -> None:
    assert [line for line, _ in poor_comments(program)] == lines
