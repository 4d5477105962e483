"""What all command lines of benchmarks take: names, separated by commas."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase


def names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a type for ``argparse``: some of these names.

    Args:
        known: all that there are.
    """

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(name.strip() for name in text.split(","))
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return chosen

    return parse


def lines(known: Mapping[str, Collection[str]], **groups: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a type for ``argparse``: lines by name, by pattern ("queue_*") or by group.

    Args:
        known: all lines, with the groups that each belongs to.
        groups: all groups, by what they are called.
    """

    def parse(text: str) -> tuple[str, ...]:
        chosen: list[str] = []
        for pattern in (part.strip() for part in text.split(",")):
            found = [name for name, of in known.items() if pattern in of or fnmatchcase(name, pattern)]
            if not found:
                there = {"lines": known, **groups}
                raise argparse.ArgumentTypeError(
                    f"no line is called {pattern!r}; "
                    + "; ".join(f"{what}: {', '.join(some)}" for what, some in there.items())
                )
            chosen += found
        return tuple(chosen)

    return parse
