"""Finds the part of a value that cannot be pickled, so that the error can name the path to it."""

from __future__ import annotations

from functools import partial
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, GeneratorType
from typing import Any

from skate._base.user_errors import full_name, summary_of, text_of
from skate._serialize.values import serialize

#: The search ends after this many attempts (count); the message then names the last container.
_BUDGET = 500


def explain(value: Any, path: str, error: BaseException) -> str:
    """Return a sentence that names the innermost part of ``value`` that cannot be pickled."""
    culprit_path, culprit = find(value, path)
    name = full_name(type(culprit))
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return (
        f"{culprit_path} is {article} {name}, which cannot be sent to another process "
        f"({summary_of(error)}).{_advice(culprit, name)}"
    )


def find(value: Any, path: str) -> tuple[str, Any]:
    """Return the innermost part of ``value`` that cannot be pickled, behind the path to it."""
    culprit_path, culprit, budget = path, value, _BUDGET
    seen: set[int] = set()
    while budget > 0 and id(culprit) not in seen:
        seen.add(id(culprit))
        for child_path, child in _parts(culprit, culprit_path):
            budget -= 1
            if not _pickles(child):
                culprit_path, culprit = child_path, child
                break
        else:
            break
    return culprit_path, culprit


def _parts(value: Any, path: str) -> list[tuple[str, Any]]:
    """Return ``_children``, or nothing if the value's own hooks raise."""
    try:
        return _children(value, path)
    except BaseException:
        return []


def _advice(culprit: Any, name: str) -> str:
    if isinstance(culprit, (GeneratorType, AsyncGeneratorType)):
        return " Send a list of its items instead; a remote function that yields sends them one by one."
    if isinstance(culprit, CoroutineType):
        return " Await it first, and send its result."
    if name.startswith("skate."):
        return ""  # the error itself says what to do
    return (
        " Create it inside the task or actor instead, or give its class a __reduce__ method that leaves it "
        "out."
    )


def largest(code: Any, name: str) -> tuple[str, int]:
    """Return which part of a function or class makes most of its pickle, and that part's size in bytes."""
    path, most = name, 0
    while isinstance(code, (FunctionType, type)):
        sizes = [(_size(part), where, part) for where, part in _children(code, path)]
        size, where, part = max(sizes, key=lambda found: found[0], default=(0, path, None))
        if 2 * size < most or not size:
            break
        path, most, code = where, size, part
    return path, most


def _size(value: Any) -> int:
    try:
        return serialize(value).size
    except Exception:
        return 0


def _pickles(value: Any) -> bool:
    try:
        serialize(value)
    except BaseException:  # SystemExit too: of a hook of the value
        return False
    return True


def _children(value: Any, path: str) -> list[tuple[str, Any]]:
    """Return the parts that pickling would visit, with the Python expression for each."""
    if hasattr(type(value), "__skate_value__"):  # the value stands for another one
        return [(path, value.__skate_value__)]
    if isinstance(value, dict):
        return [(f"{path}[{text_of(key, repr)}]", item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [(f"an element of {path}", item) for item in value]
    if isinstance(value, FunctionType):
        return _function_parts(value, path)
    if isinstance(value, type):
        parts = {
            name: part
            for name, part in vars(value).items()
            if isinstance(part, FunctionType) or not (name.startswith("__") and name.endswith("__"))
        }
        return [(f"{path}.{name}", part) for name, part in parts.items()]
    if hasattr(value, "__func__") and hasattr(value, "__self__"):
        return [(f"{path}.__self__", value.__self__)]
    if isinstance(value, (staticmethod, classmethod)):
        return [(path, value.__func__)]
    if isinstance(value, partial):
        parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
        return [(f"{path}.{name}", part) for name, part in parts.items()]
    state = getattr(value, "__dict__", None)
    if isinstance(state, dict):
        parts = {**state, "__class__": type(value)}
        return [(f"{path}.{name}", item) for name, item in parts.items()]
    return []


def _function_parts(function: FunctionType, path: str) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            parts.append((f"the variable {name!r} captured by {path}", cell.cell_contents))
        except ValueError:
            pass  # not assigned yet
    for name in _names(function.__code__):
        if name in function.__globals__:
            parts.append((f"the global {name!r} used by {path}", function.__globals__[name]))
    for index, default in enumerate(function.__defaults__ or ()):
        parts.append((f"default {index} of {path}", default))
    for name, default in (function.__kwdefaults__ or {}).items():
        parts.append((f"the default of {name!r} of {path}", default))
    return parts


def _names(code: CodeType) -> dict[str, None]:
    """Return the names in the code of a function, and of those that it defines, in order."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names
