"""Finds the parts of a value that cannot be pickled."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, TextIO

import cloudpickle

from skate._base.user_errors import summary_of, text_of
from skate._serialize.values import reducers
from skate.engine.refs import ObjectRef


class FailureTuple:
    """Something that cannot be pickled, inside of something else.

    Args:
        obj: the object itself.
        path: the names that lead to it from the inspected value: variables, attributes, keys, indexes.
        parent: the object that holds it.
    """

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        self.path = path
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailureTuple({' -> '.join(self.path)} [obj={self.obj!r}, parent={self.parent!r}])"


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles as the runtime does, which accepts refs."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in reducers:
            return reducers[kind](obj)
        if kind is ObjectRef:
            return str, ()
        return super().reducer_override(obj)


def inspect_serializability(
    base_obj: Any,
    name: str | None = None,
    depth: int = 3,
    print_file: TextIO | None = None,
) -> tuple[bool, set[FailureTuple]]:
    """Tell whether a value can be sent to other processes; if not, print and return the culprits.

    Args:
        base_obj: the function, class or value.
        name: its name in the report, and the first name in each path; default: its own name, and
            none.
        depth: how many levels deep to look for the innermost culprits.
        print_file: where the report goes; default: standard output.

    Returns:
        Whether it can be pickled, and the innermost parts found that cannot.

    Example:
        >>> lock = threading.Lock()
        >>> ok, culprits = skate.util.inspect_serializability(lambda: lock)
        >>> ok, [one.path for one in culprits]
        (False, [('lock',)])
    """
    title = name if name is not None else str(getattr(base_obj, "__qualname__", None) or repr(base_obj))
    report = _Report(print_file if print_file is not None else sys.stdout)
    error = _problem(base_obj)
    if error is None:
        report.line(0, f"{title}: can be sent to other processes")
        return True, set()
    report.line(0, f"{title}: cannot be sent to other processes ({summary_of(error)})")
    report.descend(base_obj, () if name is None else (name,), None, depth, 1)
    return False, report.culprits


def _problem(value: Any) -> Exception | None:
    try:
        _Pickler(io.BytesIO(), 5).dump(value)
    except Exception as error:
        return error
    return None


class _Report:
    """The search for culprits, and its printed report."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._seen: set[int] = set()
        self.culprits: set[FailureTuple] = set()

    def line(self, level: int, text: str) -> None:
        """Print, indented."""
        print("  " * level + text, file=self._file)

    def descend(self, value: Any, path: tuple[str, ...], parent: Any, depth: int, level: int) -> None:
        """Inspect a value that cannot be pickled; note it as a culprit if all its parts can be."""
        self._seen.add(id(value))
        guilty = False
        for child_name, child in _parts(value) if depth > 0 else ():
            if id(child) in self._seen:
                continue
            error = _problem(child)
            if error is not None:
                guilty = True
                self.line(level, f"{child_name}: {text_of(child, repr):.100} ({summary_of(error)})")
                self.descend(child, (*path, child_name), value, depth - 1, level + 1)
        if not guilty:
            self.culprits.add(FailureTuple(value, path, parent))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that pickling the value would visit, with their names."""
    if isinstance(value, FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield name, cell.cell_contents
            except ValueError:
                pass  # not assigned yet
        for name in value.__code__.co_names:
            if name in value.__globals__:
                yield name, value.__globals__[name]
        for index, default in enumerate(value.__defaults__ or ()):
            yield f"default {index}", default
        yield from (value.__kwdefaults__ or {}).items()
    elif isinstance(value, type):
        for name, part in vars(value).items():
            if isinstance(part, (staticmethod, classmethod)):
                yield name, part.__func__
            elif not isinstance(part, (GetSetDescriptorType, MemberDescriptorType)):
                yield name, part
    elif isinstance(value, dict):
        for key, part in value.items():
            yield f"[{key!r}]", part
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif isinstance(value, (set, frozenset)):
        for part in value:
            yield "element", part
    elif hasattr(value, "__func__") and hasattr(value, "__self__"):
        yield "__self__", value.__self__
        yield "__func__", value.__func__
    else:
        yield from getattr(value, "__dict__", {}).items()
        yield "__class__", type(value)
