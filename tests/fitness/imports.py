"""The graph of imports among skate's own modules, of every kind, for tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .sources import PACKAGE

NAME = re.compile(rf"{PACKAGE.name}(\.\w+)+")

#: Modules that have names of modules in tables and import others by variable: Ray's.
TABLES_OF_NAMES = ("skate._as_ray.names",)

Graph = dict[str, set[str]]
"""A module's name to those that it imports."""


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return every module's file by its name."""
    found = {}
    for path in package.rglob("*.py"):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        if all(part.isidentifier() for part in parts):  # not what lies in a folder of plain files
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, tree: ast.AST) -> Iterator[str]:
    """Yield the name of each thing that a module imports: at its top, inside of functions, for types only,
    and by ``import_module``. What that is called with need not stand in the call: in a module that calls it
    with something else than text, every text that begins with the package's name counts."""
    by_variable = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                argument = node.args[0]
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)
                else:
                    by_variable = True
    if by_variable and name not in TABLES_OF_NAMES:
        texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        yield from (text for text in texts if isinstance(text, str) and NAME.fullmatch(text))


def graph(sources: dict[str, str]) -> Graph:
    """Return who imports whom, among modules given by name and source."""
    edges: Graph = {name: set() for name in sources}
    for name, source in sources.items():
        for target in imported(name, ast.parse(source)):
            while target and target not in sources:
                target = target.rpartition(".")[0]  # a name in the module
            if target and target != name:
                edges[name].add(target)
    return edges


@cache
def of_the_package() -> Graph:
    """Return the graph of skate."""
    return graph({name: path.read_text() for name, path in modules().items()})


def circles(edges: Graph) -> list[list[str]]:
    """Return the groups of modules of which each reaches each other (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(edges[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return found


def a_circle(edges: Graph, group: list[str]) -> list[str]:
    """Return the shortest way around inside of a group, its first module again at its end."""
    best: list[str] = []
    for start in group:
        ways = [[start]]
        seen = {start}
        while ways:
            way = ways.pop(0)
            for target in sorted(edges[way[-1]] & set(group)):
                if target == start and (not best or len(way) < len(best) - 1):
                    best = [*way, start]
                    ways = []
                    break
                if target not in seen:
                    seen.add(target)
                    ways.append([*way, target])
    return best
