"""Decides by patterns as in ``.gitignore`` which files of a folder are left out. Decisions only.

The last pattern that matches decides; ``!`` takes back; a pattern with a slash before its end is relative to
the folder where it was written; a pattern that ends with a slash means folders only. Everything in a folder
that is left out is left out, whatever later patterns say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Rule(NamedTuple):
    """Holds one pattern, ready to match."""

    matches: re.Pattern[str]
    keeps: bool
    folders_only: bool
    #: The folder that it was written in, relative to the root, with a slash at its end; "" the root.
    base: str


def parse(lines: Iterable[str], base: str = "") -> list[Rule]:
    """Return the rules of a file's lines.

    Args:
        lines: patterns, comments and blank lines.
        base: the folder of the file: "" or "sub/folder/".
    """
    return [rule for line in lines if (rule := _rule(line, base)) is not None]


def is_ignored(path: str, is_folder: bool, rules: Iterable[Rule]) -> bool:
    """Tell whether a file or folder is left out.

    Args:
        path: relative to the root, with slashes.
        rules: the later ones win: those of deeper folders come last.
    """
    ignored = False
    for rule in rules:
        if rule.folders_only and not is_folder:
            continue
        if path.startswith(rule.base) and rule.matches.fullmatch(path, len(rule.base)):
            ignored = not rule.keeps
    return ignored


def _rule(line: str, base: str) -> Rule | None:
    pattern = re.sub(r"(?<!\\)\s+$", "", line.rstrip("\r\n"))
    if not pattern or pattern.startswith("#"):
        return None
    keeps = pattern.startswith("!")
    if keeps:
        pattern = pattern[1:]
    folders_only = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    if pattern.startswith("./"):
        pattern = pattern[1:]
    if not pattern:
        return None
    anchored = "/" in pattern
    text = ".+" if pattern == "/**" else _translate(pattern.removeprefix("/"))
    try:
        return Rule(re.compile(text if anchored else f"(?:.*/)?{text}", re.DOTALL), keeps, folders_only, base)
    except re.error:
        return None  # a range in reverse order matches nothing


def _translate(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    out: list[str] = []
    index, end = 0, len(pattern)
    while index < end:
        char = pattern[index]
        if pattern.startswith("**/", index) and (index == 0 or pattern[index - 1] == "/"):
            out.append("(?:.*/)?")
            index += 3
            continue
        if pattern.startswith("/**", index) and index + 3 == end:
            out.append("/.+")
            break
        if char == "*":
            while index + 1 < end and pattern[index + 1] == "*":
                index += 1
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            close = pattern.find("]", index + 2 + (pattern[index + 1 : index + 2] == "!"))
            if close < 0:
                return "(?!)"  # as git: matches nothing
            inside = pattern[index + 1 : close].replace("\\", "\\\\")
            if inside.startswith(("!", "^")):
                inside = "^/" + inside[1:]
            out.append(f"[{inside}]")
            index = close
        elif char == "\\" and index + 1 < end:
            index += 1
            out.append(re.escape(pattern[index]))
        else:
            out.append(re.escape(char))
        index += 1
    return "".join(out)
