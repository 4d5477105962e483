"""Patterns as git has them; where git is installed, it is the judge."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

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
