"""Patterns as git has them; where git is installed, it is the judge."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pathspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skate._environment import ignore


def ignored(path: str, *patterns: str, base: str = "") -> bool:
    return ignore.is_ignored(path.rstrip("/"), path.endswith("/"), ignore.parse(patterns, base))


CASES = [
    ("a.log", ["*.log"], True),
    ("sub/a.log", ["*.log"], True),
    ("a.log", ["/*.log"], True),
    ("sub/a.log", ["/*.log"], False),
    ("sub/a.log", ["sub/*.log"], True),
    ("x/sub/a.log", ["sub/*.log"], False),
    ("x/sub/a.log", ["**/sub/*.log"], True),
    ("sub/a.log", ["**/sub/*.log"], True),
    ("a/x/y/b", ["a/**/b"], True),
    ("a/b", ["a/**/b"], True),
    ("a/x", ["a/**"], True),
    ("ab", ["a**b"], True),
    ("data/", ["data/"], True),
    ("data", ["data/"], False),
    ("x/data/", ["data/"], True),
    ("a.log", ["*.log", "!a.log"], False),
    ("a.log", ["!a.log", "*.log"], True),
    ("a.log", ["# a.log", "", "   "], False),
    ("#a", ["\\#a"], True),
    ("!a", ["\\!a"], True),
    ("a b", ["a b"], True),
    ("a", ["a  "], True),
    ("a ", ["a\\ "], True),
    ("file1", ["file[0-9]"], True),
    ("filex", ["file[!0-9]"], True),
    ("file1", ["file[!0-9]"], False),
    ("file[", ["file["], False),
    ("ab", ["a?"], True),
    ("a/b", ["a?b"], False),
    ("a.b", ["a*b"], True),
    ("a+b", ["a+b"], True),
    ("aab", ["a+b"], False),
    ("a", ["/**"], True),
    ("x/a", ["/**", "!x"], True),
    ("a", ["//a"], False),
    ("a/", ["a//"], False),
]


@pytest.mark.parametrize(("path", "patterns", "expected"), CASES)
def test_patterns(path: str, patterns: list[str], expected: bool) -> None:
    assert ignored(path, *patterns) is expected


def test_patterns_of_a_folder_hold_below_it() -> None:
    assert ignored("sub/a.log", "/a.log", base="sub/")
    assert ignored("sub/x/a.log", "a.log", base="sub/")
    assert not ignored("a.log", "a.log", base="sub/")
    assert not ignored("sub/x/a.log", "/a.log", base="sub/")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_thinks_so_too(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for path, patterns, expected in CASES:
        (tmp_path / ".gitignore").write_text("\n".join(patterns) + "\n")
        # That a folder is one git believes when it sees it.
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir() if path.endswith("/") else place.touch()
        asked = subprocess.run(
            ["git", "-C", str(tmp_path), "check-ignore", "-q", "--", f"./{path.rstrip('/')}"], check=False
        )
        shutil.rmtree(tmp_path / path.split("/")[0]) if "/" in path else place.unlink()
        assert (asked.returncode == 0) is expected, (path, patterns)


# ---------------------------------------------------------------------- any patterns

_PARTS = ["a", "b", "ab", ".", "*", "?", "**", "/", "[ab]", "\\*"]
_NEGATED = ["[!a]", "[^b]"]
#: What is in the folder: files, but for those that have others in them.
FILES = ["a", "b", "ab", ".a", "a.b", "aa/a", "aa/b", "aa/ab/a", "ba/a.b", "ba/.b/ab", "bb/a/b/ab"]


def _patterns(parts: list[str], starts: list[str]) -> st.SearchStrategy[list[str]]:
    words = st.lists(st.sampled_from(parts), min_size=1, max_size=5).map("".join)
    # A path from "./" on is ours: git has none. Two stars beside anything but a slash match what they please.
    words = words.filter(lambda word: "./" not in word and not re.search(r"[^/]\*\*|\*\*[^/]", word))
    return st.lists(st.builds(str.__add__, st.sampled_from(starts), words), min_size=1, max_size=3)


def _left_out(path: str, patterns: list[str]) -> bool:
    """Tell whether a file is left out, itself or one of its folders, as the walk of a tree finds it."""
    rules = ignore.parse(patterns)
    folders = ("/".join(path.split("/")[:end]) for end in range(1, path.count("/") + 1))
    return any(ignore.is_ignored(one, True, rules) for one in folders) or ignore.is_ignored(
        path, False, rules
    )


@given(_patterns(_PARTS, [""]))
def test_pathspec_thinks_so_too(patterns: list[str]) -> None:
    """Without the patterns about which it differs from git: ``!``, and classes of all other characters, which match
    a slash there. For it, a folder is one of the things in itself, which ``**/`` leaves out."""
    assume(not any(pattern.endswith("**/") for pattern in patterns))
    spec = pathspec.GitIgnoreSpec.from_lines(patterns)
    assert [path for path in FILES if _left_out(path, patterns)] == [*filter(spec.match_file, FILES)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("checkout")
    subprocess.run(["git", "init", "-q", folder], check=True)
    for path in FILES:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


@settings(max_examples=50)
@given(_patterns(_PARTS + _NEGATED, ["", "", "!"]))
def test_git_thinks_so_too_of_any_patterns(checkout: Path, patterns: list[str]) -> None:
    (checkout / ".gitignore").write_text("\n".join(patterns) + "\n")
    asked = subprocess.run(
        ["git", "-C", str(checkout), "check-ignore", "--stdin"],
        input="\n".join(f"./{path}" for path in FILES), stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    found = [line.removeprefix("./") for line in asked.stdout.splitlines()]
    assert [path for path in FILES if _left_out(path, patterns)] == found
