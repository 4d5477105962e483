"""What users import: documented, light, and changed on purpose only.

If a change of the public names or signatures is meant, write the golden file anew:
``SKATE_UPDATE_GOLDEN=1 pytest tests/fitness``; the difference belongs into the review and CHANGELOG.md.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import skate
import skate.exceptions
import skate.util

from .sources import PACKAGE

GOLDEN = Path(__file__).with_name("public_api.json")

#: What ``import skate`` must not load: a program that only names it pays milliseconds.
HEAVY = {
    "asyncio", "cloudpickle", "concurrent.futures", "ctypes", "email", "html", "http", "joblib", "json",
    "logging", "matplotlib", "msgspec", "multiprocessing", "numpy", "pandas", "pickle", "pip", "psutil",
    "pyarrow", "selectors", "setuptools", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading",
    "torch", "tqdm", "unittest", "urllib", "uuid", "xml",
}  # fmt: skip
#: What even a driver that calls tasks must not load.
NEVER = {
    "asyncio", "concurrent.futures", "joblib", "matplotlib", "multiprocessing", "numpy", "pandas", "pip",
    "psutil", "pyarrow", "setuptools", "sqlite3", "torch", "tqdm", "unittest",
}  # fmt: skip


# ---------------------------------------------------------------------- light


def _loaded(program: str) -> set[str]:
    """Return the modules that a fresh interpreter has after a program, beyond those that it starts with."""
    code = (
        f"import sys\nbefore = set(sys.modules)\n{program}\n"
        "print('\\n'.join(sorted(set(sys.modules) - before)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_import_skate_loads_nothing_heavy() -> None:
    loaded = _loaded("import skate")
    assert "skate" in loaded
    assert loaded & HEAVY == set()
    assert [name for name in loaded if name.startswith("skate.")] == []


def test_the_names_of_a_driver_load_nothing_that_it_may_not_need() -> None:
    loaded = _loaded("from skate import init, remote, get, put, wait, shutdown, kill, ObjectRef, exceptions")
    assert "skate.api" in loaded
    assert loaded & NEVER == set()


def test_the_vocabulary_stands_on_the_standard_library_alone() -> None:
    parts = sorted(path.stem for path in PACKAGE.glob("_base/*.py") if path.stem != "__init__")
    loaded = _loaded("import " + ", ".join(f"skate._base.{part}" for part in parts))
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert foreign == {"skate"}


# ---------------------------------------------------------------------- documented


def _public() -> list[tuple[str, Any]]:
    return [
        (f"{module.__name__}.{name}", getattr(module, name))
        for module in (skate, skate.util, skate.exceptions)
        for name in module.__all__
        if name != "__version__"
    ]


@pytest.mark.parametrize(("name", "thing"), _public(), ids=lambda one: one if isinstance(one, str) else "")
def test_every_public_name_has_a_docstring(name: str, thing: Any) -> None:
    assert (thing.__doc__ or "").strip(), f"{name} has no word of its own"


def _functions(thing: Any) -> list[tuple[str, Any]]:
    """Return the public functions and methods that something defines itself."""
    if inspect.isfunction(thing):
        return [(thing.__name__, thing)]
    if not inspect.isclass(thing):
        return []
    return [
        (f"{thing.__name__}.{name}", getattr(thing, name))
        for name, member in vars(thing).items()
        if not name.startswith("_") and callable(getattr(thing, name)) and not isinstance(member, type)
    ]


@pytest.mark.parametrize(("name", "thing"), _public(), ids=lambda one: one if isinstance(one, str) else "")
def test_every_public_method_has_one_too(name: str, thing: Any) -> None:
    assert [method for method, function in _functions(thing) if not inspect.getdoc(function)] == []


def test_names_are_listed_and_found() -> None:
    for module in (skate, skate.util):
        assert set(module.__all__) <= set(dir(module))
        assert module.__all__ == sorted(module.__all__)
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nonsense'"):
            _ = module.nonsense


# ---------------------------------------------------------------------- errors


def _errors() -> list[type[BaseException]]:
    return [getattr(skate.exceptions, name) for name in skate.exceptions.__all__]


@pytest.mark.parametrize("kind", _errors(), ids=lambda kind: kind.__name__)
def test_every_error_documents_and_pickles_itself(kind: type[BaseException]) -> None:
    """Instances with arguments: tests/unit/_base/test_errors.py. Here: the class, by its public name."""
    assert kind.__dict__.get("__doc__"), "its own, not that of its base"
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert issubclass(kind, skate.exceptions.RayError)
    if "__init__" in vars(kind):
        own = [one for one in inspect.signature(kind).parameters if one != "actor_id"]
        assert [name for name in own if f"{name}:" not in (inspect.getdoc(kind) or "")] == []


# ---------------------------------------------------------------------- the snapshot


def _default(value: Any) -> str:
    """Return a default as it stands in the source; addresses and objects are no part of the interface."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, tuple, frozenset)):
        return repr(value)
    if isinstance(value, (type, types.FunctionType)):
        return value.__name__
    return f"<{type(value).__name__}>"


def _signature(thing: Any) -> str:
    """Return names, kinds and defaults of the parameters: how annotations are written differs by version."""
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):
        return "(...)"
    words: list[str] = []
    star = False
    for index, one in enumerate(parameters):
        if one.kind is one.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        star = star or one.kind is one.VAR_POSITIONAL
        mark = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        words.append(f"{mark}{one.name}" + ("" if one.default is one.empty else f"={_default(one.default)}"))
        following = parameters[index + 1] if index + 1 < len(parameters) else None
        if one.kind is one.POSITIONAL_ONLY and (
            following is None or following.kind is not one.POSITIONAL_ONLY
        ):
            words.append("/")
    return f"({', '.join(words)})"


def _described(thing: Any) -> Any:
    if inspect.ismodule(thing):
        return "module"
    if inspect.isclass(thing):
        members: dict[str, str] = {}
        for base in reversed(thing.__mro__):
            if base.__module__.partition(".")[0] != "skate":
                continue
            for name, member in vars(base).items():
                if name.startswith("_"):
                    continue
                is_method = callable(getattr(thing, name)) and not isinstance(member, type)
                members[name] = _signature(getattr(thing, name)) if is_method else "attribute"
        return {"()": _signature(thing), **dict(sorted(members.items()))}
    return _signature(thing)


def _snapshot() -> dict[str, Any]:
    return {
        module.__name__: {
            name: _described(getattr(module, name)) for name in module.__all__ if name[0] != "_"
        }
        for module in (skate, skate.util)
    }


def test_the_public_interface_changes_on_purpose_only() -> None:
    now = json.dumps(_snapshot(), indent=1) + "\n"
    if os.environ.get("SKATE_UPDATE_GOLDEN"):
        GOLDEN.write_text(now)
    before = GOLDEN.read_text()
    difference = difflib.unified_diff(
        before.splitlines(), now.splitlines(), "golden", "now", lineterm="", n=1
    )
    assert "\n".join(difference) == "", "SKATE_UPDATE_GOLDEN=1 pytest tests/fitness, if that is meant"


def test_signatures_are_written_alike_everywhere() -> None:
    def some(a, /, b, *c, d=1, e=None, **f):  # type: ignore[no-untyped-def]
        """Has every kind of parameter."""

    def other(*, a=print, b=object()) -> None:  # type: ignore[no-untyped-def]  # noqa: B008
        """Has defaults that are no plain values."""

    assert _signature(some) == "(a, /, b, *c, d=1, e=None, **f)"
    assert _signature(other) == "(*, a=<builtin_function_or_method>, b=<object>)"
