"""No module imports, by whatever way, one that imports it.

Imports inside of functions, under ``TYPE_CHECKING`` and by ``import_module`` count as those at the top: a
reader who wants to understand one file of a circle has to read them all.
"""

from __future__ import annotations

import pytest

from .imports import a_circle, circles, graph, of_the_package


def test_no_module_imports_one_that_imports_it() -> None:
    edges = of_the_package()
    found = [" -> ".join(a_circle(edges, group)) + f" ({len(group)} modules)" for group in circles(edges)]
    assert not found, "\n".join(found)


PLANTED = {
    "inside of a function": "def f():\n    import skate.b\n",
    "for types only": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from skate.b import B\n",
    "by import_module": "import importlib\nimportlib.import_module('skate.b').f()\n",
    "by the name of a constant": "from importlib import import_module\n_B = 'skate.b'\nimport_module(_B)\n",
    "from a table": "from importlib import import_module\n_ALL = {1: ('skate.b', 2)}\nimport_module(_ALL[1][0])\n",
    "from its package": "from skate import b\n",
}


@pytest.mark.parametrize("source", PLANTED.values(), ids=PLANTED)
def test_a_planted_circle_is_seen(source: str) -> None:
    edges = graph(
        {"skate": "", "skate.a": source, "skate.b": "from skate.c import x", "skate.c": "import skate.a"}
    )
    assert circles(edges) == [["skate.a", "skate.b", "skate.c"]]
    assert a_circle(edges, ["skate.a", "skate.b", "skate.c"]) == ["skate.a", "skate.b", "skate.c", "skate.a"]
