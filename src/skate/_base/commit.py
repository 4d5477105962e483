"""Finds the commit of the source tree that this process runs from."""

from __future__ import annotations

import os


def commit() -> str:
    """Return the commit of the source tree; "unknown" for an installed package."""
    folder = os.path.abspath(__file__)
    for _ in range(4):
        folder = os.path.dirname(folder)
    try:
        git = os.path.join(folder, ".git")
        if os.path.isfile(git):  # a further working tree of the same repository
            with open(git, encoding="utf-8") as file:
                git = os.path.join(folder, file.read().partition("gitdir:")[2].strip())
        with open(os.path.join(git, "HEAD"), encoding="utf-8") as file:
            head = file.read().strip()
        if not head.startswith("ref: "):
            return head
        common = git
        if os.path.exists(os.path.join(git, "commondir")):
            with open(os.path.join(git, "commondir"), encoding="utf-8") as file:
                common = os.path.join(git, file.read().strip())
        with open(os.path.join(common, head[5:]), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
