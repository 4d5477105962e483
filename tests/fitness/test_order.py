"""Nothing in the roles depends on the order of a set, which differs between runs of the same program (ADR 27).

The hash of bytes and text is seeded at random, and that of an object is its address. So a loop over a set sends
messages in another order each time, and no failing run of a simulation could be repeated. Tables that are walked
through are dicts, whose order is that of insertion; other uses go through ``sorted``.

The check knows a set by how it is made or annotated: in the module, and for attributes and functions of other modules
by their names. It is an approximation on the safe side: one name with two meanings counts as a set.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from .sources import PACKAGE

ROLES = ("_control", "_node", "_worker", "_store", "_scheduling", "_transport", "_wire", "_base")
MODULES = sorted(
    str(path.relative_to(PACKAGE)) for package in ROLES for path in (PACKAGE / package).rglob("*.py")
)

#: Module and text of an expression that is walked through in the order of a set, and why that does no harm.
EXCEPTIONS: dict[tuple[str, str], str] = {
    (
        "_worker/calls/lineage.py",
        "task.pins or ()",
    ): "pins of a call are a list; those of a stored object a set",
    ("_worker/calls/results.py", "pins or ()"): "the same list",
    ("_wire/codec.py", "kinds | {Refused}"): "the types of a union, which messages name by their tags",
}

KINDS = {"set", "frozenset", "AbstractSet", "Set", "MutableSet", "WeakSet"}
#: Methods of sets, and of views of dicts, that return a set.
MAKERS = {"union", "intersection", "difference", "symmetric_difference"}
#: Functions that give the same for any order. (``min`` and ``max`` with a key are not: of equals, the first counts.)
ORDERLESS = {
    "sorted",
    "set",
    "frozenset",
    "len",
    "any",
    "all",
    "sum",
    "min",
    "max",
    "bool",
    "isinstance",
    "repr",
    "id",
}
#: Functions and methods that walk through an argument.
WALKERS = {"list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "deque", "dict", "fromkeys", "reversed",
           "extend", "extendleft", "join", "chain", "array", "bytes", "bytearray", "Counter"}  # fmt: skip


class Known(NamedTuple):
    """Names of attributes and functions whose values are sets, or dicts of sets."""

    sets: frozenset[str]
    dicts_of_sets: frozenset[str]
    functions: frozenset[str]
    #: Attributes that are certainly something else, in the module at hand.
    others: frozenset[str]


def _kind(annotation: ast.expr | None) -> str:
    """Return "set", "dict of sets", or "" for an annotation."""
    if annotation is None:
        return ""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _kind(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.BinOp):
        return _kind(annotation.left) or _kind(annotation.right)
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
    if name in KINDS:
        return "set"
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        if name in ("dict", "Mapping", "defaultdict") and _kind(annotation.slice.elts[-1]) == "set":
            return "dict of sets"
    return ""


def _is_new_set(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Set | ast.SetComp) or (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS
    )


def known_in(tree: ast.AST, elsewhere: frozenset[str] = frozenset()) -> Known:
    """Return what a module says of its own attributes and functions. ``elsewhere``: attributes that are sets."""
    sets, dicts, functions, others = set(), set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if _kind(node.returns) == "set":
                functions.add(node.name)
            given = {one.arg for one in _arguments(node) if _kind(one.annotation) == "set"}
            sets.update(
                target.attr
                for one in ast.walk(node)
                if isinstance(one, ast.Assign)
                and (_name(one.value) in given or _attribute_of(one.value) in elsewhere)
                for target in one.targets
                if isinstance(target, ast.Attribute)
            )
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            kind = _kind(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            kind = kind or ("set" if _is_new_set(node.value) else "")
            for target in targets:
                attribute = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                if isinstance(target, ast.Name) and not isinstance(node, ast.AnnAssign):
                    continue  # a local variable
                {"set": sets, "dict of sets": dicts, "": others}[kind].add(attribute)
    return Known(frozenset(sets), frozenset(dicts), frozenset(functions), frozenset(others - sets - dicts))


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def _name(node: ast.AST | None) -> str:
    return getattr(node, "id", "")


def _attribute_of(node: ast.AST | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ""


@cache
def known_everywhere() -> Known:
    """Return what any module of the roles says."""
    trees = [ast.parse((PACKAGE / module).read_text()) for module in MODULES]
    elsewhere = frozenset().union(*(known_in(tree).sets for tree in trees))
    found = [known_in(tree, elsewhere) for tree in trees]
    return Known(*(frozenset().union(*parts) for parts in zip(*found, strict=True)))


class _Function:
    """One function, or a module's top: which expressions in it are sets, and where they are walked through."""

    def __init__(self, body: ast.AST, own: Known, everywhere: Known) -> None:
        self._own = own
        self._everywhere = everywhere
        self._nodes = list(_without_inner(body))
        self._sets: set[str] = set()
        self._dicts: set[str] = set()
        if isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef):
            for one in _arguments(body):
                if _kind(one.annotation) == "set":
                    self._sets.add(one.arg)
                elif _kind(one.annotation):
                    self._dicts.add(one.arg)
        known = -1
        while known != len(self._sets) + len(self._dicts):  # names may be made of names that come later
            known = len(self._sets) + len(self._dicts)
            for node in self._nodes:
                self._learn(node)

    def _learn(self, node: ast.AST) -> None:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if _kind(node.annotation) == "set":
                self._sets.add(node.target.id)
            elif _kind(node.annotation):
                self._dicts.add(node.target.id)
        elif isinstance(node, ast.NamedExpr) and self.is_set(node.value):
            self._sets.add(node.target.id)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name) and self.is_set(value):
            self._sets.add(target.id)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its in zip(target.elts, value.elts, strict=False):
                self._assign(one, its)

    def _attribute(self, node: ast.Attribute, what: str) -> bool:
        names = getattr(self._own, what), getattr(self._everywhere, what)
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            return node.attr in names[0]
        return node.attr in names[0] or (node.attr in names[1] and node.attr not in self._own.others)

    def _is_dict_of_sets(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self._dicts or node.id in self._own.dicts_of_sets
        return isinstance(node, ast.Attribute) and self._attribute(node, "dicts_of_sets")

    def is_set(self, node: ast.expr | None) -> bool:
        """Tell whether the value of an expression is a set."""
        if node is None:
            return False
        if _is_new_set(node):
            return True
        if isinstance(node, ast.Name):
            return node.id in self._sets or (node.id in self._own.sets and node.id.isupper())
        if isinstance(node, ast.Attribute):
            return self._attribute(node, "sets")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.Sub | ast.BitXor):
            return self._is_set_or_view(node.left) or self._is_set_or_view(node.right)
        if isinstance(node, ast.BoolOp):
            return any(self.is_set(one) for one in node.values)
        if isinstance(node, ast.IfExp):
            return self.is_set(node.body) or self.is_set(node.orelse)
        if isinstance(node, ast.Subscript):
            return self._is_dict_of_sets(node.value)
        return isinstance(node, ast.Call) and self._returns_set(node)

    def _is_set_or_view(self, node: ast.expr) -> bool:
        """Tell whether an operand makes the result a set; keys of dicts do, in the order of a set."""
        view = (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"
        )
        return view or self.is_set(node)

    def _returns_set(self, node: ast.Call) -> bool:
        called = node.func
        if isinstance(called, ast.Name):
            return called.id in self._own.functions
        if not isinstance(called, ast.Attribute):
            return False
        if called.attr in MAKERS or called.attr == "copy":
            return self.is_set(called.value) or called.attr in MAKERS
        if called.attr in ("get", "pop", "setdefault"):
            return self._is_dict_of_sets(called.value)
        return called.attr in self._own.functions | self._everywhere.functions

    def walks(self) -> Iterator[ast.expr]:
        """Yield each set that is walked through."""
        for node in self._nodes:
            yield from self._walks(node)

    def _walks(self, node: ast.AST) -> Iterator[ast.expr]:
        if isinstance(node, ast.For | ast.AsyncFor):
            yield from self._if_set(node.iter)
        elif isinstance(node, ast.ListComp | ast.DictComp):
            yield from self._if_set(*(one.iter for one in node.generators))
        elif isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Load):
            yield from self._if_set(node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            yield from self._if_set(node.value)
        elif isinstance(node, ast.YieldFrom):
            yield from self._if_set(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List):
            yield from self._if_set(node.value)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            keyed = name in ("min", "max") and any(one.arg == "key" for one in node.keywords)
            ordered = name not in ORDERLESS or keyed
            for argument in node.args:
                if isinstance(argument, ast.GeneratorExp):
                    if ordered:
                        yield from self._if_set(*(one.iter for one in argument.generators))
                elif name in WALKERS or keyed:
                    yield from self._if_set(argument)
            if name == "pop" and isinstance(node.func, ast.Attribute) and not node.args:
                yield from self._if_set(node.func.value)

    def _if_set(self, *nodes: ast.expr) -> Iterator[ast.expr]:
        yield from (node for node in nodes if self.is_set(node))


def _without_inner(body: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions inside of it."""
    waiting = deque(ast.iter_child_nodes(body))
    while waiting:
        node = waiting.popleft()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def walked_through(source: str, everywhere: Known) -> list[tuple[int, str]]:
    """Return line and text of each set that a module walks through."""
    tree = ast.parse(source)
    own = known_in(tree, everywhere.sets)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = {
        (node.lineno, ast.unparse(node))
        for body in [tree, *functions]
        for node in _Function(body, own, everywhere).walks()
    }
    return sorted(found)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_walked_through_in_the_order_of_a_set(module: str) -> None:
    found = [
        f"{module}:{line} walks through {text}"
        for line, text in walked_through(Path(PACKAGE / module).read_text(), known_everywhere())
        if (module, text) not in EXCEPTIONS
    ]
    assert not found, "\n".join(["use a dict, or sorted():", *found])


@pytest.mark.parametrize(("module", "text"), EXCEPTIONS)
def test_an_exception_is_needed(module: str, text: str) -> None:
    found = walked_through(Path(PACKAGE / module).read_text(), known_everywhere())
    assert text in [one for _, one in found]


@pytest.mark.parametrize("program", [
    "for x in {1, 2}: pass",
    "def f(a: set[int]):\n    return list(a)",
    "def f(a):\n    b = set(a)\n    c = b - {1}\n    return [x for x in c]",
    "def f(a, b):\n    return tuple(a.keys() & b.keys())",
    "class A:\n    def __init__(self):\n        self._x: set[int] = set()\n    def f(self):\n        for x in self._x: pass",
    "class A:\n    def __init__(self):\n        self._x: dict[int, set[int]] = {}\n    def f(self):\n"
    "        for x in self._x.get(1, ()): pass",
    "def f(a: frozenset[int]):\n    return next(iter(a))",
    "def f(a: set[int]):\n    return a.pop()",
    "def f(a: set[int]):\n    g(*a)",
    "def f(a: set[str]):\n    return ','.join(x for x in a)",
    "def f(a: set[str]):\n    return max(a, key=len)",
    "def f(connection):\n    for x in connection.watching: pass",
    "def f(table):\n    for x in table.expected(): pass",
    "def f(a):\n    old, new = a, set()\n    for x in new: pass",
    "class A:\n    def __init__(self, a: set[int]):\n        self._x = a\n    def f(self):\n        return list(self._x)",
    "class A:\n    def __init__(self, a):\n        self._x = a.watching\n    def f(self):\n        return list(self._x)",
])  # fmt: skip
def test_a_planted_walk_is_seen(program: str) -> None:
    elsewhere = Known(frozenset({"watching"}), frozenset(), frozenset({"expected"}), frozenset())
    assert len(walked_through(program, elsewhere)) == 1


@pytest.mark.parametrize("program", [
    "def f(a: set[int]):\n    return sorted(a), len(a), 3 in a, max(a), any(x for x in a), {x + 1 for x in a}",
    "def f(a: dict[int, None]):\n    return list(a)",
    "def f(a: list[int]):\n    for x in a: pass",
    "def f(a: set[int], b: set[int]):\n    a |= b\n    a.discard(1)",
])  # fmt: skip
def test_other_uses_are_allowed(program: str) -> None:
    assert walked_through(program, Known(*(frozenset() for _ in range(4)))) == []
