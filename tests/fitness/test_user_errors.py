"""The exceptions of users are handled through ``_base.user_errors``: no hook of theirs runs unguarded.

Looks at every name that may stand for one: what ``except BaseException as name`` binds, and arguments that are
annotated as ``BaseException``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "skate"
#: Where user code is called, and what it raises is passed on.
PLACES = [*sorted(SOURCE.glob("_worker/**/*.py")), *sorted(SOURCE.glob("_inline/*.py")),
          *sorted(SOURCE.glob("_serialize/*.py")), *sorted(SOURCE.glob("dag/*.py")),
          SOURCE / "cli" / "run.py"]  # fmt: skip
#: (file, name): it is no exception of a user's, and why.
ALLOWED = {
    ("_serialize/tracebacks.py", "for_ipython"): "a RayTaskError of ours; whatever fails is caught",
    ("_worker/process/exhaustion.py", "_where"): "a MemoryError of the runtime itself",
    ("_worker/process/exhaustion.py", "__exit__"): "raised by the runtime's own code, under its lock",
    ("_worker/execution/failures.py", "taken_apart"): "a Stopped of ours by then",
    ("_worker/execution/failures.py", "reply_to"): "an ArgumentLost of ours by then",
    ("dag/_program.py", "_failed"): "a _Passed of ours by then",
}
_HOOKS = {"isinstance", "str", "repr", "bool", "getattr", "setattr", "hasattr", "format", "hash", "len"}


def _names(function: ast.AST) -> set[str]:
    found = set()
    if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for argument in [*function.args.args, *function.args.kwonlyargs]:
            if (
                argument.annotation is not None
                and "BaseException" in ast.unparse(argument.annotation).split()
            ):
                found.add(argument.arg)
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
            if "BaseException" in ast.unparse(node.type):
                found.add(node.name)
    return found


def _uses(function: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    def is_one(node: ast.AST | None) -> bool:
        return isinstance(node, ast.Name) and node.id in names

    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and is_one(node.value):
            yield node.lineno, f"reads or sets .{node.attr}"
        elif isinstance(node, ast.FormattedValue) and is_one(node.value):
            yield node.lineno, "is formatted"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _HOOKS:
            if any(is_one(argument) for argument in node.args[:1]):
                yield node.lineno, f"is given to {node.func.id}()"
        elif isinstance(node, (ast.If, ast.IfExp, ast.While)) and is_one(node.test):
            yield node.lineno, "is asked for its truth"
        elif isinstance(node, ast.BoolOp) and any(is_one(one) for one in node.values):
            yield node.lineno, "is asked for its truth"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and is_one(node.operand):
            yield node.lineno, "is asked for its truth"


def _faults(text: str, allowed: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    found = []
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and function.name not in allowed:
            found += [
                f"{function.name}, line {line}: it {what}" for line, what in _uses(function, _names(function))
            ]
    return found


@pytest.mark.parametrize("path", PLACES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_hook_of_a_users_exception_runs_unguarded(path: Path) -> None:
    name = path.relative_to(SOURCE).as_posix()
    allowed = {function for file, function in ALLOWED if file == name}
    assert _faults(path.read_text(), allowed) == [], "use skate._base.user_errors"


@pytest.mark.parametrize("key", ALLOWED, ids=str)
def test_exceptions_are_needed(key: tuple[str, str]) -> None:
    text = (SOURCE / key[0]).read_text()
    assert any(fault.startswith(f"{key[1]},") for fault in _faults(text))


@pytest.mark.parametrize(
    "use",
    ["error.__traceback__ = None", "return isinstance(error, ValueError)", "return f'{error}'", "return str(error)",
     "if error: pass", "return not error", "return error or 1", "return error.args"],
)  # fmt: skip
def test_what_is_unguarded_is_seen(use: str) -> None:
    assert _faults(f"def f(error: BaseException):\n    {use}")
    assert _faults(f"def f():\n  try: pass\n  except BaseException as error:\n    {use}")
    assert not _faults(f"def f(error: ValueError):\n    {use}")
