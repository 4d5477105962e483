"""Nothing above the engine knows which engine it is: no import of a role, no touch of a runtime.

A runtime of ours is a ``core``; a third engine has none (``skate/engine/interface.py``). So a module above
asks ``engine()``, and what the protocols there lack is added to them.
"""

from __future__ import annotations

import ast

import pytest

from .imports import imported, modules

#: What lies below the engine, or is one.
BELOW = (
    "skate._base", "skate._control", "skate._environment", "skate._inline", "skate._launch", "skate._node",
    "skate._on_ray", "skate._scheduling", "skate._serialize", "skate._store", "skate._transport", "skate._wire", "skate._worker",
    "skate.engine", "skate.exceptions", "skate.job_config", "skate.logging_config", "skate.options",
    "skate.runtime_env",
)  # fmt: skip
_GRAPHS = "compiled graphs exchange values on connections of the runtime: what Engine.compiled_graphs gave"
#: Modules that may, and why.
EXCEPTIONS = {
    "skate._starting": "it chooses the engine, so it names the one in this process",
    "skate.dag._driver": _GRAPHS,
    "skate.dag._exchange": _GRAPHS,
    "skate.dag._program": _GRAPHS,
}
ROLES = ("skate._worker", "skate._inline")


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith(one + ".") for one in packages)


def touches(name: str, source: str) -> list[str]:
    """Return what a module does that only the engine may do."""
    tree = ast.parse(source)
    found = [f"imports {target}" for target in imported(name, tree) if _is_in(target, ROLES)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            written = ast.unparse(node)
            if node.attr in ("core", "_core", "_entry", "_home") or written == "current.process":
                found.append(f"line {node.lineno}: {written}")
        named = node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)
        if named == "require_core":
            found.append(f"line {getattr(node, 'lineno', 0)}: require_core")
    return found


def _above() -> dict[str, str]:
    return {name: path.read_text() for name, path in modules().items() if not _is_in(name, BELOW)}


def test_nothing_above_the_engine_touches_a_runtime() -> None:
    above = _above()
    assert len(above) > 100
    found = {
        name: told
        for name, source in above.items()
        if (told := touches(name, source)) and name not in EXCEPTIONS
    }
    assert found == {}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_is_needed(name: str) -> None:
    assert touches(name, _above()[name]), f"{name} touches nothing any more: take it from EXCEPTIONS"


@pytest.mark.parametrize(
    "source",
    [
        "from skate._worker.core import Core",
        "def f():\n    import skate._inline.session",
        "import importlib\nimportlib.import_module('skate._worker.debugging.debugger')",
        "found = engine().core.node_id",
        "core = self._core",
        "if current.process.core is None: pass",
        "current.require_core('get')",
        "from x import require_core\nrequire_core('get')",
        "ref._entry.kind",
    ],
)
def test_a_touch_is_seen(source: str) -> None:
    assert touches("skate.planted", source)
